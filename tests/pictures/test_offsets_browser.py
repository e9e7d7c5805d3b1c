# SPDX-License-Identifier: Apache-2.0
"""Subsecond-offset heat maps in a browser: a range is chosen, and the flame graph is that of the samples in it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from browser import Page

from osmia.views.flame import layout, merge
from osmia.views.flame_svg import frame_class
from osmia.views.offsets import ROWS, SECOND, Samples, page

START = 1_790_000_000 * SECOND
CELL = SECOND // ROWS


def made_up() -> list[tuple[int, Any]]:
    """Samples over five seconds; all in the second half of second 2 are of a frame of their own."""
    rng = random.Random(7)
    out = []
    for _ in range(3000):
        at = rng.randrange(5 * SECOND)
        stack: Any = (("app", ""), ("main", "u"), (rng.choice("abcdef"), "u"), (rng.choice("xyz"), "k"))
        if 2 * SECOND + SECOND // 2 <= at < 3 * SECOND:
            stack = (*stack[:2], ("stall", "u"))
        out.append((START + at, stack[: rng.choice((3, 4))]))
    return out


SAMPLES = made_up()


@pytest.fixture
def opened(tab: Page, tmp_path: Path) -> Page:
    path = tmp_path / "offsets.html"
    path.write_text(page(Samples(SAMPLES)), encoding="utf-8")
    tab.open(path)
    return tab


def expected(first: int, last: int) -> list[list[Any]]:
    """The boxes for the samples from ``first`` to before ``last`` (ns from the start), as Python lays them out."""
    picture = layout(merge([(stack, 1) for at, stack in SAMPLES if first <= at - START < last]))
    boxes = [box for row in picture.rows for box in row]
    return [[box.frame[0], frame_class(box.frame), box.start, box.total, box.own] for box in boxes]


def drawn(tab: Page) -> list[list[Any]]:
    return list(tab.eval(
        "[...document.querySelectorAll('svg.osmia-flame g.f')].map((g) => "
        "[g.querySelector('title').textContent.split('\\n')[0], g.getAttribute('class').split(' ')[1], "
        "...g.dataset.v.split(' ').map(Number)])"
    ))  # fmt: skip


def place(tab: Page, second: int, row: int) -> tuple[float, float]:
    """The middle of a cell on the page."""
    left, top, across, up = tab.eval(
        "(() => { const s = document.getElementById('osmia-offsets'), r = s.getBoundingClientRect(), d = s.dataset; "
        "return [r.left + Number(d.left), r.top + Number(d.top), Number(d.across), Number(d.up)]; })()"
    )
    return left + (second + 0.5) * across, top + (ROWS - 1 - row + 0.5) * up


def said(tab: Page) -> str:
    return str(tab.eval("document.querySelector('output.chosen').textContent"))


def fields(tab: Page) -> list[float]:
    return [float(value) for value in tab.eval(
        "['osmia-from', 'osmia-to'].map((id) => document.getElementById(id).value)"
    )]  # fmt: skip


def test_at_first_it_is_the_graph_of_all(opened: Page) -> None:
    assert drawn(opened) == expected(0, 5 * SECOND)
    assert said(opened) == "3,000 of 3,000 samples"
    assert opened.errors() == []
    assert len(opened.requests()) == 1


def test_a_range_is_chosen_with_the_mouse(opened: Page) -> None:
    opened.drag(*place(opened, 2, 25), *place(opened, 2, 49))
    first, last = 2 * SECOND + 25 * CELL, 3 * SECOND
    assert drawn(opened) == expected(first, last)
    assert "stall" in {row[0] for row in drawn(opened)}
    count = sum(1 for at, _ in SAMPLES if first <= at - START < last)
    assert said(opened) == f"{count:,} of 3,000 samples"
    assert fields(opened) == [2.5, 3.0]
    # From the later to the earlier cell it is the same range; over seconds, all between.
    opened.drag(*place(opened, 3, 10), *place(opened, 1, 40))
    assert drawn(opened) == expected(SECOND + 40 * CELL, 3 * SECOND + 11 * CELL)
    opened.click(*place(opened, 0, 7))
    assert drawn(opened) == expected(7 * CELL, 8 * CELL)


def test_the_graph_of_a_range_zooms_and_searches(opened: Page) -> None:
    opened.eval("document.querySelector('#osmia-bar input').focus()")
    opened.type("^stall$")
    opened.drag(*place(opened, 2, 25), *place(opened, 2, 49))
    assert opened.eval("document.querySelector('output.matched').textContent") == "matched: 100.00 % in 1 frames"
    opened.drag(*place(opened, 2, 0), *place(opened, 2, 49))
    count = sum(1 for at, _ in SAMPLES if 2 * SECOND <= at - START < 3 * SECOND)
    stalled = sum(1 for at, _ in SAMPLES if 2 * SECOND + SECOND // 2 <= at - START < 3 * SECOND)
    matched = opened.eval("document.querySelector('output.matched').textContent")
    assert matched == f"matched: {100 * stalled / count:.2f} % in 1 frames"
    box = opened.eval("(() => { const r = document.querySelector('g.found rect').getBoundingClientRect(); "
                      "return [r.left + 5, r.top + 5]; })()")  # fmt: skip
    opened.click(*box)
    shown = opened.eval("[...document.querySelectorAll('g.f')].filter((g) => g.style.display !== 'none')"
                        ".map((g) => g.querySelector('title').textContent.split('\\n')[0])")  # fmt: skip
    assert sorted(shown) == ["all", "app", "main", "stall"]


def test_what_is_under_the_mouse_is_said(opened: Page) -> None:
    opened.hover(*place(opened, 3, 12))
    count = sum(1 for at, _ in SAMPLES if 3 * SECOND + 12 * CELL <= at - START < 3 * SECOND + 13 * CELL)
    text = opened.eval("document.getElementById('osmia-cell').textContent")
    assert text.endswith(f"(second 3), 240 to 260 ms: {count} samples, {100 * count / 3000:.2f} %")


def test_a_range_is_chosen_with_the_keyboard(opened: Page) -> None:
    opened.eval("document.getElementById('osmia-offsets').focus()")
    for key in ("ArrowUp", "ArrowUp", "ArrowRight", "Enter"):
        opened.press(key)
    assert drawn(opened) == expected(SECOND + 2 * CELL, SECOND + 3 * CELL)
    opened.eval("(() => { const f = document.getElementById('osmia-from'); f.value = '2.5';"
                " f.dispatchEvent(new Event('change')); const t = document.getElementById('osmia-to');"
                " t.value = '99'; t.dispatchEvent(new Event('change')); })()")  # fmt: skip
    assert drawn(opened) == expected(2 * SECOND + SECOND // 2, 5 * SECOND)
    assert fields(opened) == [2.5, 5.0]
    opened.eval("document.querySelector('#osmia-range button').click()")
    assert drawn(opened) == expected(0, 5 * SECOND)


def test_an_empty_range_is_an_empty_graph(tab: Page, tmp_path: Path) -> None:
    path = tmp_path / "gap.html"
    path.write_text(page(Samples([(START, (("a", "u"),)), (START + 2 * SECOND, (("b", "u"),))])), encoding="utf-8")
    tab.open(path)
    tab.click(*place(tab, 1, 10))
    assert drawn(tab) == [["all", frame_class(("all", "")), 0, 0, 0]]
    assert said(tab) == "0 of 2 samples"
    assert tab.errors() == []


def test_hostile_names_stay_names(tab: Page, tmp_path: Path) -> None:
    names = ["</script><script>window.hacked=1</script>", "<img src=x onerror=window.hacked=1>", "<!--"]
    path = tmp_path / "hostile.html"
    path.write_text(page(Samples([(START + n, ((name, "u"),)) for n, name in enumerate(names)])), encoding="utf-8")
    tab.open(path)
    tab.click(*place(tab, 0, 0))
    assert sorted(row[0] for row in drawn(tab)) == sorted(["all", *names])
    assert tab.eval("typeof window.hacked") == "undefined"
    assert tab.errors() == []
