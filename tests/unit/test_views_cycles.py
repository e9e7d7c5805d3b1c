# SPDX-License-Identifier: Apache-2.0
"""Cycles in graphs, beside a search that tries every path."""

from __future__ import annotations

import random

from osmia.views.cycles import cycles, tangles


def test_none() -> None:
    assert cycles([]) == []
    assert cycles([(1, 2), (2, 3), (1, 3), (3, 3)]) == []


def test_two_and_three() -> None:
    edges = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "e"), ("e", "d"), ("x", "a")]
    assert cycles(edges) == [["d", "e"], ["a", "b", "c"]]


def test_the_order_is_that_of_the_edges() -> None:
    edges = [(4, 7), (7, 1), (1, 9), (9, 4)]
    assert cycles(edges) == [[4, 7, 1, 9]]


def test_a_shorter_way() -> None:
    ring = [(n, (n + 1) % 50) for n in range(50)]
    (cycle,) = cycles([*ring, (30, 28)])
    assert sorted(cycle) == [28, 29, 30]


def test_long_chains_need_no_recursion() -> None:
    chain = [(n, n + 1) for n in range(30_000)]
    assert cycles(chain) == []
    (cycle,) = cycles([*chain, (5, 3)])
    assert sorted(cycle) == [3, 4, 5]


def _shortest_of_all(edges: set[tuple[int, int]]) -> int:
    """The length of the shortest cycle, by trying every path; 0: none."""
    best = 0
    paths = [[start] for start in {a for a, _ in edges}]
    while paths:
        path = paths.pop()
        for a, b in edges:
            if a != path[-1] or a == b:
                continue
            if b == path[0]:
                best = min(best or len(path), len(path))
            elif b not in path and len(path) < 6:
                paths.append([*path, b])
    return best


def test_random_graphs() -> None:
    chance = random.Random(7)
    seen = set()
    for _ in range(300):
        edges = {(chance.randrange(6), chance.randrange(6)) for _ in range(chance.randrange(1, 10))}
        found = cycles(edges)
        best = _shortest_of_all(edges)
        assert (len(found[0]) if found else 0) == best
        seen.add(best)
        for cycle in found:
            assert len(set(cycle)) == len(cycle)
            assert all((a, b) in edges for a, b in zip(cycle, cycle[1:] + cycle[:1], strict=True))
        graph = {n: [b for a, b in edges if a == n] for n in range(6)}
        assert sorted(n for tangle in tangles(graph) for n in tangle) == list(range(6))
    assert seen >= {0, 2, 3, 4}
