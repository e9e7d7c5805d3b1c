# SPDX-License-Identifier: Apache-2.0
"""What stands above a table that is shown page by page."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from osmia.cli.page import CLEAR, page

HEAD = r"\d\d:\d\d:\d\d loadavg: \d+\.\d\d \d+\.\d\d \d+\.\d\d \d+/\d+ \d+\n\n"


@pytest.fixture
def terminal() -> Iterator[int]:
    """The inner end of a pseudo-terminal."""
    outer, inner = os.openpty()
    yield inner
    os.close(outer)
    os.close(inner)


def test_a_terminal_is_cleared(terminal: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert re.fullmatch(re.escape(CLEAR) + HEAD, page(terminal, clear=True))


def test_it_is_not_where_that_is_not_wanted(terminal: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert re.fullmatch("\n" + HEAD, page(terminal, clear=False))


def test_what_is_no_terminal_gets_no_control_characters(terminal: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    try:
        assert re.fullmatch("\n" + HEAD, page(write, clear=True))
    finally:
        os.close(read)
        os.close(write)
    monkeypatch.setenv("TERM", "dumb")
    assert re.fullmatch("\n" + HEAD, page(terminal, clear=True))
