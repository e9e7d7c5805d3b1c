# SPDX-License-Identifier: Apache-2.0
"""The ring buffer reader against the kernel: every record once, in order, whole, under load."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from needs import needs

from osmia.events.ring import Ring, records, same_stride, wait
from osmia.link import attach
from osmia.load.object import LiveObject, load
from osmia.obj.spec import ObjectSpec

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("no_fd_leak")]
Specs = Callable[[str], ObjectSpec]


def make(live_spec: Specs, *, mixed: bool = False, size: int = 1 << 20) -> tuple[LiveObject, Ring]:
    needs("atomic_fetch")  # the records are numbered, on all CPUs at once
    spec = live_spec("storm")
    spec.maps[".rodata"].set("mixed", struct.pack("<I", mixed))
    live = load(spec, max_entries={"ring": size})
    return live, Ring(live.maps["ring"].fd, live.maps["ring"].max_entries)


def counters(live: LiveObject) -> tuple[int, int]:
    """``serial`` and ``lost``, in the order in which clang put them."""
    first, second = struct.unpack("<QQ", live.maps[".bss"].lookup(bytes(4)) or b"")
    return first, second


def produce(live: LiveObject, count: int) -> None:
    for _ in range(count):
        live.progs["run"].test_run(bytes(16))


def test_equal_records(live_spec: Specs) -> None:
    live, ring = make(live_spec)
    assert ring.take() is None and ring.pending() == 0
    produce(live, 500)
    assert ring.pending() == 500 * 24
    assert ring.wait(1)
    span = ring.take()
    assert span is not None and same_stride(span, 24) and len(span) == 500 * 24
    assert list(struct.iter_unpack("<8xQQ", span)) == [(i, 7 * i) for i in range(500)]
    assert ring.take() is None and ring.pending() == 0
    ring.close()
    live.close()


def test_mixed_and_discarded_records(live_spec: Specs) -> None:
    live, ring = make(live_spec, mixed=True)
    produce(live, 300)
    span = ring.take()
    assert span is not None and not same_stride(span, 24)
    seen = []
    for offset, length in records(span):
        number, seven = struct.unpack_from("<QQ", span, offset)
        assert seven == 7 * number and length == (40 if number % 3 == 1 else 16)
        if length == 40:
            assert struct.unpack_from("<Q", span, offset + 24)[0] == ~number & (1 << 64) - 1
        seen.append(number)
    assert seen == [i for i in range(300) if i % 5 != 4]
    ring.close()
    live.close()


def test_limits_cut_between_records(live_spec: Specs) -> None:
    for mixed in (False, True):
        live, ring = make(live_spec, mixed=mixed)
        produce(live, 200)
        spans = []
        while (span := ring.take(limit=500)) is not None:
            spans.append(span)
        assert len(spans) > 5 and all(len(s) <= 500 for s in spans)
        numbers = [struct.unpack_from("<Q", s, offset)[0] for s in spans for offset, _ in records(s)]
        assert numbers == [i for i in range(200) if not mixed or i % 5 != 4]
        ring.close()
        live.close()


def test_spans_do_not_wrap(live_spec: Specs) -> None:
    """A small ring is gone round many times; 4096 is no multiple of 24."""
    live, ring = make(live_spec, size=4096)
    numbers: list[int] = []
    for _ in range(40):
        produce(live, 100)
        while (span := ring.take()) is not None:
            numbers += [number for number, _ in struct.iter_unpack("<8xQQ", span)]
    assert numbers == list(range(4000)) and sorted(counters(live)) == [0, 4000]
    ring.close()
    live.close()


def test_a_full_ring_drops_the_new(live_spec: Specs) -> None:
    live, ring = make(live_spec, size=4096)
    produce(live, 300)
    span = ring.take()
    assert span is not None
    held = [number for number, _ in struct.iter_unpack("<8xQQ", span)]
    assert held == list(range(len(held))) and 165 <= len(held) <= 170
    assert sorted(counters(live)) == [300 - len(held), 300]
    ring.close()
    live.close()


_STORM = """
import os, sys, time
deadline = time.monotonic() + float(sys.argv[1])
count = 0
while time.monotonic() < deadline:
    for _ in range(1000):
        os.getpgid(0)
    count += 1000
print(count)
"""


@pytest.mark.parametrize("mixed", [False, True])
def test_storm(live_spec: Specs, mixed: bool) -> None:
    """Two producers flat out for half a second: what was made is what was read plus what was counted as lost."""
    live, ring = make(live_spec, mixed=mixed, size=1 << 20)
    seen = bytearray()
    got = 0
    with attach(live.progs["storm"]):
        command = [sys.executable, "-c", _STORM, "0.5"]
        producers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        while True:
            span = ring.take()
            if span is not None:
                last = _check(span, mixed, seen)
                got += last
            elif all(p.poll() is not None for p in producers):
                break
            else:
                ring.wait(0.02)
        asked = sum(int(p.communicate()[0]) for p in producers)
        skipped = live.progs["storm"].info().recursion_misses  # the kernel may switch tasks inside a program
    while (span := ring.take()) is not None:
        got += _check(span, mixed, seen)
    made, lost = sorted(counters(live), reverse=True)
    assert made + skipped >= asked
    discarded = sum(1 for i in range(made) if mixed and i % 5 == 4)
    assert seen.count(1) == got, "a record came twice"
    assert made - lost - discarded <= got <= made - lost
    if not lost:
        assert got == made - discarded
    ring.close()
    live.close()


def _check(span: bytes, mixed: bool, seen: bytearray) -> int:
    """Every record whole and new; how many."""
    if not mixed:
        assert same_stride(span, 24)
        pairs = list(struct.iter_unpack("<8xQQ", span))
    else:
        pairs = [struct.unpack_from("<QQ", span, offset) for offset, _ in records(span)]
    for number, seven in pairs:
        assert seven == number * 7
        if number >= len(seen):
            seen.extend(bytes(number + 100_000 - len(seen)))
        assert not seen[number]
        seen[number] = 1
    return len(pairs)


def test_the_first_event_wakes_at_once(live_spec: Specs) -> None:
    live, ring = make(live_spec)
    time.sleep(0.15)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        time.sleep(0.05)
        live.progs["run"].test_run(bytes(16))
        os._exit(0)
    start = time.monotonic()
    assert ring.wait(2.0)
    assert 0.03 < time.monotonic() - start < 0.3
    os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)
    ring.close()
    live.close()


def test_waiting_ends_in_time_and_for_other_fds(live_spec: Specs) -> None:
    live, ring = make(live_spec)
    start = time.monotonic()
    assert ring.wait(0.05) is False
    assert 0.045 < time.monotonic() - start < 0.2
    reader, writer = os.pipe()
    os.write(writer, b"x")
    start = time.monotonic()
    assert wait([ring], 2.0, [reader]) is False
    assert time.monotonic() - start < 0.1
    os.close(reader)
    os.close(writer)
    ring.close()
    live.close()


def test_waiting_without_wakeups(live_spec: Specs) -> None:
    live, ring = make(live_spec)
    ring.wakeups = False
    time.sleep(0.12)
    before = time.process_time()
    assert ring.wait(0.2) is False
    assert time.process_time() - before < 0.05
    produce(live, 1)
    assert ring.wait(1.0)
    ring.close()
    live.close()
