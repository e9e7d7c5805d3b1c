# SPDX-License-Identifier: Apache-2.0
"""Perf buffers on memory laid out by hand: order over CPUs, the end of the memory, overwriting, losses."""

from __future__ import annotations

import mmap
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osmia.events import perfbuf
from osmia.events.perfbuf import PerfBuffer, Recorder, parse, size_per_cpu, span_of
from osmia.events.ring import records
from osmia.kernel import bpf, cpus, perf

PAGE = mmap.PAGESIZE


def sample(when: int, data: bytes) -> bytes:
    """A record as the kernel writes it: the raw data with its length, together rounded up to 8."""
    padded = data + bytes(-(len(data) + 4) % 8)
    return struct.pack("<IHHQI", perfbuf.SAMPLE, 0, 20 + len(padded), when, len(padded)) + padded


def lost(count: int) -> bytes:
    return struct.pack("<IHHQQ", perfbuf.LOST, 0, 24, 1, count)


class Kernel:
    """The producers of two CPUs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, now: int = 1 << 60) -> None:
        self.maps: dict[int, mmap.mmap] = {}
        self.put: dict[int, int] = {}
        self.paused: list[tuple[int, bool]] = []
        self.attrs: list[bytearray] = []
        self.now = now
        monkeypatch.setattr(perf, "event_open", self._open)
        monkeypatch.setattr(perf, "enable", lambda fd: None)
        monkeypatch.setattr(perf, "pause", lambda fd, paused: self.paused.append((fd, paused)))
        monkeypatch.setattr(bpf, "map_update", lambda fd, key, value, flags=0: self.put.update(
            {struct.unpack("<I", key)[0]: struct.unpack("<I", value)[0]}))
        monkeypatch.setattr(bpf, "map_memory", self._map)
        monkeypatch.setattr(cpus, "online", lambda: [0, 3])
        monkeypatch.setattr(cpus, "slots", lambda: 4)
        monkeypatch.setattr(perfbuf.os, "close", lambda fd: None)
        monkeypatch.setattr(perfbuf.time, "clock_gettime_ns", lambda clock: self.now)
        monkeypatch.setattr(perfbuf.select, "epoll", Poll)

    def _open(self, attr: bytearray, *, pid: int = -1, cpu: int = -1) -> int:
        self.attrs.append(attr)
        return 100 + cpu

    def _map(self, fd: int, length: int, offset: int = 0, *, writable: bool = False) -> mmap.mmap:
        self.maps[fd - 100] = mmap.mmap(-1, length)
        return self.maps[fd - 100]

    def write(self, cpu: int, record: bytes) -> None:
        """Forwards, as into a buffer that is read."""
        area = self.maps[cpu]
        size = len(area) - PAGE
        head, tail = struct.unpack_from("<QQ", area, 1024)
        assert head - tail + len(record) <= size, "the kernel would refuse it"
        for i, byte in enumerate(record):
            area[PAGE + (head + i) % size] = byte
        struct.pack_into("<Q", area, 1024, head + len(record))

    def overwrite(self, cpu: int, record: bytes) -> None:
        """Backwards, over the oldest."""
        area = self.maps[cpu]
        size = len(area) - PAGE
        head = (struct.unpack_from("<Q", area, 1024)[0] - len(record)) % (1 << 64)
        for i, byte in enumerate(record):
            area[PAGE + (head + i) % size] = byte
        struct.pack_into("<Q", area, 1024, head)


class Poll:
    def fileno(self) -> int:
        return 9

    def register(self, fd: int, events: int) -> None:
        assert fd in (100, 103)

    def close(self) -> None:
        pass


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def contents(span: bytes | None) -> list[bytes]:
    return [] if span is None else [span[o : o + n] for o, n in records(span)]


def test_cpus_are_merged_by_time(kernel: Kernel) -> None:
    buffer = PerfBuffer(5, 4 * PAGE)
    assert kernel.put == {0: 100, 3: 103} and buffer.size_per_cpu == PAGE
    for when in range(0, 60, 2):
        kernel.write(0, sample(when, struct.pack("<I", when)))
        kernel.write(3, sample(when + 1, struct.pack("<I", when + 1)))
    assert buffer.pending() == 60 * 24
    assert contents(buffer.take()) == [struct.pack("<I", when) for when in range(60)]
    assert buffer.pending() == 0 and buffer.take() is None


def test_what_comes_while_reading_waits_for_its_turn(kernel: Kernel) -> None:
    """A record later than the beginning of the read may be older than what another CPU is about to show."""
    buffer = PerfBuffer(5, 4 * PAGE)
    kernel.now = 50
    kernel.write(0, sample(40, b"aaaa"))
    kernel.write(3, sample(60, b"cccc"))
    assert contents(buffer.take()) == [b"aaaa"]
    assert buffer.pending() > 0
    kernel.write(0, sample(55, b"bbbb"))
    kernel.now = 70
    assert contents(buffer.take()) == [b"bbbb", b"cccc"]
    assert buffer.pending() == 0


def test_a_limited_read_keeps_the_order(kernel: Kernel) -> None:
    """With more in one CPU's memory than is taken at once, later records of the others wait."""
    buffer = PerfBuffer(5, 4 << 20)
    for when in range(1500):
        kernel.write(0, sample(when, struct.pack("<I", when) + bytes(200)))
    kernel.write(3, sample(1200, struct.pack("<I", 1200) + bytes(200)))
    seen: list[int] = []
    for _ in range(20):
        seen += [struct.unpack_from("<I", one)[0] for one in contents(buffer.take(1))]
    assert seen == sorted([*range(1500), 1200])


def test_losses_that_the_kernel_tells(kernel: Kernel) -> None:
    buffer = PerfBuffer(5, 4 * PAGE)
    kernel.write(0, sample(1, b"abcd"))
    kernel.write(0, lost(23))
    kernel.write(0, sample(2, b"efgh"))
    assert contents(buffer.take()) == [b"abcd", b"efgh"] and buffer.overrun == 23


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([0, 3]), st.binary(min_size=1, max_size=600)), max_size=120))
def test_any_history(history: list[tuple[int, bytes]]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        kernel = Kernel(monkeypatch)
        buffer = PerfBuffer(5, 4 * PAGE)
        got: list[bytes] = []
        for when, (cpu, data) in enumerate(history):
            kernel.write(cpu, sample(when, data))
            if when % 3 == 2:
                got += contents(buffer.take())
        got += contents(buffer.take())
        buffer.close()
    assert [one[: len(data)] for one, (_, data) in zip(got, history, strict=True)] == [data for _, data in history]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(min_size=1, max_size=500), max_size=80))
def test_a_recorder_keeps_the_newest(history: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        kernel = Kernel(monkeypatch)
        recorder = Recorder(5, PAGE)
        assert all(struct.unpack_from("<Q", attr, 40)[0] >> 27 & 1 for attr in kernel.attrs)
        for when, data in enumerate(history):
            kernel.overwrite(0, sample(when, data))
        found = recorder.records()
        assert kernel.paused == [(100, True), (103, True), (100, False), (103, False)]
        recorder.close()
    fit, used = 0, 0
    for data in reversed(history):
        used += len(sample(0, data))
        if used > PAGE:
            break
        fit += 1
    assert [when for when, _ in found] == list(range(len(history) - fit, len(history)))
    assert [one[: len(history[when])] for when, one in found] == [history[when] for when, _ in found]


def test_a_recorder_shows_itself_at_the_end(kernel: Kernel) -> None:
    recorder = Recorder(5, PAGE, seconds=1e-6)
    kernel.now = 5000
    for when in (1000, 4500, 4600):
        kernel.overwrite(3, sample(when, struct.pack("<I", when)))
    assert recorder.pending() == 0 and recorder.take() is None
    recorder.finish()
    assert recorder.pending() > 0
    assert contents(recorder.take()) == [struct.pack("<I", 4500), struct.pack("<I", 4600)]
    assert recorder.take() is None


def test_spans_are_those_of_a_ring() -> None:
    span = span_of([(1, b"abc"), (2, b"12345678")])
    assert span == struct.pack("<II", 3, 0) + b"abc" + bytes(5) + struct.pack("<II", 8, 0) + b"12345678"


def test_damaged_memory_ends_the_records() -> None:
    whole = sample(1, b"abcd") + sample(2, b"efgh")
    assert len(parse(whole)[0]) == 2
    assert len(parse(whole[:-4])[0]) == 1
    assert parse(bytes(100)) == ([], 0)


def test_shares_are_powers_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "slots", lambda: 3)
    assert [size_per_cpu(n) for n in (1, 4 << 20, 3 << 20)] == [PAGE, 1 << 20, 1 << 20]


def test_what_is_asked_of_the_kernel() -> None:
    attr: Any = perf.output_attr(backward=True)
    kind, size, config, period, sample_type = struct.unpack_from("<IIQQQ", attr)
    assert (kind, config, period, sample_type) == (1, 10, 1, 1 << 2 | 1 << 10)
    assert len(attr) == size == 112 and struct.unpack_from("<i", attr, 92)[0] == 1


def test_cpus_that_come_later_are_read_too(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr(perfbuf.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(cpus, "online", lambda: [0])
    buffer = PerfBuffer(5, 4 * PAGE)
    assert list(kernel.put) == [0]
    monkeypatch.setattr(cpus, "online", lambda: [3])  # and the first one goes
    kernel.write(0, sample(1, b"abcd"))
    assert buffer.pending() == 24 and list(kernel.put) == [0]
    now[0] += 1.5
    buffer.pending()
    assert kernel.put == {0: 100, 3: 103}
    kernel.write(3, sample(2, b"efgh"))
    assert contents(buffer.take()) == [b"abcd", b"efgh"]
