# SPDX-License-Identifier: Apache-2.0
"""The tests of the tools import their helpers by plain name; no tool outlives its test."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from disks import loop  # noqa: F401 - a fixture of all tests about disks


@pytest.fixture(autouse=True)
def _no_tool_outlives_its_test() -> Iterator[None]:
    from harness import end_all

    yield
    end_all()


@pytest.fixture(autouse=True)
def _nothing_is_filtered_yet() -> None:
    """Kernel functions that run as Python see the options of this process, which another test may have set."""
    from osmia.lang import filters, membership

    for one in (filters.pid, filters.tid, filters.uid, filters.name, filters.cgroup, membership.ancestor):
        one.value, one.given = one.default, False
