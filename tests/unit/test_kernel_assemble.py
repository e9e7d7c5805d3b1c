# SPDX-License-Identifier: Apache-2.0
"""Programs put together from functions, as numbers."""

from __future__ import annotations

import struct

import pytest

from osmia.errors import UserError
from osmia.load.assemble import assemble, idle
from osmia.load.btf import sanitised
from osmia.obj import consts
from osmia.obj.btf import Btf
from osmia.obj.btf_write import SIGNED, BtfBuilder
from osmia.obj.spec import FuncSpec, MapSpec, ObjectSpec, ProgSpec, Reloc

EXIT = struct.pack("<BBhi", 0x95, 0, 0, 0)
CALL = struct.pack("<BBhi", 0x85, 0x10, 0, -1)
WIDE = struct.pack("<BBhiBBhi", 0x18, 0x01, 0, 0, 0, 0, 0, 0)


def spec() -> ObjectSpec:
    """main: loads a map, calls b, takes the address of a; a: calls b; b: reads data."""
    whole = ObjectSpec("o")
    main = ProgSpec("main", WIDE + CALL + WIDE + EXIT, "raw_tp/x")
    main.relocs = [Reloc(0, "map", "m"), Reloc(16, "call", "b"), Reloc(24, "func", "a")]
    a, b = FuncSpec("a", CALL + EXIT), FuncSpec("b", WIDE + EXIT)
    a.relocs = [Reloc(0, "call", "b")]
    b.relocs = [Reloc(0, "data", ".bss", 40)]
    for i, function in enumerate((main, a, b)):
        function.func_info = [(0, 10 + i)]
        function.line_info = [(0, 1, 2, 3 + i), (len(function.insns) - 8, 1, 2, 30 + i)]
        function.core_relos = [(0, 7, 8, i)]
    whole.progs = {"main": main}
    whole.funcs = {"a": a, "b": b}
    return whole


def test_functions_are_appended_once_and_calls_find_them() -> None:
    whole = spec()
    out = assemble(whole, whole.progs["main"])
    # main is 6 instructions, b (first referenced) 3, a 2
    starts = {"main": 0, "b": 6, "a": 9}
    assert len(out.insns) == 11 * 8
    assert struct.unpack_from("<BBhi", out.insns, 16) == (0x85, consts.BPF_PSEUDO_CALL << 4, 0, starts["b"] - 2 - 1)
    assert struct.unpack_from("<BBhi", out.insns, 24) == (0x18, consts.BPF_PSEUDO_FUNC << 4 | 1, 0, starts["a"] - 3 - 1)
    assert struct.unpack_from("<i", out.insns, 9 * 8 + 4)[0] == starts["b"] - 9 - 1
    assert out.uses == [(0, "m", None), (6 * 8, ".bss", 40)]
    assert out.func_info == [(0, 10), (48, 12), (72, 11)]
    assert [off for off, *_ in out.line_info] == [0, 40, 48, 64, 72, 80]
    assert out.core_relos == [(0, 7, 8, 0), (48, 7, 8, 2), (72, 7, 8, 1)]
    assert struct.unpack("<6I", out.func_bytes()) == (0, 10, 6, 12, 9, 11)
    assert struct.unpack_from("<4I", out.line_bytes(), 16) == (5, 1, 2, 30)
    assert struct.unpack_from("<4I", out.core_bytes(), 16) == (48, 7, 8, 2)


def test_a_function_without_its_option_needs_nothing() -> None:
    """Its records shrink to the first ones, and what only it has called is not there."""
    whole = spec()
    data = whole.maps[".rodata"] = MapSpec(".rodata", consts.BPF_MAP_TYPE_ARRAY, 4, 16, 1)
    data.contents = bytearray(16)
    data.variables = {"opt_x": (0, 4), "opt_y": (8, 8)}
    whole.progs["main"].relocs[1] = Reloc(16, "call", "a")
    records = [("when", "a", "opt_x"), ("when", "gone", "opt_x"), ("option", "opt_x", "m", "x")]
    instead = idle(whole, records)
    assert list(instead) == ["a"]
    out = assemble(whole, whole.progs["main"], instead)
    assert bytes(out.insns[48:]) == struct.pack("<BBhi", 0xB7, 0, 0, 0) + EXIT
    assert out.uses == [(0, "m", None)]
    assert (out.func_info, out.core_relos) == ([(0, 10), (48, 11)], [(0, 7, 8, 0)])
    assert [off for off, *_ in out.line_info] == [0, 40, 48]
    data.set("opt_y", b"\1")
    assert list(idle(whole, records)) == ["a"]
    data.set("opt_x", b"\0\0\1")
    assert idle(whole, records) == {}


def test_map_references_are_filled_in_a_copy() -> None:
    whole = spec()
    out = assemble(whole, whole.progs["main"])
    before = bytes(out.insns)
    patched = out.with_maps({"m": 33, ".bss": 44})
    assert bytes(out.insns) == before
    assert struct.unpack_from("<BBhiBBhi", patched, 0) == (0x18, 0x11, 0, 33, 0, 0, 0, 0)
    assert struct.unpack_from("<BBhiBBhi", patched, 48) == (0x18, 0x21, 0, 44, 0, 0, 0, 40)


def test_recursion_ends() -> None:
    whole = ObjectSpec("o")
    main, f = ProgSpec("main", CALL + EXIT, "raw_tp/x"), FuncSpec("f", CALL + EXIT)
    main.relocs, f.relocs = [Reloc(0, "call", "f")], [Reloc(0, "call", "f")]
    whole.progs, whole.funcs = {"main": main}, {"f": f}
    assert len(assemble(whole, main).insns) == 32


def test_partial_debug_records_are_dropped() -> None:
    whole = spec()
    whole.funcs["a"].func_info = []
    out = assemble(whole, whole.progs["main"])
    assert out.func_info == [] and out.line_info == []


def test_missing_functions_are_named() -> None:
    whole = spec()
    del whole.funcs["a"]
    with pytest.raises(UserError, match=r"main: calls a\(\), which the object does not define"):
        assemble(whole, whole.progs["main"])


def test_sanitised_btf_keeps_every_id() -> None:
    builder = BtfBuilder()
    number = builder.add_int("int", 4, SIGNED)
    real = builder.add_float("double", 8)
    big = builder.add_enum("big", [("A", 1 << 40), ("B", 2)], 8)
    tag = builder.add_modifier(consts.BTF_KIND_TYPE_TAG, number, "user")
    record = builder.add_struct("record", 16, [("d", real, 0), ("n", tag, 64)])
    function = builder.add_func("f", builder.add_func_proto(number, [("x", big)]), 1)
    variable = builder.add_var("v", number)
    section = builder.add_datasec(".bss", 8, [(variable, 4, 4)])
    data = builder.bytes()
    assert Btf(data).get(big).kind == consts.BTF_KIND_ENUM64
    changed = sanitised(data)
    assert len(changed) == len(data)
    btf = Btf(changed)
    assert len(btf) == len(Btf(data))
    kinds = {id: btf.get(id).kind for id in btf.ids()}
    assert not set(kinds.values()) & {
        consts.BTF_KIND_FLOAT, consts.BTF_KIND_ENUM64, consts.BTF_KIND_TYPE_TAG, consts.BTF_KIND_VAR,
        consts.BTF_KIND_DATASEC, consts.BTF_KIND_DECL_TAG,
    }  # fmt: skip
    assert btf.get(real).size == 8 and kinds[real] == consts.BTF_KIND_STRUCT
    assert btf.get(big).size == 8 and [m.name for m in btf.get(big).members] == ["A", "B"]
    assert btf.get(function).linkage == 0
    assert [m.name for m in btf.get(record).members] == ["d", "n"]
    assert btf.get(section).members[0].bit_offset == 32
