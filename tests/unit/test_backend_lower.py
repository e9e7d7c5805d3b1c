# SPDX-License-Identifier: Apache-2.0
"""The object that a typed program becomes, read back: maps, data, BTF, lines, relocations."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from backend_tir import (
    BTF,
    CTX,
    LOC,
    MEM,
    Prog,
    add,
    addr,
    at,
    bin,
    c,
    cmp,
    for_,
    g,
    glob,
    helper,
    if_,
    load,
    ret,
    set_,
    store,
    var,
)

from osmia.compiler import tir
from osmia.compiler.emit import assembly, compile_ir
from osmia.compiler.lower import lower
from osmia.errors import InternalError, UserError
from osmia.obj.btf import Btf
from osmia.obj.elf import parse_object
from osmia.obj.spec import ObjectSpec

SOURCE = "".join(f"line {n} of it\n" for n in range(1, 20))
OPEN = tir.Struct("Open", (tir.Member("pid", tir.U32, 0), tir.Member("comm", tir.Array(tir.CHAR, 16), 4)), 20, 4)
KEY = tir.Struct("Key", (tir.Member("a", tir.U8, 0), tir.Member("b", tir.S64, 8)), 16, 8)
TASK = tir.KStruct("task_struct", "struct", 96)
MODE = tir.KEnum("pid_type", 4, False)


def compiled(module: tir.Module, sources: dict[str, str] | None = None) -> ObjectSpec:
    given = {f.file: SOURCE for f in module.funcs} if sources is None else sources
    return parse_object(compile_ir(lower(module, given)), module.name)


def rich() -> Prog:
    """A program with one of everything that the object format knows."""
    prog = Prog()
    m = prog.module
    m.maps = [
        tir.MapDef("counts", 1, KEY, tir.U64, 1000),
        tir.MapDef("events", 27, None, None, 1 << 16),
        tir.MapDef("lru", 9, tir.U32, OPEN, 5, 2),
    ]
    m.data = [
        tir.Data("option", ".rodata", tir.S32, b"\5\0\0\0"),
        tir.Data("text", ".rodata", tir.Array(tir.CHAR, 8), b'a"\\\n'),
        tir.Data("total", ".bss", tir.U64),
    ]
    m.exports = [OPEN]
    m.meta = b"print\t1\t%d\n\xff"
    key, result = var("key", KEY), var("result")
    double = prog.sub("double", [var("n")], [])
    double.body = [tir.Return(at(12), bin("mul", g(double.params[0], at(12)), c(2), at(12)))]
    prog.func.body = [
        store(addr(key), load(glob("option"), tir.S32, volatile=True), tir.U8),
        tir.Eval(at(5), tir.Helper(tir.S64, at(5), 3, [glob("counts"), addr(key)])),
        tir.Set(at(6), result, tir.Call(tir.S64, at(6), double, [prog.word(0)])),
        tir.Return(at(7), tir.Bin(tir.S64, at(7), "add", g(result), c(1))),
    ]
    return prog


def test_maps_have_the_sizes_of_their_types() -> None:
    spec = compiled(rich().module)
    got = {
        m.name: (m.type, m.key_size, m.value_size, m.max_entries, m.flags)
        for m in spec.maps.values()
        if not m.variables
    }
    assert got == {"counts": (1, 16, 8, 1000, 0), "events": (27, 0, 0, 1 << 16, 0), "lru": (9, 4, 20, 5, 2)}


def test_data_sections_meta_and_license() -> None:
    spec = compiled(rich().module)
    rodata = spec.maps[".rodata"]
    assert rodata.contents is not None
    offset, size = rodata.variables["option"]
    assert rodata.contents[offset : offset + size] == b"\5\0\0\0"
    offset, size = rodata.variables["text"]
    assert rodata.contents[offset : offset + size] == b'a"\\\n\0\0\0\0'
    assert spec.maps[".bss"].variables == {"total": (0, 8)}
    assert spec.meta == b"print\t1\t%d\n\xff"
    assert spec.license == "GPL"
    assert set(spec.maps) == {"counts", "events", "lru", ".rodata", ".bss"}


def test_btf_describes_the_exported_structure_and_the_functions() -> None:
    btf = Btf(compiled(rich().module).btf)
    event = btf.get(btf.find("Open", 4))
    assert event.size == 20
    assert [(m.name, m.bit_offset, btf.size_of(m.type_id)) for m in event.members] == [("pid", 0, 4), ("comm", 32, 16)]
    for name, params in (("prog", ["ctx"]), ("double", ["n"])):
        proto = btf.get(btf.get(btf.find(name, 12)).type_id)
        assert [p[0] for p in proto.params] == params


def test_functions_and_calls() -> None:
    spec = compiled(rich().module)
    prog = spec.progs["prog"]
    assert (prog.section, prog.hook) == ("syscall", "syscall")
    assert "double" in spec.funcs
    assert {(r.kind, r.target) for r in prog.relocs} == {("map", "counts"), ("data", ".rodata"), ("call", "double")}


def lines_of(spec: ObjectSpec, records: list[tuple[int, int, int, int]]) -> list[tuple[str, str, int, int]]:
    btf = Btf(spec.btf)
    return [(btf.string(f), btf.string(text), line >> 10, line & 1023) for _, f, text, line in records]


def test_every_line_of_the_program_is_in_the_line_info_with_its_text() -> None:
    spec = compiled(rich().module)
    found = lines_of(spec, spec.progs["prog"].line_info)
    assert {line for _, _, line, _ in found} >= {1, 5, 6, 7}
    assert all(file.endswith("/nowhere/prog.py") for file, _, _, _ in found)
    assert all(text == f"line {line} of it" for _, text, line, _ in found if line)
    assert {line for _, _, line, _ in lines_of(spec, spec.funcs["double"].line_info)} >= {12}


def test_lines_of_a_file_on_disk_are_read_from_it(tmp_path: Path) -> None:
    path = tmp_path / "tool.py"
    path.write_text("first\nsecond\nthird\n")
    prog = Prog(file=str(path)).body(tir.Return(at(3), c(0)))
    spec = compiled(prog.module, {})
    assert ("third", 3) in {(text, line) for _, text, line, _ in lines_of(spec, spec.progs["prog"].line_info)}


def test_files_on_disk_and_not_on_disk_together(tmp_path: Path) -> None:
    """LLVM wants the text of all files or of none."""
    path = tmp_path / "lib.py"
    path.write_text("one\ntwo\n")
    prog = Prog(file="<stdin>")
    sub = prog.sub("sub", [], [tir.Return(at(2), prog.word(0))])
    sub.file = str(path)
    sub.body = [tir.Return(at(2), tir.Helper(tir.S64, at(2), 7, []))]
    prog.body(tir.Return(at(1), tir.Call(tir.S64, at(1), sub, [])))
    spec = compiled(prog.module, {"<stdin>": "typed by hand\n"})
    assert {t for _, t, _, _ in lines_of(spec, spec.progs["prog"].line_info)} == {"typed by hand"}
    assert {t for _, t, _, _ in lines_of(spec, spec.funcs["sub"].line_info)} >= {"two"}


def test_a_column_beyond_what_btf_can_hold() -> None:
    prog = Prog().body(tir.Return((2, 5000), tir.Helper(tir.S64, (2, 5000), 7, [])))
    spec = compiled(prog.module)
    assert {line for _, _, line, _ in lines_of(spec, spec.progs["prog"].line_info)} <= {1, 2}


def test_the_text_is_the_same_in_every_process() -> None:
    code = "from test_backend_lower import lower, rich; print(lower(rich().module))"
    here = str(Path(__file__).parent)
    source = str(Path(__file__).parents[2] / "src")
    texts = set()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONPATH": f"{source}:{here}", "PYTHONHASHSEED": seed}
        texts.add(subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True).stdout)
    assert len(texts) == 1
    assert lower(rich().module) == lower(rich().module)
    assert compile_ir(lower(rich().module)) == compile_ir(lower(rich().module))


def test_the_object_holds_no_dwarf_and_no_unwind_tables() -> None:
    data = compile_ir(lower(rich().module, {"/nowhere/prog.py": SOURCE}))
    assert b".debug_info" not in data
    assert b".eh_frame" not in data
    assert len(data) < 8000


# --------------------------------------------------------------------------
# CO-RE


def relocations(spec: ObjectSpec) -> set[tuple[str, str, int]]:
    """(type, access string, kind) of every relocation of ``prog``."""
    btf = Btf(spec.btf)
    return {
        (btf.get(type_id).name, btf.string(access), kind) for _, type_id, access, kind in spec.progs["prog"].core_relos
    }


def test_relocation_records_name_type_member_and_kind() -> None:
    prog = Prog()
    integer = tir.KInt("int", 4, True)
    pid, tgid = tir.KField("pid", 80, 0, integer), tir.KField("tgid", 40 * 8, 0, integer)
    inner = tir.KStruct("inner", "union", 32)
    nested = tir.KField("nested", 48 * 8, 0, tir.KArray(inner, 2))
    flag = tir.KField("flag", 8 * 8 + 5, 3, tir.KInt("unsigned int", 4, False))
    task = var("task", BTF)

    def access(*steps: tir.KField | int) -> tir.Access:
        return tir.Access(TASK, steps)

    def fact(kind: str, *steps: tir.KField | int) -> tir.CoreField:
        return tir.CoreField(tir.U64, LOC, access(*steps), kind)

    facts: list[tir.Expr] = [
        fact("exists", tgid), fact("size", pid), fact("signed", pid), fact("lshift_u64", nested, 1, flag),
        fact("rshift_u64", nested, 1, flag), fact("offset", nested, 1, flag),
        tir.CoreType(tir.U64, LOC, TASK, "exists"), tir.CoreType(tir.U64, LOC, inner, "size"),
        tir.CoreEnum(tir.U64, LOC, MODE, "PIDTYPE_TGID", 1, "value"),
        tir.CoreEnum(tir.BOOL, LOC, MODE, "PIDTYPE_SID", 3, "exists"),
    ]  # fmt: skip
    prog.body(
        set_(task, helper(158, type=BTF)),
        prog.out(0, load(tir.FieldAddr(BTF, LOC, g(task), access(pid)), tir.S32)),
        *[prog.out(1 + i, tir.Convert(tir.U64, LOC, e, tir.U64)) for i, e in enumerate(facts)],
        ret(c(0)),
    )
    spec = compiled(prog.module)
    # members in the order of their offsets: pid, tgid, nested
    assert relocations(spec) == {
        ("task_struct", "0:0", 0), ("task_struct", "0:1", 2), ("task_struct", "0:0", 1), ("task_struct", "0:0", 3),
        ("task_struct", "0:2:1:0", 4), ("task_struct", "0:2:1:0", 5), ("task_struct", "0:2:1:0", 0),
        ("task_struct", "0", 8), ("inner", "0", 9), ("pid_type", "0", 11), ("pid_type", "1", 10),
    }  # fmt: skip
    btf = Btf(spec.btf)
    assert btf.get(btf.find("inner", 5)).members[0].bitfield_size == 3
    assert btf.get(btf.find("pid_type", 6)).enumerators == [("PIDTYPE_TGID", 1), ("PIDTYPE_SID", 3)]


def test_local_values_in_the_instructions_are_those_of_the_local_types() -> None:
    """libbpf refuses an object whose instructions disagree with its own BTF."""
    prog = Prog()
    flag = tir.KField("flag", 9 * 8 + 5, 3, tir.KInt("unsigned int", 4, False))
    facts = [
        tir.CoreField(tir.U64, LOC, tir.Access(TASK, (flag,)), k)
        for k in ("offset", "size", "lshift_u64", "rshift_u64")
    ]
    prog.body(*[prog.out(i, e) for i, e in enumerate(facts)], ret(c(0)))
    text = assembly(lower(prog.module))
    # bits 77..79 lie in the four bytes at 8: 64 - (80 - 64) and 64 - 3
    for value in (8, 4, 48, 61):
        assert f"= {value}\n" in text


def test_a_load_of_a_field_is_one_relocated_instruction() -> None:
    prog = Prog()
    pid = tir.KField("pid", 80, 0, tir.KInt("int", 4, True))
    task = var("task", BTF)
    prog.body(
        set_(task, helper(158, type=BTF)),
        ret(load(tir.FieldAddr(BTF, LOC, g(task), tir.Access(TASK, (pid,))), tir.S32)),
    )
    text = assembly(lower(prog.module))
    assert "*(u32 *)(r0 + 10)" in text


def test_field_of_something_that_is_no_structure() -> None:
    prog = Prog()
    pid = tir.KField("pid", 80, 0, tir.KInt("int", 4, True))
    prog.body(ret(tir.CoreField(tir.U64, LOC, tir.Access(TASK, (pid, pid)), "exists")))
    with pytest.raises(InternalError, match="access to 'pid'"):
        lower(prog.module)


# --------------------------------------------------------------------------
# Instructions


def test_an_atomic_add_without_result_is_what_5_10_knows() -> None:
    prog = Prog()
    prog.module.data = [tir.Data("total", ".bss", tir.U64)]
    prog.body(tir.Eval(LOC, tir.Atomic(tir.VOID, LOC, "add", glob("total"), c(1), tir.U64)), ret(c(0)))
    spec = compiled(prog.module)
    insns = spec.progs["prog"].insns
    atomic = [insns[i : i + 8] for i in range(0, len(insns), 8) if insns[i] == 0xDB]
    assert len(atomic) == 1
    assert atomic[0][4:8] == bytes(4)  # BPF_ADD without BPF_FETCH


def test_a_large_clearing_is_a_loop() -> None:
    prog = Prog()
    prog.module.data = [tir.Data("area", ".bss", tir.Array(tir.U8, 65536))]
    prog.body(tir.Zero(LOC, glob("area"), 65536), ret(c(0)))
    assert len(compiled(prog.module).progs["prog"].insns) < 40 * 8


def test_a_volatile_option_is_not_folded() -> None:
    prog = Prog()
    prog.module.data = [tir.Data("option", ".rodata", tir.BOOL)]
    prog.body(if_(load(glob("option"), tir.BOOL, volatile=True), [ret(c(5))]), ret(c(6)))
    assert [r.target for r in compiled(prog.module).progs["prog"].relocs] == [".rodata"]


def test_an_inlined_function_leaves_no_call() -> None:
    prog = Prog()
    n = var("n")
    sub = prog.sub("sub", [n], [ret(add(g(n), c(1)))], inline=True)
    prog.body(ret(tir.Call(tir.S64, LOC, sub, [prog.word(0)])))
    spec = compiled(prog.module)
    assert spec.funcs == {}
    assert spec.progs["prog"].relocs == []


def test_a_loop_over_memory_does_not_become_a_library_call() -> None:
    prog = Prog()
    prog.module.data = [tir.Data("area", ".bss", tir.Array(tir.U8, 5000))]
    i = var("i")
    place = tir.Offset(MEM, LOC, glob("area"), 0, g(i))
    prog.body(for_(i, c(0), c(5000), [store(place, c(0), tir.U8)], 5000), ret(c(0)))
    assert "memset" not in assembly(lower(prog.module))


def test_an_address_is_finished_where_it_is_used() -> None:
    """LLVM may join what stands before the branches of the value; the verifier refuses a context reached that way."""
    prog = Prog()
    either = tir.Or(tir.BOOL, LOC, cmp("slt", prog.word(0), c(3)), cmp("ne", prog.word(1), c(4)))
    prog.body(prog.out(31, tir.Cond(tir.S64, LOC, either, c(1), c(2))), ret(c(0)))
    lines = lower(prog.module).splitlines()
    (at,) = [n for n, line in enumerate(lines) if line.lstrip().startswith("store i64 ") and ", ptr %e" not in line]
    kept, sum_, _ = lines[at - 2 : at + 1]
    assert "call ptr @llvm.preserve.static.offset(ptr " in kept
    assert sum_.strip().startswith(f"{lines[at].split('ptr ')[1].split(',')[0]} = getelementptr i8, ptr ")
    assert "i64 248" in sum_


def test_the_offset_of_a_context_s_field_serves_one_access() -> None:
    record = tir.KStruct("trace_event_raw_sys_exit", "struct", 24)
    word = tir.KField("id", 64, 0, tir.KInt("long", 8, True))
    texts = []
    for pointer in (CTX, BTF):
        prog = Prog()
        base = var("base", pointer)
        field = load(tir.FieldAddr(pointer, LOC, g(base), tir.Access(record, (word,))), tir.S64)
        prog.body(set_(base, g(prog.ctx)), ret(add(field, field)))
        texts.append(lower(prog.module))
    offset = 'i64, ptr @"llvm.trace_event_raw_sys_exit:0:8$0:0"'
    assert [text.count(f"load volatile {offset}") for text in texts] == [2, 0]
    assert texts[1].count(f"load {offset}") == 2


# --------------------------------------------------------------------------
# Refusals


def test_names_that_llvm_would_stumble_over() -> None:
    with pytest.raises(UserError, match="'syscall' is the name of an ELF section"):
        lower(Prog("syscall").module)
    prog = Prog()
    prog.module.maps = [tir.MapDef("prog", 1, tir.U32, tir.U32, 1)]
    with pytest.raises(UserError, match="named 'prog'"):
        lower(prog.module)


def test_more_arguments_than_registers() -> None:
    prog = Prog()
    params = [var(f"p{i}") for i in range(6)]
    sub = prog.sub("six", params, [ret(g(params[0]))])
    prog.body(ret(tir.Call(tir.S64, LOC, sub, [c(i) for i in range(6)])))
    with pytest.raises(UserError, match="six takes 6 arguments") as caught:
        lower(prog.module)
    assert "pass a tuple" in str(caught.value)
    sub.inline = True
    assert compiled(prog.module).progs["prog"].insns


@pytest.mark.parametrize("space", ["kernel", "user"])
def test_no_direct_load_through_a_pointer_that_only_helpers_may_follow(space: str) -> None:
    prog = Prog()
    p = var("p", tir.Ptr(space))
    prog.body(ret(load(g(p), tir.U64)))
    with pytest.raises(InternalError, match=f"direct load through a {space} pointer"):
        lower(prog.module)


def test_break_outside_a_loop() -> None:
    with pytest.raises(InternalError, match="break outside"):
        lower(Prog().body(tir.Break(LOC)).module)
