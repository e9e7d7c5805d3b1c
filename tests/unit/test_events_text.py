# SPDX-License-Identifier: Apache-2.0
"""Prints from kernel code, and the sentences for what was lost."""

from __future__ import annotations

import struct

import pytest

from osmia.events.loss import Losses, Slot, as_json, sentence
from osmia.events.prints import Printer

RECORDS = [
    ("prog", "hello", "hello", "0"),
    ("print", "0", "hello, {} (PID {})", "s16u", "hello.py:9"),
    ("print", "3", "{{x}} {:>5d} {:#x} {} {!r}", "iubs4", "hello.py:12"),
    ("print", "4", "nothing", "", "hello.py:13"),
]


def printed(number: int, body: bytes, flags: int = 0) -> bytes:
    data = struct.pack("<II", number, 0xDEAD) + body
    return struct.pack("<II", len(data) | flags, 9) + data + b"\xee" * (-len(data) % 8)


def test_prints() -> None:
    span = printed(0, b"bash\0stale-stale" + struct.pack("<Q", 42))
    span += printed(3, struct.pack("<qQQ4s", -7, 255, 1, b"a\x1bb\0"))
    span += printed(4, b"")
    assert Printer(RECORDS).lines(span) == ["hello, bash (PID 42)", "{x}    -7 0xff True 'a\\\\x1bb'", "nothing"]


def test_discarded_and_unknown_prints_are_passed_over() -> None:
    span = printed(4, b"", 1 << 30) + printed(99, bytes(12)) + printed(4, b"")
    assert Printer(RECORDS).lines(span) == ["nothing"]


class FakeMap:
    ncpus = 2

    def __init__(self, values: dict[int, tuple[int, int]]) -> None:
        self._values = values

    def lookup(self, key: bytes) -> bytes | None:
        values = self._values.get(struct.unpack("<I", key)[0])
        return None if values is None else struct.pack("<2Q", *values)


def test_losses_are_summed_over_the_cpus() -> None:
    records = [("loss", "0", "ring", "opens"), ("map", "x", "y", "z"), ("loss", "1", "map", "calls"),
               ("loss", "2", "text", "no stack")]  # fmt: skip
    losses = Losses(records, FakeMap({0: (1000, 234), 1: (0, 0), 2: (0, 1)}))  # type: ignore[arg-type]
    found = losses.read()
    assert [(slot.what, count) for slot, count in found] == [("opens", 1234), ("no stack", 1)]
    assert as_json(found) == {"lost": {"opens: ring": 1234, "no stack": 1}}
    assert Losses(records, None).read() == []


@pytest.mark.parametrize(
    ("slot", "count", "text"),
    [
        (("ring", "opens"), 1234, "opens: 1,234 events lost: ring full (4 MB; --ring-size makes it larger)"),
        (("ring", "other"), 1, "other: 1 event lost: ring full"),
        (("map", "calls"), 2, "calls: 2 updates lost: map full (10,240 entries)"),
        (("negative", "usecs"), 3, "usecs: 3 negative values not in the histogram (a clock went backwards?)"),
        (("places", "s"), 5, "s: 5 stacks lost: there is room for 64 different ones"),
        (("memory", "s"), 1, "s: 1 stack lost: the memory for stacks is full"),
        (("unread", "s"), 2, "s: 2 stacks could not be read"),
        (("text", "no stack"), 5, "5 lost: no stack"),
    ],
)
def test_sentences(slot: tuple[str, str], count: int, text: str) -> None:
    assert sentence(Slot(0, *slot), count, {"opens": 4 << 20, "calls": 10240, "s_ids": 64}) == text
