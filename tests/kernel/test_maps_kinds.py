# SPDX-License-Identifier: Apache-2.0
"""Every kind of map beyond the dictionaries: the kernel's side, the user's side, and the same code as Python."""

from __future__ import annotations

import os
import struct
import time
from typing import Any

import pytest
from driven import as_python, driven
from kernel_code import module, running
from needs import needs

from osmia.errors import CompileError, NotSupported, UserError
from osmia.kernel import cpus, features
from osmia.lang.snapshots import Intervals

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("no_fd_leak")]

QUEUES = """
q = Queue[u64](4)
s = Stack[u64](4)
wrapping = Queue[u64](2, overwrite=True)
pairs = Queue[(u32, u64)](4)

@probe(11)
def push(n):
    ok = 0
    for i in range(6):
        if q.push(n + i):
            ok += 1
        s.push(n + i)
        wrapping.push(n + i)
    pairs.push((7, 9))
    out[0] = ok

@probe(12)
def pop(n):
    first = q.peek()
    a = q.pop()
    b = s.pop()
    pair = pairs.pop()
    none = pairs.pop()
    if first is not None and a is not None and b is not None and pair is not None and none is None:
        x, y = pair
        out[0], out[1], out[2], out[3], out[4] = first, a, b, x, y
"""


@pytest.mark.feature("A10 maps: queue, stack")
def test_queues_and_stacks_and_what_did_not_fit() -> None:
    with driven(QUEUES) as run:
        made = run.module
        assert run.call(11, 10)[0] == 4
        assert run.lost() == {("map", "q"): 2, ("map", "s"): 2}
        assert run.call(12)[:5] == [10, 10, 13, 7, 9]
        assert made.q.peek() == 11 and made.q.drain() == [11, 12, 13] and made.q.pop() is None
        assert made.s.drain() == [12, 11, 10]
        assert made.wrapping.drain() == [14, 15]
        assert [made.q.push(n) for n in range(5)] == [True] * 4 + [False]
    with as_python(QUEUES) as run:
        made = run.module
        assert run.call(11, 10)[0] == 4
        assert run.call(12)[:5] == [10, 10, 13, 7, 9]
        assert made.q.drain() == [11, 12, 13] and made.s.drain() == [12, 11, 10] and made.wrapping.drain() == [14, 15]


PREFIXES = """
nets = LpmTrie[u32, u64](16)
v6 = LpmTrie[Bytes[16], u64](16)

@probe(11)
def look(n):
    addr = u32(n)
    out[0] = nets.get(addr, 77)
    nets[addr] += 1
    out[1] = nets[addr] if addr in nets else 78

@probe(12)
def put(n):
    nets[u32(n), 16] = 300
"""


def _address(text: str) -> int:
    return int(struct.unpack("<I", bytes(map(int, text.split("."))))[0])


@pytest.mark.feature("A10 maps: longest prefix")
@pytest.mark.parametrize("world", [driven, as_python])
def test_the_longest_prefix_wins(world: Any) -> None:
    with world(PREFIXES) as run:
        made = run.module
        made.nets["10.0.0.0/8"] = 100
        made.nets["10.1.0.0/16"] = 200
        run.call(12, _address("192.168.9.9"))
        places = ("10.2.3.4", "10.1.2.3", "192.168.1.1", "8.8.8.8", "10.1.9.9")
        assert {text: run.call(11, _address(text))[:2] for text in places} == {
            "10.2.3.4": [100, 101], "10.1.2.3": [200, 201], "192.168.1.1": [300, 301], "8.8.8.8": [77, 78],
            "10.1.9.9": [201, 202],
        }  # fmt: skip
        assert dict(made.nets.items()) == {"10.0.0.0/8": 101, "10.1.0.0/16": 202, "192.168.0.0/16": 301}
        assert made.nets["10.1.77.77"] == 202 and made.nets.get("9.9.9.9") is None
        del made.nets["10.1.0.0/16"]
        assert made.nets["10.1.77.77"] == 101 and len(made.nets.items()) == 2
        made.v6["2001:db8::/32"] = 6
        assert made.v6["2001:db8::1"] == 6 and "2001:db9::1" not in made.v6
        assert dict(made.v6.items()) == {"2001:db8::/32": 6}


BLOOM = """
seen = Bloom[u64](1000)

@probe(11)
def add(n):
    seen.add(n)

@probe(12)
def ask(n):
    out[0] = 1 if n in seen else 0
"""


@pytest.mark.feature("A10 maps: Bloom filter")
def test_a_bloom_filter_forgets_nothing() -> None:
    needs("bloom_filter")
    with driven(BLOOM) as run:
        made = run.module
        for n in range(0, 1000, 2):
            run.call(11, n)
        assert all(run.call(12, n)[0] == 1 for n in range(0, 1000, 2))
        assert all(n in made.seen for n in range(0, 1000, 2))
        assert sum(run.call(12, n)[0] for n in range(1, 1000, 2)) < 50  # half full: 1 in 2**5 would be 15
        made.seen.add(10_001)
        assert run.call(12, 10_001)[0] == 1
    with as_python(BLOOM) as run:
        run.call(11, 4)
        assert [run.call(12, n)[0] for n in (4, 5)] == [1, 0]


OUTER = """
outer = HashOfMaps[u32](Hash[u32, u64](64), 8)
slots = ArrayOfMaps(PerCpuHash[u32, u64](64), 2)

@probe(11)
def count(n):
    out[0] = 99
    inner = outer.get(u32(n))
    if inner is not None:
        inner[2] += 3
        out[0] = inner[2]

@probe(12)
def slot(n):
    inner = slots[u32(n)]
    if inner is not None:
        inner[5] += 3
        inner[6] = 4
        out[1] = inner.pop(6, 0)
    out[2] = 1 if u32(n) in slots else 0
"""


@pytest.mark.feature("A10 maps: maps of maps")
@pytest.mark.parametrize("world", [driven, as_python])
def test_maps_of_maps(world: Any) -> None:
    with world(OUTER) as run:
        made = run.module
        assert run.call(11, 1)[0] == 99
        first = made.outer.new(1)
        assert [run.call(11, 1)[0], run.call(11, 1)[0]] == [3, 6]
        assert dict(first.items()) == {2: 6}
        old = made.outer.swap(1)
        assert run.call(11, 1)[0] == 3
        now = made.outer[1]
        assert dict(old.items()) == {2: 6} and dict(now.items()) == {2: 3}
        assert 1 in made.outer and 2 not in made.outer and made.outer.get(2) is None
        del made.outer[1]
        assert run.call(11, 1)[0] == 99
        if run.live is not None:
            assert run.call(12, 0)[2] == 0
            slot = made.slots.new(0)
            assert run.call(12, 0)[1:3] == [4, 1]
            assert dict(slot.items()) == {5: 3}
            assert run.lost() == {}
            for one in (first, old, now, slot):
                one.close()


JUMPS = """
@tail()
def second(call):
    out[0] = 2

@tail()
def third(call):
    out[1] = 3
    tail_call(handlers, 0)

handlers = ProgArray([second, third], max_entries=4)

@probe(11)
def first(n):
    out[0], out[1], out[2] = 1, 0, 0
    tail_call(handlers, n)
    out[2] = 1
"""


@pytest.mark.feature("A10 maps: programs to jump to")
@pytest.mark.parametrize("world", [driven, as_python])
def test_tail_calls(world: Any) -> None:
    with world(JUMPS) as run:
        assert run.call(11, 0)[:3] == [2, 0, 0]
        assert run.call(11, 1)[:3] == [2, 3, 0]  # by way of third
        assert run.call(11, 2)[:3] == [1, 0, 1]  # an empty slot: goes on
        assert run.call(11, 100)[:3] == [1, 0, 1]
        if run.live is not None:
            assert run.lost() == {("text", "tail call into handlers: no such program"): 2}


VARIABLES = """
class Point(Event):
    x: u64
    y: u32

total = Global[u64](5)
small = Global[u8]()
flag = Global[bool](True)
point = Global[Point](Point(x=1, y=2))
mine = PerThread[u64]()

@probe(11)
def go(n):
    total.value += n
    small.value = u8(n * 100)
    point.value.x += 10
    point.value.y = 7
    out[0] = total.value + (1 if flag.value else 0)

@probe(12)
def thread(n):
    out[0] = 1 if mine.peek() is None else 0
    mine.value += n
    mine.value = mine.value + 1
    out[1] = mine.value
    taken = mine.take()
    out[2] = taken if taken is not None else 77
    if n == 2:
        mine.value = 99
"""


@pytest.mark.feature("A9 variables: global", "A9 variables: per thread")
@pytest.mark.parametrize("world", [driven, as_python])
def test_variables(world: Any) -> None:
    with world(VARIABLES) as run:
        made = run.module
        assert run.call(11, 3)[0] == 9
        assert made.total.value == 8 and made.small.value == 300 & 255
        assert (made.point.value.x, made.point.value.y) == (11, 7)
        made.total.value, made.flag.value = 1000, False
        assert run.call(11, 1)[0] == 1001 and made.total.value == 1001
        assert run.call(12, 41)[:3] == [1, 42, 42]
        assert dict(made.mine.by_thread.items()) == {}
        run.call(12, 2)
        assert list(dict(made.mine.by_thread.items()).values()) == [99]
        if run.live is not None:
            assert list(made.mine.by_thread) == [os.getpid()]
            assert run.lost() == {}


STACKS = """
stacks = StackTraces(1024)
counts = Hash[(s32, s32), u64]()
target = option("--target", type=int, default=0)

@tracepoint("syscalls:sys_enter_getpgid")
def enter(call):
    if current.tgid == target:
        counts[1, stacks.user()] += 1

@tracepoint("sched:sched_switch")
def switch(record):
    if current.tgid == target:
        counts[2, stacks.kernel()] += 1
"""


@pytest.mark.feature("A14 kernel stacks by number", "A15 user stacks by number")
def test_stacks_by_number() -> None:
    made = module(STACKS)
    with running(made, {"target": os.getpid()}) as live:
        live.attach("enter")
        live.attach("switch")
        for _ in range(50):
            os.getpgid(0)
        for _ in range(5):
            time.sleep(0.01)
        rows = dict(made.counts.items())
        assert sum(n for (kind, _), n in rows.items() if kind == 1) == 50
        assert sum(n for (kind, _), n in rows.items() if kind == 2) >= 5
        for kind, number in rows:
            assert number >= 0
            for address in made.stacks[number]:
                assert address >> 63 if kind == 2 else 0 < address < 1 << 47
        assert any(kind == 2 and len(made.stacks[number]) > 3 for kind, number in rows)
        assert live.lost() == {}
        with pytest.raises(KeyError):
            made.stacks[-14]


COUNTERS = """
clock = Counters("cpu-clock")
switches = Counters("context-switches")

@probe(11)
def read(n):
    out[0] = clock.read()
    out[1] = switches.read()
"""


@pytest.mark.feature("A5 hardware counters, or a clear refusal")
def test_counters_are_read_in_the_kernel() -> None:
    with driven(COUNTERS) as run:
        before = run.call(11)[0]
        start = time.perf_counter_ns()
        while time.perf_counter_ns() - start < 50_000_000:
            pass
        after = run.call(11)[0]
        # The same CPU or another: each has counted about as long, since all were opened together.
        assert 45_000_000 <= after - before < 2_000_000_000
        values = run.module.clock.values()
        assert sorted(values) == cpus.online() and max(values.values()) >= after
        assert run.lost() == {}


def test_a_machine_without_the_counter_says_so() -> None:
    text = 'c = Counters("instructions")\n@probe(11)\ndef read(n):\n    out[0] = c.read()\n'
    try:
        with driven(text) as run:
            assert run.call(11)[0] > 0
    except NotSupported as err:
        assert "no such hardware counter" in str(err)


LRU = """
recent = LruPerCpuHash[u32, u64](128)

@probe(11)
def add(n):
    recent[u32(n)] += 2
    out[0] = recent[u32(n)]
"""


@pytest.mark.feature("A10 maps: LRU")
def test_lru_makes_room() -> None:
    with driven(LRU) as run:
        made = run.module
        run.call(11, 1), run.call(11, 1)
        assert made.recent[1] == 4
        for n in range(1000):
            run.call(11, n + 10)
        assert 1 <= len(made.recent) <= 128
        assert run.lost() == {}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("q = Queue[u64](4)\n@syscall_prog\ndef f(ctx):\n    ctx[31] = q.pop()\n", "may be None"),
        ("q = Queue[u64](4)\n@syscall_prog\ndef f(ctx):\n    q.append(1)\n", "no append()"),
        ("t = LpmTrie[u32, u64](4)\n@syscall_prog\ndef f(ctx):\n    t[u32(ctx[0])] = 1\n", "set with its length"),
        (
            "o = HashOfMaps[u32](Hash[u32, u64](8))\n@syscall_prog\ndef f(ctx):\n"
            "    inner = o.get(1)\n    inner[2] += 1\n", "may be None",
        ),
        ("g = Global[u64]()\n@syscall_prog\ndef f(ctx):\n    ctx[31] = g.total\n", "no attribute 'total'"),
        ("@syscall_prog\ndef f(ctx):\n    tail_call(3, 0)\n", "takes a ProgArray"),
    ],
)
def test_mistakes_are_explained(text: str, wanted: str) -> None:
    with pytest.raises(CompileError) as caught, running(text):
        pass
    assert wanted in str(caught.value) + caught.value.render()


BATCHES = """
counts = Hash[u32, u64](50_000)
cells = Array[u64](100)

@probe(11)
def touch(n):
    counts[1] += 1
    cells[1] += 1
"""


@pytest.mark.feature("B17 batches of map elements")
@pytest.mark.parametrize("way", ["batch", "one by one"])
def test_many_at_once(way: str) -> None:
    if way != "batch":
        features.turn_off("batch", "take_hash")
    try:
        with driven(BATCHES) as run:
            made = run.module
            made.counts.set_many({n: n * n for n in range(20_000)})
            assert len(made.counts.items()) == 20_000 and made.counts[141] == 141 * 141
            assert made.counts.delete_many(range(10_000, 30_000)) == 10_000
            assert sorted(made.counts.take()) == [(n, n * n) for n in range(10_000)]
            assert made.counts.items() == []
            made.cells.set_many((n, 1) for n in range(100))
            assert sum(v for _, v in made.cells.items()) == 100
            made.cells.clear()
            assert sum(v for _, v in made.cells.items()) == 0
            with pytest.raises(UserError, match=r"is full \(50000 entries\)"):
                made.counts.set_many(dict.fromkeys(range(60000), 1))
    finally:
        features.turn_off()


INTERVALS = """
class Stat(Event):
    calls: u64
    bytes: u64

counts = PerCpuHash[u32, u64]()
stats = Hash[u32, Stat]()

@probe(11)
def hit(n):
    counts[u32(n)] += 2
    s = stats[u32(n)]
    s.calls += 1
    s.bytes += 7
"""


@pytest.mark.feature("B5 intervals that lose no count")
def test_intervals_add_up_to_the_whole() -> None:
    with driven(INTERVALS) as run:
        made = run.module
        intervals, whole = Intervals(made.counts), []
        for turn in range(3):
            for n in range(10 * (turn + 1)):
                run.call(11, n % 4)
            whole.append(intervals.step())
        assert [step.total() for step in whole] == [20, 40, 60]
        assert sum(step.get(0, 0) for step in whole) == made.counts[0]
        assert dict(intervals.step()) == {}
        before = made.stats.snapshot()
        run.call(11, 1), run.call(11, 9), run.call(11, 9)
        new = made.stats.snapshot() - before
        assert {k: (s.calls, s.bytes) for k, s in new.items()} == {1: (1, 7), 9: (2, 14)}
