# SPDX-License-Identifier: Apache-2.0
"""CO-RE: the kernel's own structures read through relocated offsets, with deliberately wrong local ones."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from backend_live import live, running
from backend_tir import (
    BTF,
    CTX,
    KERNEL,
    LOC,
    MEM,
    Prog,
    add,
    addr,
    c,
    cmp,
    g,
    glob,
    helper,
    if_,
    load,
    off,
    ret,
    set_,
    store,
    var,
)
from needs import older_than
from switches import switches

from osmia.compiler import tir
from osmia.kernel import bpf
from osmia.kernel.btf_source import kernel_btf
from osmia.obj.btf import Btf

pytestmark = pytest.mark.kernel

INT, UINT, PTR = tir.KInt("int", 4, True), tir.KInt("unsigned int", 4, False), tir.KPtr()
CHAR = tir.KInt("char", 1, True)
# Offsets and sizes are wrong on purpose: only relocation can make them right.
TASK = tir.KStruct("task_struct", "struct", 96)
PID = tir.KField("pid", 8 * 8, 0, INT)
TGID = tir.KField("tgid", 12 * 8, 0, INT)
PARENT = tir.KField("real_parent", 16 * 8, 0, PTR)
COMM = tir.KField("comm", 24 * 8, 0, tir.KArray(CHAR, 16))
SE = tir.KField("se", 40 * 8, 0, tir.KStruct("sched_entity", "struct", 16))
RUNTIME = tir.KField("sum_exec_runtime", 8 * 8, 0, tir.KInt("unsigned long long", 8, False))
EXECVE = tir.KField("in_execve", 56 * 8 + 3, 1, UINT)


def path(*steps: tir.KField | int, root: tir.KStruct = TASK) -> tir.Access:
    return tir.Access(root, steps)


def field(base: tir.Expr, *steps: tir.KField | int) -> tir.FieldAddr:
    return tir.FieldAddr(base.type, LOC, base, path(*steps))


def fact(kind: str, *steps: tir.KField | int) -> tir.CoreField:
    return tir.CoreField(tir.U64, LOC, path(*steps), kind)


def current() -> tir.Helper:
    return helper(158, type=BTF)


def target() -> Btf:
    btf = kernel_btf()
    assert btf is not None
    return btf


def offset_of(struct_name: str, *names: str) -> int:
    """The bit offset in the running kernel."""
    btf, total = target(), 0
    where = btf.find(struct_name, (4,))
    for name in names:
        found = btf.find_member(where, name)
        assert found is not None
        members, bits = found
        total += bits
        where = btf.resolve(members[-1].type_id)
    return total


def test_direct_loads_from_the_current_task() -> None:
    prog = Prog()
    task, parent = var("task", BTF), var("parent", BTF)
    prog.body(
        set_(task, current()),
        prog.out(0, load(field(g(task), TGID), tir.S32)),
        prog.out(1, load(field(g(task), PID), tir.S32)),
        set_(parent, load(field(g(task), PARENT), BTF)),
        prog.out(2, load(field(g(parent), TGID), tir.S32)),
        prog.out(3, load(field(g(task), SE, RUNTIME), tir.U64)),
        prog.out(4, load(field(g(task), COMM, 2), tir.U8)),
        ret(c(0)),
    )
    with running(prog, 8) as run:
        out = run()
        assert out[0] == os.getpid()
        assert out[1] == int(os.readlink("/proc/thread-self").rpartition("/")[2])
        assert out[2] == os.getppid()
        # the runtime is accounted at ticks, so it is near this process's CPU time and below
        assert 0 < out[3] <= 10**9 * sum(os.times()[:2]) + 10**8
        assert out[4] == Path("/proc/self/comm").read_bytes()[2]


def test_reading_kernel_pointers_by_helper() -> None:
    """In space ``kernel`` an address is a number, and only the helper reads through it."""
    prog = Prog()
    task, parent = var("task", KERNEL), var("parent", KERNEL)
    pid, comm = var("pid", tir.S32), var("comm", tir.Array(tir.CHAR, 16))

    def read(local: tir.Local, size: int, source: tir.Expr) -> tir.Eval:
        return tir.Eval(LOC, helper(113, addr(local), c(size), source))

    prog.body(
        set_(task, helper(35, type=KERNEL)),
        read(pid, 4, field(g(task), TGID)),
        prog.out(0, g(pid)),
        read(parent, 8, field(g(task), PARENT)),
        read(pid, 4, field(g(parent), TGID)),
        prog.out(1, g(pid)),
        read(comm, 16, field(g(task), COMM)),
        prog.out(2, load(addr(comm), tir.U64)),
        prog.out(3, load(off(addr(comm), 8), tir.U64)),
        ret(c(0)),
    )
    with running(prog, 8) as run:
        out = run()
        assert out[:2] == [os.getpid(), os.getppid()]
        name = struct.pack("<QQ", *out[2:4]).split(b"\0")[0]
        assert name == Path("/proc/self/comm").read_bytes().strip()


def test_field_facts_are_the_running_kernel_s() -> None:
    prog = Prog()
    gone = tir.KField("no_such_field", 80 * 8, 0, INT)
    facts = [
        fact("offset", PID), fact("size", COMM), fact("exists", PID), fact("exists", gone), fact("signed", PID),
        fact("lshift_u64", PID), fact("rshift_u64", PID), fact("offset", SE, RUNTIME), fact("size", PARENT),
        fact("offset", COMM, 3),
    ]  # fmt: skip
    prog.body(*[prog.out(i, e) for i, e in enumerate(facts)], ret(c(0)))
    with running(prog, 16) as run:
        assert run()[:10] == [
            offset_of("task_struct", "pid") // 8, 16, 1, 0, 1, 32, 32,
            offset_of("task_struct", "se", "sum_exec_runtime") // 8, 8, offset_of("task_struct", "comm") // 8 + 3,
        ]  # fmt: skip


def test_a_missing_field_is_pruned_behind_its_test() -> None:
    prog = Prog()
    gone = tir.KField("no_such_field", 80 * 8, 0, INT)
    task, v = var("task", BTF), var("v")
    prog.body(
        set_(task, current()),
        if_(cmp("ne", fact("exists", gone), c(0, tir.U64)),
            [set_(v, load(field(g(task), gone), tir.S32))],
            [set_(v, load(field(g(task), TGID), tir.S32))]),
        prog.out(0, g(v)),
        ret(c(0)),
    )  # fmt: skip
    with running(prog, 4) as run:
        assert run()[0] == os.getpid()


def test_a_bit_field_by_its_shifts() -> None:
    prog = Prog()
    task, raw = var("task", BTF), var("raw", tir.U64)
    kernel = target()
    member = kernel.find_member(kernel.find("task_struct", (4,)), "in_execve")
    assert member is not None
    bits = member[1]
    place = tir.Offset(MEM, LOC, addr(raw), 0)
    prog.body(
        set_(task, current()),
        tir.Eval(LOC, helper(113, place, fact("size", EXECVE), field(g(task), EXECVE))),
        prog.out(0, tir.Bin(tir.U64, LOC, "lshr", tir.Bin(tir.U64, LOC, "shl", g(raw), fact("lshift_u64", EXECVE)),
                            fact("rshift_u64", EXECVE))),
        prog.out(1, fact("lshift_u64", EXECVE)),
        prog.out(2, fact("rshift_u64", EXECVE)),
        prog.out(3, fact("size", EXECVE)),
        prog.out(4, fact("offset", EXECVE)),
        ret(c(0)),
    )  # fmt: skip
    with running(prog, 8) as run:
        out = run()
        assert out[0] == 0  # this process is not in execve
        assert out[2] == 63
        assert out[3] == 4
        assert out[4] == bits // 32 * 4
        assert out[1] == 64 - (bits % 32 + 1)


def test_type_and_enumerator_facts() -> None:
    prog = Prog()
    flavour = tir.KStruct("task_struct___mine", "struct", 8)
    none = tir.KStruct("no_such_struct", "struct", 24)
    func_id = tir.KEnum("bpf_func_id", 4, False)
    facts = [
        tir.CoreType(tir.U64, LOC, TASK, "exists"), tir.CoreType(tir.U64, LOC, none, "exists"),
        tir.CoreType(tir.U64, LOC, TASK, "size"), tir.CoreType(tir.U64, LOC, flavour, "size"),
        tir.CoreEnum(tir.U64, LOC, func_id, "BPF_FUNC_ktime_get_ns", 99, "value"),
        tir.CoreEnum(tir.U64, LOC, func_id, "BPF_FUNC_ktime_get_ns", 99, "exists"),
        tir.CoreEnum(tir.BOOL, LOC, func_id, "BPF_FUNC_no_such", 100, "exists"),
        tir.CoreEnum(tir.U64, LOC, func_id, "BPF_FUNC_loop", 3, "value"),
    ]  # fmt: skip
    prog.body(
        *[prog.out(i, tir.Convert(tir.U64, LOC, e, tir.U64)) for i, e in enumerate(facts)],
        ret(c(0)),
    )
    with running(prog, 8) as run:
        size = target().get(target().find("task_struct", (4,))).size
        assert run() == [1, 0, size, size, 5, 1, 0, 181]


def test_a_raw_tracepoint_context_and_tp_btf_arguments() -> None:
    """``tp_btf/sched_switch``: the second argument is the task that leaves the CPU."""
    import time

    ctx, task = var("ctx", CTX), var("task", BTF)
    prog = Prog()
    prog.module.maps = [tir.MapDef("seen", 1, tir.S32, tir.U64, 4096)]
    key, one, place = var("key", tir.S32), var("one", tir.U64), var("place", MEM)
    func = tir.Func("leaves", "tp_btf/sched_switch", [ctx], tir.VOID, "/nowhere/x.py", 1)
    func.body = [
        set_(task, load(off(g(ctx), 8), BTF)),
        set_(key, load(field(g(task), TGID), tir.S32)),
        set_(place, helper(1, glob("seen"), addr(key), type=MEM)),
        if_(cmp("ne", g(place), c(0, MEM)),
            [tir.Eval(LOC, tir.Atomic(tir.VOID, LOC, "add", g(place), c(1), tir.U64))],
            [set_(one, c(1)), tir.Eval(LOC, helper(2, glob("seen"), addr(key), addr(one), c(0)))]),
    ]  # fmt: skip
    prog.module.funcs = [func]
    with live(prog.module) as loaded:
        link = bpf.raw_tracepoint_open(loaded.progs["leaves"].fd)
        try:
            before = switches()
            for _ in range(20):
                time.sleep(0.001)
            made = switches() - before
        finally:
            os.close(link)
        count = loaded.maps["seen"].lookup(os.getpid().to_bytes(4, "little"))
        assert count is not None
        assert int.from_bytes(count, "little") >= made > 0


def test_context_fields_by_relocation_in_two_branches() -> None:
    """A tracepoint record's fields are relocated too; LLVM must not merge the two loads."""
    ctx, v = var("ctx", CTX), var("v", tir.U64)
    record = tir.KStruct("trace_event_raw_sched_switch", "struct", 64)
    prev = tir.KField("prev_pid", 24 * 8, 0, INT)
    following = tir.KField("next_pid", 56 * 8, 0, INT)
    func = tir.Func("switch", "tracepoint/sched/sched_switch", [ctx], tir.VOID, "/nowhere/x.py", 1)

    def read(f: tir.KField) -> tir.Expr:
        return load(tir.FieldAddr(CTX, LOC, g(ctx), tir.Access(record, (f,))), tir.S32)

    total = glob("total")
    func.body = [
        if_(cmp("ne", load(glob("which"), tir.BOOL, volatile=True), c(0, tir.BOOL)),
            [set_(v, read(prev))], [set_(v, read(following))]),
        store(total, add(load(total, tir.U64), g(v))),
    ]  # fmt: skip
    prog = Prog()
    prog.module.data = [tir.Data("total", ".bss", tir.U64), tir.Data("which", ".rodata", tir.BOOL)]
    prog.module.funcs = [func]
    with live(prog.module) as loaded:
        assert loaded.progs["switch"].info().verified_insns > 5 or older_than("5.16")  # which do not tell
