# SPDX-License-Identifier: Apache-2.0
"""Tools that count by stack: text as bcc prints it, folded lines, flame graphs, JSON.

What is counted stays numbers until it is shown.  Only the maps of processes
are looked at earlier, when the kernel half says that a process has its first
stack, and now and again while it lives: by the end it may be gone.
"""

from __future__ import annotations

import sys
import time

from osmia.cli.summaries import wants_time
from osmia.cli.templates import View, mode_of
from osmia.events.samples import describe
from osmia.symbols.frame import JIT, UNKNOWN
from osmia.symbols.frame import KERNEL as IN_KERNEL
from osmia.symbols.symbolizer import Symbolizer
from osmia.views.frames import JIT as COMPILED
from osmia.views.frames import KERNEL, OTHER, TRUNCATED, USER, cut_sentence, cut_share

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from osmia.cli.session import Session
    from osmia.cli.unwound import Unwinding
    from osmia.events.samples import Place
    from osmia.lang.stacks import Trace
    from osmia.lang.templates import StackPart, StackTable
    from osmia.symbols.frame import Frame
    from osmia.symbols.processes import Program
    from osmia.views.frames import Stack

#: Innermost functions of a kernel stack that were called by tracing itself.
_TRACING = (
    "bpf_prog_", "bpf_trace_run", "__bpf_trace_", "__traceiter_", "bpf_get_stack", "__bpf_get_stack", "trace_call_bpf",
    "perf_trace_", "perf_syscall_enter", "perf_syscall_exit", "bpf_dispatcher_", "bpf_trampoline_",
)  # fmt: skip
#: What threads begin with: nothing has called it but one of these.
_ROOTS = frozenset((
    "_start", "__libc_start_main", "__libc_start_main_impl", "__libc_start_call_main", "start_thread", "clone",
    "__clone", "clone3", "__clone3", "__GI___clone", "__GI___clone3", "runtime.goexit.abi0", "runtime.goexit",
))  # fmt: skip
#: Seconds after which a process that lives is looked at again, and again after twice as long.
_AGAIN = 1.0
#: Seconds until kernel stacks are named for the first time: a run that ends soon has less left to do then.
_EARLY = 0.1
_MOST_NOTES = 5


class Row:
    """What is shown of one or more keys: ``sides`` are the parts' frames (innermost first), by field."""

    __slots__ = ("count", "cut", "key", "sides")

    def __init__(self, key: Any, count: int, sides: dict[str, list[Frame]], cut: frozenset[str]) -> None:
        self.key = key
        self.count = count
        self.sides = sides
        self.cut = cut


class Taken:
    """What was counted under one key; ``unwound``: the user stack, made from a copy, and whether that is all of it.

    ``at`` is its time, where each has its own.
    """

    __slots__ = ("at", "count", "key", "unwound")

    def __init__(self, key: Any, count: int, at: int = 0, unwound: tuple[list[Frame], bool] | None = None) -> None:
        self.key = key
        self.count = count
        self.at = at
        self.unwound = unwound


class Watched:
    """Programs that are looked at while they run: at their first stack, and some times later."""

    def __init__(self, names: Symbolizer) -> None:
        self._names = names
        self._again: list[tuple[float, float, Program]] = []

    def began(self, images: Iterable[tuple[int, int]]) -> None:
        """``(since, pid)`` of first stacks, in the order of their times."""
        told = list(images)
        latest = {pid: since for since, pid in told}
        for since, pid in told:
            if latest[pid] == since:
                program = self._names.began(pid, since)
                self._again.append((time.monotonic() + _AGAIN, _AGAIN, program))
            else:  # it runs another program already: nothing can be seen of this one any more
                self._names.missed(pid, since)

    def refresh(self) -> None:
        """Look again at those whose time has come."""
        now = time.monotonic()
        later = []
        for at, pause, program in self._again:
            if at > now:
                later.append((at, pause, program))
            elif program.look_again():
                later.append((now + 2 * pause, 2 * pause, program))
        self._again = later


class StackView(View):
    """Counts by stack."""

    def __init__(self, session: Session, template: StackTable) -> None:
        self._session = session
        self._template = template
        self._mode = mode_of(session)
        self._asked = session.common.seconds_between() if template.intervals else 0.0
        self.interval = self._asked or _AGAIN
        self.early = 0.0 if self._asked else _EARLY
        self._names = Symbolizer(programs=session.programs)
        self._watched = Watched(self._names)
        self._unwinding: Unwinding | None = None
        self._before: dict[Any, int] = {}
        self._ahead: set[Any] = set()
        self._ahead_at = 0.0
        self._timed: list[Taken] = []
        self._taken: list[Taken] = []  # and not shown yet
        self.samples = describe(self._unit, waiting=template.waiting, divisor=template.divisor, state=template.state,
                                annotate=bool(template.annotate), delimiter=bool(template.delimiter))  # fmt: skip
        self._all: list[tuple[Stack, int]] = []
        self._shown = 0
        self._since = session.started
        self._alone = any(one.given and one.value == "-" for one in (session.common.svg, session.common.html))

    def begin(self) -> str:
        if self._alone or self._mode == "json":
            return ""
        if self._mode == "csv":
            return "count,pid,comm,stack\n"
        text = self._template.banner_text()
        if not text or self._template.folded:
            return ""
        length = self._session.common.length.value or self._session.common.duration.value
        return text + (f" for {length:g} secs.\n" if length else "... Hit Ctrl-C to end.\n")

    def readers(self) -> list[tuple[str, Callable[[bytes], str]]]:
        out: list[tuple[str, Callable[[bytes], str]]] = []
        ring = getattr(sys.modules.get("osmia.lang.images"), "images", None)
        if ring is not None and ring.live is not None:
            out.append((ring.live.name, self._first_stacks))
        ring = self._template.copies
        if self._template.copied and ring.live is not None:
            from osmia.cli.unwound import Unwinding

            self._unwinding = Unwinding(self._names, timed=self.sink is not None)
            out.append((ring.live.name, self._unwinding.add))
        ring = self._template.one_by_one
        if ring is not None and ring.live is not None:
            out.append((ring.live.name, self._one_by_one))
        return out

    def _first_stacks(self, span: bytes) -> str:
        from osmia.events.decode import Decoder
        from osmia.lang.images import Image

        self._watched.began([(row[0], row[1]) for row in Decoder(Image).rows(span)])
        return ""

    def _one_by_one(self, span: bytes) -> str:
        """Samples with their times, in a run that is recorded."""
        from types import SimpleNamespace

        from osmia.events.decode import Decoder

        for one in Decoder(self._template.one_by_one.event).objects(span):
            fields = dict(vars(one))
            at = fields.pop("at")
            self._timed.append(Taken(SimpleNamespace(**fields), 1, at))
        return ""

    def summary(self, last: bool) -> str:
        if not last:
            self._watched.refresh()
            if not self._asked and self.sink is None:
                self._name_ahead()
                return ""
        new = self._take()
        if self.sink is not None:
            self._record(new)
        self._taken += new
        if not last and not self._asked:
            return ""
        taken, self._taken = self._taken, []
        rows = self._rows(taken)
        self._shown += 1
        self._all += [(self._folded(row), row.count) for row in rows]
        if self._alone or (last and not rows and self._shown > 1):
            return ""
        return self._print(rows)

    def _name_ahead(self) -> None:
        """Look up names while there is time, so that little is left at the end, when somebody waits.

        It takes a twentieth of the time at most.  The kernel's names come first: their table is there and takes no
        memory to speak of, while those of programs are megabytes that a short run can do without until its end.
        """
        early = not self._ahead_at
        began = time.monotonic()
        if began < self._ahead_at:
            return
        keys = [key for key in dict(self._template.map.items()) if key not in self._ahead]
        if not early:
            self._ahead.update(keys)
        self._frames(keys, users=not early)
        self._names.forget_unknown()
        self._ahead_at = time.monotonic() + 20 * (time.monotonic() - began)

    def finish(self) -> str:
        """Pictures, and what has to be said about the stacks."""
        template, common = self._template, self._session.common
        try:
            self._say()
            if common.svg.given or common.html.given:
                from osmia.cli.flame import draw
                from osmia.views.flame_svg import Look

                title = self._session.unit.name
                draw(common, self._all, Look(title, unit=self._unit, palette="off" if template.waiting else "on"))
        finally:
            self._names.close()
        return ""

    @property
    def _unit(self) -> str:
        unit = self._template.unit
        return unit() if callable(unit) else unit

    def _say(self) -> None:
        """What is missing, in sentences; programs that read JSON have it in each record."""
        if self._mode != "table" and not self._session.verbose:
            return
        cut, total = cut_share(self._all)
        sentences = [cut_sentence(cut, total, self._unit)] if cut else []
        problem = self._names.kernel.problem if any(side for stack, _ in self._all for side in stack) else ""
        notes = ([problem] if problem else []) + self._names.notes()
        if len(notes) > _MOST_NOTES and not self._session.verbose:
            notes[_MOST_NOTES:] = [f"names are missing for {len(notes) - _MOST_NOTES} more reasons; -v tells them"]
        for text in sentences + notes:
            sys.stderr.write(f"osmia: {text}\n")

    # -- from numbers to frames -------------------------------------------

    def _take(self) -> list[Taken]:
        """What was counted since the last time."""
        now = dict(self._template.map.items())
        new = [Taken(key, n - self._before.get(key, 0)) for key, n in now.items() if n != self._before.get(key, 0)]
        self._before = now
        if self._unwinding is not None:
            new += [Taken(*one) for one in self._unwinding.take()]
        timed, self._timed = self._timed, []
        return new + timed

    def _made(self, taken: list[Taken]) -> list[Row]:
        """With frames in place of the numbers of stacks."""
        frames = self._frames([one.key for one in taken])
        out = []
        for one in taken:
            sides: dict[str, list[Frame]] = {}
            cut = set()
            for part in self._template.parts:
                number = getattr(one.key, part.field, 0)
                if isinstance(number, int) and number:
                    sides[part.field], whole = frames[_place(part, one.key)]
                elif part.field == "user" and one.unwound is not None:
                    sides[part.field], whole = one.unwound
                else:
                    continue
                if not whole:
                    cut.add(part.field)
            out.append(Row(one.key, one.count, sides, frozenset(cut)))
        return out

    def _record(self, new: list[Taken]) -> None:
        """Hand over what came since the last time, with its own times or that of now."""
        now = time.monotonic_ns()
        for one, row in zip(new, self._made(new), strict=True):
            self._hand_over(row, one.at or now)

    def _hand_over(self, row: Row, at: int) -> None:
        assert self.sink is not None
        pieces = self._pieces(row)
        comm, pid = "", getattr(row.key, "pid", 0)
        first = self._template.parts[0]
        if self._is_name(row.key, first):  # the root of the stack is the sample's own
            comm, pid = str(pieces.pop(0)), getattr(row.key, first.field.replace("comm", "pid"))
        places: list[Place] = []
        for piece in pieces:
            if isinstance(piece, str):
                places.append((piece, OTHER, "", "", -1))
            else:
                places.append((self._label(piece), _kind(piece), piece.module, piece.build_id, piece.file_offset))
        number = self.sink.stack(tuple(places))
        self.sink.add(at, pid, comm.encode("utf-8", "surrogateescape"), number, row.count)

    def _rows(self, taken: list[Taken]) -> list[Row]:
        """What looks the same, once; smallest first."""
        rows: dict[Any, Row] = {}
        folded = self._template.folded and self._mode == "table"
        whose = self._names_of if folded else self._owner if self._mode == "json" else self._who
        for row in self._made(taken):
            looks = tuple([(field, tuple([self._label(frame) for frame in side])) for field, side in row.sides.items()])
            same = rows.setdefault((whose(row.key), row.cut, looks), row)
            if same is not row:
                same.count += row.count
        for row in rows.values():
            row.count //= self._template.divisor
        return sorted([row for row in rows.values() if row.count], key=lambda row: row.count)

    def _frames(self, keys: Iterable[Any], users: bool = True) -> dict[Any, tuple[list[Frame], bool]]:
        """``place -> (frames, whether they are all)`` of each stack that ``keys`` name; ``users``: of programs, too."""
        out: dict[Any, tuple[list[Frame], bool]] = {}
        programs: dict[tuple[int, int], list[tuple[Any, Trace]]] = {}
        for key in keys:
            for part in self._template.parts:
                number = getattr(key, part.field, 0)
                if not isinstance(number, int) or not number:
                    continue
                place = _place(part, key)
                trace = self._template.stacks.get(number) if place not in out else None
                if trace is None or (trace.user and not users):
                    continue
                if trace.user:
                    out[place] = [], not trace.cut
                    programs.setdefault(place[1:], []).append((place, trace))
                else:
                    out[place] = traced(self._names.kernel.stack(trace)), not trace.cut
        for (pid, since), wanted in programs.items():
            found = self._names.user_stacks(pid, [trace for _, trace in wanted], since)
            for (place, trace), side in zip(wanted, found, strict=True):
                out[place] = believable(side, trace.cut)
        return out

    def _who(self, key: Any) -> str:
        return self._template.who(key) if self._template.who is not None else self._owner(key)

    def _owner(self, key: Any) -> str:
        named = [_named(part, key) for part in self._template.parts if part.label]
        return "\0".join(named) if named else f"{key.comm} ({getattr(key, 'tid', None) or key.pid})"

    def _names_of(self, key: Any) -> str:
        """What of the key is in a folded line besides stacks."""
        return "\0".join([str(getattr(key, part.field)) for part in self._template.parts if self._is_name(key, part)])

    def _label(self, frame: Frame) -> str:
        return str(frame) if self._template.offsets else frame.label

    @staticmethod
    def _is_name(key: Any, part: StackPart) -> bool:
        return bool(part.field) and isinstance(getattr(key, part.field), str)

    # -- from frames to text ----------------------------------------------

    def _pieces(self, row: Row) -> list[Frame | str]:
        """Frames and names, root first."""
        out: list[Frame | str] = []
        for part in self._template.parts:
            if part.text:
                out.append(part.text)
            elif part.field in row.sides:
                side: list[Frame | str] = [*reversed(row.sides[part.field])]
                if part.field in row.cut:
                    side.insert(0, TRUNCATED)
                out += reversed(side) if part.upward else side
            elif self._is_name(row.key, part):
                out.append(getattr(row.key, part.field) or part.missing)
        return out

    def _folded(self, row: Row) -> Stack:
        """Root first."""
        return tuple([
            (piece, OTHER) if isinstance(piece, str) else (self._label(piece), _kind(piece))
            for piece in self._pieces(row)
        ])  # fmt: skip

    def _print(self, rows: list[Row]) -> str:
        if self._mode == "json":
            return self._json(rows)
        from osmia.views import folded

        template = self._template
        if self._mode == "csv":
            from osmia.views.machine import csv_row

            return "".join([
                csv_row((row.count, row.key.pid, row.key.comm, folded.fold(self._folded(row), 0)[:-2])) + "\n"
                for row in rows
            ])  # fmt: skip
        head = time.strftime("%H:%M:%S") + "\n" if wants_time(self._session) and not template.folded else ""
        if template.folded:
            stacks = [(self._folded(row), row.count) for row in rows]
            return folded.text(stacks, annotate=bool(template.annotate), delimiter=bool(template.delimiter))
        return head + "".join([self._text(row) for row in rows])

    def _text(self, row: Row) -> str:
        """As bcc prints it: frames, innermost first, then whose they are, then the count."""
        from osmia.views.escape import escape

        template = self._template
        out, after_frames = "", False
        for part in reversed(template.parts):
            side = row.sides.get(part.field)
            if side:
                lines = [self._label(frame) + "_[k]" * (bool(template.annotate) and frame.kind == IN_KERNEL)
                         for frame in side]  # fmt: skip
                if part.field in row.cut:
                    lines.append(TRUNCATED)
                out += "    --\n" if template.delimiter and after_frames else ""
                out += "".join([f"    {escape(line)}\n" for line in (reversed(lines) if part.upward else lines)])
            elif part.text or part.label:
                out += f"    {part.label or part.text:<16} {escape(part.text or _named(part, row.key))}\n"
            after_frames = bool(side)
        if not any(part.label for part in template.parts):
            who = self._who(row.key)
            out += f"    {'-':<16} {escape(who)}\n" if who else ""
        return f"{out}        {row.count}\n\n"

    def _json(self, rows: list[Row]) -> str:
        from osmia.cli.table import plain
        from osmia.views.machine import json_line

        out = []
        now = round(time.time(), 6)
        times = {part.since for part in self._template.parts}
        for row in rows:
            record: dict[str, Any] = {"time": now, "count": row.count, "unit": self._unit}
            for name, value in vars(row.key).items():
                if name in row.sides:
                    record[name] = [{"label": frame.label, **frame.record()} for frame in row.sides[name]]
                elif name not in times:
                    record[name] = [] if name in (part.field for part in self._template.parts) and not isinstance(
                        value, str) else plain(value)  # fmt: skip
            record["cut"] = sorted(row.cut)
            out.append(json_line(record) + "\n")
        return "".join(out)


def _place(part: StackPart, key: Any) -> tuple[int, int, int]:
    """What a stack's names depend on: its number, and for user stacks whose it is and since when."""
    return getattr(key, part.field), getattr(key, part.pid, 0), getattr(key, part.since, 0)


def _named(part: StackPart, key: Any) -> str:
    """The name in a part of a row that has several, and its number."""
    name, number = getattr(key, part.field), getattr(key, part.pid, 0)
    return (f"{name} ({number})" if number else name) or part.missing


def traced(frames: list[Frame]) -> list[Frame]:
    """A kernel stack without the functions of tracing itself, which are innermost."""
    for at, frame in enumerate(frames):
        if not of_tracing(frame.name):
            return frames[at:]
    return frames


def of_tracing(name: str) -> bool:
    """Whether a kernel function of that name is on a stack because something is traced."""
    return name.startswith(_TRACING)


def believable(frames: list[Frame], cut: bool) -> tuple[list[Frame], bool]:
    """A user stack as far as it is one, and whether it is whole.

    In functions without frame pointers the register has other uses, and the
    kernel follows whatever is in it.  So a stack ends with the function that
    its thread began with, and before an address at which the process has
    nothing.  Where nothing at all is known of the process every frame stays.
    """
    for at, frame in enumerate(frames):
        if frame.kind == UNKNOWN and not frame.module:
            return (frames[:at], False) if at else (frames, not cut)
        if frame.name in _ROOTS and (at + 1 == len(frames) or frames[at + 1].name not in _ROOTS):
            return frames[: at + 1], True
    return frames, not cut


def _kind(frame: Frame) -> str:
    return KERNEL if frame.kind == IN_KERNEL else COMPILED if frame.kind == JIT else USER
