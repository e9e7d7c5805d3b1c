# SPDX-License-Identifier: Apache-2.0
"""Heat maps: a histogram over time, time from left to right, values from the bottom up, counts as shades.

A :class:`HeatMap` takes one histogram per interval, of any kind (see
:mod:`osmia.views.hist`); :func:`text` draws it for a terminal,
:mod:`osmia.views.heatmap_svg` as SVG and HTML.

Nothing is sampled: a cell holds the exact count of its interval and buckets.
Where there are more intervals or buckets than fit, neighbours are added up,
so every count is still in the picture once.  Shades follow the logarithm of
the count, because the few slow requests that a heat map is looked at for
would otherwise drown beside the many fast ones; the legend has the numbers.
"""

from __future__ import annotations

import time

from osmia.errors import InternalError
from osmia.views.hist import Histogram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from osmia.views.buckets import Bounds

#: Columns that are kept; a longer run is kept in coarser ones.
COLUMNS = 1024
#: Shades of a plain-text cell, from one to most.
ASCII = ".:-=+*#%@"
#: Colours of a terminal with 256, from one to most: dark violet to nearly white, visible on any background.
COLOURS = (53, 54, 90, 126, 162, 198, 204, 210, 223)
SHADES = len(ASCII)


class HeatMap:
    """Histograms by time.

    ``step`` is the length of a column in seconds, ``start`` the time of the
    first (seconds since the epoch, None while unknown), ``length`` their
    number; ``columns`` are the counts by slot of those that hold something.
    When there would be more than ``limit`` columns, each two become one and
    the step doubles.
    """

    __slots__ = ("_halved", "_interval", "columns", "length", "limit", "shape", "start", "step")

    def __init__(self, step: float, *, start: float | None = None, limit: int = COLUMNS) -> None:
        self.step = self._interval = step
        self._halved = 0
        self.limit = limit
        self.start = start
        self.length = 0
        self.columns: dict[int, dict[int, int]] = {}
        self.shape: Histogram | None = None

    def add(self, at: float, hist: Histogram) -> None:
        """Count ``hist``, of the interval that began at ``at``.

        Raises :class:`~osmia.errors.InternalError` for a histogram of another
        kind than the earlier ones, or from before the first.
        """
        if self.shape is None:
            self.shape = Histogram(hist.kind, (), **hist.params)
        elif (hist.kind, hist.params) != (self.shape.kind, self.shape.params):
            raise InternalError(f"a heat map of {self.shape!r} cannot take {hist!r}")
        index = self.reach(at)  # first: it may replace the columns
        column = self.columns.setdefault(index, {})
        for slot, count in hist.counts.items():
            column[slot] = column.get(slot, 0) + count

    def reach(self, at: float) -> int:
        """Let the map last until the interval that began at ``at``; the number of its column."""
        if self.start is None:
            self.start = at
        # Intervals begin a little late now and then: the nearest is the one that is meant.
        index = round((at - self.start) / self._interval) >> self._halved
        if index < 0:
            raise InternalError("a heat map takes intervals in the order of time")
        while index >= self.limit:
            self.columns = merged(self.columns, 2)
            self.length = (self.length + 1) // 2
            self.step *= 2
            self._halved += 1
            index >>= 1
        self.length = max(self.length, index + 1)
        return index

    @property
    def count(self) -> int:
        """All that was counted."""
        return sum(sum(column.values()) for column in self.columns.values())


class HeatMaps:
    """One heat map for each key of a histogram, all on the same axis of time."""

    __slots__ = ("limit", "maps", "start", "step")

    def __init__(self, step: float, *, limit: int = COLUMNS) -> None:
        self.step = step
        self.limit = limit
        self.start: float | None = None
        self.maps: dict[Any, HeatMap] = {}

    def add(self, at: float, hists: Mapping[Any, Histogram]) -> None:
        """Count ``hists``, of the interval that began at ``at``; there may be none of them."""
        if self.start is None:
            self.start = at
        for key, hist in hists.items():
            heat = self.maps.get(key)
            if heat is None:
                heat = self.maps[key] = HeatMap(self.step, start=self.start, limit=self.limit)
            heat.add(at, hist)
        for heat in self.maps.values():
            heat.reach(at)

    def largest(self, number: int) -> tuple[list[Any], int]:
        """The ``number`` keys that counted most, largest first, and how many others there are."""
        keys = sorted(self.maps, key=lambda key: -self.maps[key].count)
        return keys[:number], max(0, len(keys) - number)


class Row:
    """One row: values ``low`` to ``high`` (None: no bound), and the count of each column."""

    __slots__ = ("bounds", "cells")

    def __init__(self, bounds: Bounds, cells: list[int]) -> None:
        self.bounds = bounds
        self.cells = cells

    def label(self) -> str:
        """``512 -> 1023``, ``7``, ``>= 100``."""
        low, high = self.bounds
        if low is None:
            return f"< {0 if high is None else high + 1}"
        if high is None:
            return f">= {low}"
        return str(low) if low == high else f"{low} -> {high}"


class Grid:
    """A heat map brought to a size: ``rows`` from the lowest values up, and ``step`` seconds a column."""

    __slots__ = ("columns", "most", "rows", "start", "step", "totals")

    def __init__(self, rows: list[Row], columns: int, start: float, step: float) -> None:
        self.rows = rows
        self.columns = columns
        self.start = start
        self.step = step
        self.totals = [sum(row.cells[at] for row in rows) for at in range(columns)]
        self.most = max((count for row in rows for count in row.cells), default=0)

    def span(self, column: int) -> str:
        """The time of a column, as ``12:00:01 to 12:00:02``."""
        first = self.start + column * self.step
        return f"{clock(first, self.step)} to {clock(first + self.step, self.step)}"


def merged(columns: Mapping[int, dict[int, int]], by: int) -> dict[int, dict[int, int]]:
    """Each ``by`` neighbouring columns added up."""
    out: dict[int, dict[int, int]] = {}
    for at, column in columns.items():
        whole = out.setdefault(at // by, {})
        for slot, count in column.items():
            whole[slot] = whole.get(slot, 0) + count
    return out


def grid(heat: HeatMap, columns: int, rows: int) -> Grid:
    """``heat`` in at most ``columns`` columns and ``rows`` rows (at least 2), without empty rows above and below."""
    by = max(1, -(-heat.length // max(1, columns)))
    counts = merged(heat.columns, by) if by > 1 else heat.columns
    length = -(-heat.length // by)
    used = {slot for column in counts.values() for slot in column}
    start = heat.start or 0.0
    if not used or heat.shape is None:
        return Grid([], length, start, heat.step * by)
    first, last, group = min(used), max(used), 1
    # Groups are powers of two and begin at multiples of themselves, so that log-linear rows end at round numbers.
    while last // group - first // group + 1 > max(2, rows):
        group *= 2
    out = []
    for number in range(first // group, last // group + 1):
        slots = range(max(first, number * group), min(last, number * group + group - 1) + 1)
        bounds = heat.shape.bounds(slots[0])[0], heat.shape.bounds(slots[-1])[1]
        cells = [0] * length
        for at, column in counts.items():
            cells[at] = sum([column.get(slot, 0) for slot in slots])
        out.append(Row(bounds, cells))
    return Grid(out, length, start, heat.step * by)


def level(count: int, most: int, shades: int = SHADES) -> int:
    """The shade of ``count``, 1 to ``shades``, where ``most`` has the last; 0 for nothing."""
    if count <= 0:
        return 0
    if count >= most:
        return shades
    from math import log

    return 1 + min(int(shades * log(count) / log(most)), shades - 1)


def legend(most: int, shades: int = SHADES) -> list[tuple[int, int, int]]:
    """``(shade, lowest count, highest count)`` of the shades that counts up to ``most`` can have."""
    out: list[tuple[int, int, int]] = []
    low = 1
    while low <= most:
        shade = level(low, most, shades)
        high, beyond = low, most + 1
        while beyond - high > 1:  # shades only grow with the count
            middle = (high + beyond) // 2
            if level(middle, most, shades) == shade:
                high = middle
            else:
                beyond = middle
        out.append((shade, low, high))
        low = high + 1
    return out


def clock(at: float, step: float = 1.0) -> str:
    """The time of day, with milliseconds where columns are shorter than a second."""
    if step >= 1 and step == int(step):
        return time.strftime("%H:%M:%S", time.localtime(round(at)))
    at = round(at, 3)
    return time.strftime("%H:%M:%S", time.localtime(int(at))) + f".{int(at * 1000 + 0.5) % 1000:03}"


def text(heat: HeatMap, unit: str, *, width: int = 80, height: int = 40, colour: bool = False) -> str:
    """The map as a block of lines, headed by ``unit``; the empty string if nothing was counted.

    ``width`` and ``height`` are those of the terminal.  With ``colour`` cells
    are blanks on one of 256 colours, else characters (:data:`ASCII`).
    """
    rows_there = max(4, height - 6)
    full = grid(heat, heat.length, rows_there)
    if not full.rows:
        return ""
    side = max(len(unit), *[len(row.label()) for row in full.rows]) + 1
    tail = max(5, *[len(str(sum(row.cells))) for row in full.rows]) + 2
    made = grid(heat, max(8, width - side - tail - 3), rows_there)
    lines = [f"{unit:>{side}} |{'':{made.columns}}| count"]
    for row in reversed(made.rows):
        cells = [level(count, made.most) for count in row.cells]
        body = _coloured(cells) if colour else "".join([(" " + ASCII)[cell] for cell in cells])
        lines.append(f"{row.label():>{side}} |{body}| {sum(row.cells)}")
    lines.append(f"{'':{side}} +{'-' * made.columns}+")
    lines.append(f"{'':{side}}  {_times(made)}".rstrip())
    lines += [f"{'':{side}}  {line}" for line in _key(made, width - side - 2, colour)]
    return "\n".join(lines) + "\n"


def _coloured(cells: list[int]) -> str:
    """Cells as blanks on colours; a sequence only where the colour changes."""
    out, now = [], 0
    for cell in cells:
        if cell != now:
            out.append(f"\x1b[48;5;{COLOURS[cell - 1]}m" if cell else "\x1b[0m")
            now = cell
        out.append(" ")
    return "".join(out) + ("\x1b[0m" if now else "")


def _times(made: Grid) -> str:
    """Times of day under the columns they belong to, as many as there is room for."""
    size = len(clock(made.start, made.step))
    line = ""
    for column in range(0, made.columns, max(20, 2 * size)):
        line = f"{line:<{column}}{clock(made.start + column * made.step, made.step)}"
    return line


def _key(made: Grid, width: int, colour: bool) -> list[str]:
    """The legend, in lines of at most ``width`` columns."""
    lines, used = [f"a column is {made.step:g} s;"], len(f"a column is {made.step:g} s;")
    for shade, low, high in legend(made.most):
        counts = f" {low}" if low == high else f" {low}-{high}"
        sample, size = (_coloured([shade, shade]), 2) if colour else (ASCII[shade - 1], 1)
        if used + 2 + size + len(counts) > width:
            lines.append(sample + counts)
            used = size + len(counts)
        else:
            lines[-1] += "  " + sample + counts
            used += 2 + size + len(counts)
    return lines
