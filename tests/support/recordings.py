# SPDX-License-Identifier: Apache-2.0
"""Recordings that a test makes up: the real writer, with events, tables and samples of the test's own."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

from osmia.events import recording
from osmia.events.recording import Block, Reader, Recording
from osmia.events.schema import event_of
from osmia.lang.types import Comm, Event, s32, u32, u64

_NAMES = "HEADER EVENTS SNAPSHOT INTERVAL LOSSES COST CLOCK STACKS SAMPLES TEXT END"
#: The kinds of blocks, by name.
KINDS: dict[str, int] = {name: getattr(recording, name) for name in _NAMES.split()}


class Seen(Event):
    """What made-up events are."""

    ts: u64
    pid: u32
    ret: s32
    comm: Comm


def span(*events: tuple[int, int, int, bytes]) -> bytes:
    """A span of a ring with these ``(ts, pid, ret, comm)``."""
    body = struct.Struct("<QIi16s")
    return b"".join([struct.pack("<II", body.size, 0) + body.pack(*event) for event in events])


def header(*sources: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What a recording says about itself; ``sources`` are numbered in their order."""
    numbered = [{"number": number, **source} for number, source in enumerate(sources, 1)]
    return {"tool": "made_up", "file": True, "command": ["made_up"], "options": {}, "kernel_options": [],
            "sources": numbered, "prints": [], "machine": {"host": "elsewhere"}, "step": 1.0, **more}  # fmt: skip


EVENTS: dict[str, Any] = {"type": "events", "name": "seen", "schema": event_of(Seen)}


def made(fill: Callable[[Recording], None], head: dict[str, Any], *, end: bool = True, pack: bool = True) -> bytes:
    """A whole recording; ``fill`` writes what is between the header and the end."""
    out = io.BytesIO()
    written = Recording(out.write, pack=pack)
    written.begin(head)
    fill(written)
    if end:
        written.end("end")
    return out.getvalue()


def read(data: bytes, name: str = "x.rec") -> tuple[Reader, list[Block]]:
    """The reader, at its end, and the blocks."""
    reader = Reader(io.BytesIO(data), name)
    return reader, list(reader.blocks())


def places(data: bytes) -> list[int]:
    """Where the blocks begin."""
    out, at = [], recording.HEAD.size
    while at < len(data):
        out.append(at)
        at += recording.BLOCK.size + recording.BLOCK.unpack_from(data, at)[0]
    return out
