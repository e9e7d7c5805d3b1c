# SPDX-License-Identifier: Apache-2.0
"""BTF written by the builder and read back, lazily."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osmia.errors import UserError
from osmia.obj import consts as c
from osmia.obj.btf import Btf
from osmia.obj.btf_write import BOOL, CHAR, SIGNED, BtfBuilder


def sample() -> tuple[Btf, dict[str, int]]:
    b = BtfBuilder()
    ids = {}
    ids["int"] = b.add_int("int", 4, SIGNED)
    ids["char"] = b.add_int("char", 1, SIGNED | CHAR)
    ids["bool"] = b.add_int("_Bool", 1, BOOL)
    ids["u64"] = b.add_typedef("u64", b.add_int("unsigned long", 8))
    ids["const u64"] = b.add_modifier(c.BTF_KIND_CONST, ids["u64"])
    ids["comm"] = b.add_array(ids["char"], 16, ids["int"])
    ids["matrix"] = b.add_array(b.add_array(ids["int"], 3), 2)
    inner = b.add_struct("", 8, [("low", ids["int"], 0), ("high", ids["int"], 32)])
    ids["anonymous"] = b.add_struct("", 8, [("both", ids["u64"], 0), ("", inner, 0)], union=True)
    ids["task"] = b.add_struct("task", 40, [
        ("pid", ids["int"], 0), ("flag", ids["int"], 32, 1), ("level", ids["int"], 33, 7), ("", ids["anonymous"], 64),
        ("comm", ids["comm"], 128), ("time", ids["const u64"], 256),
    ])
    ids["task *"] = b.add_ptr(b.add_modifier(c.BTF_KIND_CONST, ids["task"]))
    ids["color"] = b.add_enum("color", [("RED", 0), ("BLUE", -1)])
    ids["mask"] = b.add_enum("mask", [("HIGH", 0xFFFFFFFF)])
    ids["wide"] = b.add_enum("wide", [("BIG", 1 << 40), ("LESS", -(1 << 40))], size=8)
    ids["proto"] = b.add_func_proto(ids["int"], [("t", ids["task *"]), ("n", ids["u64"]), ("", 0)])
    ids["callback"] = b.add_ptr(ids["proto"])
    ids["func"] = b.add_func("visit", ids["proto"], 1)
    ids["var"] = b.add_var("total", ids["u64"], 1)
    ids["datasec"] = b.add_datasec(".data", 8, [(ids["var"], 0, 8)])
    ids["fwd"] = b.add_fwd("later")
    ids["float"] = b.add_float("double", 8)
    ids["void *"] = b.add_ptr(0)
    ids["tag"] = b.add_ptr(b.add_modifier(c.BTF_KIND_TYPE_TAG, ids["task"], "user"))
    return Btf(b.bytes()), ids


def test_every_kind_comes_back() -> None:
    btf, ids = sample()
    t = btf.get(ids["int"])
    assert (t.kind, t.name, t.size, t.encoding, t.bits, t.signed) == (c.BTF_KIND_INT, "int", 4, SIGNED, 32, True)
    assert btf.get(ids["char"]).encoding == SIGNED | CHAR and btf.get(ids["bool"]).encoding == BOOL
    t = btf.get(ids["comm"])
    assert (t.kind, t.elem_id, t.index_id, t.nelems) == (c.BTF_KIND_ARRAY, ids["char"], ids["int"], 16)
    t = btf.get(ids["task"])
    assert (t.kind, t.size, t.kind_flag, t.vlen) == (c.BTF_KIND_STRUCT, 40, True, 6)
    assert [(m.name, m.bit_offset, m.bitfield_size) for m in t.members] == [
        ("pid", 0, 0), ("flag", 32, 1), ("level", 33, 7), ("", 64, 0), ("comm", 128, 0), ("time", 256, 0),
    ]
    assert btf.get(ids["anonymous"]).kind == c.BTF_KIND_UNION
    assert btf.get(ids["color"]).enumerators == [("RED", 0), ("BLUE", -1)] and btf.get(ids["color"]).signed
    assert btf.get(ids["mask"]).enumerators == [("HIGH", 0xFFFFFFFF)] and not btf.get(ids["mask"]).signed
    assert btf.get(ids["wide"]).enumerators == [("BIG", 1 << 40), ("LESS", -(1 << 40))]
    t = btf.get(ids["proto"])
    assert (t.type_id, t.params) == (ids["int"], [("t", ids["task *"]), ("n", ids["u64"]), ("", 0)])
    assert (btf.get(ids["func"]).linkage, btf.get(ids["func"]).type_id) == (1, ids["proto"])
    assert (btf.get(ids["var"]).linkage, btf.get(ids["var"]).type_id) == (1, ids["u64"])
    assert btf.get(ids["datasec"]).variables == [(ids["var"], 0, 8)]
    assert btf.get(0).kind == c.BTF_KIND_UNKN
    assert btf.get(ids["task"]) is btf.get(ids["task"]), "decoded once"


@pytest.mark.parametrize(
    ("name", "text", "size"),
    [
        ("int", "int", 4), ("u64", "u64", 8), ("const u64", "const u64", 8), ("comm", "char[16]", 16),
        ("matrix", "int[2][3]", 24), ("task", "struct task", 40), ("anonymous", "union {...}", 8),
        ("task *", "const struct task *", 8), ("color", "enum color", 4), ("wide", "enum wide", 8),
        ("proto", "int (const struct task *t, u64 n, ...)", 0),
        ("callback", "int (*)(const struct task *t, u64 n, ...)", 8),
        ("func", "int visit(const struct task *t, u64 n, ...)", 0), ("var", "u64 total", 8), ("datasec", ".data", 8),
        ("fwd", "struct later", 0), ("float", "double", 8), ("void *", "void *", 8), ("tag", "struct task *", 8),
    ],
)
def test_names_and_sizes(name: str, text: str, size: int) -> None:
    btf, ids = sample()
    assert btf.name_of(ids[name]) == text
    assert btf.size_of(ids[name]) == size


def test_resolve() -> None:
    btf, ids = sample()
    assert btf.get(btf.resolve(ids["const u64"])).name == "unsigned long"
    assert btf.resolve(ids["task"]) == ids["task"] and btf.resolve(0) == 0


def test_find() -> None:
    btf, ids = sample()
    assert btf.find("task", c.BTF_KIND_STRUCT) == ids["task"]
    assert btf.find("task", (c.BTF_KIND_TYPEDEF, c.BTF_KIND_STRUCT)) == ids["task"]
    assert btf.find("task", c.BTF_KIND_UNION) == 0
    assert btf.find("tas", c.BTF_KIND_STRUCT) == 0 and btf.find("ask", c.BTF_KIND_STRUCT) == 0
    assert btf.find("", c.BTF_KIND_STRUCT) == 0, "anonymous types have no name to be found by"
    assert btf.find("comm", c.BTF_KIND_STRUCT) == 0, "a member's name is not a type's"
    assert btf.find("later", c.BTF_KIND_FWD) == ids["fwd"]


def test_find_all_and_flavours() -> None:
    b = BtfBuilder()
    first, second = b.add_struct("request", 4, []), b.add_struct("request", 8, [])
    old, other = b.add_struct("request___old", 2, []), b.add_struct("request_queue", 2, [])
    btf = Btf(b.bytes())
    assert list(btf.find_all("request", c.BTF_KIND_STRUCT)) == [first, second]
    assert list(btf.find_all("request", c.BTF_KIND_STRUCT, flavours=True)) == [first, second, old]
    assert btf.find_prefix("request") == [
        ("request", first), ("request", second), ("request___old", old), ("request_queue", other),
    ]
    assert btf.find_prefix("request_q") == [("request_queue", other)] and btf.find_prefix("x") == []


def test_find_member_through_anonymous_ones() -> None:
    btf, ids = sample()

    def path(name: str) -> tuple[list[str], int] | None:
        found = btf.find_member(ids["task"], name)
        return None if found is None else ([m.name for m in found[0]], found[1])

    assert path("pid") == (["pid"], 0)
    assert path("both") == (["", "both"], 64)
    assert path("high") == (["", "", "high"], 96)
    assert path("nothing") is None
    assert btf.find_member(ids["int"], "pid") is None


def test_types_are_walked_as_far_as_needed() -> None:
    b = BtfBuilder()
    ids = [b.add_int(f"int{i}", 4) for i in range(20_000)]
    btf = Btf(b.bytes())
    assert btf.get(ids[3]).name == "int3"
    few = len(btf._index)
    assert few < 10_000
    assert btf.find("int19000", c.BTF_KIND_INT) == ids[19_000]
    assert few < 19_000 <= len(btf._index) < 20_000 or len(btf._index) == 20_000
    assert [btf.get(id).name for id in ids] == [f"int{i}" for i in range(20_000)]
    assert len(btf) == ids[-1] + 1 == len(btf.word_offsets()) + 1
    with pytest.raises(UserError, match="there is no type 20001"):
        btf.get(20_001)


def test_split_btf() -> None:
    base, ids = sample()
    b = BtfBuilder(base)
    mine = b.add_struct("module_state", 16, [("task", ids["task *"], 0), ("n", ids["u64"], 64)])
    same_name = b.add_struct("task", 1, [])
    split = Btf(b.bytes(), base=base, name="module")
    assert mine == base.end_id and split.ids() == range(mine, mine + 2)
    assert split.name_of(split.get(mine).members[0].type_id) == "const struct task *"
    assert split.get(ids["int"]) is base.get(ids["int"])
    assert split.find("module_state", c.BTF_KIND_STRUCT) == mine and base.find("module_state", c.BTF_KIND_STRUCT) == 0
    assert list(split.find_all("task", c.BTF_KIND_STRUCT)) == [same_name, ids["task"]]
    assert split.find("color", c.BTF_KIND_ENUM) == ids["color"]
    assert split.get(0).name == "void"


def test_memoryview_and_bytearray() -> None:
    btf, ids = sample()
    raw = bytes(btf._raw)
    for data in (bytearray(raw), memoryview(raw)):
        assert Btf(data).find("task", c.BTF_KIND_STRUCT) == ids["task"]


def test_bit_fields_without_the_kind_flag() -> None:
    b = BtfBuilder()
    narrow = b.add_int("unsigned int", 4, 0, bits=3)
    plain = b.add_int("unsigned int", 4)
    id = b.add_struct("old", 8, [("a", narrow, 0), ("b", plain, 32)])
    assert [m.bitfield_size for m in Btf(b.bytes()).get(id).members] == [3, 0]


def test_unknown_kind() -> None:
    b = BtfBuilder()
    b.add_int("int", 4)
    b._add("odd", 27, 0)
    with pytest.raises(UserError, match="type 2 is of kind 27, which this version does not know; a newer osmia may"):
        Btf(b.bytes(), name="new kernel").word_offsets()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes are too few"),
        (b"\xeb\x9f" + bytes(30), "big-endian"),
        (bytes(24), "magic number"),
        (struct.pack("<HBBIIIII", 0xEB9F, 2, 0, 24, 0, 0, 0, 0), "version 2"),
        (struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 12, 12, 1), "cut short"),
        (struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 0, 0, 2) + b"\0a", "do not end"),
    ],
)
def test_bad_headers(data: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as e:
        Btf(data, name="file.btf")
    assert e.value.where == "file.btf"


def test_bad_references() -> None:
    b = BtfBuilder()
    b.add_typedef("loop", 1)
    btf = Btf(b.bytes())
    with pytest.raises(UserError, match="refers to itself"):
        btf.resolve(1)
    with pytest.raises(UserError, match="there is no type 7"):
        btf.get(7)
    assert btf.name_of(1) == "loop"


def test_damage_is_a_user_error() -> None:
    rng = random.Random(7)
    good = bytes(sample()[0]._raw)
    for _ in range(2000):
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        try:
            btf = Btf(bytes(bad))
            for id in btf.ids():
                btf.name_of(id)
                btf.size_of(id)
                btf.find_member(id, "high")
        except UserError:
            pass


NAMES = st.text("abcdefgh_", min_size=1, max_size=12)


@given(st.lists(st.tuples(NAMES, st.integers(0, 1 << 20)), max_size=30, unique_by=lambda m: m[0]))
def test_structs_survive(members: list[tuple[str, int]]) -> None:
    b = BtfBuilder()
    number = b.add_int("int", 4)
    id = b.add_struct("zz", 4, [(name, number, offset) for name, offset in members])
    btf = Btf(b.bytes())
    assert [(m.name, m.bit_offset) for m in btf.get(id).members] == members
    for name, offset in members:
        found = btf.find_member(id, name)
        assert found is not None and found[1] == offset


@given(st.lists(NAMES, min_size=1, max_size=40))
def test_find_agrees_with_a_plain_search(names: list[str]) -> None:
    b = BtfBuilder()
    kinds = [b.add_fwd if i % 3 else b.add_float for i in range(len(names))]
    for name, add in zip(names, kinds, strict=True):
        add(name, 4) if add == b.add_float else b.add_fwd(name)
    btf = Btf(b.bytes())
    for name in {*names, "absent"}:
        for kind in (c.BTF_KIND_FWD, c.BTF_KIND_FLOAT):
            plain = [id for id in btf.ids() if btf.get(id).name == name and btf.get(id).kind == kind]
            assert list(btf.find_all(name, kind)) == plain
            assert btf.find(name, kind) == (plain[0] if plain else 0)


def test_numbers_of_the_abi() -> None:
    assert (c.BPF_MAP_TYPE_HASH, c.BPF_MAP_TYPE_RINGBUF, c.BPF_PROG_TYPE_TRACING, c.BPF_LINK_CREATE) == (1, 27, 26, 28)
    assert (c.BPF_FUNC_map_lookup_elem, c.BPF_FUNC_probe_read_user_str, c.BPF_FUNC_loop) == (1, 114, 181)
    assert (c.BPF_TRACE_FENTRY, c.BPF_PERF_EVENT, c.BPF_NOEXIST, c.BPF_F_SLEEPABLE) == (24, 41, 1, 16)
    assert (c.BPF_CORE_FIELD_BYTE_OFFSET, c.BPF_CORE_TYPE_MATCHES, c.BTF_KIND_ENUM64) == (0, 12, 19)
    assert c.helper_name(1) == "map_lookup_elem" and c.helper_name(14) == "get_current_pid_tgid"
    assert c.helper_name(99999) == "helper#99999"
