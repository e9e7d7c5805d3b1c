# SPDX-License-Identifier: Apache-2.0
"""Walking the typed program: the children of every node, in the order of evaluation."""

from __future__ import annotations

from osmia.compiler import tir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

Node = tir.Expr | tir.Stmt

# The attributes of each node that hold nodes, or lists of nodes.
_CHILDREN: dict[type, tuple[str, ...]] = {
    tir.Bin: ("a", "b"),
    tir.Cmp: ("a", "b"),
    tir.Not: ("a",),
    tir.And: ("a", "b"),
    tir.Or: ("a", "b"),
    tir.Cond: ("test", "a", "b"),
    tir.Seq: ("stmts", "result"),
    tir.Convert: ("a",),
    tir.Load: ("addr",),
    tir.Offset: ("addr", "index"),
    tir.FieldAddr: ("addr",),
    tir.Helper: ("args",),
    tir.Call: ("args",),
    tir.Atomic: ("addr", "value"),
    tir.Fls: ("a",),
    tir.Barrier: ("a",),
    tir.Set: ("value",),
    tir.Store: ("addr", "value"),
    tir.Copy: ("dst", "src"),
    tir.Zero: ("dst",),
    tir.Eval: ("value",),
    tir.If: ("test", "then", "orelse"),
    tir.For: ("start", "stop", "body"),
    tir.While: ("test", "body"),
    tir.Return: ("value",),
}


def children(node: Node) -> Iterator[Node]:
    """The nodes directly below ``node``."""
    for name in _CHILDREN.get(type(node), ()):
        child = getattr(node, name)
        if isinstance(child, list):
            yield from child
        elif child is not None:
            yield child


def walk(nodes: list[tir.Stmt] | list[Node]) -> Iterator[Node]:
    """Every node of ``nodes`` and below, each before its children."""
    stack: list[Node] = list(reversed(nodes))
    while stack:
        node = stack.pop()
        yield node
        for name in reversed(_CHILDREN.get(type(node), ())):
            child = getattr(node, name)
            if isinstance(child, list):
                stack.extend(reversed(child))
            elif child is not None:
                stack.append(child)


def locals_of(nodes: list[tir.Stmt] | list[Node]) -> list[tir.Local]:
    """The locals that ``nodes`` name, each once, in order of first appearance."""
    seen: dict[tir.Local, None] = {}
    for node in walk(nodes):
        if isinstance(node, (tir.Get, tir.AddrOf, tir.Set)):
            seen[node.local] = None
        elif isinstance(node, tir.For):
            seen[node.var] = None
    return list(seen)
