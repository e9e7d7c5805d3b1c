# SPDX-License-Identifier: Apache-2.0
"""What an interval of a table of counts has: what came since the one before."""

from __future__ import annotations

from typing import Any

from osmia import Comm, Event, Hash, u32, u64
from osmia.cli.summaries import CountView
from osmia.lang.templates import Col, count_table


class Sums(Event):
    calls: u64
    bytes: u64


def shown(table: Any, states: list[dict[Any, Any]], more: dict[str, Any] | None = None) -> list[list[dict[str, Any]]]:
    """The entries of each interval, where the map held ``states`` at their ends."""
    view = CountView.__new__(CountView)
    view._template = count_table(table, [Col("key")], more=more)
    view._before = {}
    out = []
    for state in states:
        table.clear()
        table.set_many(state)
        out.append([{name: value for name, value in vars(entry).items() if name != "count"} for entry in view._new()])
    return out


def test_structures_are_subtracted_number_by_number() -> None:
    table: Any = Hash[u32, Sums]()
    states = [{1: Sums(calls=2, bytes=30)}, {1: Sums(calls=3, bytes=30), 2: Sums(calls=1, bytes=5)},
              {1: Sums(calls=3, bytes=30), 2: Sums(calls=2, bytes=6)}]  # fmt: skip
    assert shown(table, states) == [
        [{"key": 1, "calls": 2, "bytes": 30}],
        [{"key": 1, "calls": 1, "bytes": 0}, {"key": 2, "calls": 1, "bytes": 5}],
        [{"key": 2, "calls": 1, "bytes": 1}],
    ]


def test_what_was_removed_and_came_back_counts_anew() -> None:
    """As in a map where what is old makes room."""
    sums: Any = Hash[u32, Sums]()
    assert shown(sums, [{1: Sums(calls=9, bytes=8)}, {1: Sums(calls=2, bytes=50)}])[1] == [
        {"key": 1, "calls": 2, "bytes": 50}
    ]
    counts: Any = Hash[u32, u64]()
    assert [len(one) for one in shown(counts, [{1: 9}, {1: 9}, {}, {1: 2}, {1: 2}])] == [1, 0, 0, 1, 0]


def test_what_is_no_number_stays_as_it_is() -> None:
    names: Any = Hash[u32, Comm]()
    names[1] = "one"
    counts: Any = Hash[u32, u64]()
    assert shown(counts, [{1: 2}, {1: 5}], {"name": names}) == [[{"key": 1, "name": "one"}]] * 2


def test_a_map_that_is_taken_is_empty_afterwards() -> None:
    """And is not subtracted; in a recording, where no map is live, it is."""
    counts: Any = Hash[u32, u64]()
    counts.live = object()
    counts.take = lambda: [(1, 5)]
    view = CountView.__new__(CountView)
    view._template = count_table(counts, [Col("key")], taken=True)
    view._before = {}
    assert [[(one.key, one.count) for one in view._new()] for _ in range(2)] == [[(1, 5)], [(1, 5)]]
    counts.live = None
    counts[1] = 7
    assert [[(one.key, one.count) for one in view._new()] for _ in range(2)] == [[(1, 7)], []]
