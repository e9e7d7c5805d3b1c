# SPDX-License-Identifier: Apache-2.0
"""Copied stacks, unwound as they come and counted by what they turn out to be (see :mod:`osmia.lang.copies`).

Unwinding takes some ten microseconds a frame, so it is done while the trace
runs, a little at a time, when the process is still there to be looked at.
"""

from __future__ import annotations

from types import SimpleNamespace

from osmia.events.decode import Decoder
from osmia.lang.copies import PIECES, Copy
from osmia.symbols.eh_frame import RBP, RBX, RETURN, RSP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.symbols.frame import Frame
    from osmia.symbols.symbolizer import Symbolizer

_HEAD = 11  # fields before the pieces of the stack


class Unwinding:
    """What copies of stacks were unwound to, and the weight of each since the last :meth:`take`."""

    def __init__(self, names: Symbolizer, *, timed: bool = False) -> None:
        self._names = names
        self._timed = timed  # each by itself, with its time
        self._rows = Decoder(Copy).rows
        self._counts: dict[Any, int] = {}

    def add(self, span: bytes) -> str:
        """Unwind what a span of the ring holds."""
        for row in self._rows(span):
            since, at, weight, pid, tid, kernel, ip, sp, bp, bx, comm = row[:_HEAD]
            stack = b"".join(row[_HEAD : _HEAD + PIECES]).rstrip(b"\0")
            registers = {RETURN: ip, RSP: sp, RBP: bp, RBX: bx}
            stack += bytes(-len(stack) % 8 + 64)  # the zeros that a stack begins with belong to it
            found = self._names.unwind(pid, registers, stack, sp, since)
            places = tuple(found.addresses), frozenset(found.exact), found.complete
            key = since, at if self._timed else 0, pid, tid, kernel, comm, *places
            self._counts[key] = self._counts.get(key, 0) + weight
        return ""

    def take(self) -> list[tuple[Any, int, int, tuple[list[Frame], bool]]]:
        """``(key, count, time, (frames, whether they are all))``; the key has all that others have but a ``user``.

        The time is 0 where it is not asked for.
        """
        out = []
        for (since, at, pid, tid, kernel, comm, addresses, exact, complete), count in self._counts.items():
            thread = {"tid": tid} if tid else {}  # of tools that tell threads apart
            key = SimpleNamespace(since=since, pid=pid, **thread, user=0, kernel=kernel, comm=comm)
            frames = self._names.user_stack(pid, addresses, since, exact=exact)
            out.append((key, count, at, (frames, complete)))
        self._counts = {}
        return out
