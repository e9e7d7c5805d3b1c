# SPDX-License-Identifier: Apache-2.0
"""What the tests of the kernel matrix share: the ways to helpers of the other tests, and a cache of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS / "tools"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if str(item.path).startswith(str(Path(__file__).parent)):
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither read nor fill the user's cache."""
    before = os.environ.get("OSMIA_CACHE")
    os.environ["OSMIA_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["OSMIA_CACHE"]
    else:
        os.environ["OSMIA_CACHE"] = before
