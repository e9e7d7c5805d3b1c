# SPDX-License-Identifier: Apache-2.0
"""Maps, histograms, events and losses: kernel code against numbers that are known beforehand.

Where the same function can run as plain Python, it does: the simulated maps
must end up with what the live ones hold.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from kernel_code import running, signed
from sources import module

from osmia.lang.maps import Map

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("no_fd_leak")]

SIZE = 32


def both(text: str, runs: list[list[int]], maps: list[str]) -> None:
    """Run ``p`` of ``text`` on each input in the kernel and in CPython: contexts and maps must be the same."""
    made = module(text)
    simulated = []
    for inputs in runs:
        context = [*inputs, *[0] * (SIZE - len(inputs))]
        made.p(context)
        simulated.append([int(word) for word in context])
    contents: dict[str, Any] = {name: _contents(getattr(made, name)) for name in maps}
    with running(made) as live:
        for inputs, context in zip(runs, simulated, strict=True):
            got = [signed(word) for word in live.words("p", *inputs, size=SIZE)]
            assert got == context, f"p({inputs})"
        for name in maps:
            assert _contents(getattr(made, name)) == contents[name], name


def _contents(item: Any) -> Any:
    if isinstance(item, Map):
        return dict(item.items())
    return {
        key: (shot.counts, shot.sum, shot.min, shot.max) for key, shot in item.snapshots().items() if shot.count
    }


def _numbers(count: int, seed: int, most: int = 60) -> list[list[int]]:
    source = random.Random(seed)
    return [[source.randrange(most), source.randrange(-5, 1000), source.randrange(8)] for _ in range(count)]


def test_a_hash_as_in_cpython() -> None:
    text = """
h = Hash[u32, u64](1024)

@syscall_prog
def p(ctx):
    key, value, what = ctx[0], ctx[1], ctx[2]
    match what:
        case 0:
            h[key] = value + 10
        case 1:
            h[key] += value + 10
        case 2:
            found = h.get(key)
            ctx[10] = -1 if found is None else found
        case 3:
            taken = h.pop(key)
            if taken is not None:
                ctx[11] = taken
        case 4:
            if key in h:
                del h[key]
                ctx[12] = 1
        case 5:
            ctx[13] = h.get(key, 77)
        case 6:
            ctx[14] = 1 if key not in h else 2
            del h[key + 1]
        case _:
            ctx[15] = h[key]
            h[key] -= 1 if key in h else 0
"""
    both(text.replace("            h[key] -= 1 if key in h else 0\n", ""), _numbers(800, 1), ["h"])


def test_tuple_keys_with_text_and_padding() -> None:
    text = """
import enum
class Kind(enum.IntEnum):
    A = 1
    B = 2

h = Hash[tuple[u8, u64, Str[6], Kind], u64](1024)
pairs = Hash[u32, tuple[u32, s64]](64)

@syscall_prog
def p(ctx):
    kind = Kind.A if ctx[0] & 1 else Kind.B
    if ctx[0] > 30:
        h[ctx[0] & 3, ctx[1] & 7, "abc", kind] += 1
    else:
        h[ctx[0] & 3, ctx[1] & 7, "abcde", kind] += 2
    ctx[10] = h.get((ctx[0] & 3, ctx[1] & 7, "abc", kind), 0)
    pair = pairs.get(ctx[2])
    if pair is not None:
        first, second = pair
        ctx[11] = first
        ctx[12] = second
    pairs[ctx[2]] = (ctx[0], -ctx[1])
"""
    both(text, _numbers(300, 2), ["h", "pairs"])


STRUCTS = """
class Inner(Event):
    low: u16
    high: s32

class Stat(Event):
    count: u64
    total: s64
    last: u8
    flag: bool
    inner: Inner
    name: Str[8]

stats = Hash[u32, Stat](256)
table = Array[Stat](4)

@syscall_prog
def p(ctx):
    s = stats[ctx[0]]
    s.count += 1
    s.total += ctx[1]
    s.last = ctx[1] & 0x7f
    s.flag = ctx[1] > 500
    s.inner.low = s.inner.low + 1 & 0xffff
    s.inner.high = -ctx[2]
    if s.count == 1:
        s.name = "first"
    elif s.count == 2:
        s.name = "more"
    found = stats.get(ctx[0] + 1)
    if found is not None:
        ctx[10] = found.total
        found.count += 100
    t = table[ctx[2] & 3]
    t.count += 1
    t.total -= ctx[1]
    if ctx[2] == 7:
        stats[ctx[0]] = Stat(count=5, total=-5)
    if ctx[2] == 6:
        del stats[ctx[0]]
"""


def test_structures_by_reference() -> None:
    made = module(STRUCTS)
    runs = _numbers(500, 3, 20)
    expected = []
    for inputs in runs:
        context = [*inputs, *[0] * (SIZE - len(inputs))]
        made.p(context)
        expected.append([int(word) for word in context])
    simulated = dict(made.stats.items())
    with running(made) as live:
        for inputs, context in zip(runs, expected, strict=True):
            assert [signed(word) for word in live.words("p", *inputs, size=SIZE)] == context
        assert dict(made.stats.items()) == simulated
        rows = [made.table[i] for i in range(4)]
        assert [row.count for row in rows] == [sum(1 for r in runs if r[2] & 3 == i) for i in range(4)]
        assert [row.total for row in rows] == [-sum(r[1] for r in runs if r[2] & 3 == i) for i in range(4)]


@pytest.mark.feature("A12 histograms: power-of-two", "A12 histograms: linear", "A12 histograms: log-linear")
@pytest.mark.parametrize("make", [
    'log2_hist("x")', 'linear_hist("x", low=10, high=500, step=7)', 'linear_hist("x", low=0, high=64)',
    'loglin_hist("x", bits=1)', 'loglin_hist("x", bits=3)', 'loglin_hist("x", bits=5)',
])  # fmt: skip
def test_histograms_as_in_cpython(make: str) -> None:
    text = f"""
h = {make}
keyed = {make[:-1]}, key=tuple[u32, Str[8]])

@syscall_prog
def p(ctx):
    h.add(ctx[0])
    h.add(u64(ctx[1]), 3)
    keyed[ctx[2], "key"].add(ctx[0])
"""
    source = random.Random(4)
    edges = [0, 1, 2, 3, 7, 8, 9, 10, 16, 17, 63, 64, 65, 499, 500, 501, 502, 1 << 32, (1 << 63) - 1, 1 << 62]
    values = [*edges, *(source.getrandbits(source.randrange(1, 64)) for _ in range(150))]
    runs = [[value, source.choice(edges), source.randrange(3)] for value in values]
    both(text, runs, ["h", "keyed"])


def test_a_histogram_of_unsigned_values_and_of_negative_ones() -> None:
    text = """
h = log2_hist("x")

@syscall_prog
def p(ctx):
    h.add(u64(ctx[0]))
    h.add(ctx[0], 2)
"""
    with running(text) as live:
        live.run("p", -1)
        live.run("p", 5)
        (shot,) = live.module.h.snapshots().values()
        assert (shot.counts[64], shot.counts[3], shot.count) == (1, 3, 4)
        assert (shot.min, shot.max) == (5, (1 << 64) - 1)
        assert live.lost() == {("negative", "h"): 2}


def test_every_kind_of_map() -> None:
    text = """
lru = LruHash[u32, u64](64)
cpu_hash = PerCpuHash[u32, u64](64)
cpu_array = PerCpuArray[u64](4)
array = Array[s32](8)

@syscall_prog
def p(ctx):
    lru[ctx[0]] = ctx[0] * 2
    cpu_hash[ctx[0] & 3] += 5
    cpu_array[ctx[0] & 3] += 7
    array[ctx[0] & 7] -= 1
    array[7] = -ctx[0]
    ctx[31] = cpu_array[1] + array[7]
"""
    with running(text) as live:
        for i in range(1000):
            live.run("p", i)
        made = live.module
        assert len(made.lru) <= 64 and all(value == 2 * key for key, value in made.lru.items())
        assert dict(made.cpu_hash.items()) == dict.fromkeys(range(4), 5 * 250)
        assert [made.cpu_array[i] for i in range(4)] == [7 * 250] * 4
        assert [made.array[i] for i in range(8)] == [-125] * 7 + [-999]
        assert live.lost() == {}


# --------------------------------------------------------------------------
# Losses are exact


def test_a_full_hash_counts_what_it_refuses() -> None:
    text = """
class Stat(Event):
    n: u64

h = Hash[u32, u64](4)
sums = Hash[u32, u64](4)
stats = Hash[u32, Stat](4)
sizes = log2_hist("x", key=u32, max_entries=4)

@syscall_prog
def p(ctx):
    h[ctx[0]] = 1
    sums[ctx[0]] += 1
    s = stats[ctx[0]]
    s.n += 1
    sizes[ctx[0]].add(3)
"""
    with running(text) as live:
        for i in range(10):
            live.run("p", i)
        for name in ("h", "sums", "stats", "sizes"):
            assert live.lost()["map", name] == 6
        assert len(live.module.h) == len(live.module.sums) == len(live.module.stats) == 4
        assert len(live.module.sizes.snapshots()) == 4


def test_an_index_out_of_range_is_counted() -> None:
    text = """
class Row(Event):
    four: FixedArray[u32, 4]

a = Array[u64](4)
rows = Ring(Row, 4096)

@syscall_prog
def p(ctx):
    a[ctx[0]] += 1
    a[ctx[0]] = 9
    with rows.reserve() as e:
        e.four[ctx[0]] = 5
"""
    with running(text) as live:
        for i in (0, 3, 4, 100, -1):
            live.run("p", i)
        lost = live.lost()
        assert lost["index", "a"] == 6
        assert sum(n for (kind, _), n in lost.items() if kind == "text") == 3
        assert [live.module.a[i] for i in range(4)] == [9, 0, 0, 9]


def test_a_full_ring_counts_what_it_loses() -> None:
    text = """
class Row(Event):
    a: u64
    b: u64

rows = Ring(Row, 4096)

@syscall_prog
def p(ctx):
    with rows.reserve() as e:
        e.a = ctx[0]
        e.b = 7
"""
    with running(text) as live:
        for i in range(400):
            live.run("p", i)
        got = live.events("rows")
        kept = len(got)
        assert kept == 4096 // 24 and [e.a for e in got] == list(range(kept)) and {e.b for e in got} == {7}
        assert live.lost() == {("ring", "rows"): 400 - kept}
        live.run("p", 5)
        assert [e.a for e in live.events("rows")] == [5]


def test_lost_by_the_program_itself() -> None:
    text = """
@syscall_prog
def p(ctx):
    if ctx[0] > 3:
        lost("too large")
    lost("weight", ctx[0])
"""
    with running(text) as live:
        for i in range(10):
            live.run("p", i)
        assert live.lost() == {("text", "too large"): 6, ("text", "weight"): 45}


# --------------------------------------------------------------------------
# Events


FLOW = """
class Row(Event):
    a: u64

rows = Ring(Row, 65536)

@syscall_prog
def p(ctx):
    with rows.reserve() as e:
        e.a = ctx[0]
        if ctx[0] == 1:
            e.discard()
        if ctx[0] == 2:
            ctx[31] = 22
            return
        e.a = ctx[0] + 100
    for i in range(5):
        with rows.reserve() as e:
            e.a = 1000 + i
            if i == ctx[0] - 3:
                break
            if i == 1:
                continue
            e.a = 2000 + i
    ctx[31] = 33
"""


def _flow(value: int) -> list[int]:
    out = [] if value == 1 else [2] if value == 2 else [value + 100]
    if value == 2:
        return out
    for i in range(5):
        if i == value - 3:
            return [*out, 1000 + i]
        out.append(1000 + i if i == 1 else 2000 + i)
    return out


def test_leaving_a_block_sends_its_event() -> None:
    with running(FLOW) as live:
        for value in range(9):
            assert live.run("p", value) == (22 if value == 2 else 33)
            assert [e.a for e in live.events("rows")] == _flow(value)
        assert live.lost() == {}


def test_nested_blocks_and_helpers_that_fill_in() -> None:
    text = """
class Row(Event):
    a: u64
    name: Comm

class Other(Event):
    b: u32
    tail: Str[256]

rows = Ring(Row, 65536)
others = Ring(Other, 65536)

def fill(e, value):
    e.a = value * 2
    e.name = current.comm

@syscall_prog
def p(ctx):
    with rows.reserve() as e:
        fill(e, ctx[0])
        with others.reserve() as o:
            o.b = ctx[0]
            o.tail = "a tail of its own"
            if ctx[0] == 4:
                return
        e.a += 1
"""
    with running(text) as live:
        for value in (3, 4):
            live.run("p", value)
        with open("/proc/self/comm", encoding="utf-8") as stream:
            comm = stream.read().strip()
        assert [(e.a, e.name) for e in live.events("rows")] == [(7, comm), (8, comm)]
        assert [(o.b, o.tail) for o in live.events("others")] == [(3, "a tail of its own"), (4, "a tail of its own")]


def test_strings_of_variable_length() -> None:
    text = """
class Row(Event):
    n: u32
    args: Strs[64, 16]

rows = Ring(Row, 65536)
names = Hash[u32, Str[32]](8)

@syscall_prog
def p(ctx):
    with rows.reserve() as e:
        e.n = ctx[0]
        for i in range(ctx[0] & 7):
            name = names.get(i)
            if name is not None:
                e.args.add(name)
"""
    with running(text) as live:
        names = ["one", "", "three and more", "four is far too long for it", "five5", "six666"]
        for i, name in enumerate(names):
            live.module.names[i] = name
        for n in range(7):
            live.run("p", n)
        rows = live.events("rows")
        assert [list(row.args) for row in rows[:4]] == [[], ["one"], ["one", ""], ["one", "", "three and more"]]
        assert [row.args.truncated for row in rows[:4]] == [False] * 4
        assert list(rows[4].args) == ["one", "", "three and more", "four is far too"] and rows[4].args.truncated
        assert [row.n for row in rows] == list(range(7))


def test_simulated_rings_hold_what_live_ones_do() -> None:
    made = module(FLOW)
    runs = list(range(9))
    for value in runs:
        context = [value, *[0] * 31]
        made.p(context)
    simulated = [e.a for e in made.rows.sent]
    with running(made) as live:
        for value in runs:
            live.run("p", value)
        assert [e.a for e in live.events("rows")] == simulated == [a for value in runs for a in _flow(value)]


