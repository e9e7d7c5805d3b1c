# SPDX-License-Identifier: Apache-2.0
"""Tools stay short: what several need is in a shared part, so that a tool can be read, and written, in one go."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

import osmia.tools

pytestmark = pytest.mark.anywhere
FOLDER = Path(osmia.tools.__file__).parent
LINES = {path.stem: len(path.read_text().splitlines()) for path in FOLDER.glob("[!_]*.py")}


def test_no_tool_has_more_than_150_lines() -> None:
    assert not {name: lines for name, lines in LINES.items() if lines > 150}


def test_half_of_the_tools_have_70_lines_or_fewer() -> None:
    assert len(LINES) > 100
    assert median(LINES.values()) <= 70
