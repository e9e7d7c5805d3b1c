# SPDX-License-Identifier: Apache-2.0
"""The typed program printed for people."""

from __future__ import annotations

from backend_tir import (
    BTF,
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
    off,
    ret,
    set_,
    store,
    var,
    while_,
)

from osmia.compiler import tir
from osmia.compiler.dump import dump

WANT = """\
# module test, license GPL

struct Open:  # 4 bytes
    pid: u32  # at 0

counts = map[u32, u64](type=1, max_entries=10, flags=0x1)
events = map(type=27, max_entries=4096)
option: s32 = b'\\x05'  # .rodata

# /nowhere/prog.py:1
@section('syscall')
def prog(ctx: ctx*) -> s64:
    key: u32
    i: s64
    p: mem*
    key.2: u64
    task: btf*
    key = get_current_pid_tgid()  # 2
    for i in range(0, 10, 1):  # at most 10 rounds
        p = map_lookup_elem(&counts, &key)  # 1
        if (p != null):  # 1
            atomic_add(u64[p], 1)  # 1
            continue  # 1
        else:
            break  # 1
    while (key.2 <u (volatile s32[&option] // 3)):  # at most 7 rounds
        key.2 = (key.2 + 1)  # 1
    u32[p + i*4 + 8] = ({zero(&key, 4, align=4)  # 1; u32[&key]} if not (i < 3) else fls(key.2))  # 1
    task = get_current_task_btf()  # 1
    return (s32[&(task)->pid] + core_exists(task_struct.comm[3]))  # 1
"""


def test_everything_is_readable() -> None:
    prog = Prog()
    m = prog.module
    m.exports = [tir.Struct("Open", (tir.Member("pid", tir.U32, 0),), 4, 4)]
    m.maps = [tir.MapDef("counts", 1, tir.U32, tir.U64, 10, 1), tir.MapDef("events", 27, None, None, 4096)]
    m.data = [tir.Data("option", ".rodata", tir.S32, b"\5")]
    key, other, i, p, task = var("key", tir.U32), var("key", tir.U64), var("i"), var("p", MEM), var("task", BTF)
    integer = tir.KInt("int", 4, True)
    kernel = tir.KStruct("task_struct", "struct", 100)
    pid = tir.Access(kernel, (tir.KField("pid", 0, 0, integer),))
    comm = tir.Access(kernel, (tir.KField("comm", 64, 0, tir.KArray(tir.KInt("char", 1, True), 16)), 3))
    atomic = tir.Atomic(tir.VOID, LOC, "add", g(p), c(1), tir.U64)
    option = load(glob("option"), tir.S32, volatile=True)
    cleared = tir.Seq(tir.U64, LOC, [tir.Zero(LOC, addr(key), 4, 4)], load(addr(key), tir.U32))
    chosen = tir.Cond(
        tir.U64, LOC, tir.Not(tir.BOOL, LOC, cmp("slt", g(i), c(3))), cleared, tir.Fls(tir.U64, LOC, g(other))
    )
    prog.body(
        set_(key, helper(14), at(2)),
        for_(i, c(0), c(10), [
            set_(p, helper(1, glob("counts"), addr(key), type=MEM)),
            if_(cmp("ne", g(p), c(0, MEM)), [tir.Eval(LOC, atomic), tir.Continue(LOC)], [tir.Break(LOC)]),
        ], 10),
        while_(cmp("ult", g(other), bin("sdiv", option, c(3))), [set_(other, add(g(other), c(1)))], 7),
        store(off(g(p), 8, g(i), 4), chosen, tir.U32),
        set_(task, helper(158, type=BTF)),
        ret(add(load(tir.FieldAddr(BTF, LOC, g(task), pid), tir.S32), tir.CoreField(tir.S64, LOC, comm, "exists"))),
    )  # fmt: skip
    assert dump(m) == WANT
