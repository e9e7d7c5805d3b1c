# SPDX-License-Identifier: Apache-2.0
"""Spans of the ring to rows: every fast way must give what a plain reading gives."""

from __future__ import annotations

import enum
import json
import os
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osmia.cli.table import EventView
from osmia.events.decode import DISCARD, Decoder, Splitter, Texts, uniform
from osmia.lang.maps import Ring
from osmia.lang.templates import Col, EventTable
from osmia.lang.types import Array, Bytes, Comm, Data, Event, Path, Str, Strs, s32, u8, u16, u32, u64


class Fixed(Event):
    ts: u64
    flag: bool
    pid: u32
    comm: Comm
    err: s32


class Named(Event):
    pid: u32
    comm: Comm
    ret: s32
    path: Str[4096]


class Argv(Event):
    pid: u32
    args: Strs[256]


class Sent(Event):
    pid: u16
    data: Data[300]


class Opened(Event):
    ts: u64
    pid: u32
    fd: s32
    path: Path[4096]


def record(body: bytes, *, discarded: bool = False, page: int = 7) -> bytes:
    """What the kernel puts into the ring for ``body``."""
    length = len(body) | (DISCARD if discarded else 0)
    return struct.pack("<II", length, page) + body + b"\xee" * (-len(body) % 8)


def fixed(ts: int, flag: bool, pid: int, comm: bytes, err: int) -> bytes:
    return struct.pack("<Q?3xI16si4x", ts, flag, pid, comm.ljust(16, b"\0"), err)


def named(pid: int, comm: bytes, ret: int, path: bytes) -> bytes:
    return struct.pack("<I16si", pid, comm.ljust(16, b"\0"), ret) + path + b"\0"


def strings(head: bytes, parts: list[bytes], cut: bool) -> bytes:
    return head + struct.pack("<I", len(parts) | cut << 31) + b"".join(p + b"\0" for p in parts)


def test_fixed_events_of_one_stride() -> None:
    assert Fixed.layout().size == 40
    values = [(i, bool(i % 2), 100 + i, f"proc{i % 3}", -i) for i in range(50)]
    span = b"".join(record(fixed(t, f, p, c.encode(), e), page=t) for t, f, p, c, e in values)
    assert uniform(span) == 40
    assert Decoder(Fixed).rows(span) == values
    assert Decoder(Fixed, ["err", "comm"]).rows(span) == [(e, c) for _, _, _, c, e in values]


def test_discarded_records_are_left_out() -> None:
    span = record(fixed(1, True, 2, b"a", 3)) + record(fixed(9, True, 9, b"x", 9), discarded=True)
    span += record(fixed(4, False, 5, b"b", 6))
    assert uniform(span) == 0
    assert Decoder(Fixed).rows(span) == [(1, True, 2, "a", 3), (4, False, 5, "b", 6)]
    assert list(Splitter(0, 8, -1).pairs(span)) == [(struct.pack("<Q", 1),), (struct.pack("<Q", 4),)]
    only = record(fixed(9, True, 9, b"x", 9), discarded=True)
    assert Decoder(Fixed).rows(only) == []


def test_an_empty_span() -> None:
    assert uniform(b"") == 0
    assert Decoder(Fixed).rows(b"") == []


def test_text_tail() -> None:
    paths = [b"/etc/passwd", b"", b"/a/b", "/\u00e4".encode(), b"\xff\xfe"]
    span = b"".join(record(named(i, b"cat", i - 1, path)) for i, path in enumerate(paths))
    assert uniform(span) == 0
    want = [(i, "cat", i - 1, path.decode("utf-8", "surrogateescape")) for i, path in enumerate(paths)]
    assert Decoder(Named).rows(span) == want
    assert Decoder(Named, ["path", "pid"]).rows(span) == [(row[3], row[0]) for row in want]
    same = b"".join(record(named(i, b"cat", 0, b"/x/%d" % i)) for i in range(9))
    assert uniform(same) == 24 + 5
    assert [row[3] for row in Decoder(Named).rows(same)] == [f"/x/{i}" for i in range(9)]


def test_a_text_that_was_cut_says_so() -> None:
    full = b"x" * 4095
    (row,) = Decoder(Named).rows(record(named(1, b"c", 0, full)))
    assert row[3] == "x" * 4095 + "..."
    (row,) = Decoder(Named).rows(record(named(1, b"c", 0, full[:-1])))
    assert row[3] == "x" * 4094
    (row,) = Decoder(Named).rows(record(named(1, b"fifteen-letters", 0, b"")))
    assert row[1] == "fifteen-letters"  # a comm is that long by design


def test_strings_tail() -> None:
    head = struct.pack("<I", 5)
    span = record(strings(head, [b"ls", b"-l", b""], False)) + record(strings(head, [b"ls"], True))
    span += record(strings(head, [], False))
    rows = Decoder(Argv).rows(span)
    assert [row[1] for row in rows] == [["ls", "-l", ""], ["ls"], []]
    assert [row[1].truncated for row in rows] == [False, True, False]


def sent(pid: int, data: bytes) -> bytes:
    return struct.pack("<HxxI", pid, len(data)) + data


def test_bytes_tail() -> None:
    assert (Sent.layout().fixed, Sent.layout().size) == (8, 308)
    values = [(1, b""), (2, b"a\0b"), (3, bytes(range(256))), (4, b"\0\0")]
    span = b"".join(record(sent(*value)) for value in values)
    assert Decoder(Sent).rows(span) == values
    assert Decoder(Sent).rows(record(sent(5, b"abc") + b"\xee\xee")) == [(5, b"abc")]  # as a perf buffer pads
    same = b"".join(record(sent(n, b"\xff%d" % n)) for n in range(9))
    assert uniform(same) == 10
    assert Decoder(Sent).rows(same) == [(n, b"\xff%d" % n) for n in range(9)]
    shown = [line.split() for line in lines([Col("pid"), Col("data")], same, Sent)]
    assert shown == [[str(n), f"\\xff{n}"] for n in range(9)]


def below(event: Any) -> list[str]:
    return [f"-- {event.pid}", *event.data.decode("latin-1").split("/"), ""]


def test_lines_below_a_row() -> None:
    """In a table; JSON and CSV have the column as any other."""
    columns = [Col("pid", "PID", 3), Col("text", "TEXT", row=lambda e: e.data.decode("latin-1"), below=below)]
    span = record(sent(7, b"a/\x1b[b")) + record(sent(8, b"")) + record(sent(9, b"x"))
    table = EventTable(Ring(Sent), columns, keep=lambda e: e.pid != 8)
    view = EventView(table, "table")
    assert view.header == "PID\n"
    assert view.text(span) == "  7\n-- 7\na\n\\x1b[b\n\n  9\n-- 9\nx\n\n"
    assert [one.split("\n")[0] for one in view.records(span)] == ["  7", "  9"]
    assert EventView(table, "csv").text(span) == "7,a/\\x1b[b\n9,x\n"
    assert EventView(table, "csv").header == "PID,TEXT\n"
    found = [json.loads(line) for line in EventView(table, "json").text(span).splitlines()]
    assert [one["text"] for one in found] == ["a/\x1b[b", "x"]


def test_path_tail() -> None:
    def opened(parts: list[bytes], cut: bool = False) -> bytes:
        return record(strings(struct.pack("<QIi", 1, 2, 3), parts, cut))

    span = opened([b"/etc/passwd"]) + opened([b"file", b"dir", b"home"]) + opened([]) + opened([b"f", b"d"], True)
    *whole, cut = [row[3] for row in Decoder(Opened).rows(span)]
    assert whole == ["/etc/passwd", "/home/dir/file", ""]
    assert cut.startswith("...")
    assert cut.endswith("d/f")


def test_other_kinds_of_fields() -> None:
    class State(enum.IntEnum):
        IDLE = 1

    class Inner(Event):
        a: u16
        b: u16

    class Mixed(Event):
        raw: Bytes[4]
        numbers: Array[u16, 3]
        inner: Inner
        state: State
        name: Str[64]
        small: u8

    global State_, Inner_
    State_, Inner_ = State, Inner
    Mixed.__annotations__.update(raw=Bytes[4], numbers=Array[u16, 3], inner=Inner, state=State, name=Str[64], small=u8)
    assert [field.offset for field in Mixed.layout()] == [0, 4, 10, 16, 20, 84]
    body = struct.pack("<4s3H2H2xi64sB3x", b"\0\1\2\3", 7, 8, 9, 1, 2, 1, b"name\0stale bytes", 5)
    ((raw, numbers, inner, state, name, small),) = Decoder(Mixed).rows(record(body))
    assert (raw, numbers, inner, state, name, small) == (b"\0\1\2\3", [7, 8, 9], Inner(a=1, b=2), State.IDLE, "name", 5)
    body = struct.pack("<4s3H2H2xi64sB3x", b"\0\1\2\3", 7, 8, 9, 1, 2, 77, b"n" * 63, 5)
    (row,) = Decoder(Mixed).rows(record(body))
    assert row[3] == 77  # a value that the enumeration does not name
    assert row[4] == "n" * 63 + "..."


def test_objects() -> None:
    (one,) = Decoder(Named).objects(record(named(1, b"cat", -2, b"/x")))
    assert one == Named(pid=1, comm="cat", ret=-2, path="/x")


def test_texts_forget_when_full() -> None:
    made: list[bytes] = []

    def make(raw: bytes) -> str:
        made.append(raw)
        return raw.decode()

    texts = Texts(make, limit=2)
    assert [texts[b"a"], texts[b"a"], texts[b"b"], texts[b"c"], texts[b"a"]] == ["a", "a", "b", "c", "a"]
    assert made == [b"a", b"b", b"c", b"a"]
    assert texts.resets == 1
    long = b"x" * 600
    assert texts[long] == texts[long] == "x" * 600
    assert long not in texts


events = st.lists(
    st.tuples(
        st.integers(0, 2**32 - 1),
        st.binary(max_size=15).filter(lambda b: b"\0" not in b),
        st.integers(-(2**31), 2**31 - 1),
        st.binary(max_size=40).filter(lambda b: b"\0" not in b),
        st.booleans(),
    ),
    max_size=40,
)


@given(events)
@settings(max_examples=200, deadline=None)
def test_any_mixture(values: list[tuple[int, bytes, int, bytes, bool]]) -> None:
    span = b"".join(record(named(p, c, r, path), discarded=gone) for p, c, r, path, gone in values)
    kept = [v for v in values if not v[4]]
    text = [(p, os.fsdecode(c), r, os.fsdecode(t)) for p, c, r, t, _ in kept]
    assert Decoder(Named).rows(span) == text
    assert list(Splitter(0, 24, 24).pairs(span)) == [(named(p, c, r, b"")[:24], t + b"\0") for p, c, r, t, _ in kept]


def lines(columns: list[Col], span: bytes, event: Any = Named, **more: Any) -> list[str]:
    return EventView(EventTable(Ring(event), columns, **more), "table").text(span).splitlines()


COLUMNS = [
    Col("pid", "PID", 7, align="<"), Col("comm", "COMM", 16), Col("ret", "FD", 4), Col("path", "PATH"),
]  # fmt: skip


@given(events)
@settings(max_examples=100, deadline=None)
def test_lines_from_the_dictionary_equal_lines_made_one_by_one(values: list[Any]) -> None:
    span = b"".join(record(named(p, c, r, path), discarded=gone) for p, c, r, path, gone in values)
    slow = [*COLUMNS[:3], Col("path", "PATH", row=lambda one: one.path)]
    assert lines(COLUMNS, span) == lines(slow, span)


def test_a_table_of_events() -> None:
    span = record(named(4242, b"cat", 3, b"/etc/passwd")) + record(named(1, b"x\x1b[2J", -1, b"a\nb"))
    view = EventView(EventTable(Ring(Named), COLUMNS), "table")
    assert view.header == "PID     COMM               FD PATH\n"
    assert view.text(span) == "4242    cat                 3 /etc/passwd\n1       x\\x1b[2J           -1 a\\nb\n"


def test_hidden_columns_and_show() -> None:
    columns = [Col("pid", "PID", when=False), Col("ret", "ERR", 4, show=lambda n: f"E{n}"), Col("comm", "COMM")]
    span = record(named(1, b"cat", 3, b"p")) * 2 + record(named(1, b"dog", 4, b"longer"))
    assert lines(columns, span) == ["  E3 cat", "  E3 cat", "  E4 dog"]


def test_keep_and_computed_columns() -> None:
    columns = [Col("pid"), Col("double", "DOUBLE", 6, row=lambda one: one.pid * 2, align=">")]
    span = b"".join(record(named(i, b"c", 0, b"p" * i)) for i in range(4))
    assert lines(columns, span, keep=lambda one: one.pid % 2) == ["      1      2", "      3      6"]


def test_one_field_in_two_columns() -> None:
    columns = [Col("pid", "PID", 4), Col("pid", "HEX", 4, show=hex)]
    assert lines(columns, record(named(10, b"c", 0, b"p"))) == ["  10  0xa"]


def test_fronts_that_never_repeat_are_given_up() -> None:
    view = EventView(EventTable(Ring(Named), COLUMNS), "table")
    made = view._make.__self__  # type: ignore[attr-defined]
    for base in range(0, 400, 100):
        span = b"".join(record(named(base + i, b"c", 0, b"/p")) for i in range(100))
        assert view.text(span) == "".join(f"{base + i:<7} {'c':<16} {0:>4} /p\n" for i in range(100))
    assert made._splitter is None


def test_json_has_every_field_whatever_is_shown() -> None:
    span = record(named(1, b"a\xff", 3, "\u00e9".encode())) + record(named(2, b"b", 4, b""))
    view = EventView(EventTable(Ring(Named), COLUMNS[:1]), "json")
    assert view.header == ""
    rows = [json.loads(line) for line in view.text(span).splitlines()]
    assert rows == [
        {"pid": 1, "comm": "a\\xff", "ret": 3, "path": "\u00e9"},
        {"pid": 2, "comm": "b", "ret": 4, "path": ""},
    ]
    span = record(strings(struct.pack("<I", 5), [b"ls", b"-l"], True))
    (row,) = [json.loads(line) for line in EventView(EventTable(Ring(Argv)), "json").text(span).splitlines()]
    assert row == {"pid": 5, "args": ["ls", "-l"], "args_truncated": True}


def test_csv() -> None:
    view = EventView(EventTable(Ring(Named), COLUMNS), "csv")
    assert view.header == "PID,COMM,FD,PATH\n"
    assert view.text(record(named(1, b"a,b", 3, b'say "x"'))) == '1,"a,b",3,"say ""x"""\n'


def test_default_columns() -> None:
    class Task(Event):
        tgid: u32
        pid: u32
        _hidden: u64
        comm: Comm

    Task.__annotations__.update(tgid=u32, pid=u32, _hidden=u64, comm=Comm)
    view = EventView(EventTable(Ring(Task)), "table")
    assert view.header.split() == ["PID", "TID", "COMM"]


def test_strings_in_a_table() -> None:
    span = record(strings(struct.pack("<I", 5), [b"ls", b"-l"], True))
    assert lines([Col("pid", "PID", 3), Col("args", "ARGS")], span, Argv) == ["  5 ls -l..."]


@pytest.mark.parametrize("mode", ["table", "json", "csv"])
def test_nothing_gives_nothing(mode: str) -> None:
    assert EventView(EventTable(Ring(Named), COLUMNS), mode).text(b"") == ""
