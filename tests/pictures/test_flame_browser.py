# SPDX-License-Identifier: Apache-2.0
"""Flame graphs in a browser: what is seen after zooming, searching, turning over, and with the keyboard alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser import Page

from osmia.views.flame import difference, merge
from osmia.views.flame_svg import Look, page, svg

READ = (("sh", ""), ("main", "u"), ("work", "u"), ("sys_read", "k"))
OTHER = (("sh", ""), ("main", "u"), ("other", "u"))
JAVA = (("java", ""), ("Main.run", "j"), ("inl", "i"))
TREE = [(READ, 60), (OTHER, 30), (JAVA, 10)]
HOSTILE = [
    "</title><script>window.hacked=1</script>",
    "]]></script><script>window.hacked=1</script>",
    '"><img src=x onerror=window.hacked=1>',
    "'><svg onload=window.hacked=1>",
    "</script><script>window.hacked=1</script>",
]

#: What is seen: for each visible box its name, left edge, width, height on the page and label, rounded.
SEEN = """[...document.querySelectorAll("svg.osmia-flame g.f")].filter((g) => getComputedStyle(g).display !== "none")
  .map((g) => { const r = g.querySelector("rect").getBoundingClientRect(), t = g.querySelector("text");
    return [g.querySelector("title").textContent.split("\\n")[0], Math.round(r.left), Math.round(r.width),
            Math.round(r.top), t ? t.textContent : ""]; })"""


def seen(tab: Page) -> dict[str, list[Any]]:
    return {row[0]: row[1:] for row in tab.eval(SEEN)}


def middle(tab: Page, name: str) -> tuple[float, float]:
    left, width, top, _ = seen(tab)[name]
    return left + width / 2, top + 8


def said(tab: Page, what: str) -> str:
    text = tab.eval(f"document.querySelector('output.{what}').textContent")
    assert isinstance(text, str)
    return text


def focused(tab: Page) -> str:
    name = tab.eval("document.activeElement.querySelector('title').textContent.split('\\n')[0]")
    assert isinstance(name, str)
    return name


def make(tmp_path: Path, kind: str, tree: Any, look: Look | None = None) -> Path:
    path = tmp_path / f"flame.{kind}"
    path.write_text({"svg": svg, "html": page}[kind](tree, look), encoding="utf-8")
    return path


def search(tab: Page, pattern: str) -> None:
    tab.eval("document.querySelector('.osmia-bar input').select()")
    tab.type(pattern)


@pytest.fixture(params=["svg", "html"])
def opened(request: pytest.FixtureRequest, tab: Page, tmp_path: Path) -> Page:
    tab.open(make(tmp_path, request.param, merge(TREE)))
    return tab


def test_boxes_are_as_wide_as_their_shares(opened: Page) -> None:
    boxes = seen(opened)
    assert sorted(boxes) == ["Main.run", "all", "inl", "java", "main", "other", "sh", "sys_read", "work"]
    whole = boxes["all"][1]
    assert whole > 1200  # the whole window
    for name, share in (("java", 0.1), ("main", 0.9), ("other", 0.3), ("sys_read", 0.6)):
        assert abs(boxes[name][1] - share * whole) <= 2
    assert boxes["all"][2] > boxes["sh"][2] > boxes["main"][2] > boxes["work"][2] > boxes["sys_read"][2]
    assert boxes["sys_read"][3] == "sys_read"
    assert len(opened.requests()) == 1  # the file itself
    assert opened.errors() == []


def test_zoom_and_reset(opened: Page) -> None:
    before = seen(opened)
    opened.click(*middle(opened, "work"))
    boxes = seen(opened)
    assert sorted(boxes) == ["all", "main", "sh", "sys_read", "work"]
    for name in boxes:  # itself, what it called and its callers have the whole width
        assert boxes[name][:2] == before["all"][:2]
    assert opened.eval("[...document.querySelectorAll('g.above title')].map((t) => t.textContent.split('\\n')[0])") == [
        "all", "sh", "main",
    ]  # fmt: skip
    opened.click(*middle(opened, "sh"))  # out again by a caller
    assert "java" not in seen(opened)
    assert "other" in seen(opened)
    opened.click(*opened.eval("(() => { const r = document.querySelector('.osmia-bar button').getBoundingClientRect();"
                              " return [r.left + 5, r.top + 5]; })()"))  # fmt: skip
    assert seen(opened) == before


def test_search_tells_the_share_and_counts_nested_frames_once(opened: Page) -> None:
    search(opened, "^(work|sys_)")
    assert said(opened, "matched") == "matched: 60.00 % in 2 frames"
    found = opened.eval("[...document.querySelectorAll('g.found title')].map((t) => t.textContent.split('\\n')[0])")
    assert sorted(found) == ["sys_read", "work"]
    fill = opened.eval("getComputedStyle(document.querySelector('g.found rect')).fill")
    assert fill == "rgb(214, 51, 214)"
    opened.click(*middle(opened, "main"))  # the share is of what is shown
    assert said(opened, "matched") == "matched: 66.67 % in 2 frames"
    search(opened, "main")
    opened.press("Escape")
    assert said(opened, "matched") == ""
    assert opened.eval("document.querySelectorAll('g.found').length") == 0
    assert "java" in seen(opened)


def test_search_ignores_case_unless_there_is_a_capital(opened: Page) -> None:
    for pattern, frames in (("main", "10.00 % in 1"), ("Main", "10.00 % in 1"), ("MAIN", "0.00 % in 0")):
        search(opened, pattern)
        expected = "100.00 % in 2" if pattern == "main" else frames
        assert said(opened, "matched") == f"matched: {expected} frames"


def test_an_invalid_pattern_is_said_and_harmless(opened: Page) -> None:
    search(opened, "main(")
    assert "Invalid regular expression" in said(opened, "matched")
    assert opened.eval("document.querySelector('.osmia-bar input').getAttribute('aria-invalid')") == "true"
    search(opened, "other")
    assert said(opened, "matched") == "matched: 30.00 % in 1 frames"
    assert opened.errors() == []


def test_details_follow_the_mouse(opened: Page) -> None:
    opened.hover(*middle(opened, "work"))
    assert said(opened, "details") == "work: 60 samples, 60.00 %, user; own: 0"
    opened.hover(*middle(opened, "sys_read"))
    assert said(opened, "details") == "sys_read: 60 samples, 60.00 %, kernel; own: 60"


def test_the_keyboard_alone_is_enough(opened: Page) -> None:
    opened.eval("document.querySelector('g.f').focus()")
    walked = []
    for key in ("ArrowUp", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowUp", "ArrowLeft", "ArrowDown", "ArrowUp"):
        opened.press(key)
        walked.append(focused(opened))
    assert walked == ["sh", "java", "sh", "main", "work", "other", "main", "work"]
    assert said(opened, "details").startswith("work: 60 samples")
    opened.press("Enter")
    assert "other" not in seen(opened)
    opened.press("Escape")
    assert "other" in seen(opened)
    before = seen(opened)
    opened.press("i")
    turned = seen(opened)
    assert turned["all"][2] < turned["sh"][2] < turned["sys_read"][2]
    opened.press("ArrowDown")  # still towards what was called
    assert focused(opened) == "sys_read"
    opened.press("i")
    assert seen(opened) == before
    opened.press("/")
    opened.type("inl")
    assert said(opened, "matched") == "matched: 10.00 % in 1 frames"


def test_an_icicle_has_its_root_above(tab: Page, tmp_path: Path) -> None:
    tab.open(make(tmp_path, "svg", merge(TREE), Look(icicle=True)))
    boxes = seen(tab)
    assert boxes["all"][2] < boxes["sh"][2] < boxes["main"][2]


@pytest.mark.parametrize("kind", ["svg", "html"])
def test_it_can_be_read_without_scripts(tab: Page, tmp_path: Path, kind: str) -> None:
    path = make(tmp_path, kind, merge(TREE))
    tab.open(path, scripts=False)
    # With scripts off, evaluation by the debugger still works.
    boxes = seen(tab)
    assert boxes["sys_read"][3] == "sys_read"
    assert abs(boxes["work"][1] - 720) <= 1
    assert tab.eval("document.querySelector('.osmia-bar input')") is None


@pytest.mark.parametrize("kind", ["svg", "html"])
def test_hostile_names_stay_names(tab: Page, tmp_path: Path, kind: str) -> None:
    stacks = [(((name, "u"), ("f", "u")), 10) for name in HOSTILE]
    tab.open(make(tmp_path, kind, merge(stacks), Look(HOSTILE[0], unit=HOSTILE[2], subtitle=HOSTILE[3])))
    assert tab.eval("typeof window.hacked") == "undefined"
    assert sorted(row[0] for row in tab.eval(SEEN) if row[0] not in ("all", "f")) == sorted(HOSTILE)
    for name in HOSTILE:
        tab.hover(*middle(tab, name))
        assert said(tab, "details").startswith(name + ": 10 ")
    search(tab, "script")
    assert tab.eval("typeof window.hacked") == "undefined"
    assert len(tab.requests()) == 1
    assert tab.errors() == []


def test_the_policy_of_a_page_forbids_other_scripts(tab: Page, tmp_path: Path) -> None:
    path = make(tmp_path, "html", merge(TREE))
    path.write_text(path.read_text().replace("<h1>", "<script>window.hacked=1</script><h1>"))
    tab.open(path)
    assert tab.eval("typeof window.hacked") == "undefined"
    assert any("Content Security Policy" in text for text in tab.errors())
    assert len(seen(tab)) == 9


def test_a_difference_shows_both_numbers(tab: Page, tmp_path: Path) -> None:
    tree = difference([(READ, 60), (OTHER, 30), (JAVA, 10)], [(READ, 30), (OTHER, 60), (JAVA, 10)])
    tab.open(make(tmp_path, "svg", tree))
    tab.hover(*middle(tab, "other"))
    assert said(tab, "details") == (
        "other: 60 samples, 60.00 %, user; before: 30, 30.00 %; +30.00 points; own: 60"
    )
    fills = [tab.eval(f"getComputedStyle(document.querySelector('g.{name} rect')).fill") for name in ("r7", "b7")]
    reds, blues = [[int(part) for part in fill[4:-1].split(",")] for fill in fills]
    assert reds[0] > reds[2]
    assert blues[2] > blues[0]


def test_a_large_graph_zooms_and_searches(tab: Page, tmp_path: Path) -> None:
    stacks = [
        ((("app", ""), (f"f{n % 50}", "u"), (f"g{n % 2500}", "u"), (f"h{n}", "k")), 1 + n % 3) for n in range(100_000)
    ]
    tab.open(make(tmp_path, "svg", merge(stacks)))
    shown = len(tab.eval(SEEN))
    assert 2000 < shown <= 25_000
    tab.click(*middle(tab, "f7"))
    boxes = seen(tab)
    assert {name for name in boxes if name.startswith("f")} == {"f7"}
    assert len([name for name in boxes if name.startswith("g")]) == 50
    search(tab, "^g7$")
    total = sum(1 + n % 3 for n in range(100_000) if n % 50 == 7)
    found = sum(1 + n % 3 for n in range(100_000) if n % 2500 == 7)
    assert said(tab, "matched") == f"matched: {100 * found / total:.2f} % in 1 frames"
    tab.press("Escape")
    assert len(tab.eval(SEEN)) == shown
