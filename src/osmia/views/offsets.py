# SPDX-License-Identifier: Apache-2.0
"""Subsecond-offset heat maps: a column a second, the place within the second from the bottom up, samples as shades.

Averages over seconds hide what happens within them: threads that wake each
100 ms, a lock that stops everybody for 80 ms once.  Here they are patterns.
The page holds the samples themselves: choose a range of time with the mouse
or the keyboard, and the flame graph below is that of the samples in it.

The samples go into the page compactly, as differences of their times in
microseconds and numbers of nodes in one tree of frames: some ten bytes each.
"""

from __future__ import annotations

from osmia.errors import UserError
from osmia.views import flame_svg
from osmia.views.flame import Merger, layout
from osmia.views.frames import KINDS
from osmia.views.heatmap import clock, legend, level
from osmia.views.heatmap_svg import SHADES, styles
from osmia.views.page import asset, html, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from osmia.views.flame import FrameTree
    from osmia.views.flame_svg import Look
    from osmia.views.frames import Stack

SECOND = 1_000_000_000
#: Rows of the map: 20 ms each.
ROWS = 50
#: Columns at most; samples after them are counted in the note but not shown.
SECONDS = 3600
_LEFT, _UP, _FOOT = 70, 7, 40


class Samples:
    """Samples in the order of time: ``times`` in nanoseconds since the epoch, ``nodes`` in ``tree``.

    ``start`` is the whole second (ns) before the first sample; ``late`` how
    many samples lie more than an hour after it and are not in here.
    """

    __slots__ = ("late", "nodes", "start", "times", "tree")

    def __init__(self, samples: Iterable[tuple[int, Stack]]) -> None:
        made = Merger()
        pairs = sorted([(at, made.node(stack)) for at, stack in samples])
        if pairs and pairs[0][0] < 0:
            raise UserError("a sample is older than the epoch", fix="give times in nanoseconds since 1970")
        self.start = pairs[0][0] // SECOND * SECOND if pairs else 0
        end = self.start + SECONDS * SECOND
        kept = [pair for pair in pairs if pair[0] < end]
        self.late = len(pairs) - len(kept)
        self.times = [at for at, _ in kept]
        self.nodes = [node for _, node in kept]
        own: dict[int, int] = {}
        for node in self.nodes:
            own[node] = own.get(node, 0) + 1
        self.tree: FrameTree = made.tree(own)

    def __len__(self) -> int:
        return len(self.times)

    @property
    def seconds(self) -> int:
        """Number of columns."""
        return (self.times[-1] - self.start) // SECOND + 1 if self.times else 0

    def cells(self, rows: int = ROWS) -> dict[tuple[int, int], int]:
        """``(second, row)`` → samples; row 0 begins with the second."""
        out: dict[tuple[int, int], int] = {}
        for at in self.times:
            second, offset = divmod(at - self.start, SECOND)
            cell = second, offset * rows // SECOND
            out[cell] = out.get(cell, 0) + 1
        return out


def page(samples: Samples, look: Look | None = None) -> str:
    """The page: the map, and below it the flame graph of all samples until a range is chosen."""
    look = look or flame_svg.Look("Samples by time", unit="samples")
    tree = samples.tree
    said = [*flame_svg.notes(tree, layout(tree), look)]
    if samples.late:
        said.append(f"{samples.late:,} more samples, after the first hour, are not shown")
    body = [
        f"<style>\n{styles()}{asset('offsets.css')}{flame_svg.styles(look.palette)}</style>\n<h1>{text(look.title)}</h1>\n",
        *[f"<p>{text(line)}</p>\n" for line in said],
        '<div id="osmia-range" class="osmia-bar"></div>\n',
        '<p><output id="osmia-cell" aria-live="polite">&#160;</output></p>\n<div class="wide">\n',
        _map(samples),
        '</div>\n<div id="osmia-bar"></div>\n',
        flame_svg.graph(tree, look),
    ]
    return html(look.title, "".join(body), scripts=("flame.js", "offsets.js"), values=values(samples))


def values(samples: Samples) -> dict[str, object]:
    """What the page's script needs: times (differences, in µs), nodes, and the tree they are in.

    ``frames`` are ``[name, style class, kind in words]``; a node has the
    number of its frame and of its parent.
    """
    tree = samples.tree
    numbers: dict[tuple[str, str], int] = {}
    of_node = [numbers.setdefault(frame, len(numbers)) for frame in tree.frames]
    times, before = [], samples.start // 1000
    for at in samples.times:
        now = at // 1000
        times.append(now - before)
        before = now
    return {
        "rows": ROWS,
        "seconds": samples.seconds,
        "clock": [clock(samples.start / SECOND + n) for n in range(samples.seconds)],
        "frames": [[name, flame_svg.frame_class((name, kind)), KINDS[kind]] for name, kind in numbers],
        "parents": tree.parents,
        "of": of_node,
        "times": times,
        "nodes": samples.nodes,
    }


def _map(samples: Samples) -> str:
    """The map as markup: one path for each shade, however many cells."""
    seconds, cells = samples.seconds, samples.cells()
    across = max(3, min(14, 1100 // max(1, seconds)))
    width, height = across * seconds, _UP * ROWS
    most = max(cells.values(), default=0)
    paths: dict[int, list[str]] = {}
    for (second, row), count in sorted(cells.items()):
        paths.setdefault(level(count, most, SHADES), []).append(
            f"M{second * across} {height - (row + 1) * _UP}h{across}v{_UP}h-{across}z"
        )
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" id="osmia-offsets" class="osmia-heat" tabindex="0"'
        f' width="{_LEFT + max(width + 20, 760)}" height="{height + _FOOT + 8}"'
        f' data-left="{_LEFT}" data-top="8" data-across="{across}" data-up="{_UP}"'
        ' aria-label="samples by second and offset in the second">\n',
        f'<g transform="translate({_LEFT},8)">\n<rect class="field" width="{width}" height="{height}"/>\n',
        *[f'<path class="h{shade}" d="{"".join(paths[shade])}"/>\n' for shade in sorted(paths)],
        '<path class="chosen" d=""/>\n<path class="at" d=""/>\n</g>\n',
    ]
    for tenth in range(0, 11, 2):
        y = 8 + height - height * tenth // 10
        out.append(f'<text class="axis" x="{_LEFT - 6}" y="{y + 4}">{100 * tenth} ms</text>\n')
    foot = height + 22
    for second in range(0, seconds, max(1, -(-100 // across))):
        now = clock(samples.start / SECOND + second)
        out.append(f'<text x="{_LEFT + second * across}" y="{foot}">{now}</text>\n')
    out.append(_legend(most, foot + 8))
    return "".join(out) + "</svg>\n"


def _legend(most: int, y: int) -> str:
    said = f"a column is 1 s, a cell {1000 // ROWS} ms; samples:"
    out, x = [f'<text x="{_LEFT}" y="{y + 10}">{said}</text>\n'], _LEFT + 320
    for shade, low, high in legend(most, SHADES):
        counts = str(low) if low == high else f"{low}-{high}"
        out.append(f'<rect class="h{shade}" x="{x}" y="{y}" width="12" height="12"/>')
        out.append(f'<text x="{x + 15}" y="{y + 10}">{counts}</text>\n')
        x += 23 + 8 * len(counts)
    return "".join(out)
