# SPDX-License-Identifier: Apache-2.0
"""Subsecond-offset heat maps: samples in their second and offset, and in the page again as they were."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osmia.errors import UserError
from osmia.views.flame import merge
from osmia.views.flame_svg import Look
from osmia.views.offsets import ROWS, SECOND, Samples, page, values

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
START = 1_790_000_000 * SECOND
frames = st.tuples(st.sampled_from("abc"), st.sampled_from(["k", "u"]))
samples = st.lists(st.tuples(st.integers(0, 5 * SECOND), st.lists(frames, max_size=4).map(tuple)), max_size=40)


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def embedded(markup: str) -> Any:
    (found,) = re.findall(r'<script type="application/json" id="osmia-data">(.*?)</script>', markup)
    return json.loads(found)


@patient
@given(samples)
def test_what_is_in_the_page_are_the_samples(pairs: Any) -> None:
    made = Samples([(START + at, stack) for at, stack in pairs])
    data = embedded(page(made))
    now = made.start // 1000
    read = []
    for step, node in zip(data["times"], data["nodes"], strict=True):
        assert step >= 0
        now += step
        stack = []
        while node:
            name, style, kind = data["frames"][data["of"][node]]
            assert style[0] == {"kernel": "k", "user": "u"}[kind]
            stack.append((name, style[0]))
            node = data["parents"][node]
        read.append((now, tuple(stack[::-1])))
    assert sorted(read) == sorted(((START + at) // 1000, stack) for at, stack in pairs)


@patient
@given(samples)
def test_each_sample_is_in_the_cell_of_its_second_and_offset(pairs: Any) -> None:
    made = Samples([(START + at, stack) for at, stack in pairs])
    cells = made.cells()
    assert sum(cells.values()) == len(pairs) == len(made)
    first = min((at for at, _ in pairs), default=0) // SECOND
    expected: dict[tuple[int, int], int] = {}
    for at, _ in pairs:
        cell = at // SECOND - first, at % SECOND // (SECOND // ROWS)
        expected[cell] = expected.get(cell, 0) + 1
    assert cells == expected
    assert all(second < made.seconds and 0 <= row < ROWS for second, row in cells)


def test_the_graph_below_is_that_of_all_samples() -> None:
    stack = (("app", ""), ("main", "u"))
    made = Samples([(START + n, stack if n % 3 else stack[:1]) for n in range(9)])
    assert made.tree.totals == merge([(stack, 6), (stack[:1], 3)]).totals == [9, 9, 6]
    assert "<title>main\n6 samples, 66.67 %, user</title>" in page(made)


def test_cells_are_drawn_from_the_bottom_up() -> None:
    made = page(Samples([(START, ()), (START + SECOND + 999_000_000, ()), (START + SECOND + 999_000_001, ())]))
    paths = re.findall(r'<path class="(h\d)" d="([^"]+)"', made)
    assert paths == [("h1", "M0 343h14v7h-14z"), ("h9", "M14 0h14v7h-14z")]
    assert ">14:13:20</text>" in made
    assert 'samples:</text>\n<rect class="h1"' in made


def test_more_than_an_hour_is_said() -> None:
    made = Samples([(START, ()), (START + 3599 * SECOND, ()), (START + 3600 * SECOND, ())])
    assert (len(made), made.late, made.seconds) == (2, 1, 3600)
    assert "1 more samples, after the first hour, are not shown" in page(made)


def test_none_at_all() -> None:
    assert embedded(page(Samples([])))["times"] == []
    with pytest.raises(UserError, match="older than the epoch"):
        Samples([(-1, ())])


def test_a_sample_costs_some_ten_bytes() -> None:
    stacks = [(("app", ""), (f"f{n}", "u"), (f"g{n}", "u")) for n in range(300)]
    made = Samples([(START + n * 10_101_010, stacks[n * 7 % 300]) for n in range(5000)])
    data = values(made)
    assert len(json.dumps([data["times"], data["nodes"]], separators=(",", ":"))) < 11 * 5000


@pytest.mark.parametrize("name", ["</script><script>x()</script>", "<!--", "\u2028", '"><img onerror=x()>', "\udc80"])
def test_names_are_only_ever_text(name: str) -> None:
    made = page(Samples([(START, ((name, "u"),))]), Look(name))
    assert made.count("<script") == 2
    assert "<img" not in made
    assert "<!--" not in made
    shown = embedded(made)["frames"][1][0]
    assert shown == name if name.isprintable() else shown.isprintable()
