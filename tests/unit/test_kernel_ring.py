# SPDX-License-Identifier: Apache-2.0
"""The ring buffer reader on memory that is laid out by hand: every order of commits can be made."""

from __future__ import annotations

import mmap
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osmia.events import ring as ring_module
from osmia.events.ring import BUSY, DISCARDED, Ring, records, same_stride
from osmia.kernel import bpf

SIZE = 4096
LIMITS = st.integers(8, 600)
STATES = ("ok", "ok", "busy", "drop")


class Kernel:
    """The producer's side, of a ring that has been used up to ``position``."""

    def __init__(self, position: int = 0) -> None:
        self.consumer = mmap.mmap(-1, mmap.PAGESIZE)
        self.data = mmap.mmap(-1, mmap.PAGESIZE + SIZE)
        self.produced = position
        for page in (self.consumer, self.data):
            struct.pack_into("<Q", page, 0, position)

    def map_memory(self, fd: int, length: int, offset: int = 0, *, writable: bool = False) -> mmap.mmap:
        assert (fd, writable) == (9, offset == 0) and length == (mmap.PAGESIZE + SIZE if offset else mmap.PAGESIZE)
        return self.data if offset else self.consumer

    def _write(self, position: int, data: bytes) -> None:
        for i, byte in enumerate(data):
            self.data[mmap.PAGESIZE + (position + i) % SIZE] = byte

    def reserve(self, data: bytes) -> int:
        position = self.produced
        self._write(position, struct.pack("<II", len(data) | BUSY, 0) + data)
        self.produced += len(data) + 15 & ~7
        struct.pack_into("<Q", self.data, 0, self.produced)
        return position

    def commit(self, position: int, length: int, flag: int = 0) -> None:
        self._write(position, struct.pack("<I", length | flag))

    @property
    def consumed(self) -> int:
        value: int = struct.unpack_from("<Q", self.consumer)[0]
        return value


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    fake = Kernel()
    monkeypatch.setattr(bpf, "map_memory", fake.map_memory)
    return fake


def put(kernel: Kernel, data: bytes, flag: int = 0) -> None:
    kernel.commit(kernel.reserve(data), len(data), flag)


def contents(span: bytes | None) -> list[bytes]:
    assert span is not None
    return [span[o : o + n] for o, n in records(span)]


def test_a_busy_record_ends_the_span(kernel: Kernel) -> None:
    ring = Ring(9, SIZE)
    put(kernel, b"first...")
    put(kernel, b"second..")
    late = kernel.reserve(b"third...")
    put(kernel, b"fourth..")
    assert contents(ring.take()) == [b"first...", b"second.."]
    assert ring.take() is None
    assert ring.pending() == 32 and kernel.consumed == 32
    kernel.commit(late, 8)
    assert contents(ring.take()) == [b"third...", b"fourth.."]
    assert kernel.consumed == kernel.produced


def test_discarded_records_are_released_and_not_shown(kernel: Kernel) -> None:
    ring = Ring(9, SIZE)
    put(kernel, b"a" * 8)
    put(kernel, b"b" * 8, DISCARDED)
    put(kernel, b"c" * 8)
    span = ring.take()
    assert contents(span) == [b"a" * 8, b"c" * 8] and len(span or b"") == 48
    assert not same_stride(span or b"", 16)
    assert kernel.consumed == 48


def test_a_span_runs_over_the_end(kernel: Kernel) -> None:
    ring = Ring(9, SIZE)
    for lap in range(20):
        batch = [bytes([lap, i]) * 20 for i in range(60)]
        for data in batch:
            put(kernel, data)
        assert contents(ring.take()) == batch


def test_data_that_looks_like_headers(kernel: Kernel) -> None:
    """Content at the places where equal records would have their headers does not mislead."""
    ring = Ring(9, SIZE)
    put(kernel, b"x" * 8)
    put(kernel, struct.pack("<II", 8, 0) * 5)
    put(kernel, b"y" * 8)
    busy = kernel.reserve(b"z" * 8)
    assert contents(ring.take()) == [b"x" * 8, struct.pack("<II", 8, 0) * 5, b"y" * 8]
    kernel.commit(busy, 8)
    assert contents(ring.take()) == [b"z" * 8]


def test_one_record_larger_than_the_limit_still_comes(kernel: Kernel) -> None:
    ring = Ring(9, SIZE)
    put(kernel, b"large" * 100)
    put(kernel, b"small")
    assert contents(ring.take(limit=64)) == [b"large" * 100]
    assert contents(ring.take(limit=64)) == [b"small"]


@settings(deadline=None, max_examples=400)
@given(st.lists(st.tuples(st.binary(min_size=1, max_size=60), st.sampled_from(STATES)), max_size=40), LIMITS,
       st.integers(0, SIZE // 8 - 1))  # fmt: skip
def test_any_history(history: list[tuple[bytes, str]], limit: int, eighths: int) -> None:
    kernel = Kernel(SIZE + 8 * eighths)
    before, bpf.map_memory = bpf.map_memory, kernel.map_memory  # type: ignore[assignment]
    try:
        ring = Ring(9, SIZE)
    finally:
        bpf.map_memory = before
    open_records = []
    for data, state in history:
        position = kernel.reserve(data)
        if state == "busy":
            open_records.append((position, len(data)))
        else:
            kernel.commit(position, len(data), DISCARDED if state == "drop" else 0)
    got: list[bytes] = []
    while True:
        while (span := ring.take(limit)) is not None:
            got += contents(span)
        if not open_records:
            break
        kernel.commit(*open_records.pop(0))
    assert got == [data for data, state in history if state != "drop"]
    assert kernel.consumed == kernel.produced


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_same_stride(lengths: list[int]) -> None:
    span = b"".join(struct.pack("<II", n, 0) + bytes(n + 7 & ~7) for n in lengths)
    stride = lengths[0] + 15 & ~7
    assert same_stride(span, stride) == (len(set(lengths)) == 1)
    assert not same_stride(span, stride + 8)
    assert not same_stride(b"", 16)
    assert [length for _, length in records(span)] == lengths


def test_wait_lets_events_pile_up(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a take it looks again 5 ms later, not at once; but a ring that fills is not left waiting."""
    now = [100.0]
    slept: list[float] = []

    class Poll:
        def register(self, fd: int, events: int) -> None:
            assert fd == 9

        def poll(self, ms: float) -> list[tuple[int, int]]:
            slept.append(ms)
            now[0] += ms / 1000
            return []

    monkeypatch.setattr(ring_module.select, "poll", Poll)
    monkeypatch.setattr(ring_module.time, "monotonic", lambda: now[0])
    ring = Ring(9, SIZE)
    put(kernel, b"x" * 8)
    assert ring.take()
    put(kernel, b"x" * 8)
    assert ring.wait(1.0) and len(slept) == 1 and 5 <= slept[0] < 6
    assert ring.take()
    slept.clear()
    for _ in range(40):
        put(kernel, b"x" * 8)
    assert ring.wait(1.0) and slept == []
    assert ring.take()
    assert ring.wait(0.05) is False
    now[0] += 1
    slept.clear()
    assert ring.wait(0.5) is False and slept == [pytest.approx(500)]
