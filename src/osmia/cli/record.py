# SPDX-License-Identifier: Apache-2.0
"""``osmia record TOOL [options] -o FILE``: run a tool and keep what it saw, to be shown later by ``osmia replay``.

Events go into the file as the ring had them, without being taken apart;
histograms and maps as snapshots, each interval (a second where none is asked
for, so that a replay can draw them over time).  Nothing of it is on the way
of an ordinary run.
"""

from __future__ import annotations

import os
import sys
import time

from osmia.cli.args import Parser
from osmia.cli.table import visible
from osmia.cli.templates import Loop, View, view_of
from osmia.errors import NotSupported, OptionError, UserError
from osmia.events import recording, snapshots
from osmia.events.prints import RING as PRINT_RING
from osmia.events.recording import Recording
from osmia.events.samples import SampleWriter
from osmia.events.schema import event_of
from osmia.events.transport import TRACE_PIPE
from osmia.lang.hist import Hist
from osmia.lang.maps import Map, Ring
from osmia.lang.options import Option
from osmia.lang.templates import CountTable, EventTable, Histogram
from osmia.views.output import ClosedPipe, open_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from osmia.cli.common import Common
    from osmia.cli.session import Session
    from osmia.events.snapshots import Table
    from osmia.lang.templates import Template
    from osmia.lang.unit import Unit

#: Seconds between snapshots where the user asks for no interval, and between looks at the losses.
STEP = 1.0
#: What stands for the source of samples among the names of rings and maps: no map can be called that.
SAMPLES = "(samples)"


class Options:
    """What ``osmia record`` can say before the tool's name."""

    def __init__(self) -> None:
        self.tool = Option("tool", type=str, metavar="TOOL", help="a tool, or a Python file, and then its options")
        self.output = Option("-o", "--output", type=str, metavar="FILE",
                             help="where the recording goes; may also stand behind the tool")  # fmt: skip
        self.show = Option("--show", help="show what the tool shows, too")
        self.compress = Option("--compress", default=True, help="pack what is recorded (--no-compress: faster)")

    def parser(self, *, shown: bool = False) -> Parser:
        """The command line; the tool's name ends it (and is in what is ``shown`` as help)."""
        options = [self.output, self.show, self.compress]
        return Parser("record", options, required=[self.tool] if shown else [], rest=True)


class Record:
    """One recording on its way: what :func:`osmia.cli.main.run_unit` asks instead of showing the run."""

    def __init__(self, options: Options, words: list[str], *, file: bool) -> None:
        self._options = options
        self._words = words
        self._is_file = file
        self._path = ""

    def begin(self, unit: Unit, common: Common) -> None:
        """Take over ``-o`` from the tool's options.  Raises OptionError."""
        inner = common.output
        if inner.given and self._options.output.given:
            raise OptionError("-o is there twice", where="record", fix="leave one of them out")
        self._path = inner.value if inner.given else self._options.output.value or ""
        if not self._path:
            raise OptionError("where does the recording go?", where="record", fix=f"osmia record {unit.name} -o FILE")
        if self._path == "-" and self._options.show:
            raise OptionError("standard output cannot take both the recording and what is shown", where="record")
        if self._path == "-" and os.isatty(1):
            raise OptionError("a recording is nothing for a terminal", where="record", fix="-o FILE, or a pipe")
        inner.value, inner.given = "", False
        recorded = getattr(unit.template, "recorded", None)
        if recorded is not None:
            recorded.value = True
        for picture in (common.svg, common.html):
            if picture.given:
                raise OptionError(f"{picture.flags[-1]} is for the replay", where="record",
                                  fix=f"osmia replay {self._path} {picture.flags[-1]} FILE")  # fmt: skip

    def show(self, session: Session) -> None:
        """Run to the end.  Raises what a run raises, and UserError when the file cannot be written."""
        from osmia.cli.main import account, tell_losses

        inner = view_of(session)
        template = session.unit.template
        known = template is None or isinstance(template, (EventTable, Histogram, CountTable))
        if template is not None and template.placed is not None:
            known = False  # a recording has not the names of what was probed
        if not known and inner.samples is None:
            raise NotSupported("what it shows cannot be recorded yet", where=session.unit.name,
                               fix=f"keep its records: osmia {session.unit.name} --json -o FILE")  # fmt: skip
        out = open_output(self._path)
        shown = bool(self._options.show)
        try:
            written = Recording(out.write_bytes, pack=bool(self._options.compress))
            tables = tables_of(session.unit)
            if inner.samples is None:  # samples have in them what is looked up
                tables += [one for one in read_by(template) if not any(one is table for table in tables)]
            header = Header(session, tables, self._words, file=self._is_file, samples=inner.samples)
            written.begin(header.record())
            view = RecordingView(session, written, header, tables, inner, shown=shown)
            try:
                with view.clock():
                    Loop(session, view).run()
            except ClosedPipe:  # nobody looks any more, but the recording is whole
                view.end()
                raise
            view.end()
        finally:
            out.close()
        tell_losses(session, machine=shown)
        sys.stderr.write(f"osmia: {self._path}: {view.told()}\n")
        account(session, machine=shown)


def tables_of(unit: Unit) -> list[Table]:
    """The histograms and maps that a run of ``unit`` shows, in the order in which they are to be read."""
    template = unit.template
    if isinstance(template, Histogram):
        return [template.hist]
    if isinstance(template, CountTable):
        return [*template.more.values(), template.map]
    rings = [one for one in unit.maps.values() if isinstance(one, Ring)]
    if template is not None or len(rings) == 1:
        return []
    used = [one for name, one in unit.maps.items() if not name.startswith("_") and one.live is not None]
    return [one for one in used if isinstance(one, Hist) or (isinstance(one, Map) and snapshots.recordable(one))]


def read_by(template: Template | None) -> list[Map]:
    """Maps that the template's own functions look into, such as for the name of a key: a replay needs them as well."""
    found: dict[int, Map] = {}
    columns = getattr(template, "columns", None) or ()
    todo: list[Any] = [*vars(template).values()] if template is not None else []
    todo += [way for col in columns for way in (col.row, col.show)]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        code = getattr(one, "__code__", None)
        if code is None or id(code) in seen:
            continue
        seen.add(id(code))
        for name in code.co_names:
            value = one.__globals__.get(name)
            if isinstance(value, Map):
                if value.live is not None and snapshots.recordable(value):
                    found[id(value)] = value
            elif getattr(value, "__module__", None) == one.__module__:
                todo.append(value)
    return list(found.values())


def step_of(session: Session) -> float:
    """Seconds between snapshots."""
    return float(session.common.seconds_between() or getattr(session.unit.template, "interval", 0.0) or STEP)


class Header:
    """What a recording says about itself; ``numbers`` are those of its sources, by name of the ring or map.

    ``samples`` describes those of a view of stacks; their source is called ``samples``.
    """

    def __init__(self, session: Session, tables: list[Table], words: list[str], *, file: bool,
                 samples: dict[str, Any] | None = None) -> None:  # fmt: skip
        self._session = session
        self._words = words
        self._file = file
        self.numbers: dict[str, int] = {}
        self.sources: list[dict[str, Any]] = []
        for one in session.unit.maps.values():
            if isinstance(one, Ring) and one.live is not None and samples is None:  # else it ends up in the samples
                self._add(one.live.name, {"type": "events", "name": one.name,  # type: ignore[attr-defined]
                                          "schema": event_of(one.event)})  # fmt: skip
        for name in (PRINT_RING, TRACE_PIPE):
            if name in session.rings:
                self._add(name, {"type": "prints" if name == PRINT_RING else "lines", "name": name})
        for table in tables:
            self._add(table.name, self._table(table))
        if samples is not None:
            self._add(SAMPLES, samples)

    def _add(self, name: str, source: dict[str, Any]) -> None:
        number = len(self.sources) + 1
        self.numbers[name] = number
        self.sources.append({"number": number, **source})

    def _table(self, table: Table) -> dict[str, Any]:
        out = snapshots.describe(table)
        template = self._session.unit.template
        if isinstance(template, Histogram):
            unit = template.unit
            out["shown_unit"] = (unit() if callable(unit) else unit) or template.hist.unit
            out["section"] = template.section or template.hist.name
        if isinstance(template, CountTable):
            out["shown"] = table is template.map  # and not one of those that go with it
        if template is not None and not any(table is one for one in tables_of(self._session.unit)):
            out["read"] = True
        return out

    def record(self) -> dict[str, Any]:
        """The header as JSON has it."""
        session = self._session
        from osmia.version import __version__

        options = {}
        for option in _options(session):
            if option.given and _is_plain(option.value):
                options[option.flags[-1]] = _plain(option.value)
        return {
            "osmia": __version__,
            "tool": session.unit.name,
            "file": self._file,
            "command": self._words,
            "options": options,
            "kernel_options": self._kernel_options(),
            "started_ns": int(session.started * 1e9),
            "step": step_of(session),
            "tool_started_ns": getattr(sys.modules.get("osmia.tools._show"), "STARTED", 0),
            "template": shown_by(session.unit.template),
            "sources": self.sources,
            "prints": [list(one) for one in session.records if one[0] == "print"],
            "machine": machine(),
        }

    def _kernel_options(self) -> list[str]:
        """Those that the kernel half was made with: a replay cannot change them."""
        session, found = self._session, []
        known = {id(option): option for option in _options(session)}
        for record in session.records:
            if record[0] == "option":
                option = known.get(id(session.find(record[2], record[3])))
                if option is not None:
                    found.append(option.flags[-1])
        return sorted(found)


def _options(session: Session) -> list[Option]:
    from osmia.cli.common import own_options

    own, filters = own_options(session.unit)
    common = [one for one in vars(session.common).values() if isinstance(one, Option)]
    return [*own, *filters, *common]


def _is_plain(value: Any) -> bool:
    """Whether JSON can hold it; not what a tool has made of a word, such as where to attach, for its kernel half."""
    return value is None or isinstance(value, (bool, int, float, str, list))


def _plain(value: Any) -> Any:
    """An option's value as JSON can hold it."""
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return [_plain(one) for one in value] if isinstance(value, list) else str(value)


def shown_by(template: Template | None) -> dict[str, Any]:
    """What a replay needs of the tool's template where it has not the tool: heading and plain columns."""
    out: dict[str, Any] = {"kind": type(template).__name__ if template is not None else ""}
    if isinstance(template, (Histogram, CountTable)):
        out["banner"] = template.banner_text()
    if isinstance(template, CountTable):
        out["more"] = {name: one.name for name, one in template.more.items()}
    if isinstance(template, (EventTable, CountTable)) and template.columns is not None:
        columns = visible(template.columns)
        if all(col.row is None and col.show is None for col in columns):  # else nobody else can show them
            out["columns"] = [{"field": col.field, "heading": col.heading, "width": col.width, "align": col.align}
                              for col in columns]  # fmt: skip
    return out


def machine() -> dict[str, Any]:
    """Where it was recorded: kernel, CPUs, name, and which boot."""
    name = os.uname()
    out: dict[str, Any] = {"system": name.sysname, "release": name.release, "version": name.version,
                           "machine": name.machine, "host": name.nodename, "cpus": os.cpu_count() or 0}  # fmt: skip
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            out["boot_id"] = file.read().strip()
    except OSError:
        pass
    return out


class RecordingView(View):
    """The view of a recording run; ``inner`` is the tool's own, which shows what is recorded if it is asked to.

    A view of stacks works in any case: it makes names of addresses while there are processes to ask, and hands over
    the samples.
    """

    def __init__(self, session: Session, written: Recording, header: Header, tables: list[Table], inner: View, *,
                 shown: bool) -> None:  # fmt: skip
        self._session = session
        self._file = written
        self._numbers = header.numbers
        self._inner = inner
        if inner.samples is not None:
            inner.sink = SampleWriter(written, header.numbers[SAMPLES])
        self._shown = shown
        # Whether there is a summary each interval, and not only one at the end.
        self._asked = bool(session.common.seconds_between() or getattr(session.unit.template, "interval", 0.0))
        self.interval = inner.interval or (STEP if tables else 0.0)
        self.each = self._asked or bool(inner.interval)
        template = session.unit.template
        label = None
        if isinstance(template, Histogram):
            from osmia.cli.summaries import key_text

            label = getattr(inner, "recorded_label", None) or template.label or key_text
        self._tables = [(header.numbers[one.name], one, snapshots.Changes(one, label)) for one in tables]
        self._looked = 0.0
        self._lost: list[list[Any]] = []
        self._events = 0

    def clock(self) -> Any:
        """The recording's clock for what is shown, so that it is what a replay shows."""
        from osmia.cli.replay_clock import Clock, Untouched

        return Clock(self._file).installed() if self._shown else Untouched()

    def begin(self) -> str:
        return self._inner.begin() if self._shown else ""

    def readers(self) -> list[tuple[str, Callable[[bytes], str]]]:
        return [(name, self.tap(name, text)) for name, text in self._inner.readers()]

    def tap(self, name: str, text: Callable[[bytes], str]) -> Callable[[bytes], str]:
        number = self._numbers.get(name, 0)
        keep, show = self._file.events, text
        if not self._shown:
            # A view of stacks has to see what it reads: which processes there are.
            show = (lambda span: text(span)[:0]) if self._inner.sink is not None else lambda span: ""
        if not number:
            return show

        def both(span: bytes) -> str:
            keep(number, span)
            if self._file.now * 1e-9 - self._looked >= STEP:
                self._look()
            return show(span)

        return both

    def plain(self, text: str) -> str:
        self._file.stamp()
        self._file.block(recording.TEXT, text.encode("utf-8", "backslashreplace"))
        return text if self._shown else ""

    def summary(self, last: bool) -> str:
        file, inner = self._file, self._inner
        file.stamp()
        states = [(table, snapshots.state_of(table)) for _, table, _ in self._tables]
        with Frozen(self._session, states):  # labels may be made of other tables: at the moment of what is shown
            for (number, _, changes), (_, state) in zip(self._tables, states, strict=True):
                payload = changes.next(state)
                if payload is not None:
                    file.block(recording.SNAPSHOT, payload, number)
        ends = last or self._asked
        text = ""
        if inner.sink is not None:
            text = inner.summary(last)
            inner.sink.flush()
        file.block(recording.INTERVAL, bytes([last, ends]))
        self._look()
        if not self._shown or inner.sink is not None:
            return text if self._shown else ""
        if not (ends or inner.interval):  # pictures take every snapshot
            return ""
        with Frozen(self._session, states):
            return inner.summary(last)

    def finish(self) -> str:
        text = self._inner.finish() if self._shown or self._inner.sink is not None else ""
        return text if self._shown else ""

    def _look(self) -> None:
        """Write down the losses, if there are more of them."""
        self._looked = self._file.now * 1e-9
        session = self._session
        assert session.live is not None
        sizes = {name: one.max_entries for name, one in session.live.maps.items()} | session.live.perf_rings
        lost = [[slot.index, slot.kind, slot.what, count, sizes.get(slot.what, 0)]
                for slot, count in session.losses.read()]  # fmt: skip
        if lost != self._lost:
            self._lost = lost
            self._file.note(recording.LOSSES, {"lost": lost})

    def end(self) -> None:
        """Losses, cost, and the last block."""
        session, file = self._session, self._file
        file.stamp()
        self._look()
        cost: dict[str, Any] = {"seconds": round(time.monotonic() - session.started, 6),
                                "own_cpu_ns": time.process_time_ns(), "bytes": file.written}  # fmt: skip
        if session.meter is not None:
            cost |= {"stats": session.meter.record(), "text": session.meter.text()}
        file.note(recording.COST, cost)
        stop = session.stop
        file.end("signal" if stop.by_signal else "reader gone" if stop.pipe_closed else "end")

    def told(self) -> str:
        """What was recorded, in words."""
        lost = sum(one[3] for one in self._lost)
        return f"{self._file.blocks:,} blocks, {self._file.written:,} bytes" + (f", {lost:,} lost" if lost else "")


class Frozen:
    """Tables that are, for the moment, what was recorded of them: what is shown is not read a second time."""

    def __init__(self, session: Session, states: list[tuple[Table, dict[Any, Any]]]) -> None:
        self._session = session
        self._states = states
        self._before: list[tuple[Map, Any, Any]] = []

    def __enter__(self) -> None:
        self._session.replayed = True
        for table, state in self._states:
            if isinstance(table, Map):
                self._before.append((table, table.live, table._sim))
                table.live, table._sim = None, state
            else:
                vars(table)["snapshots"] = state.copy  # before the method of that name

    def __exit__(self, *exc: object) -> None:
        self._session.replayed = False
        for table, _ in self._states:
            vars(table).pop("snapshots", None)
        for one, live, simulated in self._before:
            one.live, one._sim = live, simulated


def run(words: list[str], exiting: bool) -> int:
    """``osmia record`` with what follows it; the exit status.  Raises UserErrors and HelpAsked."""
    from osmia.cli import catalog, main
    from osmia.cli.commands import unit_of

    options = Options()
    parser = options.parser()
    parser.parse(words)
    if not parser.rest:
        raise OptionError("which tool?", where="record", fix="osmia record TOOL -o FILE")
    what, words = parser.rest[0], parser.rest[1:]
    if what in catalog.COMMANDS:
        raise OptionError(f"{what} is no tool", where="record", fix="osmia list shows the tools")
    unit = unit_of(what)
    if unit.template is not None and unit.template.lists:
        raise NotSupported("it traces nothing that could be recorded", where=what,
                           fix=f"keep its records: osmia {what} --json -o FILE")  # fmt: skip
    if not unit.progs:
        raise UserError("there is no kernel function in it", where=what, fix="decorate one: @tracepoint(...)")
    if not options.output.given and "--output" not in words:
        for option in unit.options:
            if "-o" in option.flags:
                raise OptionError(f"-o is {option.flags[-1]} there, so the recording's file comes before the tool",
                                  where=f"record {unit.name}", fix=f"osmia record -o FILE {unit.name}")  # fmt: skip
    record = Record(options, [what, *words], file=not catalog.exists(unit.name) or os.path.exists(what))
    return main.run_unit(unit, words, exiting, record)
