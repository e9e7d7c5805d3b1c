# SPDX-License-Identifier: Apache-2.0
"""Exports: what pprof, speedscope and Parquet files say is what went in, read back by other means."""

from __future__ import annotations

import builtins
import gzip
import io
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osmia.errors import NotSupported
from osmia.version import __version__
from osmia.views.export_parquet import records_file, stacks_file
from osmia.views.export_pprof import pprof
from osmia.views.export_speedscope import speedscope

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
READ = (("sh", ""), ("main", "u"), ("work", "u"), ("sys_read", "k"))
OTHER = (("sh", ""), ("main", "u"), ("other", "u"))
JAVA = (("java", ""), ("Main.run", "j"), ("inl", "i"), ("inl2", "i"))
SMALL = [(READ, 60), (OTHER, 30), (JAVA, 10)]
printable = st.characters(exclude_categories=["Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"])
names = st.text(printable, min_size=1, max_size=9)
frames = st.tuples(names, st.sampled_from(["k", "u", "j", "i", ""]))
stacks = st.lists(st.tuples(st.lists(frames, max_size=5).map(tuple), st.integers(0, (1 << 63) - 1)), max_size=8)


# -- a reader of protocol buffers that knows nothing of ours ---------------------------------


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at


def fields(data: bytes) -> dict[int, list[Any]]:
    """Field number → values, in their order."""
    out: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 == 0:
            value, at = varint(data, at)
            out.setdefault(tag >> 3, []).append(value)
        else:
            assert tag & 7 == 2, "only integers and what has a length occur in a profile"
            size, at = varint(data, at)
            assert at + size <= len(data)
            out.setdefault(tag >> 3, []).append(data[at : at + size])
            at += size
    return out


def numbers(packed: list[bytes]) -> list[int]:
    out = []
    for data in packed:
        at = 0
        while at < len(data):
            value, at = varint(data, at)
            out.append(value)
    return out


class Decoded:
    """A profile, with references resolved."""

    def __init__(self, data: bytes) -> None:
        raw = fields(gzip.decompress(data))
        self.strings = [text.decode() for text in raw[6]]
        assert self.strings[0] == ""
        functions = {one(f, 1): self.strings[one(f, 2)] for f in map(fields, raw.get(5, []))}
        mappings = {one(m, 1): self.strings[one(m, 5)] for m in map(fields, raw.get(3, []))}
        places = {}
        for place in map(fields, raw.get(4, [])):
            lines = [functions[one(fields(line), 1)] for line in place[4]]
            places[one(place, 1)] = (mappings[place[2][0]] if 2 in place else "", lines)
        assert 0 not in functions and 0 not in places and 0 not in mappings
        self.types = [(self.strings[one(t, 1)], self.strings[one(t, 2)]) for t in map(fields, raw[1])]
        self.samples = []
        for sample in map(fields, raw.get(2, [])):
            where = [places[n] for n in numbers(sample.get(1, []))]
            self.samples.append((where, numbers(sample[2])))
        self.mappings = list(mappings.values())
        self.raw = raw

    def number(self, field: int) -> int:
        return one(self.raw, field)


def one(message: dict[int, list[Any]], field: int) -> int:
    value = message.get(field, [0])[-1]
    assert isinstance(value, int)
    return value


def test_pprof_says_who_what_and_when() -> None:
    made = Decoded(pprof(SMALL, period_ns=10_101_010, time_ns=1_790_000_000 * 10**9, duration_ns=10**10,
                         comments=["host a"]))  # fmt: skip
    assert made.types == [("samples", "count"), ("cpu", "nanoseconds")]
    assert made.samples == [
        ([("[kernel]", ["sys_read"]), ("[user]", ["work"]), ("[user]", ["main"]), ("", ["sh"])], [60, 606060600]),
        ([("[user]", ["other"]), ("[user]", ["main"]), ("", ["sh"])], [30, 303030300]),
        # Inlined frames are lines of the place they were inlined into, innermost first.
        ([("[jit]", ["inl2", "inl", "Main.run"]), ("", ["java"])], [10, 101010100]),
    ]
    assert made.mappings == ["[user]", "[jit]", "[kernel]"]
    assert (made.number(9), made.number(10), made.number(12)) == (1_790_000_000 * 10**9, 10**10, 10_101_010)
    assert [made.strings[n] for n in numbers(made.raw[13])] == ["host a"]
    assert made.strings[made.number(14)] == "cpu"


def test_pprof_of_other_counts() -> None:
    made = Decoded(pprof([(OTHER, 7)], kind="offcpu", unit="microseconds"))
    assert made.types == [("offcpu", "microseconds")]
    assert made.samples[0][1] == [7]
    assert 11 not in made.raw
    assert Decoded(pprof([])).samples == []


@patient
@given(stacks)
def test_pprof_keeps_every_stack_and_count(pairs: Any) -> None:
    made = Decoded(pprof(pairs))
    read = []
    for places, values in made.samples:
        # Leaf first, and within a place innermost first: backwards it is the stack.
        read.append(([name for _, lines in places[::-1] for name in lines[::-1]], values))
    assert read == [([name for name, _ in stack], [count]) for stack, count in pairs]


def test_pprof_is_the_same_file_each_time_and_names_are_clean() -> None:
    assert pprof(SMALL) == pprof(SMALL)
    made = Decoded(pprof([((("a\x1b[2J\n\udc80", "u"),), 1)]))
    assert made.samples[0][0] == [("[user]", ["a\\x1b[2J\\n\\x80"])]


# -- speedscope -----------------------------------------------------------------------------


def test_speedscope() -> None:
    made = json.loads(speedscope([*SMALL, (READ, 5)], name="profile\x1b", unit="us"))
    assert made["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert made["exporter"] == f"osmia@{__version__}"
    (profile,) = made["profiles"]
    assert (profile["type"], profile["unit"], profile["name"]) == ("sampled", "microseconds", "profile\\x1b")
    assert (profile["startValue"], profile["endValue"]) == (0, 105)
    assert profile["weights"] == [60, 30, 10, 5]
    names = [[made["shared"]["frames"][n]["name"] for n in sample] for sample in profile["samples"]]
    assert names == [[name for name, _ in stack] for stack in (READ, OTHER, JAVA, READ)]
    assert made["shared"]["frames"][:4] == [
        {"name": "sh"}, {"name": "main", "file": "user"}, {"name": "work", "file": "user"},
        {"name": "sys_read", "file": "kernel"},
    ]  # fmt: skip
    assert json.loads(speedscope([], unit="samples"))["profiles"][0]["unit"] == "none"


@patient
@given(stacks)
def test_speedscope_keeps_every_stack_and_refers_to_frames_that_exist(pairs: Any) -> None:
    made = json.loads(speedscope(pairs))
    frames, (profile,) = made["shared"]["frames"], made["profiles"]
    assert len({(f["name"], f.get("file")) for f in frames}) == len(frames)
    read = [([frames[n]["name"] for n in sample], weight)
            for sample, weight in zip(profile["samples"], profile["weights"], strict=True)]  # fmt: skip
    assert read == [([name for name, _ in stack], count) for stack, count in pairs]


# -- Parquet --------------------------------------------------------------------------------


def table(data: bytes) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(io.BytesIO(data))


def test_parquet_of_stacks() -> None:
    made = table(stacks_file(SMALL, unit="us", name="offcputime"))
    assert made.to_pylist()[1] == {"frames": ["sh", "main", "other"], "kinds": ["", "u", "u"], "count": 30}
    assert made.num_rows == 3
    assert [str(field.type) for field in made.schema] == ["list<element: string>", "list<element: string>", "int64"]
    assert (made.schema.metadata[b"osmia.unit"], made.schema.metadata[b"osmia.name"]) == (b"us", b"offcputime")
    assert table(stacks_file([])).num_rows == 0


def test_parquet_of_records_keeps_types_and_all_bits() -> None:
    records: list[dict[str, Any]] = [
        {"pid": 1, "comm": "a\udc80", "ts": (1 << 64) - 1, "args": ["x", "y"], "huge": 1 << 80, "mixed": 1},
        {"pid": -2, "comm": b"\xff", "ts": 5, "args": (), "late": True, "mixed": "one"},
    ]
    made = table(records_file(records))
    assert made.to_pylist() == [
        {"pid": 1, "comm": "a\\udc80", "ts": (1 << 64) - 1, "args": ["x", "y"], "huge": str(1 << 80), "mixed": "1",
         "late": None},
        {"pid": -2, "comm": "\\xff", "ts": 5, "args": [], "huge": None, "mixed": "one", "late": True},
    ]  # fmt: skip
    types = {field.name: str(field.type) for field in made.schema}
    assert (types["pid"], types["ts"], types["late"]) == ("int64", "uint64", "bool")


def test_without_pyarrow_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **named: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    for write in (lambda: stacks_file(SMALL), lambda: records_file([])):
        with pytest.raises(NotSupported) as caught:
            write()
        assert str(caught.value) == (
            "Parquet files need the Python package pyarrow; install it: pip install 'osmia[parquet]'"
        )
