# SPDX-License-Identifier: Apache-2.0
"""Heat maps: every count in exactly one cell, whatever the size of the picture; shades, times and hostile labels."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osmia.errors import InternalError
from osmia.views.heatmap import COLOURS, HeatMap, HeatMaps, clock, grid, legend, level, text
from osmia.views.heatmap_svg import Sheet, page, svg
from osmia.views.hist import Histogram

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
START = 1_790_000_000.0  # 14:13:20 UTC
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def hist(kind: str = "log2", *values: int, **params: int) -> Histogram:
    made = Histogram(kind, **params)
    for value in values:
        made.add(value)
    return made


def small() -> HeatMap:
    heat = HeatMap(1.0)
    heat.add(START, hist("log2", 5, 5, 5, 70))
    heat.add(START + 1, hist("log2", 6, 20, 20, 20, 20, 20, 20, 20, 20, 20))
    heat.add(START + 3, hist("log2", 4))
    return heat


KINDS: list[tuple[str, dict[str, int]]] = [
    ("log2", {}), ("loglin", {"bits": 3}), ("loglin", {"bits": 1}), ("linear", {"low": 10, "step": 7, "slots": 60}),
]  # fmt: skip


@patient
@given(
    st.sampled_from(KINDS),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5000)), min_size=1, max_size=60),
    st.integers(1, 30), st.integers(2, 30), st.integers(2, 20),
)  # fmt: skip
def test_every_value_is_in_the_cell_that_says_so(
    shape: Any, values: list[tuple[int, int]], columns: int, rows: int, limit: int
) -> None:
    kind, params = shape
    heat = HeatMap(0.5, limit=limit)
    values.sort()
    for second, value in values:
        heat.add(START + second * 0.5, hist(kind, value, **params))
    made = grid(heat, columns, rows)
    assert made.columns <= columns
    assert len(made.rows) <= rows
    assert sum(made.totals) == heat.count == len(values)
    first = START + values[0][0] * 0.5
    assert made.start == first
    expected: dict[tuple[int, int], int] = {}
    for second, value in values:
        (row,) = [n for n, one in enumerate(made.rows) if (one.bounds[0] is None or one.bounds[0] <= value)
                  and (one.bounds[1] is None or value <= one.bounds[1])]  # fmt: skip
        column = int((START + second * 0.5 - first) / made.step)
        expected[row, column] = expected.get((row, column), 0) + 1
    cells = {(n, at): count for n, row in enumerate(made.rows) for at, count in enumerate(row.cells) if count}
    assert cells == expected


def test_a_long_run_is_kept_in_coarser_columns() -> None:
    heat = HeatMap(1.0, limit=8)
    for second in range(100):
        heat.add(START + second + 0.3 * (second % 2), hist("log2", second))  # a little late now and then
    assert (heat.step, heat.length) == (16.0, 7)
    assert [sum(heat.columns[n].values()) for n in range(7)] == [16] * 6 + [4]


def test_a_pause_is_a_gap() -> None:
    assert [row.cells for row in grid(small(), 10, 10).rows] == [[3, 1, 0, 1], [0, 0, 0, 0], [0, 9, 0, 0],
                                                                 [0, 0, 0, 0], [1, 0, 0, 0]]  # fmt: skip


def test_what_does_not_fit_together_is_refused() -> None:
    heat = small()
    with pytest.raises(InternalError, match="cannot take"):
        heat.add(START + 9, hist("loglin", 3, bits=2))
    with pytest.raises(InternalError, match="order of time"):
        heat.add(START - 5, hist("log2", 3))


def test_keys_share_the_axis_of_time() -> None:
    maps = HeatMaps(1.0, limit=8)
    for second in range(20):
        maps.add(START + second, {"a": hist("log2", 3), **({"b": hist("log2", 9, 9, 9)} if second > 14 else {})})
    maps.add(START + 20, {})
    assert {key: (heat.start, heat.step, heat.length) for key, heat in maps.maps.items()} == {
        "a": (START, 4.0, 6), "b": (START, 4.0, 6),
    }  # fmt: skip
    assert {key: {at: sum(c.values()) for at, c in heat.columns.items()} for key, heat in maps.maps.items()} == {
        "a": {0: 4, 1: 4, 2: 4, 3: 4, 4: 4}, "b": {3: 3, 4: 12},
    }  # fmt: skip
    assert maps.largest(1) == (["a"], 1)
    assert maps.largest(5) == (["a", "b"], 0)


@patient
@given(st.integers(1, 1 << 40), st.integers(1, 12))
def test_shades_grow_with_the_count_and_the_legend_covers_them(most: int, shades: int) -> None:
    ranges = legend(most, shades)
    assert ranges[0][1] == 1
    assert ranges[-1][2] == most
    after = [*ranges[1:], (shades + 1, most + 1, 0)]
    for (shade, low, high), (following, next_low, _) in zip(ranges, after, strict=True):
        assert low <= high
        assert next_low == high + 1
        assert shade < following
        assert level(low, most, shades) == level(high, most, shades) == shade
    assert level(0, most, shades) == 0
    assert level(most, most, shades) == shades


def test_plain_text() -> None:
    assert text(small(), "usecs") == (
        "     usecs |    | count\n"
        " 64 -> 127 |.   | 1\n"
        "  32 -> 63 |    | 0\n"
        "  16 -> 31 | @  | 9\n"
        "   8 -> 15 |    | 0\n"
        "    4 -> 7 |+. .| 5\n"
        "           +----+\n"
        "            14:13:20\n"
        "            a column is 1 s;  . 1  - 2  + 3  * 4  # 5  % 6-7  @ 8-9\n"
    )


def test_text_of_a_linear_histogram_names_what_is_below_and_above() -> None:
    heat = HeatMap(1.0)
    heat.add(START, hist("linear", 1, 10, 25, 99, low=10, step=10, slots=2))
    assert [line.split(" |")[0].strip() for line in text(heat, "ms").splitlines()[:5]] == [
        "ms", ">= 30", "20 -> 29", "10 -> 19", "< 10",
    ]  # fmt: skip


def test_text_keeps_to_the_terminal() -> None:
    heat = HeatMap(1.0)
    for second in range(500):
        heat.add(START + second, hist("loglin", *range(1, 3000, 7), bits=3))
    for width, height in ((80, 24), (132, 50), (60, 12)):
        lines = text(heat, "usecs", width=width, height=height).splitlines()
        assert max(map(len, lines)) <= width
        assert len([line for line in lines if "|" in line]) - 1 <= height - 6
        assert sum(int(line.rpartition("|")[2]) for line in lines[1:] if "|" in line) == heat.count
        assert "a column is 1 s" not in lines[-1]


def test_colours_are_the_same_map_with_blanks_on_colours() -> None:
    plain, coloured = text(small(), "usecs").splitlines(), text(small(), "usecs", colour=True).splitlines()
    assert coloured[3] == f"  16 -> 31 | \x1b[48;5;{COLOURS[8]}m \x1b[0m  | 9"
    one, three = f"\x1b[48;5;{COLOURS[0]}m ", f"\x1b[48;5;{COLOURS[4]}m "
    assert coloured[5] == f"    4 -> 7 |{three}{one}\x1b[0m {one}\x1b[0m| 5"
    for before, after in zip(plain[:-1], coloured[:-1], strict=True):
        bare = re.sub(r"\x1b\[[0-9;]*m", "", after)
        assert bare == (before if "+--" in before or ":" in before else re.sub("[.+@]", " ", before))
    assert "\x1b" not in "".join(plain)


def test_nothing_is_no_text_and_an_honest_picture() -> None:
    assert text(HeatMap(1.0), "usecs") == ""
    assert "nothing was counted" in svg(Sheet([], title="t", unit="usecs"))
    assert "nothing was counted" in page(Sheet([], title="t", unit="usecs"))


def test_times() -> None:
    assert clock(START, 1.0) == "14:13:20"
    assert clock(START + 0.9996, 1.0) == "14:13:21"
    assert clock(START + 0.25, 0.25) == "14:13:20.250"
    assert clock(START + 0.9999, 0.5) == "14:13:21.000"
    assert grid(small(), 10, 10).span(1) == "14:13:21 to 14:13:22"


def cells(root: ET.Element) -> list[tuple[str, str]]:
    return [(rect.get("class") or "", rect.findtext(SVG + "title") or "") for rect in root.iter(SVG + "rect")
            if rect.find(SVG + "title") is not None]  # fmt: skip


def test_each_cell_of_the_svg_tells_time_values_count_and_share() -> None:
    root = ET.fromstring(svg(Sheet([("", small())], title="biolatency", unit="usecs", note="3 s")))
    assert cells(root) == [
        ("h5", "14:13:20 to 14:13:21, 4 -> 7 usecs: 3, 75.00 % of 1 s, 20.00 % of all"),
        ("h1", "14:13:21 to 14:13:22, 4 -> 7 usecs: 1, 10.00 % of 1 s, 6.67 % of all"),
        ("h1", "14:13:23 to 14:13:24, 4 -> 7 usecs: 1, 100.00 % of 1 s, 6.67 % of all"),
        ("h9", "14:13:21 to 14:13:22, 16 -> 31 usecs: 9, 90.00 % of 1 s, 60.00 % of all"),
        ("h1", "14:13:20 to 14:13:21, 64 -> 127 usecs: 1, 25.00 % of 1 s, 6.67 % of all"),
    ]
    words = [node.text for node in root.iter(SVG + "text")]
    assert words[:2] == ["biolatency", "3 s"]
    assert [w for w in words if w and "->" in w] == ["4 -> 7", "8 -> 15", "16 -> 31", "32 -> 63", "64 -> 127"]
    assert "14:13:20" in words


def test_a_picture_for_each_key() -> None:
    sheet = Sheet([("disk = sda", small()), ("disk = sdb", small())], title="t", unit="usecs")
    root = ET.fromstring(svg(sheet))
    names = [node.text for node in root.iter(SVG + "text") if node.get("class") == "name"]
    assert names == ["disk = sda", "disk = sdb"]
    assert len(cells(root)) == 10
    assert page(sheet).count("<svg ") == 2


@pytest.mark.parametrize("name", ["</title><script>x()</script>", '"><img onerror=x()>', "]]>", "a\x1b[2J\n", "\ud800"])
def test_labels_are_only_ever_text(name: str) -> None:
    sheet = Sheet([(name, small())], title=name, unit=name, note=name)
    root = ET.fromstring(svg(sheet))
    tags = ("svg", "style", "title", "rect", "text", "g", "path", "script")
    assert {node.tag for node in root.iter()} == {SVG + tag for tag in tags}
    made = page(sheet)
    assert "<img" not in made
    assert made.count("<script>") == 1
