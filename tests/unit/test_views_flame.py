# SPDX-License-Identifier: Apache-2.0
"""Flame graphs: totals against brute force, boxes inside their callers, what is left out is told, hostile names."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osmia.errors import UserError
from osmia.views import flame_svg
from osmia.views.flame import FrameTree, difference, layout, merge, top
from osmia.views.flame_svg import Look, page, svg
from osmia.views.frames import cut_stack
from osmia.views.page import data, html, percent, svg_script, text

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
frames = st.tuples(st.sampled_from("abcd"), st.sampled_from(["k", "u", ""]))
stacks = st.lists(st.tuples(st.lists(frames, max_size=6).map(tuple), st.integers(0, 1000)), max_size=30)

SVG = "{http://www.w3.org/2000/svg}"
READ = (("sh", ""), ("main", "u"), ("work", "u"), ("sys_read", "k"))
OTHER = (("sh", ""), ("main", "u"), ("other", "u"))
JAVA = (("java", ""), ("Main.run", "j"), ("inl", "i"))
SMALL = [(READ, 60), (OTHER, 30), (JAVA, 10)]
HOSTILE = [
    "</title><script>hacked=1</script>",
    "]]><script>hacked=1</script>",
    '"><img src=x onerror=hacked=1>',
    "' onmouseover='hacked=1",
    "</script><script>hacked=1</script>",
    "<!--",
    "&lt;b&gt;",
    "a\x00b\x1bc\x7f",
    "\u202eright to left",
    "\udc80\ud800",
    "line\nbreak",
]


def brute(stacks: Any) -> dict[Any, int]:
    """The total of every prefix of every stack."""
    totals: dict[Any, int] = {}
    for stack, count in stacks:
        for end in range(len(stack) + 1):
            totals[stack[:end]] = totals.get(stack[:end], 0) + count
    return totals


def boxes(picture: Any) -> list[Any]:
    return [box for row in picture.rows for box in row]


@patient
@given(stacks)
def test_totals_are_those_of_every_prefix(stacks: Any) -> None:
    tree = merge(stacks)
    assert {tree.stack(node): tree.totals[node] for node in range(len(tree))} == (brute(stacks) or {(): 0})
    assert sum(tree.own) == sum(count for _, count in stacks)
    assert all(parent < node for node, parent in enumerate(tree.parents) if node)


@patient
@given(stacks, st.integers(1, 40))
def test_boxes_lie_inside_their_callers_and_beside_each_other(stacks: Any, limit: int) -> None:
    tree = merge(stacks)
    picture = layout(tree, narrowest=0.05, limit=limit)
    assert len(boxes(picture)) <= max(1, limit)
    places = {box.node: box for box in boxes(picture)}
    totals = brute(stacks)
    for row in picture.rows:
        for left, right in pairwise(row):
            assert left.start + left.total <= right.start
    for box in boxes(picture)[1:]:
        caller = places[tree.parents[box.node]]
        assert caller.depth == box.depth - 1
        assert caller.start <= box.start
        assert box.start + box.total <= caller.start + caller.total
        assert box.total == totals[tree.stack(box.node)]
        assert box.total >= 0.05 * picture.total
    assert picture.hidden == sum(1 for total in tree.totals if total) - len(boxes(picture)) + (not picture.total)
    drawn = sum(box.own for box in boxes(picture))
    assert picture.hidden_total == picture.total - drawn


def test_siblings_stand_in_the_order_of_their_names() -> None:
    picture = layout(merge([((("b", ""),), 5), ((("a", ""),), 1), ((("c", ""),), 3)]))
    assert [(box.frame[0], box.start, box.total) for box in picture.rows[1]] == [("a", 0, 1), ("b", 1, 5), ("c", 6, 3)]


def test_the_widest_frames_are_kept_and_equal_ones_fare_alike() -> None:
    many = [(((f"f{n}", ""),), count) for n, count in enumerate([50, 20, 10, 10, 10])]
    assert [box.frame[0] for box in layout(merge(many), limit=4).rows[1]] == ["f0", "f1"]
    assert len(layout(merge(many), limit=6).rows[1]) == 5
    picture = layout(merge(many), limit=3)
    assert (picture.hidden, picture.hidden_total) == (3, 30)


def test_a_very_deep_stack_needs_no_recursion() -> None:
    tree = merge([(tuple((f"f{n % 7}", "u") for n in range(20_000)), 3)])
    picture = layout(tree)
    assert len(picture.rows) == 20_001
    assert picture.rows[-1][0].total == 3


def test_names_that_look_alike_are_one_frame() -> None:
    tree = merge([((("a\x1b", "u"),), 1), ((("a\\x1b", "u"),), 2)])
    assert tree.totals == [3, 3]
    assert tree.frames[1] == ("a\\x1b", "u")


def test_a_difference_knows_both_runs() -> None:
    tree = difference([(READ, 10), (JAVA, 30)], [(READ, 20), (OTHER, 20)])
    found = {tree.stack(n): (tree.before[n], tree.totals[n]) for n in range(len(tree))}
    assert found[()] == (40, 40)
    assert found[READ] == (10, 20)
    assert found[OTHER] == (0, 20)
    assert found[JAVA] == found[JAVA[:1]] == (30, 0)
    picture = layout(tree)
    assert picture.gone == 30
    assert JAVA[0] not in [box.frame for box in boxes(picture)]
    by_name = {box.frame[0]: flame_svg.change(box, picture) for box in boxes(picture)}
    assert by_name == {"all": 0.0, "sh": 0.75, "main": 0.75, "work": 0.25, "sys_read": 0.25, "other": 0.5}


def test_the_table_counts_recursion_once() -> None:
    a, b = ("a", "u"), ("b", "u")
    tree = merge([((a, b, a), 5), ((a,), 2), ((b, a), 1), ((b,), 1)])
    assert top(tree) == [(a, 8, 8), (b, 1, 7)]
    assert top(tree, 1) == [(a, 8, 8)]


def parsed(markup: str) -> ET.Element:
    return ET.fromstring(markup)


def groups(root: ET.Element) -> list[ET.Element]:
    return [g for g in root.iter(SVG + "g") if (g.get("class") or "").startswith("f ")]


def titles(root: ET.Element) -> list[str]:
    return [g.findtext(SVG + "title") or "" for g in groups(root)]


def test_the_svg_is_readable_without_scripts() -> None:
    root = parsed(svg(merge(SMALL), Look("CPU & time", unit="samples")))
    assert root.findtext(SVG + "title") == "CPU & time"
    assert titles(root) == [
        "all\n100 samples, 100.00 %",
        "java\n10 samples, 10.00 %", "sh\n90 samples, 90.00 %",
        "Main.run\n10 samples, 10.00 %, JIT-compiled", "main\n90 samples, 90.00 %, user",
        "inl\n10 samples, 10.00 %, inlined", "other\n30 samples, 30.00 %, user", "work\n60 samples, 60.00 %, user",
        "sys_read\n60 samples, 60.00 %, kernel",
    ]  # fmt: skip
    labels = [node.text for g in groups(root) for node in g.findall(SVG + "text")]
    assert labels == ["all", "java", "sh", "Main.run", "main", "inl", "other", "work", "sys_read"]
    assert "100 samples" in [node.text for node in root.iter(SVG + "text")]
    work = groups(root)[7]
    rect = work.find(SVG + "rect")
    assert rect is not None
    assert (work.get("data-v"), rect.get("x"), rect.get("width")) == ("40 60 0", "480.00", "719.50")
    assert (groups(root)[1].get("class") or "")[2] == "o"
    assert [(g.get("class") or "")[2] for g in groups(root)[3:]] == ["j", "u", "i", "u", "u", "k"]


def test_the_root_is_below_in_a_flame_graph_and_above_in_an_icicle() -> None:
    def heights(look: Look) -> list[int]:
        rows = [g for g in parsed(svg(merge(SMALL), look)).iter(SVG + "g") if g.get("class") == "row"]
        return [int(re.findall(r"\d+", row.get("transform") or "")[1]) for row in rows]

    below = heights(Look())
    assert below == sorted(below, reverse=True)
    assert heights(Look(icicle=True)) == below[::-1]


def test_long_names_are_shortened_to_their_box() -> None:
    long = "a_function_with_a_very_long_name_" * 10
    root = parsed(svg(merge([(((long, "u"),), 1), ((("b", "u"),), 1)])))
    label = groups(root)[1].findtext(SVG + "text") or ""
    assert label.endswith("..")
    assert long.startswith(label[:-2])
    assert 70 < len(label) < 84
    assert titles(root)[1].startswith(long + "\n")
    wide = parsed(svg(merge([((("漢" * 400, "u"),), 1)])))
    assert len(groups(wide)[1].findtext(SVG + "text") or "") < 90


def test_palettes_differ_and_colours_are_the_same_in_every_run() -> None:
    on, off = svg(merge(SMALL)), svg(merge(SMALL), Look(palette="off"))
    assert on != off
    assert re.sub(r"<style>.*</style>", "", on, flags=re.S) == re.sub(r"<style>.*</style>", "", off, flags=re.S)
    assert flame_svg.frame_class(("main", "u")) == "u4"
    with pytest.raises(UserError, match="there is no palette 'mauve'; it is one of on, off"):
        Look(palette="mauve")


def test_a_difference_is_red_where_there_is_more_and_blue_where_there_is_less() -> None:
    tree = difference([(READ, 60), (OTHER, 30), (JAVA, 10)], [(READ, 30), (OTHER, 60), (JAVA, 10)])
    root = parsed(svg(tree))
    names = [title.split("\n")[0] for title in titles(root)]
    by_name = dict(zip(names, [(g.get("class") or "").split()[1] for g in groups(root)], strict=True))
    assert by_name == {"all": "r0", "java": "r0", "sh": "r0", "Main.run": "r0", "main": "r0", "inl": "r0",
                       "other": "r7", "work": "b7", "sys_read": "b7"}  # fmt: skip
    details = next(t for t in titles(root) if t.startswith("work\n"))
    assert details == "work\n30 samples, 30.00 %, user; before: 60, 60.00 %; -30.00 points"
    assert "100 samples; before: 100. Red: a larger share than before, blue: a smaller one" in [
        node.text for node in root.iter(SVG + "text")
    ]


def test_runs_of_different_length_are_compared_by_their_shares() -> None:
    root = parsed(svg(difference([(READ, 1000), (OTHER, 1000)], [(READ, 10), (OTHER, 10)])))
    assert {(g.get("class") or "").split()[1] for g in groups(root)} == {"r0"}


def test_what_is_not_shown_is_told() -> None:
    many = [(((f"f{n:05}", ""),), 1) for n in range(20_000)]
    said = flame_svg.notes(merge(many), layout(merge(many)), Look(subtitle="host a"))
    assert said == [
        "host a; 20,000 samples",
        "20,000 frames are too narrow to be drawn or searched; 100.00 % of the samples are in or below them",
    ]
    tree = merge([(cut_stack(READ), 1), (cut_stack(cut_stack(OTHER)), 2), (JAVA, 9)])
    assert flame_svg.notes(tree, layout(tree), Look(unit="ns"))[1:] == [
        "3 of 12 ns (25.0 %) have stacks that were cut: see [truncated]"
    ]
    gone = difference([(JAVA, 4)], [(READ, 1)])
    assert flame_svg.notes(gone, layout(gone), Look())[1:] == [
        "4 samples of the first run are in stacks that the second does not have"
    ]


def test_nothing_at_all_is_still_a_picture() -> None:
    root = parsed(svg(merge([])))
    assert titles(root) == ["all\n0 samples, 0 %"]
    assert "<h2>" in page(merge([]))


class _Scripts(HTMLParser):
    """What a page has of scripts, and of attributes that are some."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.scripts = 0
        self.handlers: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.scripts += tag == "script"
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_only_ever_text(name: str) -> None:
    tree = merge([(((name, "u"), (name, "k")), 3)])
    look = Look(name, unit=name, subtitle=name)
    drawn = svg(tree, look)
    root = parsed(drawn)  # well-formed, so nothing ended an element early
    assert [node.tag for node in root.iter() if node.tag == SVG + "script"] == [SVG + "script"]
    assert {node.tag for node in root.iter()} == {SVG + tag for tag in
                                                  ("svg", "style", "title", "rect", "text", "g", "script")}  # fmt: skip
    shown = titles(root)[1].split("\n")[0]
    assert shown.isprintable()
    if name.isprintable():
        assert shown == name
    scripts = _Scripts()
    scripts.feed(page(tree, look))
    assert (scripts.scripts, scripts.handlers) == (1, [])
    assert not scripts.tags & {"img", "b"}


@patient
@given(st.text(max_size=30))
def test_any_name_is_well_formed(name: str) -> None:
    parsed(svg(merge([(((name, "u"),), 1)]), Look(name, unit=name)))
    assert "</script" not in data({"x": name}).lower()
    assert set(text(name)) & set("<>\"'\n\0") == set()


def test_a_page_loads_nothing_and_runs_its_own_script_only() -> None:
    made = page(merge(SMALL), Look("x"))
    assert "default-src 'none'" in made
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", made)
    assert not re.search(r"(src|href)=", made.replace("default-src", "").replace("-src", ""))
    assert re.findall(r"https?://[^\"' ]+", made.partition("<script>")[0]) == ["http://www.w3.org/2000/svg"]


def test_assets_cannot_end_a_cdata_section() -> None:
    assert svg_script("flame.js").count("]]>") == 1


def test_data_for_scripts() -> None:
    assert data(["</script>", "<!--", "a&b", "\u2028"]) == r'["\u003c/script\u003e","\u003c!--","a\u0026b","\u2028"]'
    assert "osmia-data" in html("t", "", values=[1])


def test_percent() -> None:
    assert [percent(a, b) for a, b in ((1, 3), (0, 5), (5, 5), (1, 10**6), (0, 0))] == [
        "33.33 %", "0.00 %", "100.00 %", "0.0001 %", "0 %",
    ]  # fmt: skip


def test_a_tree_can_be_made_of_columns() -> None:
    tree = FrameTree([0, 0, 1], [("all", ""), ("a", "u"), ("b", "u")], [0, 1, 2])
    assert tree.totals == [3, 3, 2]
    assert tree.stack(2) == (("a", "u"), ("b", "u"))
