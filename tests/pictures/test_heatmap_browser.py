# SPDX-License-Identifier: Apache-2.0
"""Latency heat maps in a browser: where cells are, and what is said about the one under the mouse or the cursor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser import Page

from osmia.views.heatmap import HeatMap
from osmia.views.heatmap_svg import Sheet, page, svg
from osmia.views.hist import Histogram

START = 1_790_000_000.0


def small() -> HeatMap:
    heat = HeatMap(1.0)
    for second, values in enumerate(([5, 5, 5, 70], [6, *[20] * 9], [], [4])):
        made = Histogram("log2")
        for value in values:
            made.add(value)
        heat.add(START + second, made)
    return heat


@pytest.fixture(params=["svg", "html"])
def opened(request: pytest.FixtureRequest, tab: Page, tmp_path: Path) -> Page:
    sheet = Sheet([("disk = a", small()), ("disk = <b>", small())], title="biolatency", unit="usecs")
    path = tmp_path / f"heat.{request.param}"
    path.write_text({"svg": svg, "html": page}[request.param](sheet), encoding="utf-8")
    tab.open(path)
    return tab


def cells(tab: Page, number: int = 0) -> list[Any]:
    """``[left, top, width, height, title]`` of each cell of a map."""
    return list(tab.eval(
        f"[...document.querySelectorAll('g.cells')[{number}].children].map((c) => "
        "{ const r = c.getBoundingClientRect(); return [r.left, r.top, r.width, r.height, "
        "c.querySelector('title').textContent]; })"
    ))  # fmt: skip


def said(tab: Page) -> str:
    return str(tab.eval("document.getElementById('osmia-cell').textContent")).strip()


def test_time_goes_right_and_values_go_up(opened: Page) -> None:
    for number in (0, 1):
        five, six, four, twenty, seventy = cells(opened, number)
        assert five[1] == six[1] == four[1] > twenty[1] > seventy[1]
        assert five[0] == seventy[0] < twenty[0] == six[0] < four[0]
        assert six[0] - five[0] == five[2]
        assert four[0] - six[0] == 2 * five[2]  # a gap where there was nothing
        assert five[1] - twenty[1] == 2 * five[3]
    assert cells(opened, 1)[0][1] > cells(opened, 0)[0][1]
    assert opened.errors() == []
    assert len(opened.requests()) == 1


def test_hovering_says_value_count_and_share(opened: Page) -> None:
    for left, top, width, height, title in cells(opened, 1):
        opened.hover(left + width / 2, top + height / 2)
        assert said(opened) == title
    assert "20.00 % of all" in cells(opened)[0][4]
    opened.hover(5, 5)
    assert said(opened) == ""


def test_the_arrow_keys_go_from_cell_to_cell(opened: Page) -> None:
    titles = [row[4] for row in cells(opened)]
    opened.eval("document.querySelector('g.cells').focus()")
    walked = [titles.index(said(opened))]
    for key in ("ArrowRight", "ArrowUp", "ArrowUp", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowLeft"):
        opened.press(key)
        walked.append(titles.index(said(opened)))
    assert walked == [0, 1, 3, 4, 0, 1, 2, 1]


def test_shades_darken_with_the_count(opened: Page) -> None:
    brightness = opened.eval(
        "[...document.querySelector('g.cells').children].map((c) => "
        "getComputedStyle(c).fill.match(/\\d+/g).reduce((a, b) => a + Number(b), 0))"
    )
    five, six, four, twenty, seventy = brightness
    assert six == four == seventy > five > twenty
