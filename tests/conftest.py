# SPDX-License-Identifier: Apache-2.0
"""For all tests: signals as a terminal would have them.

A shell that runs things in the background, and nohup, start their children
with SIGINT or SIGHUP ignored, and tools rightly leave ignored signals so.
What tests share (``tests/support``) is imported by plain name.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "feature(row, only=''): the row of docs/features.md that the test proves; "
                                       "only= names the cases that do")  # fmt: skip
