# SPDX-License-Identifier: Apache-2.0
"""``--heatmap``, ``--svg FILE`` and ``--html FILE`` of histogram tools: what was counted, over time.

Imported only where one of them is given.  The picture needs intervals: those
that the user asked for, else seconds.  Without an interval of the user's the
histograms are still printed once, at the end, from the same snapshot as the
last column, so the numbers of both agree.
"""

from __future__ import annotations

import os
import time

from osmia.cli.summaries import HistogramView
from osmia.views.heatmap import HeatMaps, clock, text
from osmia.views.output import open_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.cli.session import Session
    from osmia.lang.templates import Histogram
    from osmia.views.heatmap_svg import Sheet
    from osmia.views.output import Writer

#: Keys that are drawn, at most; those that counted most.
KEYS = 24
#: Seconds of a column where the user asked for no interval.
STEP = 1.0
_SIZE = (100, 40)  # of what is no terminal
_LEAST = 14  # lines for one map


class HeatMapView(HistogramView):
    """A histogram tool with a picture: heat maps in the terminal and in files, beside or instead of histograms."""

    def __init__(self, session: Session, template: Histogram) -> None:
        super().__init__(session, template)
        common = session.common
        self._asked = bool(common.seconds_between())
        self.interval = common.seconds_between() or STEP
        self._maps = HeatMaps(self.interval)
        self._files: list[tuple[str, Writer]] = [
            (kind, open_output(option.value, f"--{kind}"))
            for kind, option in (("svg", common.svg), ("html", common.html))
            if option
        ]
        # A picture on standard output stands there alone.
        self._alone = any(file.fd == session.out.fd for _, file in self._files)
        self._in_terminal = bool(common.heatmap) and not self._alone
        self._live = self._in_terminal and is_terminal(session.out.fd)
        self._drawn = 0  # lines of the map that is on the screen
        # Times of day that never go back, whatever happens to the clock meanwhile.
        self._offset = time.time() - time.monotonic()
        self._since = session.started

    def begin(self) -> str:
        return "" if self._alone else super().begin()

    def summary(self, last: bool) -> str:
        new = self._intervals.next()
        since, self._since = self._since, time.monotonic()
        if last and self._since - since < self.interval / 10 and self._maps.start is not None:
            since -= self.interval  # a sliver of time at the end belongs to the last column
        self._maps.add(self._offset + since, new)
        if self._in_terminal:
            return self._redrawn() if self._live else ""
        if self._alone or not self._asked:
            return ""
        return self._print(new, last)

    def skip(self) -> None:
        super().skip()
        self._since = time.monotonic()

    def finish(self) -> str:
        """Write the files; what is still to be printed."""
        for kind, file in self._files:
            from osmia.views import heatmap_svg

            file.write((heatmap_svg.svg if kind == "svg" else heatmap_svg.page)(self._sheet()))
            file.close()
        if self._alone:
            return ""
        if self._in_terminal:
            return "" if self._live else self._terminal(*_SIZE, KEYS, colour=False)
        return "" if self._asked else self._show(self._intervals.whole())

    def _name(self, key: Any) -> str:
        template = self._template
        return f"{template.section or template.hist.name} = {self._label(key)}" if template.hist.keyed else ""

    def _redrawn(self) -> str:
        """The map, over the one that is on the screen."""
        width, height = _size(self._session.out.fd)
        keys = max(1, (height - 1) // _LEAST)
        shown = min(keys, max(1, len(self._maps.maps)))
        out = self._terminal(width, (height - 1) // shown, keys, colour=True)
        up = f"\x1b[{self._drawn}A\r\x1b[J" if self._drawn else ""
        self._drawn = out.count("\n")
        return up + out

    def _terminal(self, width: int, height: int, most: int, *, colour: bool) -> str:
        from osmia.views.escape import escape

        keys, others = self._maps.largest(most)
        out = []
        for key in keys:
            name = self._name(key)
            head = f"\n{escape(name)}\n" if name else "\n"
            out.append(head + text(self._maps.maps[key], self._unit, width=width, height=height - 2, colour=colour))
        if others:
            out.append(f"{_others(others)}\n")
        return "".join(out)

    def _sheet(self) -> Sheet:
        from osmia.views.heatmap_svg import Sheet

        keys, others = self._maps.largest(KEYS)
        count = sum(heat.count for heat in self._maps.maps.values())
        first, end = self._offset + self._session.started, self._offset + self._since
        note = f"{self._session.host()}, {clock(first)} to {clock(end)}, {count:,} values"
        if others:
            note += "; " + _others(others)
        maps = [(self._name(key), self._maps.maps[key]) for key in keys]
        return Sheet(maps, title=self._session.unit.name, unit=self._unit, note=note)


def _others(number: int) -> str:
    return f"{number} more with fewer values {'is' if number == 1 else 'are'} not shown"


def is_terminal(fd: int) -> bool:
    """Whether colours and cursor movements can be used on ``fd``."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") in ("", "dumb"):
        return False
    return fd >= 0 and os.isatty(fd)


def _size(fd: int) -> tuple[int, int]:
    """Columns and lines of a terminal; a guess where it does not say."""
    try:
        width, height = os.get_terminal_size(fd)
    except OSError:
        return _SIZE
    return (width or _SIZE[0], height or _SIZE[1])
