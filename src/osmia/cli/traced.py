# SPDX-License-Identifier: Apache-2.0
"""What trace shows: a line for each event in bcc's columns, with its message, and stacks below it."""

from __future__ import annotations

import time

from osmia.cli.stacks import Watched, believable, traced
from osmia.cli.templates import View, mode_of
from osmia.events.decode import Decoder
from osmia.probespec.formats import CHARACTER, INTEGER, KERNEL_SYMBOL, STRING, USER_SYMBOL
from osmia.symbols.symbolizer import Symbolizer
from osmia.views.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from osmia.cli.session import Session
    from osmia.lang.traced import Messages
    from osmia.symbols.frame import Frame

_INDENT = " " * 8
#: Stacks whose names are kept.
_KNOWN = 4096


class MessagesView(View):
    """Messages of several specifications, in the order in which they came."""

    interval = 1.0

    def __init__(self, session: Session, template: Messages) -> None:
        self._session = session
        self._template = template
        self._mode = mode_of(session)
        options = template.options
        self._timestamp, self._unix, self._clock = (bool(options[one]) for one in ("timestamp", "unix", "clock"))
        self._cpu, self._address = bool(options["print_cpu"]), bool(options["address"])
        self._kernel, self._user = bool(options["kernel_stack"]), bool(options["user_stack"])
        self._most = int(options["most"].value or 0)
        self._only = str(options["message"].value or "")
        self._sums: dict[str, int] | None = {} if options["aggregate"] else None
        self._decoder = Decoder(template.ring.event)
        self._places = [(one, hook) for one in template.probes for hook in one.probe.hooks]
        self._shown = 0
        self._names = Symbolizer(programs=session.programs)
        self._known: dict[tuple[int, int, int], list[Frame]] = {}
        self._watched = Watched(self._names)
        # Of the clock that events have to the one of people.
        self._wall = time.time() - time.monotonic()

    # -- the run

    def begin(self) -> str:
        if self._mode == "json":
            return ""
        if self._mode == "csv":
            return "time,cpu,pid,tid,comm,function,message\n"
        front = ""
        if self._timestamp or self._clock:
            front = f"{'TIME':<17} " if self._unix else f"{'TIME':<8} "
        front += f"{'CPU':<3} " if self._cpu else ""
        message = "-" if any(one.format for one in self._template.probes) else ""
        return front + f"{'PID':<7} {'TID':<7} {'COMM':<15} {'FUNC':<16} {message}\n"

    def readers(self) -> list[tuple[str, Callable[[bytes], str]]]:
        import sys

        out: list[tuple[str, Callable[[bytes], str]]] = []
        images = getattr(sys.modules.get("osmia.lang.images"), "images", None)
        if images is not None and images.live is not None:
            out.append((images.live.name, self._began))
        out.append((self._template.ring.live.name, self._lines))
        return out

    def _began(self, span: bytes) -> str:
        from osmia.lang.images import Image

        self._watched.began([(row[0], row[1]) for row in Decoder(Image).rows(span)])
        return ""

    def summary(self, last: bool) -> str:
        if not last:
            self._watched.refresh()
            return ""
        return self._aggregated()

    def finish(self) -> str:
        self._names.close()
        return ""

    # -- events

    def _lines(self, span: bytes) -> str:
        out = []
        for event in self._decoder.objects(span):
            if self._most and self._shown >= self._most:
                break
            line = self._event(event)
            if not line:
                continue
            self._shown += 1
            if self._sums is not None:
                self._sums[line] = self._sums.get(line, 0) + 1
            else:
                out.append(line)
        if self._most and self._shown >= self._most:
            self._session.stop.asked = True
        return "".join(out)

    def _event(self, event: Any) -> str:
        """The text of an event; empty where its message is not wanted."""
        message, hook = self._places[event.which]
        values = [self._value(one, getattr(event, name), event)
                  for name, one in zip(message.fields, message.conversions, strict=True)]  # fmt: skip
        try:
            text = message.format % tuple(values)
        except (TypeError, ValueError):  # a width or a flag that Python has not
            text = " ".join(map(str, values))
        if self._only and self._only not in text:
            return ""
        function = self._function(message, hook, event)
        if self._mode == "json":
            return self._json(event, message, function, values, text)
        if self._mode == "csv":
            from osmia.views.machine import csv_row

            when = f"{event.time / 1e9 + self._wall:.6f}"
            return csv_row((when, event.cpu, event.pid, event.tid, event.comm, function, text)) + "\n"
        line = f"{self._front(event)}{event.pid:<7} {event.tid:<7} {escape(event.comm):<15} {escape(function):<16} "
        # A line break in the message is the user's own; what a traced text contains is escaped already.
        line = f"{line}{text}\n"
        if self._kernel or self._user:
            line += self._stacks(event) + "\n"
        return line

    def _front(self, event: Any) -> str:
        front = ""
        if self._timestamp and self._unix:
            front = f"{event.time / 1e9 + self._wall:.6f}"[:17].ljust(17) + " "
        elif self._timestamp:
            front = f"{event.time / 1e9 - self._session.started:.6f}"[:8].ljust(8) + " "
        elif self._clock:
            front = time.strftime("%H:%M:%S ", time.localtime(event.time / 1e9 + self._wall))
        return front + (f"{event.cpu:<3} " if self._cpu else "")

    def _function(self, message: Any, hook: Any, event: Any) -> str:
        """The name of the place, which where a pattern has many has come with the event."""
        probe = message.probe
        if not probe.place.is_pattern:
            return str(probe.shown)
        if probe.which == "func_ip":
            return str(self._names.kernel.stack((event.place,))[0].name or probe.shown)
        if probe.which == "attach_cookie":
            names = probe.progs[probe.hooks.index(hook)].names
            return str(names[event.place]) if event.place < len(names) else str(probe.shown)
        return str(hook.target.partition(":")[2])

    def _value(self, conversion: Any, value: Any, event: Any) -> Any:
        what = conversion.what
        if what == STRING:
            return value if self._mode != "table" else escape(value)
        if what == INTEGER:
            bits = 8 * conversion.bytes
            value &= (1 << bits) - 1
            return value - (1 << bits) if conversion.signed and value >> (bits - 1) else value
        if what == CHARACTER:
            character = chr(value & 0xFF)
            return character if self._mode != "table" else escape(character)
        frame = self._symbol(what, value, event)
        return _symbol_text(frame) if self._mode != "table" else escape(_symbol_text(frame))

    def _symbol(self, what: str, value: int, event: Any) -> Frame:
        if what == KERNEL_SYMBOL:
            return self._names.kernel.stack((value,))[0]
        assert what == USER_SYMBOL
        return self._names.user(event.pid, value)

    # -- stacks

    def _frames(self, event: Any) -> dict[str, list[Frame]]:
        out: dict[str, list[Frame]] = {}
        if self._kernel:
            out["kernel"] = self._named(event.kernel, 0, 0)
        if self._user:
            out["user"] = self._named(event.user, event.pid, event.since)
        return out

    def _named(self, number: int, pid: int, since: int) -> list[Frame]:
        """The frames of a stack, of the kernel where ``pid`` is 0; the same stacks come again and again."""
        found = self._known.get((number, pid, since))
        if found is None:
            trace = self._template.stacks.get(number) if number else None
            if trace is None:
                found = []
            elif pid:
                found = believable(self._names.user_stack(pid, trace, since), trace.cut)[0]
            else:
                found = traced(self._names.kernel.stack(trace))
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[number, pid, since] = found
        return found

    def _stacks(self, event: Any) -> str:
        lines = []
        for frames in self._frames(event).values():
            for frame in frames:
                place = f"{frame.address:16x} " if self._address else ""
                lines.append(f"{_INDENT}{place}{escape(_symbol_text(frame))}\n")
        return "".join(lines)

    # -- other forms

    def _json(self, event: Any, message: Any, function: str, values: list[Any], text: str) -> str:
        from osmia.views.machine import json_line

        record: dict[str, Any] = {
            "time": round(event.time / 1e9 + self._wall, 6), "cpu": event.cpu, "pid": event.pid, "tid": event.tid,
            "comm": event.comm, "function": function, "probe": message.text, "values": values, "message": text,
        }  # fmt: skip
        for name, frames in self._frames(event).items():
            record[name] = [{"label": frame.label, **frame.record()} for frame in frames]
        return json_line(record) + "\n"

    def _aggregated(self) -> str:
        sums, self._sums = self._sums or {}, None
        ordered = sorted(sums.items(), key=lambda item: item[1], reverse=True)
        return "".join([f"{line}-->COUNT {count}\n\n" for line, count in ordered])


def _symbol_text(frame: Frame) -> str:
    """``name+0x1c [module]``, as bcc writes it."""
    module = frame.module_name or ("kernel" if frame.kind == "kernel" else "unknown")
    module = module.strip("[]")
    name = f"{frame.name}+{frame.offset:#x}" if frame.name else "[unknown]"
    return f"{name} [{module}]"
