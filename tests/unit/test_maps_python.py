# SPDX-License-Identifier: Apache-2.0
"""Maps as plain Python, their types, and what the author is told about mistakes."""

from __future__ import annotations

import pytest

import osmia
from osmia import (
    ArrayOfMaps,
    Bloom,
    Bytes,
    Event,
    Global,
    Hash,
    HashOfMaps,
    LpmTrie,
    PerThread,
    ProgArray,
    Queue,
    Stack,
    Stacks,
    StackTraces,
    machine,
    pinned,
    tail_call,
    tail_program,
    trace_printk,
    tracepoint,
    u16,
    u32,
    u64,
)
from osmia.lang.snapshots import Intervals, Snapshot


class Stat(Event):
    calls: u64
    bytes: u64


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: Queue(3), "needs a type"),
        (lambda: Queue[u64](0), "max_entries"),
        (lambda: LpmTrie[u16, u64](), r"u32 or Bytes"),
        (lambda: HashOfMaps[u32](3), "takes the map"),
        (lambda: HashOfMaps(Hash[u32, u64]()), "type of its key"),
        (lambda: ArrayOfMaps(Hash[u32, u64](), 0), "max_entries"),
        (lambda: Bloom[u64](10, hashes=16), "hashes"),
        (lambda: Global(), "needs a type"),
        (lambda: PerThread(), "needs a type"),
        (lambda: ProgArray([print]), "tail_program"),
        (lambda: StackTraces(depth=0), "depth"),
    ],
)
def test_mistakes(make: object, wanted: str) -> None:
    with pytest.raises(TypeError, match=wanted):
        make()  # type: ignore[operator]


def test_every_name_can_be_imported() -> None:
    assert [name for name in osmia.__all__ if getattr(osmia, name, None) is None] == []
    with pytest.raises(AttributeError, match="no attribute 'Quene'"):
        osmia.Quene  # noqa: B018


def test_prefixes_in_all_their_forms() -> None:
    trie = LpmTrie[u32, u64](8)
    trie["10.0.0.0/8"] = 1
    trie[(bytes([10, 1, 0, 0]), 16)] = 2
    assert trie["10.1.2.3"] == 2 and trie["10.9.9.9"] == 1 and trie["11.0.0.0"] == 0
    assert list(trie) == ["10.0.0.0/8", "10.1.0.0/16"]
    for wrong in ("10.0.0.0/33", "::1/8", "nonsense", (b"abc", 8), "10.0.0.0/x"):
        with pytest.raises(ValueError, match=r"prefix|bytes"):
            trie[wrong] = 1
    mac = LpmTrie[Bytes[6], u32](8)
    mac[(b"\x00\x16\x3e\0\0\0", 24)] = 7
    assert mac.get(b"\x00\x16\x3e\x12\x34\x56") == 7 and list(mac) == [(b"\x00\x16\x3e\0\0\0", 24)]


def test_queues() -> None:
    machine.lost.clear()
    queue, stack, wraps = Queue[u64](2), Stack[u64](2), Queue[u64](2, overwrite=True)
    for one in (queue, stack, wraps):
        results = [one.push(n) for n in range(3)]
        assert results == [True, True, one is wraps]
    assert (queue.drain(), stack.drain(), wraps.drain()) == ([0, 1], [1, 0], [1, 2])
    assert queue.pop() is None and queue.peek() is None
    assert machine.lost == {"queue": 2}


def test_stacks_by_number() -> None:
    stacks = StackTraces()
    machine.kernel_stack, machine.user_stack = [1, 2, 3], []
    number = stacks.kernel()
    assert stacks[number] == [1, 2, 3] and stacks.kernel() == number and stacks[stacks.kernel(1)] == [2, 3]
    assert stacks.user() == -14
    machine.kernel_stack = []


def test_stacks_that_are_never_lost() -> None:
    stacks = Stacks(2)
    machine.lost.clear()
    machine.kernel_stack, machine.user_stack = [1, 2, 3], []
    number = stacks.kernel()
    assert (stacks[number], stacks[number].cut, stacks[number].user) == ((1, 2, 3), False, False)
    assert stacks.kernel() == number != stacks.kernel(skip=1) and stacks[stacks.kernel(1)] == (2, 3)
    assert list(stacks[number].outermost_first) == [3, 2, 1] and stacks[number].depth == 3
    assert stacks.user() == stacks.kernel(skip=3) == 0 and stacks.get(0) is None
    with pytest.raises(KeyError):
        stacks[0]
    machine.user_stack = [1, 2, 3]
    assert stacks.user() == 0 and machine.lost == {"stacks": 1}  # another one than the kernel's, and the third
    more = Stacks()
    machine.user_stack = list(range(1, 201))
    cut = more[more.user()]
    assert cut.cut and cut.user and cut.depth == 127
    machine.kernel_stack = machine.user_stack = []


def test_sizes_of_stacks() -> None:
    stacks = Stacks()
    assert stacks.sizes("s") == {"s": 74, "s_taken": 74, "s_ids": 16384}
    stacks.max_entries, stacks.words = 100, 1
    assert stacks.sizes("s") == {"s": 1, "s_taken": 1, "s_ids": 100}


def test_jumps() -> None:
    seen: list[str] = []

    @tail_program(tracepoint("sched:sched_switch"))
    def second(record: object) -> int:
        seen.append("second")
        return 2

    array = ProgArray({1: second})

    @tracepoint("sched:sched_switch")
    def first(record: object) -> int:
        seen.append("first")
        tail_call(array, int(record))  # type: ignore[call-overload]
        return 1

    assert array.max_entries == 2 and second.tail and not first.tail
    assert first(1) == 2 and first(0) == 1 and seen == ["first", "second", "first"]


def test_printk_is_kept() -> None:
    machine.printk.clear()
    trace_printk(f"{1} and", 2)
    assert machine.printk == ["1 and 2"]


def test_differences() -> None:
    old = Snapshot([("a", 1), ("b", 5), ("c", [1, 2]), ("d", Stat(calls=1, bytes=10)), ("t", "x")])
    new = Snapshot(
        [("a", 4), ("b", 5), ("c", [1, 5]), ("d", Stat(calls=3, bytes=10)), ("e", 9), ("t", "y"), ("f", 0)]
    )
    minus = new - old
    assert dict(minus) == {"a": 3, "c": [0, 3], "d": Stat(calls=2, bytes=0), "e": 9, "t": "y"}
    assert dict(Snapshot([("a", 2)]) - Snapshot([("a", 7)])) == {"a": 2}  # removed and counted anew
    assert minus.seconds >= 0


def test_intervals_on_the_simulated_map() -> None:
    counts = Hash[u32, u64]()
    counts[1] = 5
    intervals = Intervals(counts)
    counts[1] += 2
    counts[2] += 1
    assert dict(intervals.step()) == {1: 2, 2: 1} and dict(intervals.step()) == {}
    assert sorted(counts.take()) == [(1, 7), (2, 1)] and len(counts) == 0


def test_pinned_is_said_of_a_map() -> None:
    counts = pinned(Hash[u32, u64]())
    assert counts.pinned and not Hash[u32, u64]().pinned
