# SPDX-License-Identifier: Apache-2.0
"""Loops, plain and by bpf_loop, subprograms and callbacks: run in the kernel and compared with Python."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from backend_live import running
from backend_tir import (
    CTX,
    LOC,
    MASK,
    MEM,
    Prog,
    add,
    addr,
    bin,
    c,
    cmp,
    for_,
    g,
    glob,
    helper,
    if_,
    inc,
    load,
    off,
    ret,
    s64,
    set_,
    store,
    var,
    while_,
    words,
)  # fmt: skip
from needs import needs

from osmia.compiler import tir
from osmia.compiler.emit import assembly
from osmia.compiler.lower import lower

pytestmark = pytest.mark.kernel

# Both ways must compute the same: a limit of 0 makes every bounded loop a call of bpf_loop.
WAYS = pytest.mark.parametrize("limit", [30_000, 0], ids=["plain", "bpf_loop"])
BREAK, CONTINUE = tir.Break(LOC), tir.Continue(LOC)
RANGES = [(0, 10, 1), (0, 0, 1), (5, 3, 1), (-4, 9, 3), (10, 0, -1), (10, -10, -7), (0, 10, -1), (3, 4, 100)]


@WAYS
@pytest.mark.parametrize("step", [1, 3, -1, -7])
def test_for_agrees_with_range(step: int, limit: int) -> None:
    prog = Prog()
    i, total, rounds = var("i"), var("total"), var("rounds")
    prog.body(
        for_(i, prog.word(0), prog.word(1), [
            set_(total, add(bin("mul", g(total), c(31)), g(i))), inc(rounds, c(1)), set_(i, c(99)),
        ], 40, step),
        prog.out(2, g(total)),
        prog.out(3, g(rounds)),
        ret(c(0)),
    )  # fmt: skip
    top = (1 << 63) - 1
    cases = [(a, b) for a, b, _ in RANGES] + [(top - 9, top), (-top, 9 - top), (-top - 1, 5 - top)]
    with running(prog, 8, limit) as run:
        for a, b in cases:
            want = 0
            for x in range(a, b, step):
                want = want * 31 + x
            if len(range(a, b, step)) <= 40:
                assert run(a & MASK, b & MASK)[2:4] == [want & MASK, len(range(a, b, step))], (a, b)


@WAYS
@pytest.mark.parametrize("start,stop,step", RANGES)
def test_for_over_constants(start: int, stop: int, step: int, limit: int) -> None:
    prog = Prog()
    i, total = var("i"), var("total")
    body = [set_(total, add(bin("mul", g(total), c(31)), g(i)))]
    bound = len(range(start, stop, step))
    prog.body(for_(i, c(start), c(stop), body, bound, step), prog.out(0, g(total)), prog.out(1, g(i)), ret())
    want = 0
    for x in range(start, stop, step):
        want = want * 31 + x
    with running(prog, 4, limit) as run:
        assert run()[0] == want & MASK


@WAYS
def test_break_continue_and_return_in_a_body(limit: int) -> None:
    prog = Prog()
    i, total = var("i"), var("total")
    prog.body(
        for_(i, c(0), c(100), [
            if_(cmp("eq", g(i), prog.word(0)), [BREAK]),
            if_(cmp("eq", bin("and", g(i), c(1)), c(1)), [CONTINUE]),
            if_(cmp("eq", g(i), prog.word(1)), [ret(c(77))]),
            inc(total, g(i)),
        ], 100),
        prog.out(2, g(total)),
        ret(c(5)),
    )  # fmt: skip

    def model(stop: int, leave: int) -> tuple[int, int]:
        total = 0
        for i in range(100):
            if i == stop:
                break
            if i & 1:
                continue
            if i == leave:
                return 0, 77
            total += i
        return total, 5

    with running(prog, 4, limit) as run:
        for stop, leave in [(10, 1000), (1000, 1000), (0, 0), (51, 50), (50, 51), (99, 98)]:
            value, ctx = run.prog.test_run(words(stop, leave, 0, 0))
            assert (int.from_bytes(ctx[16:24], "little"), value) == model(stop, leave)


@WAYS
def test_while_ends_by_its_test_or_by_its_bound(limit: int) -> None:
    prog = Prog()
    n, rounds = var("n"), var("rounds")
    prog.body(
        set_(n, prog.word(0)),
        while_(cmp("ne", g(n), c(1)), [
            inc(rounds, c(1)),
            if_(cmp("eq", bin("and", g(n), c(1)), c(0)),
                [set_(n, bin("sdiv", g(n), c(2)))],
                [set_(n, add(bin("mul", g(n), c(3)), c(1)))]),
            if_(cmp("eq", g(n), c(-99)), [BREAK]),
        ], 120),
        prog.out(1, g(n)),
        prog.out(2, g(rounds)),
        ret(c(0)),
    )  # fmt: skip
    with running(prog, 4, limit) as run:
        for start in (1, 2, 7, 27, 97):
            n, steps = start, 0
            while n != 1 and steps < 120:
                n, steps = (n // 2 if n % 2 == 0 else 3 * n + 1), steps + 1
            assert run(start)[1:3] == [n, steps]


@pytest.mark.parametrize("limit", [30_000, 100, 0])
def test_nested_loops_with_memory_and_return_from_the_inner_one(limit: int) -> None:
    prog = Prog()
    i, j, total = var("i"), var("j"), var("total")
    area = var("area", tir.Array(tir.U64, 8))
    cell = off(addr(area), 0, bin("and", g(j), c(7)), 8)
    prog.body(
        for_(i, c(0), c(12), [
            for_(j, g(i), c(12), [
                if_(cmp("eq", bin("mul", g(i), g(j)), prog.word(0)), [prog.out(5, g(i)), ret(g(j))]),
                if_(cmp("sgt", g(j), c(9)), [BREAK]),
                store(cell, add(load(cell, tir.U64), c(1, tir.U64))),
                inc(total, bin("mul", g(i), g(j))),
            ], 12),
            inc(total, c(1000)),
        ], 12),
        prog.out(1, g(total)),
        *[prog.out(8 + n, load(off(addr(area), 8 * n), tir.U64)) for n in range(8)],
        ret(c(0)),
    )  # fmt: skip

    def model(leave: int) -> list[int]:
        total, area = 0, [0] * 8
        for i in range(12):
            for j in range(i, 12):
                if i * j == leave:
                    return [0, i, *[0] * 8]
                if j > 9:
                    break
                area[j & 7] += 1
                total += i * j
            total += 1000
        return [total, 0, *area]

    with running(prog, 16, limit) as run:
        for leave in (12, 1000, 0, 100):
            out = run(leave)
            assert [out[1], out[5], *out[8:16]] == model(leave)


def test_a_million_rounds() -> None:
    prog = Prog()
    i, total = var("i"), var("total")
    prog.body(
        for_(i, c(0), c(1_000_000), [set_(total, add(bin("xor", g(total), g(i)), c(1)))], 1_000_000),
        prog.out(0, g(total)),
        ret(c(0)),
    )
    want = 0
    for x in range(1_000_000):
        want = (want ^ x) + 1
    with running(prog, 4) as run:
        assert run()[0] == want


def test_more_rounds_than_one_bpf_loop_allows() -> None:
    prog = Prog()
    i, total = var("i"), var("total")
    bound = 3 << 23
    prog.body(
        for_(i, c(0), prog.word(0), [
            inc(total, c(1)),
            if_(cmp("eq", g(i), prog.word(1)), [BREAK]),
        ], bound),
        prog.out(2, g(total)),
        prog.out(3, g(i)),
        ret(c(0)),
    )  # fmt: skip
    with running(prog, 4) as run:
        for stop in (10, 1 << 23, (1 << 23) + 5, 2 << 23):
            assert run(stop, MASK)[2:4] == [stop, stop - 1]
        for last in ((1 << 23) - 1, 1 << 23, (1 << 23) + 1):
            assert run(bound, last)[2:4] == [last + 1, last]


def test_a_hundred_plain_rounds_over_memory() -> None:
    prog = Prog()
    area, i, total = var("area", tir.Array(tir.U8, 100)), var("i"), var("total", tir.U64)
    prog.body(
        for_(i, c(0), c(100), [store(off(addr(area), 0, g(i)), bin("mul", g(i), prog.word(0)), tir.U8)], 100),
        for_(i, c(0), c(100), [inc(total, load(off(addr(area), 0, g(i)), tir.U8))], 100),
        prog.out(1, g(total)),
        ret(c(0)),
    )
    assert "call 181" not in assembly(lower(prog.module, {prog.func.file: ""}))
    with running(prog, 4) as run:
        assert run(7)[1] == sum(i * 7 % 256 for i in range(100))


def test_a_big_loop_reads_the_context_and_maps_through_its_frame() -> None:
    prog = Prog()
    prog.module.maps = [tir.MapDef("seen", 1, tir.U64, tir.U64, 256)]
    i, key, value, place = var("i"), var("key", tir.U64), var("value", tir.U64), var("place", MEM)
    prog.body(
        for_(i, c(0), prog.word(0), [
            set_(key, bin("and", g(i), c(0xFF))),
            set_(place, helper(1, glob("seen"), addr(key), type=MEM)),
            if_(cmp("ne", g(place), c(0, MEM)),
                [store(g(place), add(load(g(place), tir.U64), prog.word(1)))],
                [set_(value, prog.word(1)), tir.Eval(LOC, helper(2, glob("seen"), addr(key), addr(value), c(0)))]),
        ], 100_000),
        ret(c(0)),
    )  # fmt: skip
    with running(prog, 4) as run:
        run(100_000, 3)
        got = {int.from_bytes(k, "little"): int.from_bytes(v, "little") for k, v in run.live.maps["seen"].items()}
        assert got == {k: 3 * len(range(k, 100_000, 256)) for k in range(256)}


def test_the_callback_serves_kernels_without_bpf_loop_too() -> None:
    """The plain branch, taken when the enumerator does not exist: forced here by asking for one that never will."""
    needs("syscall_prog")
    prog = Prog()
    i, total = var("i"), var("total")
    prog.body(for_(i, c(0), c(900), [inc(total, g(i))], 900), prog.out(0, g(total)), ret(c(0)))
    from backend_live import SOURCE

    from osmia.compiler.emit import compile_ir
    from osmia.load.object import load as load_object
    from osmia.obj.elf import parse_object

    ir = lower(prog.module, {prog.func.file: SOURCE}, loop_limit=0).replace("BPF_FUNC_loop", "BPF_FUNC_nope")
    spec = parse_object(compile_ir(ir), "none")
    loaded = load_object(spec)
    try:
        out = loaded.progs["prog"].test_run(bytes(32))[1]
        assert int.from_bytes(out[:8], "little") == sum(range(900))
    finally:
        loaded.close()


def test_subprograms_and_inlined_functions() -> None:
    prog = Prog()
    n, p, flag = var("n"), var("p", MEM), var("flag", tir.BOOL)
    twice = prog.sub("twice", [n], [ret(bin("mul", g(n), c(2)))])
    narrow = var("narrow", tir.S8)
    small = prog.sub("small", [narrow], [ret(g(narrow))], inline=True)
    fill = prog.sub("fill", [p, flag], [
        if_(g(flag), [store(g(p), c(123)), ret()]),
        store(g(p), c(45)),
    ], type=tir.VOID)  # fmt: skip
    test = prog.sub("test", [n], [ret(cmp("sgt", g(n), c(10)))], type=tir.BOOL)
    room = var("room", tir.U64)
    many = [var(f"p{k}") for k in range(5)]
    five = prog.sub("five", many, [ret(add(add(add(add(g(many[0]), g(many[1])), g(many[2])), g(many[3])), g(many[4])))])

    def call(func: tir.Func, *args: tir.Expr) -> tir.Call:
        return tir.Call(func.ret, LOC, func, list(args))

    prog.body(
        prog.out(1, call(twice, call(twice, prog.word(0)))),
        prog.out(2, call(small, prog.word(0))),
        tir.Eval(LOC, call(fill, addr(room), call(test, prog.word(0)))),
        prog.out(3, g(room)),
        prog.out(4, call(five, c(1), c(2), c(3), c(4), prog.word(0))),
        ret(c(0)),
    )
    with running(prog, 8) as run:
        assert run(200)[1:5] == [800, s64(200 - 256) & MASK, 123, 210]
        assert run(3)[1:5] == [12, 3, 45, 13]


def test_callback_of_for_each_map_elem() -> None:
    prog = Prog()
    prog.module.maps = [tir.MapDef("table", 1, tir.U32, tir.U64, 64)]
    m, key, value, state = var("map", MEM), var("key", MEM), var("value", MEM), var("state", MEM)
    visit = prog.sub("visit", [m, key, value, state], [
        store(g(state), add(load(g(state), tir.U64), load(g(value), tir.U64))),
        ret(c(0)),
    ], inline=True)  # fmt: skip
    total = var("total", tir.U64)
    prog.body(
        tir.Eval(LOC, helper(164, glob("table"), tir.FuncAddr(MEM, LOC, visit), addr(total), c(0))),
        prog.out(0, g(total)),
        ret(c(0)),
    )
    with running(prog, 4) as run:
        for k in range(20):
            run.live.maps["table"].update(k.to_bytes(4, "little"), (k * k).to_bytes(8, "little"), 0)
        assert run()[0] == sum(k * k for k in range(20))


def test_an_inlined_function_with_a_big_loop_is_used_twice() -> None:
    prog = Prog()
    n, i, total = var("n"), var("i"), var("total")
    body = [inc(total, g(i)), if_(cmp("sgt", g(total), c(1_000_000)), [ret(c(-1))])]
    f = prog.sub("f", [n], [for_(i, c(0), g(n), body, 100_000), ret(g(total))], inline=True)
    prog.body(
        prog.out(1, tir.Call(tir.S64, LOC, f, [prog.word(0)])),
        prog.out(2, tir.Call(tir.S64, LOC, f, [add(prog.word(0), c(1))])),
        ret(c(0)),
    )
    with running(prog, 4) as run:
        assert run(1000)[1:3] == [sum(range(1000)), sum(range(1001))]
        assert run(50_000)[1:3] == [MASK, MASK]


def test_a_return_value_that_is_a_pointer_leaves_a_big_loop() -> None:
    prog = Prog()
    prog.module.maps = [tir.MapDef("slots", 2, tir.U32, tir.U64, 16)]
    i, key, place, found = var("i"), var("key", tir.U32), var("place", MEM), var("found", MEM)
    find = prog.sub("find", [], [
        for_(i, c(0), c(16), [
            set_(key, g(i)),
            set_(place, helper(1, glob("slots"), addr(key), type=MEM)),
            if_(tir.And(tir.BOOL, LOC, cmp("ne", g(place), c(0, MEM)), cmp("ne", load(g(place), tir.U64), c(0))),
                [ret(g(place))]),
        ], 16),
        ret(c(0, MEM)),
    ], inline=True, type=MEM)  # fmt: skip
    prog.body(
        set_(found, tir.Call(MEM, LOC, find, [])),
        if_(cmp("ne", g(found), c(0, MEM)), [prog.out(0, load(g(found), tir.U64))]),
        ret(c(0)),
    )
    with running(prog, 4, 0) as run:
        assert run()[0] == 0
        run.live.maps["slots"].update((11).to_bytes(4, "little"), (606).to_bytes(8, "little"), 0)
        assert run()[0] == 606


def test_other_program_types_load() -> None:
    """A tracepoint program reads its record, a raw one its arguments; neither can be test-run with results here."""
    ctx = var("ctx", CTX)
    func = tir.Func("on_switch", "raw_tracepoint/sched_switch", [ctx], tir.VOID, "/nowhere/x.py", 1)
    total = glob("total")
    func.body = [store(total, add(load(total, tir.U64), load(off(g(ctx), 8), tir.U64)))]
    prog = Prog()
    prog.module.funcs = [func]
    prog.module.data = [tir.Data("total", ".bss", tir.U64)]
    from backend_live import live

    with live(prog.module) as loaded:
        value, _ = loaded.progs["on_switch"].test_run(b"".join(n.to_bytes(8, "little") for n in (1, 42, 3)))
        assert value == 0
        assert loaded.maps[".bss"].lookup(bytes(4)) == (42).to_bytes(8, "little")
