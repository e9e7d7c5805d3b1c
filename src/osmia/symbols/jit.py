# SPDX-License-Identifier: Apache-2.0
"""Names of code that was compiled at run time: ``/tmp/perf-PID.map``.

Node, Java, Python (3.12 with ``-X perf``), .NET, LuaJIT and others write
lines of "START SIZE NAME" there, in the mount namespace of the process and
under the number that it has in its own PID namespace.  Compilers use memory
again, so of two lines for one place the later one counts.
"""

from __future__ import annotations

import os
import stat
from itertools import pairwise

from osmia.symbols import libs, spans
from osmia.symbols.spans import Spans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.symbols.maps import Maps

#: A larger file is read up to here.
LARGEST = 256 << 20
#: How a runtime is made to write its map, by the name of its program.
_COMMANDS = {
    "node": "start it with: node --perf-basic-prof",
    "java": "run: jcmd PID Compiler.perfmap (Java 17 or later)",
    "python": "start it with: python -X perf (Python 3.12 or later)",
    "dotnet": "start it with DOTNET_PerfMapEnabled=1 in its environment",
}


class PerfMap:
    """The map of one process; it is read again when it has grown."""

    def __init__(self, maps: Maps) -> None:
        self._maps = maps
        self._root = maps.root
        self._seen: tuple[int, ...] = ()
        self._text = b""
        self._spans = Spans()
        self.problem = ""

    @property
    def path(self) -> str:
        """The file's name as the process sees it."""
        return f"/tmp/perf-{self._maps.own_pid}.map"

    @property
    def memory(self) -> int:
        """Memory taken."""
        return self._spans.memory + len(self._text)

    def at(self, address: int) -> tuple[str, int] | None:
        """``(name, where its code begins)``; None where no line covers the address."""
        n = self._spans.at(address)
        if n < 0:
            return None
        start = self._spans.names[n]
        end = self._text.find(b"\n", start)
        name = self._text[start : end if end >= 0 else None].decode("utf-8", "replace").strip()
        return (name, self._spans.firsts[n]) if name else None

    def refresh(self) -> bool:
        """Read the file if it is another than last time; whether it was read."""
        raw = self._read()
        if raw is None:
            return False
        self._text = raw
        self._spans = parse(raw)
        return True

    def _read(self) -> bytes | None:
        """The file's bytes; None if they are known, or not to be had.

        Anybody may write to /tmp: only a plain file that belongs to the
        process's user or to root is believed, as perf does it.
        """
        path = self.path
        if self._root:
            path = self._root + libs.within(self._root, "/tmp") + path.removeprefix("/tmp")
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            self.problem = f"code was made at run time, and there is no {self.path} that names it"
            return None
        except OSError as e:
            self.problem = f"{self.path}: {e.strerror}"
            return None
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode) or info.st_uid not in (0, self._maps.uid):
                self.problem = f"{self.path} does not belong to the process's user"
                return None
            seen = info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns
            if seen == self._seen:
                return None
            self._seen, self.problem = seen, ""
            parts, size = [], 0
            while size < LARGEST and (part := os.read(fd, 1 << 20)):
                parts.append(part)
                size += len(part)
            return b"".join(parts)
        finally:
            os.close(fd)


def parse(text: bytes) -> Spans:
    """Ranges of a map; ``names`` are offsets in ``text``.  Lines that are none are skipped."""
    rows: list[tuple[int, int, int, int]] = []
    at = 0
    for number, line in enumerate(text.split(b"\n")):
        fields = line.split(None, 2)
        if len(fields) == 3:
            try:
                start, size = int(fields[0], 16), int(fields[1], 16)
            except ValueError:
                start = size = 0
            if size > 0 and start > 0 and start + size < 1 << 62:
                rows.append((start, -(start + size), -number, at + len(line) - len(fields[2])))
        at += len(line) + 1
    return _latest(rows)


def _latest(rows: list[tuple[int, int, int, int]]) -> Spans:
    """Later lines (of smaller rank) take the place of what they overlap."""
    rows.sort()
    if all(a[1] + b[0] >= 0 for a, b in pairwise(rows)):
        return spans.of_rows(rows)
    from heapq import heappop, heappush

    out = Spans()
    waiting: list[tuple[int, int, int, int]] = []  # lines that cover ``at``: (rank, end, start, name), the latest first
    at = n = 0
    while n < len(rows) or waiting:
        if not waiting:
            at = max(at, rows[n][0])
        while n < len(rows) and rows[n][0] <= at:
            start, negative, rank, name = rows[n]
            heappush(waiting, (rank, -negative, start, name))
            n += 1
        while waiting and waiting[0][1] <= at:
            heappop(waiting)
        if waiting:
            _, end, start, name = waiting[0]
            until = min(end, rows[n][0]) if n < len(rows) else end
            out.append(at, until, start, name)
            at = until
    return out


def advice(program: str) -> str:
    """What makes a runtime write its map; empty for programs that are not known to compile code."""
    name = os.path.basename(program)
    for start, command in _COMMANDS.items():
        if name == start or (name.startswith(start) and name[len(start) :].replace(".", "").isdigit()):
            return command
    return ""
