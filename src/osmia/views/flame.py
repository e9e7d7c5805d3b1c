# SPDX-License-Identifier: Apache-2.0
"""Flame graphs as values: stacks → tree of frames → boxes with a place.

The tree is columns of numbers and not objects, since a million frames are
not unusual: ``parents[n]``, ``frames[n]``, ``own[n]`` and so on, where a
parent always comes before its children.  So sums over whole subtrees are one
loop from the end to the beginning, without recursion, however deep the stacks.

A picture holds a bounded number of boxes (:data:`LIMIT`): frames narrower
than a fraction of a pixel are left out, narrowest first, and what is left out
is told.  The widths of all others are exact, because a frame's total is
computed before anything is left out.
"""

from __future__ import annotations

from osmia.views.frames import OTHER, clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from osmia.views.frames import Frame, Stack

#: Boxes in one picture at most; browsers zoom and search this many without a pause.
LIMIT = 25_000
#: Frames narrower than this share of the picture are not drawn: a tenth of a pixel in 1200.
NARROWEST = 1 / 12_000
ROOT = "all"


class FrameTree:
    """Frames under the frames that called them; node 0 is the root, ``all``.

    ``own[n]`` is what was counted in the frame itself, ``totals[n]`` that and
    everything below.  In a difference ``before`` are the totals of the first
    run; else it is empty.
    """

    __slots__ = ("before", "frames", "own", "parents", "totals")

    def __init__(
        self, parents: list[int], frames: list[Frame], own: list[int], own_before: list[int] | None = None
    ) -> None:
        self.parents = parents
        self.frames = frames
        self.own = own
        self.totals = _totals(parents, own)
        self.before = [] if own_before is None else _totals(parents, own_before)

    def __len__(self) -> int:
        return len(self.parents)

    def stack(self, node: int) -> Stack:
        """The frames from below the root to ``node``."""
        out = []
        while node:
            out.append(self.frames[node])
            node = self.parents[node]
        return tuple(out[::-1])


class _Numbers(dict["Frame", int]):
    """Frame → number; a new frame is cleaned and numbered, and frames that look alike then share the number."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = [(ROOT, OTHER)]

    def __missing__(self, frame: Frame) -> int:
        neat = (clean(frame[0]), frame[1])
        number = self.get(neat)
        if number is None:
            number = self[neat] = len(self.frames)
            self.frames.append(neat)
        self[frame] = number
        return number


class Merger:
    """Merges stacks into the nodes of a tree, for one run or several.

    ``parents`` and ``frames`` are those of :class:`FrameTree`, but frames by
    number.  Most frames call one other, so a node's first child stands beside
    it (``first``: the number of its frame, -1 for none; ``child``: its node);
    ``index`` has only the others, by (parent, number) in one integer.  That
    halves the time of a merge.
    """

    __slots__ = ("child", "first", "frames", "index", "numbers", "parents")

    def __init__(self) -> None:
        self.parents = [0]
        self.frames = [0]
        self.numbers = _Numbers()
        self.first = [-1]
        self.child = [0]
        self.index: dict[int, int] = {}

    def node(self, stack: Stack) -> int:
        """The node of the last frame of ``stack``, made if it is new."""
        numbers, index, first, child = self.numbers, self.index, self.first, self.child
        node = 0
        for number in [numbers[frame] for frame in stack]:
            known = first[node]
            if known == number:
                node = child[node]
                continue
            new = len(first)
            if known < 0:
                first[node], child[node] = number, new
            else:
                found = index.setdefault(node << 32 | number, new)
                if found != new:
                    node = found
                    continue
            self.parents.append(node)
            self.frames.append(number)
            first.append(-1)
            child.append(0)
            node = new
        return node

    def count(self, stacks: Iterable[tuple[Stack, int]]) -> dict[int, int]:
        """Node → what was counted in it."""
        own: dict[int, int] = {}
        for stack, count in stacks:
            node = self.node(stack)
            own[node] = own.get(node, 0) + count
        return own

    def tree(self, own: dict[int, int], before: dict[int, int] | None = None) -> FrameTree:
        """The tree with the counts ``own`` and, for a difference, those of the run ``before``."""
        frames = [self.numbers.frames[number] for number in self.frames]
        return FrameTree(self.parents, frames, self._column(own), None if before is None else self._column(before))

    def _column(self, counts: dict[int, int]) -> list[int]:
        out = [0] * len(self.parents)
        for node, count in counts.items():
            out[node] = count
        return out


def merge(stacks: Iterable[tuple[Stack, int]]) -> FrameTree:
    """The tree of ``stacks``.  Stacks may repeat; their counts add up.  Names become printable."""
    made = Merger()
    return made.tree(made.count(stacks))


def difference(before: Iterable[tuple[Stack, int]], after: Iterable[tuple[Stack, int]]) -> FrameTree:
    """The tree of ``after``, with the totals that each frame had in ``before``.

    Frames that are gone are in the tree with a total of 0, so they have no
    box; :attr:`Picture.gone` says how much that was.
    """
    made = Merger()
    own = made.count(after)
    return made.tree(own, made.count(before))


def _totals(parents: list[int], own: list[int]) -> list[int]:
    totals = own[:]
    for node in range(len(totals) - 1, 0, -1):
        totals[parents[node]] += totals[node]
    return totals


class Box:
    """A frame with a place: ``start`` and ``total`` in units counted, ``depth`` from the root (0)."""

    __slots__ = ("before", "depth", "frame", "node", "own", "start", "total")

    def __init__(self, node: int, frame: Frame, depth: int, start: int, total: int, own: int, before: int) -> None:
        self.node = node
        self.frame = frame
        self.depth = depth
        self.start = start
        self.total = total
        self.own = own
        self.before = before


class Picture:
    """Boxes in rows, and what there is to know about them.

    ``rows[d]`` are the boxes of depth ``d`` from left to right.  ``hidden``
    is the number of frames that are too narrow to be drawn, ``hidden_total``
    what was counted in and below them; ``gone`` what stacks of the first run
    that do not exist in the second had counted.
    """

    __slots__ = ("gone", "hidden", "hidden_total", "rows", "total", "total_before")

    def __init__(self, rows: list[list[Box]], tree: FrameTree) -> None:
        self.rows = rows
        self.total = tree.totals[0]
        self.total_before = tree.before[0] if tree.before else 0
        drawn = sum(map(len, rows))
        self.hidden = sum(1 for total in tree.totals if total) - drawn if self.total else 0
        self.hidden_total = 0
        for depth, row in enumerate(rows):
            below = sum(box.total for box in rows[depth + 1]) if depth + 1 < len(rows) else 0
            self.hidden_total += sum(box.total - box.own for box in row) - below
        self.gone = 0
        if tree.before:
            parents, totals, before = tree.parents, tree.totals, tree.before
            self.gone = sum(
                before[n] for n in range(1, len(tree)) if before[n] and not totals[n] and totals[parents[n]]
            )
            if not self.total:
                self.gone = before[0]


def layout(tree: FrameTree, *, narrowest: float = NARROWEST, limit: int = LIMIT) -> Picture:
    """Places for the frames of ``tree``; siblings stand in the order of their names, as in every flame graph.

    At most ``limit`` boxes, none narrower than ``narrowest`` of the whole.  A
    frame is never wider than its parent, so what remains is a whole tree.
    """
    least = _least(tree.totals, narrowest, limit)
    parents, totals, frames = tree.parents, tree.totals, tree.frames
    below: dict[int, list[int]] = {}
    for node in range(1, len(parents)):
        if totals[node] >= least:
            below.setdefault(parents[node], []).append(node)
    rows: list[list[Box]] = []
    row = [_box(tree, 0, 0, 0)]
    while row:
        rows.append(row)
        following = []
        for parent in row:
            start = parent.start
            nodes = below.get(parent.node)
            if nodes is None:
                continue
            if len(nodes) > 1:
                nodes.sort(key=frames.__getitem__)
            for node in nodes:
                following.append(_box(tree, node, len(rows), start))
                start += totals[node]
        row = following
    return Picture(rows, tree)


def _box(tree: FrameTree, node: int, depth: int, start: int) -> Box:
    before = tree.before[node] if tree.before else 0
    return Box(node, tree.frames[node], depth, start, tree.totals[node], tree.own[node], before)


def _least(totals: list[int], narrowest: float, limit: int) -> int:
    """The smallest total that is drawn."""
    least = max(1, -int(-totals[0] * narrowest // 1))
    wide = [total for total in totals if total >= least]
    if len(wide) > limit:
        wide.sort(reverse=True)
        # Of frames that are equally wide all are drawn or none.
        least = wide[limit - 1] if wide[limit - 1] > wide[limit] else wide[limit] + 1
    return least


def top(tree: FrameTree, count: int = 30) -> list[tuple[Frame, int, int]]:
    """``(frame, own, total)`` of the ``count`` frames with the most of their own, over all places they appear in.

    ``total`` counts a frame once where it is called by itself (recursion).
    """
    own: dict[Frame, int] = {}
    for node in range(1, len(tree)):
        if tree.own[node]:
            own[tree.frames[node]] = own.get(tree.frames[node], 0) + tree.own[node]
    best = sorted(own, key=lambda frame: (-own[frame], frame))[:count]
    wanted: dict[Frame, Any] = dict.fromkeys(best, 0)
    for node in range(1, len(tree)):
        frame = tree.frames[node]
        if frame in wanted and not _inside_itself(tree, node):
            wanted[frame] += tree.totals[node]
    return [(frame, own[frame], wanted[frame]) for frame in best]


def _inside_itself(tree: FrameTree, node: int) -> bool:
    frame, above = tree.frames[node], tree.parents[node]
    while above:
        if tree.frames[above] == frame:
            return True
        above = tree.parents[above]
    return False
