# SPDX-License-Identifier: Apache-2.0
"""The format of recordings: what is written is read, and whatever is wrong with a file is told in one sentence."""

from __future__ import annotations

import enum
import io
import json
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from recordings import EVENTS, KINDS, header, made, places, read, span

from osmia import Hash, PerCpuHash, linear_hist, log2_hist, loglin_hist
from osmia.errors import UserError
from osmia.events import recording, samples, schema, snapshots
from osmia.events.recording import BLOCK, HEAD, MAGIC, Reader, Recording
from osmia.lang.hist import Hist
from osmia.lang.types import Array, Bytes, Comm, Data, Event, Str, Strs, User, s32, u8, u16, u32, u64
from osmia.lang.types import Path as FilePath
from osmia.symbols.frame import Frame

ROWS = [(1000 + n, 7, -n, b"prog") for n in range(200)]


def whole(*, pack: bool = True) -> bytes:
    def fill(file: Recording) -> None:
        for at in range(0, len(ROWS), 50):
            file.events(1, span(*ROWS[at : at + 50]))
        file.note(recording.LOSSES, {"lost": []})

    return made(fill, header(EVENTS), pack=pack)


@pytest.mark.parametrize("pack", [True, False])
def test_what_is_written_is_read(pack: bool) -> None:
    data = whole(pack=pack)
    reader, blocks = read(data)
    assert reader.header["sources"][0]["schema"]["fields"][0] == {
        "name": "ts", "type": "u64", "offset": 0, "size": 8, "unit": "ns, CLOCK_MONOTONIC",
    }  # fmt: skip
    assert b"".join([one.payload for one in blocks if one.kind == recording.EVENTS]) == span(*ROWS)
    assert {one.source for one in blocks if one.kind == recording.EVENTS} == {1}
    assert [one.time for one in blocks] == sorted(one.time for one in blocks)
    assert blocks[-1].json() == {"lost": []}
    assert (reader.whole, reader.notes) == (True, [])
    assert (len(data) < len(span(*ROWS))) == pack


def test_the_layout_is_the_documented_one() -> None:
    """Read with nothing but struct and zlib, by the numbers that stand in docs/record_format.md."""
    data = whole()
    assert data[:16] == b"\x89osmia\r\n" + struct.pack("<HHI", 1, 0, 0)
    at, kinds = 16, []
    while at < len(data):
        length, kind, flags, size, check, _, _, own = struct.unpack_from("<IHHIIQII", data, at)
        assert zlib.crc32(data[at : at + 28]) == own
        stored = data[at + 32 : at + 32 + length]
        assert zlib.crc32(stored) == check
        assert len(zlib.decompress(stored) if flags & 1 else stored) == size
        kinds.append(kind)
        at += 32 + length
    assert kinds == [1, 2, 2, 2, 2, 5, 11]
    page = (Path(__file__).resolve().parents[2] / "docs" / "record_format.md").read_text(encoding="utf-8")
    for name, number in KINDS.items():
        assert f"| {number} | {name} |" in page
    assert HEAD.size == 16 and BLOCK.size == 32 and data[:8] == MAGIC


def test_a_recording_that_was_cut_anywhere_is_read_up_to_there() -> None:
    data = whole()
    starts = places(data)
    for cut in range(len(data)):
        if cut < starts[1]:
            with pytest.raises(UserError) as caught:
                read(data[:cut])
            assert str(caught.value).startswith("x.rec: ") and "\n" not in str(caught.value)
            continue
        reader, blocks = read(data[:cut])
        assert len(blocks) == sum(start <= cut for start in starts[2:]), cut
        assert not reader.whole
        assert reader.notes == ["x.rec: the recording was cut: it ends after 0.0 s without its last block"]


def test_one_damaged_block_costs_one_block() -> None:
    data = bytearray(whole())
    starts = places(data)
    data[starts[2] + BLOCK.size + 3] ^= 0x10
    reader, blocks = read(bytes(data))
    assert [one.kind for one in blocks] == [2, 2, 2, 5]
    assert reader.notes == [f"x.rec: damaged at byte {starts[2]:,}: a block of 2,000 bytes is left out"]
    assert reader.whole


def test_a_damaged_header_of_a_block_ends_the_reading() -> None:
    data = bytearray(whole())
    starts = places(data)
    data[starts[3]] ^= 0x01
    reader, blocks = read(bytes(data))
    assert [one.kind for one in blocks] == [2, 2]
    assert reader.notes == [f"x.rec: damaged at byte {starts[3]:,}: what follows there cannot be read"]


def test_no_flipped_bit_is_more_than_a_sentence() -> None:
    data = whole()
    chance = random.Random(23)
    for _ in range(400):
        bad = bytearray(data)
        bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        try:
            reader, blocks = read(bytes(bad))
        except UserError as err:
            assert "\n" not in str(err)
            continue
        # What is left is what was written: nothing is made of damaged bytes.
        assert all(one.payload in span(*ROWS) for one in blocks if one.kind == recording.EVENTS)
        assert reader.notes or bad[12:16] != data[12:16]  # the four bytes that mean nothing yet


def message(data: bytes) -> str:
    with pytest.raises(UserError) as caught:
        read(data)
    return str(caught.value)


def test_foreign_files_and_other_versions() -> None:
    foreign = "x.rec: this is no recording of osmia; osmia record TOOL -o FILE makes one"
    assert message(b"PID COMM\n") == message(b"\x7fELF" + bytes(60)) == foreign
    assert message(b"\x89PNG\r\n\x1a\n" + bytes(60)) == foreign
    assert message(b"\x89osmia\n" + whole()[8:]) == foreign  # went through a transfer as text
    assert message(b"") == "x.rec: the recording is empty: it was cut before anything was in it"
    newer = HEAD.pack(MAGIC, 2, 3, 0) + whole()[HEAD.size :]
    assert message(newer) == (
        "x.rec: the recording is of the format 2.3, which this older osmia cannot read (it reads 1.x); "
        "replay it with a newer osmia"
    )
    assert message(HEAD.pack(MAGIC, 1, 0, 0)) == "x.rec: the recording is damaged or cut where it says what is in it"


def test_what_a_newer_minor_version_adds_is_passed_over() -> None:
    def fill(file: Recording) -> None:
        file.block(77, b"what comes one day")
        file.events(1, span(*ROWS[:1]))
        file.block(77, b"again")

    data = made(fill, header(EVENTS, novelty=[1, 2]))
    reader, blocks = read(HEAD.pack(MAGIC, 1, 9, 0) + data[HEAD.size :])
    assert [one.kind for one in blocks] == [recording.EVENTS]
    assert reader.notes == [
        "x.rec: made by a newer osmia (format 1.9); what is unknown is passed over",
        "x.rec: 2 blocks of the unknown kind 77 passed over",
    ]


def test_a_packed_block_cannot_be_larger_than_it_says() -> None:
    bomb = zlib.compress(bytes(1 << 24))
    front = BLOCK.pack(len(bomb), recording.EVENTS, recording.PACKED, 100, zlib.crc32(bomb), 0, 1, 0)[:-4]
    data = made(lambda file: None, header(EVENTS), end=False)
    reader, blocks = read(data + front + struct.pack("<I", zlib.crc32(front)) + bomb)
    assert blocks == []
    assert "a block of 100 bytes is left out" in reader.notes[0]


Chars = User["char"]


class Colour(enum.IntEnum):
    RED = 1
    BLUE = -4


class Inner(Event):
    a: u8
    b: u64


class Everything(Event):
    ts: u64
    flag: bool
    small: u16
    number: s32
    whole: int
    colour: Colour
    comm: Comm
    raw: Bytes[5]  # type: ignore[valid-type,type-arg]
    four: Array[u32, 4]  # type: ignore[valid-type,type-arg]
    inner: Inner
    at: Chars  # type: ignore[valid-type]
    path: FilePath[100, 64]  # type: ignore[valid-type,type-arg]


@pytest.mark.parametrize("event", [Everything, Inner])
def test_a_schema_there_and_back(event: type[Event]) -> None:
    said = json.loads(json.dumps(schema.event_of(event)))
    again = schema.event_from(said)
    assert schema.event_of(again) == schema.event_of(event)
    assert [(f.name, f.offset, f.size) for f in again.layout()] == [(f.name, f.offset, f.size) for f in event.layout()]


@pytest.mark.parametrize("kind", [u32, (u32, Comm), Str[300], Strs[64, 8], Data[300], int, bool, (u8, (u16, u64))])
def test_types_there_and_back(kind: Any) -> None:
    said = json.loads(json.dumps(schema.type_of(kind)))
    assert schema.type_of(schema.kind_of(said)) == schema.type_of(kind)


@pytest.mark.parametrize("said", [
    "u33", "Str[99999]", "Str[0]", {"array": "u8", "count": 0}, {"struct": "x y", "fields": []}, {}, None, 7,
    {"struct": "X", "fields": [{"name": "__class__", "type": "u8", "offset": 0, "size": 1}]},
    {"struct": "X", "fields": [{"name": "a", "type": "u64", "offset": 4, "size": 8}]},
    {"enum": "E", "members": {"__init__": 1}},
    "__import__('os')", json.loads('{"tuple": [' * 20 + '"u8"' + "]}" * 20),
])  # fmt: skip
def test_a_schema_that_is_none(said: Any) -> None:
    with pytest.raises(UserError, match="its schema is damaged"):
        schema.kind_of(said)


def test_histograms_and_maps_by_their_changes() -> None:
    tables: list[Any] = [
        log2_hist("usecs"), log2_hist("usecs", key=(u32, Comm)), linear_hist("x", low=0, high=50, step=10, key=u32),
        loglin_hist("ns", bits=2), Hash[u32, u64](), PerCpuHash[Comm, u32](), Hash[(u32, u32), Inner](),
    ]  # fmt: skip
    for number, table in enumerate(tables):
        table.name = f"t{number}"
        changes = snapshots.Changes(table, lambda key: f"<{key}>")
        again = snapshots.rebuilt(json.loads(json.dumps(snapshots.describe(table))))
        assert snapshots.describe(again) == snapshots.describe(table)
        state = snapshots.State(again)
        for step in range(3):
            put(table, step)
            payload = changes.next(snapshots.state_of(table))
            assert payload is not None
            state.apply(payload)
            assert plain(snapshots.state_of(again)) == plain(snapshots.state_of(table)), table
        assert changes.next(snapshots.state_of(table)) is None  # nothing new, nothing to write
        if not isinstance(table, Hist):
            table.clear()
            state.apply(changes.next({}) or b"")
            assert snapshots.state_of(again) == {}
        elif table.keyed:
            assert set(state.labels.values()) == {f"<{key}>" for key in snapshots.state_of(table)}
        with pytest.raises(UserError, match=f"a snapshot of t{number} is damaged"):
            state.apply(struct.pack("<II", 3, 0) + b"x" * 20)


def put(table: Any, step: int) -> None:
    """Something new in each step, in some of the keys."""
    if isinstance(table, Hist):
        keys = {None: [None], u32: [step, 7]}.get(table.key, [(step, "a"), (9, "b")])
        for key in keys:
            (table if key is None else table[key]).add(3 + 11 * step)
    elif table.value is Inner:
        table[step, 1] = Inner(a=step, b=1 << 60)
    else:
        table[step if table.key is u32 else f"c{step}"] = 1000 + step


def plain(state: dict[Any, Any]) -> dict[Any, Any]:
    """Snapshots and structures as their fields: the classes of what is read are others."""
    return {
        key: (one.counts, one.sum, one.min, one.max) if hasattr(one, "counts") else getattr(one, "__dict__", one)
        for key, one in state.items()
    }


def test_what_maps_cannot_be_recorded() -> None:
    assert snapshots.recordable(Hash[u32, u64]()) and snapshots.recordable(PerCpuHash[u32, u64]())
    assert not snapshots.recordable(PerCpuHash[u32, Inner]())


def frames(*names: str) -> list[Frame]:
    return [
        Frame(i, "kernel", name, 4, "mod", "ab12", 64 + i) if name.startswith("k_")
        else Frame(i, "user", name, 4, "/bin/x", "ab12", 64 + i) for i, name in enumerate(names)
    ]  # fmt: skip


def test_samples_there_and_back() -> None:
    def fill(file: Recording) -> None:
        out = samples.SampleWriter(file, 1)
        deep = out.stack(samples.places(frames("k_read", "work", "main")))
        assert out.stack(samples.places(frames("k_read", "work", "main"))) == deep == 1
        assert out.stack(samples.places(frames("main"), cut=True)) == 2
        assert out.stack(()) == 0
        for n in range(5000):
            out.add(10_000 + n, 42, b"a-comm-of-sixteen-and-more", n % 3, 1 + n)
        out.flush()

    _, blocks = read(made(fill, header(samples.describe())))
    reader = samples.SampleReader()
    found = []
    for block in blocks:
        if block.kind == recording.STACKS:
            reader.define(block.json())
        elif block.kind == recording.SAMPLES:
            found += list(reader.samples(block.payload))
    assert len(found) == 5000
    head = ("a-comm-of-sixte", "")
    assert [one.stack for one in found[:3]] == [
        (head,),
        (head, ("main", "u"), ("work", "u"), ("k_read [mod]", "k")),
        (head, ("[truncated]", ""), ("main", "u")),
    ]  # fmt: skip
    assert [(one.time, one.pid, one.weight) for one in found] == [(10_000 + n, 42, 1 + n) for n in range(5000)]
    assert reader.places[0] == ("main", "u", "/bin/x", "ab12", 66)  # build id and offset, for names found later
    for bad in (b"x" * 39, samples.SAMPLE.pack(0, 1, 1, 9, b"")):
        with pytest.raises(UserError):
            list(reader.samples(bad))
    for record in ({}, {"frames": [["a"]], "stacks": []}, {"frames": [], "stacks": [[99]]}):
        with pytest.raises(UserError, match="a block of stacks is damaged"):
            reader.define(record)


def test_a_full_disk_leaves_what_fitted() -> None:
    """The writer's error comes through, and what was written before is a recording that was cut."""
    out = io.BytesIO()

    def write(data: bytes) -> None:
        room = 3000 - out.tell()
        out.write(data[:room])
        if len(data) > room:
            raise UserError("cannot write: No space left on device", where="x.rec")

    file = Recording(write, pack=False)
    file.begin(header(EVENTS))
    with pytest.raises(UserError, match="No space left"):
        for at in range(0, len(ROWS), 10):
            file.events(1, span(*ROWS[at : at + 10]))
    reader, blocks = read(out.getvalue())
    assert blocks and not reader.whole
    assert b"".join([one.payload for one in blocks]) == span(*ROWS[: 10 * len(blocks)])


def test_the_wall_clock_may_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    now, wall = [5_000_000_000], [1_790_000_000_000_000_000]
    monkeypatch.setattr(recording.time, "monotonic_ns", lambda: now[0])
    monkeypatch.setattr(recording.time, "time_ns", lambda: wall[0])

    def fill(file: Recording) -> None:
        for step in (1_000_000, 3_600_000_000_000, 500):
            now[0] += 1_000_000
            wall[0] += step
            file.events(1, span(ROWS[0]))

    _, blocks = read(made(fill, header(EVENTS)))
    assert [one.kind for one in blocks] == [recording.EVENTS, recording.CLOCK, recording.EVENTS, recording.EVENTS]
    assert recording.clock_of(blocks[1].payload)[0] == wall[0] - 500 + 1_000_000 - now[0]
    with pytest.raises(UserError):
        recording.clock_of(b"123")


def test_a_pipe_is_read_as_a_file_is() -> None:
    class Dribble(io.BytesIO):
        """Gives three bytes at a time, as a slow pipe may."""

        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(3, size if size is not None and size >= 0 else 3))

    reader = Reader(Dribble(whole()), "pipe")
    assert len(list(reader.blocks())) == 5 and reader.whole
