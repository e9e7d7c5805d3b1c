# SPDX-License-Identifier: Apache-2.0
"""``osmia replay FILE``: what was recorded, as the tool would have shown it, or in any other form.

The views are those of a run; what differs is where spans and tables come
from, and the clock.  Nothing here asks the kernel for anything, so it works
for every user and where there is no BPF.
"""

from __future__ import annotations

import struct
import sys

from osmia.cli import replay_clock, replayed
from osmia.cli.replay_options import NEVER, ReplayCommon, restore, window
from osmia.cli.templates import View, printer, trace_pipe, view_of
from osmia.errors import NotFound, OptionError, UserError
from osmia.events import loss, recording
from osmia.events.loss import Slot
from osmia.events.recording import Block, Reader
from osmia.lang.options import Option
from osmia.views.output import ClosedPipe, Writer, open_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from osmia.cli.args import Parser
    from osmia.cli.replayed import Replayed


def general_parser() -> Parser:
    """The command line, as far as it does not depend on what was recorded."""
    from osmia.cli.args import Parser

    file = Option("file", type=str, metavar="FILE", help="a recording; -: standard input")
    return Parser("replay", ReplayCommon().shown(), required=[file])


def run(words: list[str]) -> int:
    """``osmia replay`` with what follows it; the exit status.  Raises UserErrors."""
    from osmia.cli.args import HelpAsked
    from osmia.cli.commands import parse

    if not words or words[0] in ("-h", "--help"):
        parse(general_parser(), ["-h"])
        return 0 if words else 2
    path, rest = words[0], words[1:]
    if path.startswith("-") and path != "-":
        raise OptionError("the recording comes first", where="replay", fix="osmia replay FILE [options]")
    name = "standard input" if path == "-" else path
    try:
        file = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115 - closed below
    except OSError as err:
        raise NotFound(f"cannot read it: {err.strerror}", where=path) from None
    with file:
        reader = Reader(file, name)
        made = replayed.session_of(reader)
        try:
            restore(made.parser, made.common, rest, reader.header)
        except HelpAsked:
            from osmia.cli.helptext import tool_help

            sys.stdout.write(tool_help(made.unit, made.parser))
            return 0
        try:
            _show(reader, made)
        finally:
            made.out.close()
    for text in (*made.notes, *reader.notes):
        sys.stderr.write(f"osmia: {text}\n")
    return 0


def _show(reader: Reader, made: Replayed) -> None:
    common = made.common
    made.prepare()
    if common.output.given:
        made.out = open_output(common.output.value)
    if made.samples:
        from osmia.cli.replay_stacks import StackReplay

        StackReplay(reader, made).run()
        return
    for option in (common.pprof, common.speedscope):
        if option.given:
            raise OptionError(f"there are no stacks in it, as {option.flags[-1]} needs them", where=reader.name)
    if common.pictures() and not (made.unit.template is not None and made.unit.template.pictures):
        raise OptionError(f"{made.unit.name} shows nothing that has a picture", where=reader.name,
                          fix="--json, --csv and --parquet FILE work for every recording")  # fmt: skip
    if common.parquet.given:
        _parquet(reader, made)
    else:
        Replay(reader, made).run()


def _parquet(reader: Reader, made: Replayed) -> None:
    """The records of ``--json`` as a Parquet file; the buckets of histograms a row each."""
    import io

    from osmia.cli.flame import save
    from osmia.views.export_parquet import records_file

    text = io.StringIO()
    made.out = Writer(text)
    for option in (made.common.csv, made.common.heatmap, made.common.svg, made.common.html):
        option.value = type(option.value)()
    made.common.json.set(True)
    Replay(reader, made).run()
    save(made.common.parquet, records_file(replayed.rows(text.getvalue()), name=made.unit.name))


class Replay:
    """Blocks into what a view makes of them; the clock of the recording (see :mod:`osmia.cli.replay_clock`)."""

    def __init__(self, reader: Reader, made: Replayed) -> None:
        self._reader = reader
        self._made = made
        self.now, self.offset, self.gmtoff = made.clocks
        self._view = View()
        self._texts: dict[int, Callable[[bytes], str]] = {}
        self._from, self._to = window(made.common, made.started_ns, self.offset, self.gmtoff)
        common = made.common
        self._asked = bool(common.seconds_between())
        self._step = int(common.seconds_between() * 1e9) if made.own_interval else 0
        self._following = max(made.started_ns, self._from) + self._step
        self._begun = self._from <= made.started_ns
        self._shown = self._since = 0
        self._last = self._over = False
        self._lost: list[list[Any]] = []
        self._cost: dict[str, Any] = {}

    def run(self) -> None:
        """All of it.  Raises ClosedPipe when nobody reads any more, and UserErrors."""
        made = self._made
        made.import_views()
        with replay_clock.Clock(self).installed():
            view = self._view = view_of(made)  # type: ignore[arg-type]
            own = [text for _, text in view.readers()]
            for number, kind in made.readers.items():
                if kind == "events" and own:
                    self._texts[number] = own[0]
                elif kind == "prints":
                    self._texts[number] = printer(made)  # type: ignore[arg-type]
                elif kind == "lines":
                    self._texts[number] = trace_pipe(made)  # type: ignore[arg-type]
            try:
                self._blocks()
            except ClosedPipe:
                view.finish()
                raise
            made.out.write(view.finish())
        self._account()

    def _blocks(self) -> None:
        write = self._made.out.write
        write(self._view.begin())
        for block in self._reader.blocks():
            if block.time > self._to and block.kind in (recording.SNAPSHOT, recording.INTERVAL, recording.EVENTS):
                self._over = True
                break
            text = self._block(block)
            if text:
                write(text)
            if self._over:
                break
        # Cut, by the file's end or by --to: what has come since the last summary.
        whole = self._reader.whole and self._step == 0
        if not self._last and (self._since or not self._shown) and not whole and not self._counted_out():
            write(self._view.summary(True))

    def _counted_out(self) -> bool:
        count = self._made.common.count
        return bool(count.given and self._shown >= count.value)

    def _block(self, block: Block) -> str:
        kind = block.kind
        if kind == recording.EVENTS:
            return self._events(block)
        if kind == recording.CLOCK:
            self.offset, self.gmtoff = recording.clock_of(block.payload)
        elif kind == recording.SNAPSHOT:
            self._begin_at(block.time)
            state = self._made.tables.get(block.source)
            self._since += 1
            if state is not None:
                state.apply(block.payload)
        elif kind == recording.INTERVAL:
            return self._interval(block)
        elif kind == recording.TEXT and self._from <= block.time < self._to:
            return replayed.harmless(block.payload)
        elif kind == recording.LOSSES:
            self._lost = replayed.losses(block.json())
        elif kind == recording.COST:
            self._cost = block.json()
        return ""

    def _events(self, block: Block) -> str:
        text = self._texts.get(block.source)
        if text is None:
            return ""
        span = block.payload
        replayed.check_span(span, self._made.least.get(block.source, 0))
        at = self._made.times.get(block.source, -1)
        if self._from or self._to != NEVER:
            if at >= 0:
                span = replayed.within(span, at, self._from, self._to)
            elif not self._from <= block.time < self._to:
                return ""
        self.now = block.time
        try:
            return text(span) if span else ""
        except struct.error as err:
            raise UserError(f"a span of events is damaged: {err}", where="recording") from None

    def _begin_at(self, now: int) -> None:
        """Before the first snapshot of the range is taken in: what was counted until now is before it."""
        if not self._begun and now >= self._from:
            self._begun = True
            self._view.skip()

    def _interval(self, block: Block) -> str:
        last, ends = bool(block.payload[:1] == b"\1"), bool(block.payload[1:2] == b"\1")
        self._begin_at(block.time)
        self.now = block.time
        if not self._begun:
            return ""
        self._since += 1
        if self._step:  # other intervals than the run's
            ends = last or block.time >= self._following
            while block.time >= self._following:
                self._following += self._step
        elif self._view.interval and not self._asked:
            ends = True  # a picture of a run without intervals takes all snapshots
        if not ends:
            return ""
        self._last = last
        self._shown += 1
        self._since = 0
        text = self._view.summary(last)
        self._over = self._counted_out() and self._step > 0
        return text

    def _account(self) -> None:
        """Losses and cost, as at the end of a run."""
        made = self._made
        stats = bool(made.header["options"].get("--stats")) if isinstance(made.header.get("options"), dict) else False
        if made.common.json:
            from osmia.views.machine import json_line

            if self._lost:
                found = [(Slot(0, kind, what), count) for _, kind, what, count, _ in self._lost]
                made.out.write(json_line(loss.as_json(found)) + "\n")
            if stats and isinstance(self._cost.get("stats"), dict):
                made.out.write(json_line(self._cost["stats"]) + "\n")
        elif stats:
            sys.stderr.write(replayed.harmless(str(self._cost.get("text", "")).encode("utf-8", "backslashreplace")))
        for _, kind, what, count, size in self._lost:
            from osmia.views.escape import escape

            sys.stderr.write(f"osmia: {escape(loss.sentence(Slot(0, kind, what), count, {what: size}))}\n")
