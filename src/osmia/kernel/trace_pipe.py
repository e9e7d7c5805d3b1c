# SPDX-License-Identifier: Apache-2.0
"""The kernel's trace pipe: lines of bpf_trace_printk() and of whatever else traces, raw or as fields.

There is one for the whole machine and a line is gone once somebody has read
it, so two readers share the lines between them.  Reading does not block: see
:meth:`TracePipe.wait`.
"""

from __future__ import annotations

import errno
import os
import select
import time

from osmia.kernel import caps, tracefs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PATTERN = (
    r"^\s*(?P<task>.*?)-(?P<pid>\d+)\s+(?:\(\s*(?P<tgid>[\d-]+)\)\s+)?\[(?P<cpu>\d+)\]\s+"
    r"(?:(?P<flags>[^\s\d:][^\s:]*|\.[^\s:]*|\d[^\s:.]*\.[^\s:]*)\s+)?(?P<time>\d+\.\d+):\s+(?P<function>[^\s:]+):"
    r"\s?(?P<message>.*)$"
)
_LOST = r"^CPU:(?P<cpu>\d+) \[LOST (?P<count>\d+) EVENTS\]$"
_compiled: list[Any] = []


class Line:
    """One line: task, pid (of the thread), cpu, flags, timestamp in seconds since boot, function, message.

    The layout is that of kernel/trace/trace_output.c; ``flags`` are its
    column of interrupt and preemption letters, empty where that is off.
    """

    __slots__ = ("cpu", "flags", "function", "message", "pid", "task", "timestamp")

    def __init__(
        self, task: str, pid: int, cpu: int, flags: str, timestamp: float, function: str, message: str
    ) -> None:
        self.task = task
        self.pid = pid
        self.cpu = cpu
        self.flags = flags
        self.timestamp = timestamp
        self.function = function
        self.message = message

    def as_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __repr__(self) -> str:
        return f"Line({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"


def _patterns() -> list[Any]:
    if not _compiled:
        import re  # not needed by tools that print through the ring

        _compiled.extend((re.compile(_PATTERN), re.compile(_LOST)))
    return _compiled


def parse(text: str) -> Line | None:
    """The fields of a line; None where it is of another form (a heading, a note of losses, a stack)."""
    found = _patterns()[0].match(text)
    if found is None:
        return None
    return Line(found["task"].strip(), int(found["pid"]), int(found["cpu"]), found["flags"] or "", float(found["time"]),
                found["function"], found["message"])


def lost_in(text: str) -> int:
    """How many lines the kernel says were lost here: ``CPU:1 [LOST 23 EVENTS]``."""
    found = _patterns()[1].match(text)
    return int(found["count"]) if found is not None else 0


class TracePipe:
    """The reader of the trace pipe.  ``lost`` counts the lines that the kernel says were lost.

    NotPermitted, or NotSupported where there is no tracefs.  It has the
    methods of a ring's reader, so that a run can wait for both.
    """

    __slots__ = ("_last", "_rest", "_waiting", "fd", "lost", "size", "wakeups")

    def __init__(self) -> None:
        path = f"{tracefs.root()}/trace_pipe"
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError as e:
            raise caps.refused("read tracefs", e, where=path) from None
        self.lost = 0
        self.size = 1 << 20
        self.wakeups = True
        self._rest = b""
        self._waiting = b""
        self._last = 0.0

    def close(self) -> None:
        """Close the pipe."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> TracePipe:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _fill(self) -> None:
        while len(self._waiting) < self.size:
            try:
                part = os.read(self.fd, 1 << 16)
            except OSError as e:
                if e.errno in (errno.EAGAIN, errno.EINTR):
                    return
                raise
            if not part:
                return
            self._waiting += part

    def pending(self) -> int:
        """Bytes that wait."""
        if not self._waiting:
            self._fill()
        return len(self._waiting)

    def take(self, limit: int = 1 << 22) -> bytes | None:
        """The bytes of whole lines that wait; None where there is none."""
        self._fill()
        self._last = time.monotonic()
        whole, newline, rest = (self._rest + self._waiting).rpartition(b"\n")
        self._waiting, self._rest = b"", rest
        return whole + newline if newline else None

    def raw(self) -> list[str]:
        """The lines that wait, as they are."""
        span = self.take()
        return [] if span is None else self.lines(span)

    def lines(self, span: bytes) -> list[str]:
        """The lines of what :meth:`take` gave; notes of losses are counted and left out."""
        out = []
        for line in span.decode("utf-8", "surrogateescape").split("\n"):
            if line.startswith("CPU:") and (count := lost_in(line)):
                self.lost += count
            elif line:
                out.append(line)
        return out

    def fields(self) -> list[Line]:
        """The lines that wait, as fields; those of another form are left out."""
        return [line for line in map(parse, self.raw()) if line is not None]

    def wait(self, timeout_s: float) -> bool:
        """Sleep until there is a line, at most ``timeout_s`` seconds; whether there is."""
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        return bool(self._waiting or poller.poll(max(0.0, timeout_s) * 1000)) and bool(self.pending())
