# SPDX-License-Identifier: Apache-2.0
"""Reading a ring buffer (BPF_MAP_TYPE_RINGBUF, 5.8), a span at a time.

One consumer core must keep up with millions of events a second, so nothing
here runs once per event where the events are of one size.  Whole, committed
records are found by looking at every header of a span at once (a strided
slice), copied out in one go, and given back to the kernel before anything is
decoded.

A record is a header of 8 bytes (u32 length with two flags in the top bits:
busy, discarded; u32 page offset) and its data, together rounded up to 8.  The
kernel sets busy when it reserves a record and clears it when it commits, so
the header is read *before* the data: reading it after would accept data that
was copied while it was still being written.
"""

from __future__ import annotations

import mmap
import select
import struct
import time

from osmia.kernel import bpf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HEADER = 8
BUSY, DISCARDED = 1 << 31, 1 << 30
_LENGTH = DISCARDED - 1
_BUSY_BYTE = b"\x80"  # top byte of a busy header, for lengths below 16 MiB
_PAGE = mmap.PAGESIZE
_POLL_S = 0.005
_LULL_S = 0.1  # no events for that long: sleep until the kernel wakes us
_SAMPLE = 64  # headers compared one by one before a whole span is tried


class Ring:
    """The consumer of one ring buffer.

    ``size`` is the map's max_entries in bytes (a power of two).  With
    ``wakeups`` false the programs never wake the reader
    (BPF_RB_NO_WAKEUP), and :meth:`wait` never relies on it.
    """

    __slots__ = (
        "_consumer", "_consumer_map", "_data", "_data_map", "_last", "_mask", "_producer", "fd", "size", "wakeups",
    )  # fmt: skip

    def __init__(self, fd: int, size: int, *, wakeups: bool = True) -> None:
        self.fd = fd
        self.size = size
        self.wakeups = wakeups
        self._mask = size - 1
        self._last = 0.0
        # The consumer's page is ours to write, the producer's page and the data are the kernel's.  The kernel would
        # map the data twice in a row, so that no record is ever cut; but all of a mapping counts as our memory.
        self._consumer_map = bpf.map_memory(fd, _PAGE, writable=True)
        self._data_map = bpf.map_memory(fd, _PAGE + size, _PAGE)
        self._consumer = memoryview(self._consumer_map).cast("Q")
        whole = memoryview(self._data_map)
        self._producer = whole[:_PAGE].cast("Q")
        self._data = whole[_PAGE:]

    def close(self) -> None:
        """Unmap; the fd belongs to the map."""
        for view in (self._consumer, self._producer, self._data):
            view.release()
        self._consumer_map.close()
        self._data_map.close()

    def pending(self) -> int:
        """Bytes that are reserved or committed and not yet taken."""
        return int(self._producer[0] - self._consumer[0])

    def take(self, limit: int = 1 << 22) -> bytes | None:
        """The oldest whole records, at most about ``limit`` bytes of them (one at least), and release them.

        A span of whole records with their headers, discarded ones included;
        None if nothing is committed.  A record still being written ends it.
        Best called in turns with :meth:`wait`, which lets a few milliseconds'
        worth pile up; calling it again at once yields ever smaller spans.
        """
        position = self._consumer[0]
        available = self._producer[0] - position
        if not available:
            return None
        start = position & self._mask
        wanted, room = min(available, max(limit, HEADER)), self.size - start
        length = self._committed(start, min(wanted, room))
        while 0 < length < wanted and room < wanted:  # the record across the ring's end, then on from its beginning
            at = start + length & self._mask
            more = self._committed(at, min(wanted - length, self.size - at))
            if not more or length + more > wanted:
                break
            length += more
        self._last = time.monotonic()
        if not length:
            return None
        if length <= room:
            span = bytes(self._data[start : start + length])
        else:  # on at the beginning of the ring
            span = b"".join((self._data[start:], self._data[: length - room]))
        self._consumer[0] = position + length
        return span

    def _committed(self, start: int, wanted: int) -> int:
        """Bytes of committed records from ``start``: all of one size, or else as a walk finds them.

        No record begins later than ``wanted`` bytes from there; the only one may end later.
        """
        data = self._data
        first = int.from_bytes(data[start : start + 4], "little")
        if first & BUSY:
            return 0
        stride = (first & _LENGTH) + 15 & ~7
        if stride >= wanted:
            return stride
        if first & _LENGTH < 1 << 24 and _same(data, start, start + min(wanted // stride, _SAMPLE) * stride, stride):
            end = start + wanted // stride * stride
            # The flags before anything else: what is committed now stays so.
            busy = data[start + 3 : end : stride].tobytes().find(_BUSY_BYTE)
            if busy >= 0:
                end = start + busy * stride
            if _same(data, start, end, stride):
                return end - start
        return self._walk(start, wanted)

    def _walk(self, start: int, wanted: int) -> int:
        read = struct.Struct("<I").unpack_from
        data, at, end = self._data, start, start + wanted
        while at < end:
            (header,) = read(data, at)
            if header & BUSY:
                break
            step = (header & _LENGTH) + 15 & ~7
            if at + step > end and at > start:
                break
            at += step
        return at - start

    def wait(self, timeout_s: float, fds: Sequence[int] = ()) -> bool:
        """Sleep until there is something to take, one of ``fds`` is readable, or the time is over.

        Whether there may be something to take.  See :func:`wait`.
        """
        return wait((self,), timeout_s, fds)


def _same(data: memoryview, start: int, end: int, stride: int) -> bool:
    """Whether the lower three bytes of the length are the same in every header of the range."""
    for byte in range(3):
        column = data[start + byte : end : stride].tobytes()
        if column.count(column[:1]) != len(column):
            return False
    return True


def same_stride(span: bytes, stride: int) -> bool:
    """Whether a span from :meth:`Ring.take` holds records of ``stride`` bytes (header included) only, none discarded.

    Then ``struct.iter_unpack`` decodes it whole.
    """
    if stride < HEADER or not span or len(span) % stride:
        return False
    (header,) = struct.unpack_from("<I", span)
    if header + 15 & ~7 != stride:
        return False
    for byte in range(4):
        column = span[byte::stride]
        if column.count(column[:1]) != len(column):
            return False
    return True


def records(span: bytes) -> Iterator[tuple[int, int]]:
    """``(offset of the data, its length)`` of each record in a span that was not discarded."""
    read = struct.Struct("<I").unpack_from
    at, end = 0, len(span)
    while at < end:
        (header,) = read(span, at)
        length = header & _LENGTH
        if not header & DISCARDED:
            yield at + HEADER, length
        at += length + 15 & ~7


def wait(rings: Sequence[Ring], timeout_s: float, fds: Sequence[int] = ()) -> bool:
    """Sleep until a ring has something, one of ``fds`` is readable (returns False), or ``timeout_s`` is over.

    While events flow it looks every 5 ms, which lets them pile up and costs
    half of what a wake-up per event does; after a lull it sleeps until the
    kernel wakes it, so that an idle tool costs nothing and its first event
    is seen at once.  Rings without wake-ups are always looked at.
    """
    now = time.monotonic()
    deadline = now + timeout_s
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    asleep = False
    while True:
        for ring in rings:
            waiting = ring.pending()
            if waiting and (asleep or now - ring._last >= _POLL_S or waiting > ring.size >> 3):
                return True
        if now >= deadline:
            return any(ring.pending() for ring in rings)
        if not asleep and all(ring.wakeups and now - ring._last > _LULL_S for ring in rings):
            for ring in rings:
                poller.register(ring.fd, select.POLLIN)
            asleep = True
        ready = poller.poll(max(1, (deadline - now) * 1000) if asleep else min(_POLL_S, deadline - now) * 1000 + 0.5)
        if any(fd in fds for fd, _ in ready):
            return False
        now = time.monotonic()
