# SPDX-License-Identifier: Apache-2.0
"""The loop of a run, whatever the tool shows: events as they come, or a summary every interval.

Each template is a *view* with ``begin()``, what to print first; a function
for each ring that it reads, from span to text; and ``summary(last)``, what
to print when an interval is over, which for event tables is nothing.
"""

from __future__ import annotations

import time

from osmia.events.prints import RING as PRINT_RING
from osmia.events.ring import wait
from osmia.events.transport import TRACE_PIPE
from osmia.lang.templates import CountTable, EventTable, Histogram, StackTable
from osmia.views.output import ClosedPipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from osmia.cli.common import Common
    from osmia.cli.session import Session
    from osmia.events.ring import Ring
    from osmia.events.samples import SampleWriter

#: Bytes taken from a ring at a time: small enough for the memory budget, large enough for bulk decoding.
CHUNK = 1 << 18
_IDLE = 60.0
#: The clock of the loop; the one that is shown may be a recording's (see :mod:`osmia.cli.replay_clock`).
_now = time.monotonic


def mode_of(session: Session) -> str:
    """``table``, ``json`` or ``csv``."""
    if session.common.json:
        return "json"
    return "csv" if session.common.csv else "table"


class View:
    """What a run shows; this one shows nothing but prints."""

    #: Seconds between summaries where the user says nothing; 0: only one, at the end.
    interval = 0.0
    #: Seconds until the first interval is over, where that is to be sooner.
    early = 0.0
    #: Whether each interval is shown; where it is only kept, there is one summary, at the end.
    each = True
    #: Of a view of stacks: how a recording describes its samples (see :func:`osmia.events.samples.describe`), and in
    #: a run that is recorded the place for each of them; whenever ``summary`` is called they are to be there.
    samples: dict[str, Any] | None = None
    sink: SampleWriter | None = None

    def begin(self) -> str:
        """The first thing to print."""
        return ""

    def readers(self) -> list[tuple[str, Callable[[bytes], str]]]:
        """``(name of the ring in the object, span to text)``."""
        return []

    def tap(self, name: str, text: Callable[[bytes], str]) -> Callable[[bytes], str]:
        """What reads the ring ``name`` in place of ``text``, for rings that every tool may have: prints."""
        return text

    def plain(self, text: str) -> str:
        """What to print of text that the kernel has formatted itself: iterators."""
        return text

    def summary(self, last: bool) -> str:
        """What to print at the end of an interval; ``last``: the run is over."""
        return ""

    def skip(self) -> None:
        """What was counted up to now will not be shown: intervals begin here."""

    def finish(self) -> str:
        """What to print when everything else is; called once, however the run ended, also when nobody reads it."""
        return ""


class EventsView(View):
    """Events of one ring as rows."""

    def __init__(self, session: Session, template: EventTable) -> None:
        from osmia.cli.table import EventView

        self._session = session
        self._template = template
        self._rows = EventView(template, mode_of(session))
        self._ring = template.ring.live.name if template.ring.live is not None else ""  # type: ignore[attr-defined]
        # A tool's own -T shows the time of the event; the common one the time of reading, where that is all there is.
        common = session.common
        own = "timestamp" in common.taken
        self._stamp = mode_of(session) if common.timestamp and not own else ""

    def begin(self) -> str:
        front = {"table": f"{'TIME':<8} ", "csv": "time,"}.get(self._stamp, "")
        banner = self._template.banner_text() if mode_of(self._session) == "table" else ""
        return f"{banner}\n{front}{self._rows.header}" if banner else front + self._rows.header

    def readers(self) -> list[tuple[str, Callable[[bytes], str]]]:
        return [(self._ring, self._stamped if self._stamp else self._rows.text)]

    def _stamped(self, span: bytes) -> str:
        """With the time: of day for people, in seconds since 1970 for programs."""
        lines = self._rows.records(span)
        if self._stamp == "json":
            front = f'{{"time":{time.time():.6f},'
            return "".join([f"{front}{line[1:]}\n" for line in lines])
        now = time.strftime("%H:%M:%S ") if self._stamp == "table" else f"{time.time():.6f},"
        return "".join([f"{now}{line}\n" for line in lines])


def view_of(session: Session) -> View:
    """The view of the unit's template."""
    template = session.unit.template
    if template is not None and template.view:
        from importlib import import_module

        module, _, name = template.view.partition(":")
        view: View = getattr(import_module(module), name)(session, template)
        return view
    if isinstance(template, EventTable):
        return EventsView(session, template)
    from osmia.cli import summaries

    if isinstance(template, Histogram):
        if template.stacks is not None:
            from osmia.cli import stack_hists

            labels = stack_hists.labels_of(session, template)
            template.section = template.section or "stack"
            template.label = labels.folded
        if session.common.pictures():
            from osmia.cli import pictures

            return pictures.HeatMapView(session, template)
        if template.stacks is not None:
            return stack_hists.StackHistogramView(session, template, labels)
        return summaries.HistogramView(session, template)
    if isinstance(template, StackTable):
        from osmia.cli import stacks

        return stacks.StackView(session, template)
    if isinstance(template, CountTable):
        return summaries.CountView(session, template)
    rings = [one for one in summaries.rings_of(session.unit) if one.live is not None]
    if len(rings) == 1:
        return EventsView(session, EventTable(rings[0]))
    return summaries.EverythingView(session)


def printer(session: Session) -> Callable[[bytes], str]:
    """Lines of ``print(f"…")``, as they are or as records."""
    from osmia.events.prints import Printer

    lines = Printer(session.records).lines
    if mode_of(session) == "json":
        from osmia.views.machine import json_line

        return lambda span: "".join([json_line({"print": line}) + "\n" for line in lines(span)])
    return lambda span: "".join([line + "\n" for line in lines(span)])


def trace_pipe(session: Session) -> Callable[[bytes], str]:
    """Lines of ``trace_printk``: as the kernel writes them, or as fields."""
    from osmia.kernel.trace_pipe import parse
    from osmia.views.escape import escape

    json = mode_of(session) == "json"
    pipe: Any = session.rings[TRACE_PIPE]

    def text(span: bytes) -> str:
        out = []
        for line in pipe.lines(span):
            found = parse(line)
            if found is None or found.function != "bpf_trace_printk":
                continue  # the pipe is everybody's
            if json:
                from osmia.views.machine import json_line

                out.append(json_line(found.as_dict()) + "\n")
            else:
                out.append(escape(line) + "\n")
        return "".join(out)

    return text


def _fitting(common: Common, interval: float) -> int:
    """How many intervals make up the duration, where they do: the last one is the end then; else 0 (no limit)."""
    length = common.duration.value or 0.0
    if not interval or not length or not common.duration.given:
        return 0
    times = round(length / interval)
    return times if times and abs(times * interval - length) < 1e-6 else 0


def run(session: Session) -> None:
    """Show until told to stop.  Raises ClosedPipe when nobody reads any more."""
    Loop(session, view_of(session)).run()


class Loop:
    """Rings, interval and the end, for one session."""

    def __init__(self, session: Session, view: View) -> None:
        self._session = session
        self._view = view
        self._stop = session.stop
        self._readers: list[tuple[Ring, Callable[[bytes], str]]] = [
            (session.rings[name], text) for name, text in view.readers() if name in session.rings
        ]
        if PRINT_RING in session.rings:
            self._readers.append((session.rings[PRINT_RING], view.tap(PRINT_RING, printer(session))))
        if TRACE_PIPE in session.rings:
            self._readers.append((session.rings[TRACE_PIPE], view.tap(TRACE_PIPE, trace_pipe(session))))
        # A flight recorder is not waited for: it shows what it holds at the end, and on SIGUSR1.
        self._recorders = [ring for ring, _ in self._readers if hasattr(ring, "finish")]
        self._rings = [ring for ring, _ in self._readers if ring not in self._recorders]
        self._iterators = [link for link in session.links if hasattr(link, "read")]

    def _dump(self) -> None:
        """Show what the flight recorders hold."""
        for recorder in self._recorders:
            recorder.finish()
        self._drain()

    def run(self) -> None:
        """The whole run."""
        try:
            self._rounds()
        except ClosedPipe:
            self._view.finish()
            raise
        self._session.out.write(self._view.finish())
        if self._stop.pipe_closed:
            raise ClosedPipe("standard output: closed by its reader")

    def _rounds(self) -> None:
        """From the first thing printed to the last summary."""
        session, stop, write = self._session, self._stop, self._session.out.write
        write(self._view.begin())
        common = session.common
        interval = common.seconds_between() or self._view.interval
        count = common.count.value if common.count.given else _fitting(common, interval) if self._view.each else 0
        if self._iterators and len(self._iterators) == len(session.links) and not interval:
            stop.asked = True  # an iterator has its whole answer at once
        shown, following = 0, session.started + (self._view.early or interval)
        while not stop.over():
            if stop.dump_asked:
                stop.dump_asked = False
                self._dump()
            if not interval:
                self._sleep(_now() + _IDLE)
            elif not self._sleep(following):
                continue
            if interval and _now() >= following:
                following += interval
                self._iterate()
                write(self._view.summary(False))
                shown += 1
                if count and shown >= count:
                    break
        else:
            self._iterate()
            self._dump()
            self._drain_rest()
            session.freeze()
            write(self._view.summary(True))

    def _iterate(self) -> None:
        for link in self._iterators:
            written = link.read()
            if written:
                self._session.out.write(self._view.plain(written.decode("utf-8", "backslashreplace")))
        if self._iterators:
            self._drain_rest()

    def _sleep(self, until: float) -> bool:
        """Wait for events, and show them; whether the time ``until`` was reached."""
        stop = self._stop
        if not self._rings:
            stop.sleep(until)
            return _now() >= until
        if wait(self._rings, max(0.0, stop.left(until - _now())), stop.fds()):
            self._drain()
        else:
            stop.woken()
        return _now() >= until

    def _drain(self) -> None:
        """A bounded helping from every ring, so that the clock and the signals are looked at under any load."""
        write = self._session.out.write
        for ring, text in self._readers:
            for _ in range(16):
                span = ring.take(CHUNK)
                if span is None:
                    break
                write(text(span))

    def _drain_rest(self) -> None:
        """What was sent up to now; what comes meanwhile is after the end."""
        for ring, text in self._readers:
            left: Any = ring.pending()
            while left > 0:
                span = ring.take(min(CHUNK, left))
                if span is None:
                    break
                left -= len(span)
                self._session.out.write(text(span))
