# SPDX-License-Identifier: Apache-2.0
"""Cycles in a directed graph: of locks, where A -> B says that somebody took B while holding A."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator
    from typing import TypeVar

    Node = TypeVar("Node", bound=Hashable)


def cycles(edges: Iterable[tuple[Node, Node]]) -> list[list[Node]]:
    """A shortest cycle of each tangle of ``edges``: its nodes in order, each once; shortest first.

    A tangle is a set of nodes that can all reach one another (a strongly
    connected component); every cycle is within one.  A cycle begins with the
    node that comes first in ``edges``.  An edge from a node to itself is no cycle here.
    """
    graph: dict[Node, list[Node]] = {}
    for start, end in edges:
        if start != end:
            graph.setdefault(start, []).append(end)
            graph.setdefault(end, [])
    found = [_shortest(graph, tangle) for tangle in tangles(graph) if len(tangle) > 1]
    rank = {node: n for n, node in enumerate(graph)}
    for cycle in found:
        at = cycle.index(min(cycle, key=rank.__getitem__))
        cycle[:] = cycle[at:] + cycle[:at]
    return sorted(found, key=lambda cycle: (len(cycle), rank[cycle[0]]))


def tangles(graph: dict[Node, list[Node]]) -> Iterator[set[Node]]:
    """The strongly connected components of ``graph`` (Tarjan's algorithm, without recursion)."""
    number: dict[Node, int] = {}
    low: dict[Node, int] = {}
    path: list[Node] = []
    on_path: set[Node] = set()
    for root in graph:
        if root in number:
            continue
        work = [(root, iter(graph[root]))]
        number[root] = low[root] = len(number)
        path.append(root)
        on_path.add(root)
        while work:
            node, left = work[-1]
            for other in left:
                if other not in number:
                    number[other] = low[other] = len(number)
                    path.append(other)
                    on_path.add(other)
                    work.append((other, iter(graph[other])))
                    break
                if other in on_path:
                    low[node] = min(low[node], number[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == number[node]:
                    tangle = {node}
                    while path[-1] != node:
                        tangle.add(path.pop())
                    path.pop()
                    on_path -= tangle
                    yield tangle


def _shortest(graph: dict[Node, list[Node]], tangle: set[Node]) -> list[Node]:
    """A shortest cycle among the nodes of a tangle that has at least two."""
    best: list[Node] = []
    for start in tangle:
        found = _back_to(graph, tangle, start, len(best) or len(tangle) + 1)
        if found:
            best = found
            if len(best) == 2:
                break
    return best


def _back_to(graph: dict[Node, list[Node]], tangle: set[Node], start: Node, limit: int) -> list[Node]:
    """A shortest way from ``start`` back to it, of less than ``limit`` nodes; empty: there is none."""
    came: dict[Node, Node] = {}
    edge, length = [start], 1
    while edge and length < limit:
        following = []
        for node in edge:
            for other in graph[node]:
                if other == start:
                    way = [node]
                    while way[-1] != start:
                        way.append(came[way[-1]])
                    return way[::-1]
                if other in tangle and other not in came:
                    came[other] = node
                    following.append(other)
        edge, length = following, length + 1
    return []
