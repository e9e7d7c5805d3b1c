# SPDX-License-Identifier: Apache-2.0
"""Recordings: what a run got from the kernel, in one file (``docs/record_format.md``).

A head of 16 bytes, then blocks: a header of fixed size with its own checksum,
and a payload with another.  Blocks are only ever appended, each in one
write, so whatever ends a recording (a kill, a full disk) everything before
the last block is whole; a damaged payload costs one block, because the
header that says where the next one begins is checked apart.

Spans of a ring are stored as the ring had them.  Taking events apart is left
to the reading side, which has the time for it.
"""

from __future__ import annotations

import json
import struct
import time
import zlib

from osmia.errors import NotFound, UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Any

#: As PNG's: a byte that is no ASCII, and line ends, so that a transfer as text shows.
MAGIC = b"\x89osmia\r\n"
#: Readers refuse another major number; a larger minor one means block kinds or fields that they pass over.
VERSION = (1, 0)
HEAD = struct.Struct("<8sHHI")
#: Stored length, kind, flags, unpacked length, checksum of the payload, monotonic ns, source, checksum of the header.
BLOCK = struct.Struct("<IHHIIQII")
PACKED = 1
#: A payload is never longer; a header that says so is damaged.
LONGEST = 1 << 26
#: Payloads below this many bytes are not worth packing.
WORTH = 256
_LEVEL = 1
#: Nanoseconds by which the wall clock may move against the monotonic one before that is written down.
_DRIFT = 1_000_000

HEADER, EVENTS, SNAPSHOT, INTERVAL, LOSSES, COST, CLOCK, STACKS, SAMPLES, TEXT, END = range(1, 12)
KINDS = range(HEADER, END + 1)
_CLOCK = struct.Struct("<qi")


class Block:
    """One block: ``kind``, the ``source`` that it is about, ``time`` (CLOCK_MONOTONIC, ns), and the unpacked bytes."""

    __slots__ = ("kind", "payload", "source", "time")

    def __init__(self, kind: int, source: int, time_ns: int, payload: bytes) -> None:
        self.kind = kind
        self.source = source
        self.time = time_ns
        self.payload = payload

    def json(self) -> dict[str, Any]:
        """The payload, which is a JSON object.  Raises UserError where it is none."""
        try:
            found = json.loads(self.payload)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise UserError(f"a block of kind {self.kind} is no JSON object", where="recording")
        return found


class Recording:
    """A recording being written; ``write`` takes all of the bytes that it is given or raises.

    ``now`` and ``wall`` are the clocks of the last block, so that what is
    shown beside has the same times.
    """

    __slots__ = ("_pack", "_write", "blocks", "gmtoff", "now", "offset", "written")

    def __init__(self, write: Callable[[bytes], object], *, pack: bool = True) -> None:
        self._write = write
        self._pack = pack
        self.written = self.blocks = 0
        self.now = self.offset = self.gmtoff = 0

    def begin(self, header: dict[str, Any]) -> None:
        """The head and the first block, ``header`` with the clocks in it."""
        self._put(HEAD.pack(MAGIC, *VERSION, 0))
        self.stamp(told=False)
        clocks = {"monotonic_ns": self.now, "wall_ns": self.now + self.offset, "gmtoff": self.gmtoff}
        self.block(HEADER, _json({"format": list(VERSION), **header, "clocks": clocks}))

    def stamp(self, *, told: bool = True) -> None:
        """Look at the clocks; the blocks that follow have this time."""
        now, wall = time.monotonic_ns(), time.time_ns()
        offset = wall - now
        if now // 1_000_000_000 != self.now // 1_000_000_000 or not told:
            gmtoff = time.localtime(wall // 1_000_000_000).tm_gmtoff or 0
        else:
            gmtoff = self.gmtoff
        self.now = now
        if gmtoff != self.gmtoff or abs(offset - self.offset) > _DRIFT:
            self.offset, self.gmtoff = offset, gmtoff
            if told:
                self.block(CLOCK, _CLOCK.pack(offset, gmtoff))

    def block(self, kind: int, payload: bytes, source: int = 0) -> None:
        """Append one block."""
        stored, flags = payload, 0
        if self._pack and len(payload) >= WORTH:
            packed = zlib.compress(payload, _LEVEL)
            if len(packed) < len(payload):
                stored, flags = packed, PACKED
        check = zlib.crc32(stored)
        front = BLOCK.pack(len(stored), kind, flags, len(payload), check, self.now, source, 0)[:-4]
        self._put(b"".join((front, struct.pack("<I", zlib.crc32(front)), stored)))
        self.blocks += 1

    def events(self, source: int, span: bytes) -> None:
        """A span of a ring."""
        self.stamp()
        self.block(EVENTS, span, source)

    def note(self, kind: int, record: dict[str, Any]) -> None:
        """A block that is a JSON object."""
        self.block(kind, _json(record))

    def end(self, why: str) -> None:
        """The last block: this recording is whole."""
        self.stamp()
        self.note(END, {"why": why, "blocks": self.blocks})

    def _put(self, data: bytes) -> None:
        self._write(data)
        self.written += len(data)


def _json(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()


def clock_of(payload: bytes) -> tuple[int, int]:
    """``(wall - monotonic in ns, seconds east of Greenwich)`` of a CLOCK block.  Raises UserError."""
    if len(payload) < _CLOCK.size:
        raise UserError("a clock block is too short", where="recording")
    offset, gmtoff = _CLOCK.unpack_from(payload)
    return offset, gmtoff


class Reader:
    """A recording being read: :attr:`header`, then :meth:`blocks`, then :attr:`notes` on what was not whole.

    Raises one UserError for a file that is no recording, or one of a newer
    format.  ``file`` need not be seekable.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self.name = name
        self.notes: list[str] = []
        self.whole = False
        self._at = 0
        head = self._take(HEAD.size)
        if not MAGIC.startswith(head[: len(MAGIC)]) or (head and len(head) < 2):
            raise UserError("this is no recording of osmia", where=name, fix="osmia record TOOL -o FILE makes one")
        if len(head) < HEAD.size:
            raise UserError("the recording is empty: it was cut before anything was in it", where=name)
        _, major, minor, _ = HEAD.unpack(head)
        if major != VERSION[0]:
            kind = "newer" if major > VERSION[0] else "older"
            raise UserError(
                f"the recording is of the format {major}.{minor}, which this {'older' if kind == 'newer' else 'newer'}"
                f" osmia cannot read (it reads {VERSION[0]}.x)", where=name, fix=f"replay it with a {kind} osmia",
            )  # fmt: skip
        first = self._next()
        if first is None or first.kind != HEADER:
            raise UserError("the recording is damaged or cut where it says what is in it", where=name)
        self.header = first.json()
        if minor > VERSION[1]:
            self.notes.append(f"{name}: made by a newer osmia (format {major}.{minor}); what is unknown is passed over")

    def blocks(self) -> Iterator[Block]:
        """Every block that is whole."""
        unknown: dict[int, int] = {}
        last = 0
        while (block := self._next()) is not None:
            last = block.time
            if block.kind == END:
                self.whole = True
                break
            if block.kind in KINDS:
                yield block
            else:
                unknown[block.kind] = unknown.get(block.kind, 0) + 1
        for kind, count in unknown.items():
            self.notes.append(f"{self.name}: {count} block{'s' * (count > 1)} of the unknown kind {kind} passed over")
        if not self.whole and not any("damaged" in note for note in self.notes):
            begun = int(self.header.get("clocks", {}).get("monotonic_ns", 0))
            after = f"{max(0, last - begun) / 1e9 if last else 0.0:.1f} s"
            self.notes.append(f"{self.name}: the recording was cut: it ends after {after} without its last block")

    def _take(self, size: int) -> bytes:
        """``size`` bytes, fewer at the end of the file."""
        parts: list[bytes] = []
        while size:
            try:
                part = self._file.read(size)
            except OSError as err:
                raise NotFound(f"cannot read it: {err.strerror}", where=self.name) from None
            if not part:
                break
            parts.append(part)
            size -= len(part)
            self._at += len(part)
        return b"".join(parts)

    def _next(self) -> Block | None:
        """The next block that is whole; None at the end, or where the file cannot be followed any further."""
        while True:
            start = self._at
            front = self._take(BLOCK.size)
            if len(front) < BLOCK.size:
                return None
            length, kind, flags, unpacked, check, now, source, own = BLOCK.unpack(front)
            if zlib.crc32(front[:-4]) != own or length > LONGEST or unpacked > LONGEST:
                self.notes.append(f"{self.name}: damaged at byte {start:,}: what follows there cannot be read")
                return None
            stored = self._take(length)
            if len(stored) < length:
                return None
            payload = _unpacked(stored, flags, unpacked) if zlib.crc32(stored) == check else None
            if payload is not None:
                return Block(kind, source, now, payload)
            self.notes.append(f"{self.name}: damaged at byte {start:,}: a block of {unpacked:,} bytes is left out")


def _unpacked(stored: bytes, flags: int, length: int) -> bytes | None:
    """The payload; None where it is not what its header says."""
    if flags & ~PACKED:
        return None
    if not flags & PACKED:
        return stored if len(stored) == length else None
    unpack = zlib.decompressobj()
    try:
        payload = unpack.decompress(stored, length + 1)
    except zlib.error:
        return None
    return payload if len(payload) == length else None
