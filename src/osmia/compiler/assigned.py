# SPDX-License-Identifier: Apache-2.0
"""Which locals a stretch of code may read before it has written them itself.

Used for the bodies of loops that become functions of their own: a local that
is always written first needs no memory that outlives the round.
"""

from __future__ import annotations

from osmia.compiler import tir, walk

#: The locals that are certainly written by now; None where the code is not reached.
_State = set[tir.Local] | None


def read_before(nodes: list[walk.Node], written: list[tir.Local]) -> set[tir.Local]:
    """The locals that running ``nodes`` may read, or take the address of, before it has written them.

    ``written`` have been before.  When in doubt, a local is in the result.
    """
    found: set[tir.Local] = set()
    _all(nodes, set(written), found)
    return found


def _all(nodes: list[walk.Node] | list[tir.Stmt], state: _State, found: set[tir.Local]) -> _State:
    for node in nodes:
        state = _one(node, state, found)
    return state


def _one(node: walk.Node, state: _State, found: set[tir.Local]) -> _State:
    """Follow ``node``; what is written after it."""
    if state is None:
        return None
    if isinstance(node, tir.AddrOf) or (isinstance(node, tir.Get) and node.local not in state):
        found.add(node.local)
        return state
    if isinstance(node, (tir.If, tir.Cond)):
        state = _one(node.test, state, found)
        ways: tuple[list[walk.Node], list[walk.Node]]
        ways = ([*node.then], [*node.orelse]) if isinstance(node, tir.If) else ([node.a], [node.b])
        return _either(*(_all(way, None if state is None else set(state), found) for way in ways))
    if isinstance(node, (tir.And, tir.Or)):
        state = _one(node.a, state, found)
        _one(node.b, None if state is None else set(state), found)  # may not run
        return state
    if isinstance(node, (tir.For, tir.While)):
        return _loop(node, state, found)
    for child in walk.children(node):
        state = _one(child, state, found)
    if isinstance(node, (tir.Break, tir.Continue, tir.Return)):
        return None
    if isinstance(node, tir.Set) and state is not None:
        state.add(node.local)
    return state


def _either(one: _State, other: _State) -> _State:
    if one is None or other is None:
        return one if other is None else other
    return one & other


def _loop(node: tir.For | tir.While, state: set[tir.Local], found: set[tir.Local]) -> _State:
    """A loop inside: its body may not run at all, and `break` and `continue` in it stay in it."""
    if isinstance(node, tir.While):
        after = _one(node.test, state, found)
        _all(node.body, None if after is None else set(after), found)
        return after
    _one(node.start, state, found)
    _one(node.stop, state, found)
    _all(node.body, {*state, node.var}, found)
    return state
