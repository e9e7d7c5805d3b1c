# SPDX-License-Identifier: Apache-2.0
"""What compiled expressions compute, against Python, by BPF_PROG_TEST_RUN."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from backend_live import running
from backend_tir import (
    BTF,
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
    load,
    off,
    ret,
    s64,
    set_,
    store,
    var,
)  # fmt: skip

from osmia.compiler import tir

pytestmark = pytest.mark.kernel

EDGES = [0, 1, 2, 3, 7, 63, 64, 255, 1 << 31, (1 << 31) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, MASK, MASK - 1, -7 & MASK]


def pairs(n: int = 150) -> list[tuple[int, int]]:
    rng = random.Random(7)
    some = [(rng.getrandbits(rng.randint(1, 64)), rng.getrandbits(rng.randint(1, 64))) for _ in range(n)]
    return some + [(-x & MASK, y) for x, y in some[:50]] + [(x, -y & MASK) for x, y in some[:50]]


def edge_pairs() -> list[tuple[int, int]]:
    return [(x, y) for x in EDGES for y in EDGES]


PURE = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "and": lambda x, y: x & y,
    "or": lambda x, y: x | y,
    "xor": lambda x, y: x ^ y,
}
DIVISIONS = {
    "udiv": lambda x, y: x // y,
    "umod": lambda x, y: x % y,
    "sdiv": lambda x, y: s64(x) // s64(y),
    "smod": lambda x, y: s64(x) % s64(y),
}
SHIFTS = {"shl": lambda x, y: x << y, "lshr": lambda x, y: x >> y, "ashr": lambda x, y: s64(x) >> y}


def test_arithmetic_agrees_with_python() -> None:
    prog = Prog()
    prog.body(*[prog.out(2 + i, bin(op, prog.word(0), prog.word(1))) for i, op in enumerate(PURE)], ret(c(0)))
    with running(prog) as run:
        for x, y in pairs() + edge_pairs():
            assert run(x, y)[2 : 2 + len(PURE)] == [f(x, y) & MASK for f in PURE.values()], (x, y)


def test_divisions_agree_with_python_floor_and_sign_included() -> None:
    prog = Prog()
    prog.body(*[prog.out(2 + i, bin(op, prog.word(0), prog.word(1))) for i, op in enumerate(DIVISIONS)], ret(c(0)))
    with running(prog) as run:
        for x, y in pairs() + edge_pairs():
            if y:
                assert run(x, y)[2:6] == [f(x, y) & MASK for f in DIVISIONS.values()], (x, y)


@pytest.mark.parametrize("divisor", [1, 2, 3, 10, 1000, 4096, -1, -2, -3, -(1 << 63), (1 << 63) - 1])
def test_division_by_constants(divisor: int) -> None:
    prog = Prog()
    prog.body(
        prog.out(1, bin("sdiv", prog.word(0), c(divisor))), prog.out(2, bin("smod", prog.word(0), c(divisor))), ret()
    )
    with running(prog) as run:
        for x in EDGES + [x for x, _ in pairs(40)]:
            assert run(x)[1:3] == [s64(x) // divisor & MASK, s64(x) % divisor & MASK], x


def test_shifts_agree_with_python() -> None:
    prog = Prog()
    count = bin("and", prog.word(1), c(63))
    prog.body(*[prog.out(2 + i, bin(op, prog.word(0), count)) for i, op in enumerate(SHIFTS)], ret(c(0)))
    with running(prog) as run:
        for x in EDGES:
            for n in (0, 1, 7, 8, 31, 32, 33, 62, 63):
                assert run(x, n)[2:5] == [f(x, n) & MASK for f in SHIFTS.values()], (x, n)


COMPARISONS = {
    "eq": lambda x, y: x == y,
    "ne": lambda x, y: x != y,
    "ult": lambda x, y: x < y,
    "ule": lambda x, y: x <= y,
    "ugt": lambda x, y: x > y,
    "uge": lambda x, y: x >= y,
    "slt": lambda x, y: s64(x) < s64(y),
    "sle": lambda x, y: s64(x) <= s64(y),
    "sgt": lambda x, y: s64(x) > s64(y),
    "sge": lambda x, y: s64(x) >= s64(y),
}


def test_comparisons_agree_with_python() -> None:
    prog = Prog()

    def bit(op: str) -> tir.Expr:
        return tir.Convert(tir.U64, LOC, cmp(op, prog.word(0), prog.word(1)), tir.U64)

    prog.body(*[prog.out(2 + i, bit(op)) for i, op in enumerate(COMPARISONS)], ret(c(0)))
    with running(prog) as run:
        for x, y in edge_pairs():
            assert run(x, y)[2:12] == [int(f(x, y)) for f in COMPARISONS.values()], (x, y)


def test_conversions_truncate_and_widen_by_sign() -> None:
    prog = Prog()
    types = [tir.S8, tir.U8, tir.S16, tir.U16, tir.S32, tir.U32, tir.S64, tir.U64]
    stmts: list[tir.Stmt] = [
        prog.out(1 + i, tir.Convert(tir.S64 if t.signed else tir.U64, LOC, prog.word(0), t))
        for i, t in enumerate(types)
    ]
    truth = tir.Convert(tir.BOOL, LOC, prog.word(0), tir.BOOL)
    stmts.append(prog.out(9, tir.Convert(tir.U64, LOC, truth, tir.U64)))
    # and the same through memory: Set and Get, Store and Load
    for i, t in enumerate(types):
        local = var(f"v{i}", t)
        stmts += [set_(local, prog.word(0)), prog.out(10 + i, g(local))]
    buffer = var("buffer", tir.Array(tir.U8, 64))
    for i, t in enumerate(types):
        place = off(addr(buffer), 8 * i)
        stmts += [store(place, prog.word(0), t), prog.out(20 + i, load(place, t))]
    prog.body(*stmts, ret(c(0)))

    def as_type(x: int, t: tir.Int) -> int:
        x &= (1 << t.bits) - 1
        return (x - (1 << t.bits) if t.signed and x >> (t.bits - 1) else x) & MASK

    with running(prog) as run:
        for x in [*EDGES, 0x8080808080808080, 0x7F7F7F7F7F7F7F7F, 0xFFFF0000]:
            out = run(x)
            want = [as_type(x, t) for t in types]
            assert out[1:9] == want
            assert out[9] == int(x != 0)
            assert out[10:18] == want
            assert out[20:28] == want


def test_only_the_chosen_side_runs() -> None:
    """And, Or and Cond: the other side's effects must not happen."""
    prog = Prog()
    count = var("count", tir.U64)

    def noting(value: tir.Expr, amount: int) -> tir.Expr:
        return tir.Seq(value.type, LOC, [set_(count, add(g(count), c(amount, tir.U64)))], value)

    x, y = cmp("ne", prog.word(0), c(0)), cmp("ne", prog.word(1), c(0))
    both = tir.And(tir.BOOL, LOC, noting(x, 1), noting(y, 10))
    either = tir.Or(tir.BOOL, LOC, noting(x, 100), noting(y, 1000))
    pick = tir.Cond(tir.S64, LOC, x, noting(c(7), 10_000), noting(c(9), 100_000))
    prog.body(
        prog.out(2, tir.Convert(tir.U64, LOC, both, tir.U64)),
        prog.out(3, tir.Convert(tir.U64, LOC, either, tir.U64)),
        prog.out(4, pick),
        prog.out(5, tir.Convert(tir.U64, LOC, tir.Not(tir.BOOL, LOC, x), tir.U64)),
        prog.out(6, g(count)),
        ret(c(0)),
    )
    with running(prog) as run:
        assert run(0, 0)[2:7] == [0, 0, 9, 1, 101_101]
        assert run(1, 0)[2:7] == [0, 1, 7, 0, 10_111]
        assert run(0, 1)[2:7] == [0, 1, 9, 1, 101_101]
        assert run(1, 1)[2:7] == [1, 1, 7, 0, 10_111]


def test_fls_and_barrier() -> None:
    prog = Prog()
    prog.body(
        prog.out(1, tir.Fls(tir.U64, LOC, prog.word(0))), prog.out(2, tir.Barrier(tir.S64, LOC, prog.word(0))), ret()
    )
    with running(prog) as run:
        for x in [*EDGES, *[1 << i for i in range(64)], *[(1 << i) - 1 for i in range(64)]]:
            assert run(x)[1:3] == [x.bit_length(), x]


def test_two_loads_of_the_context_chosen_by_a_branch() -> None:
    """LLVM would load through a chosen address; the verifier refuses that ("modified ctx ptr")."""
    prog = Prog()
    v, w = var("v"), var("w")
    pick = tir.Cond(tir.S64, LOC, cmp("sgt", prog.word(0), c(5)), prog.word(1), prog.word(2))
    prog.body(
        if_(cmp("ne", prog.word(3), c(0)), [set_(v, prog.word(4))], [set_(v, prog.word(5))]),
        if_(cmp("ne", prog.word(3), c(1)), [set_(w, prog.word(4, tir.S32))], [set_(w, prog.word(6, tir.S32))]),
        prog.out(8, pick),
        prog.out(9, g(v)),
        prog.out(10, g(w)),
        ret(c(0)),
    )
    with running(prog) as run:
        assert run(6, 11, 12, 1, 14, 15, 16)[8:11] == [11, 14, 16]
        assert run(5, 11, 12, 0, 14, 15, 16)[8:11] == [12, 15, 14]


@pytest.mark.parametrize(
    "size,align", [(1, 1), (7, 1), (16, 1), (100, 1), (128, 1), (200, 1), (64, 4), (200, 8), (203, 8)]
)
def test_copy_and_zero_of_any_size_and_alignment(size: int, align: int) -> None:
    prog = Prog()
    room = (size + 15) & ~7
    source, target = var("source", tir.Array(tir.U8, room)), var("target", tir.Array(tir.U8, room))
    n = var("n")
    fill: list[tir.Stmt] = [
        store(off(addr(source), 0, g(n)), bin("add", prog.word(0), g(n)), tir.U8),
        store(off(addr(target), 0, g(n)), c(0xEE), tir.U8),
    ]
    total, last = var("total", tir.U64), off(addr(target), size)
    i = var("i")
    index = bin("and", g(i), c(255))
    summing = tir.For(
        LOC, i, c(0), c(size), 1,
        [
            if_(cmp("ult", index, c(size)), [
                set_(total, add(bin("mul", g(total), c(31, tir.U64)), load(off(addr(target), 0, index), tir.U8)))
            ])
        ],
        size,
    )  # fmt: skip
    prog.body(
        for_(n, c(0), c(size + 1), fill, size + 1),
        tir.Copy(LOC, addr(target), addr(source), size, align),
        summing,
        prog.out(1, g(total)),
        prog.out(2, load(last, tir.U8)),
        tir.Zero(LOC, addr(target), size, align),
        set_(total, c(0)),
        summing,
        prog.out(3, g(total)),
        prog.out(4, load(last, tir.U8)),
        ret(c(0)),
    )
    want = 0
    for k in range(size):
        want = (want * 31 + (k + 200) % 256) & MASK
    with running(prog) as run:
        assert run(200)[1:5] == [want, 0xEE, 0, 0xEE]


def test_maps_atomics_and_large_clearing_of_map_memory() -> None:
    prog = Prog()
    big = tir.Array(tir.U64, 512)
    prog.module.maps = [
        tir.MapDef("counts", 1, tir.U32, tir.U64, 16),
        tir.MapDef("scratch", 2, tir.U32, big, 1),
    ]
    key, zero, place, area = var("key", tir.U32), var("zero", tir.U32), var("place", MEM), var("area", MEM)
    value = var("value", tir.U64)
    found = cmp("ne", g(place), c(0, MEM))
    word = off(g(area), 4088)

    def atomic(op: str, at: tir.Expr, n: int, fetch: bool, mem: tir.Int = tir.U64) -> tir.Atomic:
        return tir.Atomic(tir.U64 if fetch else tir.VOID, LOC, op, at, c(n), mem, fetch)

    prog.body(
        set_(key, prog.word(0)),
        set_(value, c(40)),
        tir.Eval(LOC, helper(2, glob("counts"), addr(key), addr(value), c(0))),
        set_(place, helper(1, glob("counts"), addr(key), type=MEM)),
        if_(found, [
            tir.Eval(LOC, atomic("add", g(place), 2, False)),
            prog.out(1, load(g(place), tir.U64)),
            prog.out(2, atomic("xchg", g(place), 77, True)),
            prog.out(3, atomic("add", g(place), 3, True)),
            prog.out(4, load(g(place), tir.U64)),
        ]),
        set_(area, helper(1, glob("scratch"), addr(zero), type=MEM)),
        if_(cmp("ne", g(area), c(0, MEM)), [
            store(word, c(-1)),
            tir.Eval(LOC, atomic("and", word, 0xFF, False)),
            tir.Eval(LOC, atomic("or", word, 0x100, False)),
            tir.Eval(LOC, atomic("xor", word, 1, False, tir.U32)),
            prog.out(5, load(word, tir.U64)),
            tir.Zero(LOC, g(area), 4096, 8),
            prog.out(6, load(word, tir.U64)),
        ]),
        ret(c(0)),
    )  # fmt: skip
    with running(prog) as run:
        assert run(5)[1:7] == [42, 42, 77, 80, 0x1FE, 0]
        assert dict(run.live.maps["counts"].items()) == {b"\5\0\0\0": (80).to_bytes(8, "little")}


def test_an_option_is_read_from_rodata_and_prunes() -> None:
    prog = Prog()
    prog.module.data = [
        tir.Data("option", ".rodata", tir.S32, (-5).to_bytes(4, "little", signed=True)),
        tir.Data("total", ".bss", tir.U64),
        tir.Data("flag", ".rodata", tir.BOOL, b"\1"),
    ]
    total = glob("total")
    prog.body(
        prog.out(0, load(glob("option"), tir.S32, volatile=True)),
        if_(load(glob("flag"), tir.BOOL, volatile=True), [prog.out(1, c(9))], [tir.Eval(LOC, helper(9999))]),
        store(total, add(load(total, tir.U64), c(2, tir.U64))),
        prog.out(2, load(total, tir.U64)),
        ret(c(0)),
    )
    with running(prog) as run:
        assert run()[:3] == [s64(-5) & MASK, 9, 2]
        assert run()[2] == 4


def test_pointers_of_the_kernel_as_numbers_and_null_tests() -> None:
    prog = Prog()
    task = var("task", BTF)
    prog.body(
        set_(task, helper(158, type=BTF)),
        prog.out(0, tir.Convert(tir.U64, LOC, g(task), tir.U64)),
        prog.out(1, tir.Convert(tir.U64, LOC, cmp("eq", g(task), c(0, BTF)), tir.U64)),
        prog.out(2, helper(35)),
        ret(c(0)),
    )
    with running(prog) as run:
        out = run()
        assert out[0] == out[2] != 0
        assert out[1] == 0


def test_the_memory_of_locals_is_clear() -> None:
    prog = Prog()
    area = var("area", tir.Struct("area", (tir.Member("a", tir.U8, 0), tir.Member("b", tir.U64, 8)), 16, 8))
    number, truth = var("number", tir.U32), var("truth", tir.BOOL)
    prog.body(
        prog.out(0, load(off(addr(area), 8), tir.U64)),
        prog.out(1, load(addr(area), tir.U64)),
        prog.out(2, g(number)),
        prog.out(3, tir.Convert(tir.U64, LOC, g(truth), tir.U64)),
        ret(c(0)),
    )
    prog.func.locals = [area, number, truth]
    with running(prog) as run:
        assert run(1, 1, 1, 1)[:4] == [0, 0, 0, 0]


def test_bool_in_memory_is_one_byte() -> None:
    prog = Prog()
    flag, area = var("flag", tir.BOOL), var("area", tir.Array(tir.U8, 8))
    prog.body(
        set_(flag, cmp("sgt", prog.word(0), c(3))),
        store(addr(area), g(flag), tir.BOOL),
        prog.out(1, load(addr(area), tir.U8)),
        prog.out(2, load(addr(flag), tir.U8)),
        prog.out(3, tir.Convert(tir.U64, LOC, load(addr(area), tir.BOOL), tir.U64)),
        ret(c(0)),
    )
    with running(prog) as run:
        assert run(4)[1:4] == [1, 1, 1]
        assert run(3)[1:4] == [0, 0, 0]


def test_mem_pointer_arithmetic() -> None:
    prog = Prog()
    area, p, i = var("area", tir.Array(tir.U32, 8)), var("p", MEM), bin("and", prog.word(0), c(7))
    prog.body(
        *[store(off(addr(area), 4 * n), c(100 + n), tir.U32) for n in range(8)],
        set_(p, addr(area)),
        prog.out(1, load(off(g(p), 0, i, 4), tir.U32)),
        ret(c(0)),
    )
    with running(prog) as run:
        assert [run(n)[1] for n in range(8)] == list(range(100, 108))
