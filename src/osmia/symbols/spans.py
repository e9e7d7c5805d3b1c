# SPDX-License-Identifier: Apache-2.0
"""Which function covers an address: sorted arrays, no Python object per symbol.

35,000 symbols are four arrays of a megabyte together, made in some tens of
milliseconds; finding an address is a binary search.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: One candidate: (start, -end, rank, name).  Sorted so, the outer of two nested ones and the better of two names of
#: the same bytes come first.  ``rank`` and ``name`` are numbers whose meaning is the maker's.
Row = tuple[int, int, int, int]


class Spans:
    """Ranges that do not overlap, each of one function.

    ``starts`` and ``ends`` are the ranges, ``firsts`` where the function of
    each begins (an inner function splits the outer one), ``names`` what the
    maker called it.
    """

    __slots__ = ("ends", "firsts", "names", "starts")

    def __init__(self) -> None:
        self.starts = array("Q")
        self.ends = array("Q")
        self.firsts = array("Q")
        self.names = array("I")

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def memory(self) -> int:
        """Memory that the arrays take."""
        return len(self.starts) * (3 * self.starts.itemsize + self.names.itemsize)

    def at(self, address: int) -> int:
        """Number of the range that covers ``address``; -1 where none does."""
        n = bisect_right(self.starts, address) - 1
        return n if n >= 0 and address < self.ends[n] else -1

    def append(self, start: int, end: int, first: int, name: int) -> None:
        """A range behind all others."""
        self.starts.append(start)
        self.ends.append(end)
        self.firsts.append(first)
        self.names.append(name)


def of_rows(rows: list[Row], better: Callable[[int, int], bool] | None = None) -> Spans:
    """Ranges from candidates that may be nested and share their bytes; ``rows`` is sorted in place.

    The innermost function wins: a symbol inside of another is there because
    somebody wanted it to be seen.  Of two names of the same bytes the one of
    the lower rank; of equal ranks ``better(name, kept)`` says whether the new
    one replaces the kept one.
    """
    rows.sort()
    starts: list[int] = []
    ends: list[int] = []
    names: list[int] = []
    ranks: list[int] = []
    covered = 0  # how far the ranges so far reach
    nested = False
    for start, negative, rank, name in rows:
        end = -negative
        if starts and start == starts[-1] and end == ends[-1]:
            if better is not None and rank == ranks[-1] and better(name, names[-1]):
                names[-1] = name
            continue
        nested = nested or start < covered
        if end > covered:
            covered = end
        starts.append(start)
        ends.append(end)
        names.append(name)
        ranks.append(rank)
    if nested:
        return _flat(starts, ends, names)
    out = Spans()
    out.starts, out.ends, out.names = array("Q", starts), array("Q", ends), array("I", names)
    out.firsts = out.starts[:]
    return out


def _flat(starts: list[int], ends: list[int], names: list[int]) -> Spans:
    """Ranges of nested functions, cut where an inner one begins or ends."""
    out = Spans()
    around: list[tuple[int, int, int]] = []  # functions that are open at ``at``: (end, start, name), innermost last
    at = 0
    for start, end, name in zip(starts, ends, names, strict=True):
        at = _close(out, around, at, start)
        if around and at < start:
            out.append(at, start, around[-1][1], around[-1][2])
        at = start
        around.append((end, start, name))
    _close(out, around, at, 1 << 64)
    return out


def _close(out: Spans, around: list[tuple[int, int, int]], at: int, until: int) -> int:
    """End the functions that end at or before ``until``; how far the ranges reach then."""
    while around and around[-1][0] <= until:
        end, first, name = around.pop()
        if at < end:
            out.append(at, end, first, name)
            at = end
    return at
