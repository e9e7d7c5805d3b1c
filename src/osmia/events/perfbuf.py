# SPDX-License-Identifier: Apache-2.0
"""Reading perf buffers (BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4.4): one memory for each CPU, merged here.

This is the transport of kernels without a ring buffer (before 5.8), so it
looks like one: :class:`PerfBuffer` has the methods of
:class:`osmia.events.ring.Ring` and gives spans of the same form, so that
decoders, prints and templates do not know the difference.  Every record
carries the kernel's monotonic time; what :meth:`PerfBuffer.take` returns is
in the order of those times over all CPUs.

A page of bookkeeping precedes the data of each CPU (``struct
perf_event_mmap_page``, include/uapi/linux/perf_event.h): ``data_head`` at
1024, written by the kernel, and ``data_tail`` at 1032, written by us.  A
record is ``struct perf_event_header`` (u32 type, u16 misc, u16 size), then
for samples u64 time, u32 length, data; the length includes padding, so
records may be up to seven bytes longer than what was sent.
"""

from __future__ import annotations

import errno
import mmap
import os
import select
import struct
import time

from osmia.kernel import bpf, cpus, perf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from osmia.lang.types import Event

SAMPLE, LOST = 9, 2  # PERF_RECORD_*
_PAGE = mmap.PAGESIZE
_HEAD, _TAIL = 1024 // 8, 1032 // 8  # in words of the first page
_HEADER = struct.Struct("<IHH")
_SAMPLE = struct.Struct("<QI")
_RING_HEADER = struct.Struct("<II")
_RESCAN_S = 1.0



def size_per_cpu(total: int) -> int:
    """Each CPU's share of ``total`` bytes: a power of two of at least a page."""
    share = max(_PAGE, total // max(1, cpus.slots()))
    return 1 << (share.bit_length() - 1)


class _Cpu:
    """The memory of one CPU: its perf event and the mapping of it."""

    __slots__ = ("data", "fd", "map", "mask", "size", "words")

    def __init__(self, cpu: int, size: int, *, backward: bool) -> None:
        self.size = size
        self.mask = size - 1
        self.fd = perf.event_open(perf.output_attr(wakeup=1, backward=backward), cpu=cpu)
        try:
            # Mapped read-only the kernel overwrites; with a writable tail it waits for the reader.
            self.map = bpf.map_memory(self.fd, _PAGE + size, writable=not backward)
        except BaseException:
            os.close(self.fd)
            raise
        whole = memoryview(self.map)
        self.words = whole[:_PAGE].cast("Q")
        self.data = whole[_PAGE:]

    def close(self) -> None:
        self.words.release()
        self.data.release()
        self.map.close()
        os.close(self.fd)

    def head(self) -> int:
        return int(self.words[_HEAD])

    def pending(self) -> int:
        return int(self.words[_HEAD] - self.words[_TAIL])

    def copy(self, start: int, length: int) -> bytes:
        """``length`` bytes from position ``start``, over the end of the memory where needed."""
        at = start & self.mask
        first = bytes(self.data[at : at + min(length, self.size - at)])
        return first if len(first) == length else first + bytes(self.data[: length - len(first)])


def parse(raw: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """``(time, data)`` of each sample in a stretch of records, and how many the kernel says it lost.

    Stops at an incomplete or impossible record: in memory that is being
    overwritten the oldest one is cut.
    """
    out: list[tuple[int, bytes]] = []
    lost, at, end = 0, 0, len(raw)
    while at + 8 <= end:
        kind, _, size = _HEADER.unpack_from(raw, at)
        if size < 8 or at + size > end:
            break
        if kind == SAMPLE and size >= 20:
            when, length = _SAMPLE.unpack_from(raw, at + 8)
            out.append((when, raw[at + 20 : at + 20 + min(length, size - 20)]))
        elif kind == LOST and size >= 24:
            lost += struct.unpack_from("<Q", raw, at + 16)[0]
        at += size
    return out, lost


def span_of(records: Sequence[tuple[int, bytes]]) -> bytes:
    """Records as the ring buffer would have them: a header of 8 bytes, padded to 8."""
    pack = _RING_HEADER.pack
    return b"".join([pack(len(data), 0) + data + bytes(-len(data) & 7) for _, data in records])


class _Buffers:
    """The perf events of all CPUs that are up, in the slots of the map ``fd``."""

    def __init__(self, fd: int, size: int, *, backward: bool) -> None:
        self.map_fd = fd
        self.size_per_cpu = size
        self._backward = backward
        self.cpus: dict[int, _Cpu] = {}
        self._scanned = 0.0
        try:
            self.scan()
        except BaseException:
            self.close()
            raise

    def scan(self) -> list[_Cpu]:
        """Open what is up and not open yet: CPUs may come while we run.  What goes keeps its records."""
        new = []
        for cpu in cpus.online():
            if cpu in self.cpus:
                continue
            try:
                one = _Cpu(cpu, self.size_per_cpu, backward=self._backward)
            except OSError as e:
                if e.errno == errno.ENODEV:  # it has just gone
                    continue
                raise
            self.cpus[cpu] = one
            bpf.map_update(self.map_fd, struct.pack("<I", cpu), struct.pack("<I", one.fd))
            perf.enable(one.fd)
            new.append(one)
        self._scanned = time.monotonic()
        return new

    def close(self) -> None:
        for one in self.cpus.values():
            one.close()
        self.cpus = {}


class PerfBuffer(_Buffers):
    """The consumer of one perf buffer, with the interface of :class:`osmia.events.ring.Ring`.

    ``fd`` is what becomes readable when there is something; ``size`` bytes
    for all CPUs together.  ``overrun`` counts what the kernel's records of
    losses say (the programs count the same losses themselves).
    """

    def __init__(self, fd: int, size: int, *, wakeups: bool = True) -> None:
        self._poll = select.epoll()
        self.fd = self._poll.fileno()
        self.wakeups = wakeups
        self.overrun = 0
        self._last = 0.0
        self._held: list[tuple[int, bytes]] = []
        try:
            super().__init__(fd, size_per_cpu(size), backward=False)
        except BaseException:
            self._poll.close()
            raise
        self.size = self.size_per_cpu * len(self.cpus)

    def scan(self) -> list[_Cpu]:
        new = super().scan()
        for one in new:
            self._poll.register(one.fd, select.EPOLLIN)
        return new

    def close(self) -> None:
        """Close everything; the map is its owner's."""
        super().close()
        self._poll.close()

    def pending(self) -> int:
        """Bytes that wait."""
        if time.monotonic() - self._scanned > _RESCAN_S:
            self.scan()
        return sum([one.pending() for one in self.cpus.values()]) + sum([len(data) for _, data in self._held])

    def take(self, limit: int = 1 << 22) -> bytes | None:
        """What is there now, in the order of the kernel's times; None where there is nothing.

        ``limit`` bounds the bytes read of each CPU (one record at least).
        """
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        records = self._held
        complete = now  # up to this time no CPU has anything that is not read yet
        for one in self.cpus.values():
            found, rest = self._read(one, limit)
            records += found
            if rest and found:
                complete = min(complete, found[-1][0])
        self._last = time.monotonic()
        # What was sent after the first CPU was looked at may precede what another CPU has not shown yet.
        ready = [record for record in records if record[0] <= complete]
        self._held = [record for record in records if record[0] > complete]
        if not ready:
            return None
        ready.sort(key=_time)
        return span_of(ready)

    def _read(self, one: _Cpu, limit: int) -> tuple[list[tuple[int, bytes]], bool]:
        """Records of one CPU, released, and whether there are more."""
        head, tail = one.head(), int(one.words[_TAIL])
        if head == tail:
            return [], False
        raw = one.copy(tail, min(head - tail, max(limit, 1 << 16)))  # a record has at most 64 KiB
        found, lost = parse(raw)
        done = _whole(raw)
        one.words[_TAIL] = tail + done
        self.overrun += lost
        return found, tail + done < head

    def wait(self, timeout_s: float, fds: Sequence[int] = ()) -> bool:
        """Sleep until there is something to take: see :func:`osmia.events.ring.wait`."""
        from osmia.events.ring import wait

        return wait((self,), timeout_s, fds)  # type: ignore[arg-type]  # it has all that wait() looks at


def _time(record: tuple[int, bytes]) -> int:
    return record[0]


def _whole(raw: bytes) -> int:
    """Bytes of the whole records at the start of ``raw``."""
    at, end = 0, len(raw)
    while at + 8 <= end:
        size = _HEADER.unpack_from(raw, at)[2]
        if size < 8 or at + size > end:
            break
        at += size
    return at


class Recorder(_Buffers):
    """The memory of a flight recorder: overwritten all the time, read on demand.

    As a reader it is empty until :meth:`finish`: then it has one dump to
    take, which is how a run shows what it recorded when it ends.
    """

    wakeups = True

    def __init__(self, fd: int, size: int, seconds: float = 0.0) -> None:
        super().__init__(fd, size, backward=True)
        self.fd = -1
        self.size = size * len(self.cpus)
        self.seconds = seconds
        self._last = 0.0
        self._dumped: list[tuple[int, bytes]] = []

    def records(self, seconds: float = 0.0) -> list[tuple[int, bytes]]:
        """``(time in ns, data)`` of what is recorded, oldest first; of the last ``seconds`` only, where given.

        Recording pauses meanwhile, on all CPUs, so that the dump ends
        everywhere at the same time.
        """
        found: list[tuple[int, bytes]] = []
        every = list(self.cpus.values())
        for one in every:
            perf.pause(one.fd, True)
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        try:
            for one in every:
                # The head moves downwards; from it on come the records, the newest first, up to where it began
                # (zeroes: never written) or, once around, into the oldest record, which is cut.
                found += parse(one.copy(one.head(), one.size))[0]
        finally:
            for one in every:
                perf.pause(one.fd, False)
        self.scan()
        found.sort(key=_time)
        if seconds:
            found = [record for record in found if record[0] >= now - seconds * 1e9]
        return found

    def events(self, event: type[Event], seconds: float = 0.0) -> list[Any]:
        """The same as objects."""
        from osmia.events.decode import Decoder

        return Decoder(event).objects(span_of(self.records(seconds)))

    def finish(self) -> None:
        """Take a dump that :meth:`take` then gives."""
        self._dumped += self.records(self.seconds)

    def pending(self) -> int:
        """Bytes of the dump that are left."""
        return sum([len(data) for _, data in self._dumped])

    def take(self, limit: int = 1 << 22) -> bytes | None:
        """The dump; None where there is none, or no more."""
        dumped, self._dumped = self._dumped, []
        return span_of(dumped) if dumped else None
