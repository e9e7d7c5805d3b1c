# SPDX-License-Identifier: Apache-2.0
"""Samples with stacks in recordings: each stack once, each sample 40 bytes.

Frames are stored with their names, so that the stacks can be shown where the
processes never were, and with build id and offset in the file, so that names
can be found later that could not be found then.
"""

from __future__ import annotations

import json
import struct

from osmia.errors import UserError
from osmia.events.recording import SAMPLES, STACKS
from osmia.views.frames import JIT, KERNEL, KINDS, OTHER, TRUNCATED, USER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from osmia.events.recording import Recording
    from osmia.symbols.frame import Frame
    from osmia.views.frames import Stack

    #: Name, kind (a letter of :data:`osmia.views.frames.KINDS`), module, build id (hexadecimal), offset in the file.
    Place = tuple[str, str, str, str, int]

#: Monotonic ns, weight, process (tgid), number of the stack (0: none), the process's name.
SAMPLE = struct.Struct("<QQII16s")
_LETTERS = {"kernel": KERNEL, "user": USER, "jit": JIT, "unknown": OTHER}
#: Bytes of samples that are gathered before they are written.
_FULL = 1 << 16


def describe(
    unit: str = "samples",
    name: str = "samples",
    *,
    waiting: bool = False,
    divisor: int = 1,
    state: bool = False,
    annotate: bool = True,
    delimiter: bool = False,
) -> dict[str, Any]:
    """A source of samples as a recording's header describes it.

    ``waiting``: time off the CPU.  Sums of weights are divided by ``divisor``
    when they are shown in ``unit``.  ``state``: what has the same time is all
    that there was then, and later ones take its place.  ``annotate`` and
    ``delimiter`` are how the run folded stacks.
    """
    fields = [
        {"name": "time", "type": "u64", "unit": "ns, CLOCK_MONOTONIC"}, {"name": "weight", "type": "u64", "unit": unit},
        {"name": "pid", "type": "u32"}, {"name": "stack", "type": "u32"}, {"name": "comm", "type": "Str[16]"},
    ]  # fmt: skip
    return {"type": "samples", "name": name, "unit": unit, "waiting": waiting, "divisor": divisor, "state": state,
            "annotate": annotate, "delimiter": delimiter, "size": SAMPLE.size, "fields": fields}  # fmt: skip


def places(frames: Iterable[Frame], *, cut: bool = False) -> tuple[Place, ...]:
    """What is recorded of symbolized ``frames`` (innermost first, as symbolizers give them), root first."""
    out = [(one.label, _LETTERS[one.kind], one.module, one.build_id, one.file_offset) for one in frames]
    out.reverse()
    return ((TRUNCATED, OTHER, "", "", -1), *out) if cut else tuple(out)


class SampleWriter:
    """Samples on their way into a recording, as its source ``number``."""

    __slots__ = ("_frames", "_new_frames", "_new_stacks", "_number", "_recording", "_rows", "_stacks")

    def __init__(self, recording: Recording, number: int) -> None:
        self._recording = recording
        self._number = number
        self._frames: dict[Place, int] = {}
        self._stacks: dict[tuple[Place, ...], int] = {}
        self._new_frames: list[Place] = []
        self._new_stacks: list[list[int]] = []
        self._rows = bytearray()

    def stack(self, stack: tuple[Place, ...]) -> int:
        """The number of a stack (root first), from 1; 0 for one without frames."""
        if not stack:
            return 0
        number = self._stacks.get(stack)
        if number is None:
            number = self._stacks[stack] = len(self._stacks) + 1
            self._new_stacks.append([self._frame(place) for place in stack])
        return number

    def _frame(self, place: Place) -> int:
        number = self._frames.get(place)
        if number is None:
            number = self._frames[place] = len(self._frames)
            self._new_frames.append(place)
        return number

    def add(self, time_ns: int, tgid: int, comm: bytes, stack: int, weight: int = 1) -> None:
        """One sample: when, whose, and the number that :meth:`stack` gave."""
        self._rows += SAMPLE.pack(time_ns, weight, tgid, stack, comm[:15])
        if len(self._rows) >= _FULL:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered: stacks before the samples that name them."""
        self._recording.stamp()
        if self._new_stacks:
            record = {"frames": self._new_frames, "stacks": self._new_stacks}
            self._recording.block(STACKS, json.dumps(record, separators=(",", ":")).encode(), self._number)
            self._new_frames, self._new_stacks = [], []
        if self._rows:
            self._recording.block(SAMPLES, bytes(self._rows), self._number)
            self._rows = bytearray()


class Sample:
    """One sample; ``stack`` begins with the process's frame, as all stacks in pictures do, if the sample has a name."""

    __slots__ = ("comm", "pid", "stack", "time", "weight")

    def __init__(self, time_ns: int, weight: int, pid: int, comm: str, stack: Stack) -> None:
        self.time = time_ns
        self.weight = weight
        self.pid = pid
        self.comm = comm
        self.stack = stack

    def record(self, wall_ns: int) -> dict[str, Any]:
        """The sample as ``--json`` prints it; ``wall_ns`` is its time since the epoch."""
        stack = [{"name": name, "kind": KINDS[kind]} for name, kind in self.stack[bool(self.comm) :]]
        return {"time": wall_ns / 1e9, "pid": self.pid, "comm": self.comm, "weight": self.weight, "stack": stack}


class SampleReader:
    """The other direction, block by block."""

    __slots__ = ("_frames", "_stacks", "places")

    def __init__(self) -> None:
        self._frames: list[tuple[str, str]] = []
        #: All that is recorded of each frame, in the order of their numbers.
        self.places: list[Place] = []
        self._stacks: list[Stack] = [()]

    def define(self, record: dict[str, Any]) -> None:
        """Take in a block of stacks.  Raises UserError where it is damaged."""
        try:
            for name, kind, module, build_id, offset in record["frames"]:
                kind = kind if kind in KINDS else OTHER
                self.places.append((str(name), kind, str(module), str(build_id), int(offset)))
                self._frames.append((str(name), kind))
            for numbers in record["stacks"]:
                self._stacks.append(tuple([self._frames[number] for number in numbers]))
        except (KeyError, TypeError, ValueError, IndexError):
            raise UserError("a block of stacks is damaged", where="recording") from None

    def samples(self, payload: bytes) -> Iterator[Sample]:
        """The samples of a block; UserError where it is damaged or names stacks that are not there."""
        if len(payload) % SAMPLE.size:
            raise UserError("a block of samples is damaged", where="recording")
        for now, weight, pid, number, raw in SAMPLE.iter_unpack(payload):
            if number >= len(self._stacks):
                raise UserError(f"a sample has the stack {number}, which is not in it", where="recording")
            comm = raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")
            process = ((comm, OTHER),) if comm else ()
            yield Sample(now, weight, pid, comm, (*process, *self._stacks[number]))
