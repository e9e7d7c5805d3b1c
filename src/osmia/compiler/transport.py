# SPDX-License-Identifier: Apache-2.0
"""The way of a record out of the kernel: the ring buffer, or the perf buffer where there is no ring buffer.

Both ways are in the object.  Which one is taken says a ``.rodata`` variable
that the loader sets, so that the verifier walks one of them only and the
kernel removes the other; the helpers of a ring buffer need not even exist
then (they came with 5.8).  A perf buffer has no reservation: records are put
together in per-CPU memory and copied.
"""

from __future__ import annotations

from osmia.compiler import tir
from osmia.compiler.builder import SCRATCH
from osmia.compiler.core import Fn
from osmia.obj import consts

RESERVE, SUBMIT, DISCARD, OUTPUT = (
    consts.BPF_FUNC_ringbuf_reserve, consts.BPF_FUNC_ringbuf_submit,
    consts.BPF_FUNC_ringbuf_discard, consts.BPF_FUNC_ringbuf_output,
)
CURRENT_CPU = 0xFFFFFFFF  # BPF_F_CURRENT_CPU
NO_WAKEUP = 1  # BPF_RB_NO_WAKEUP
PERCPU_LIMIT = 32768  # PCPU_MIN_UNIT_SIZE, include/linux/percpu.h: the largest value of a per-CPU map


def is_perf(fn: Fn) -> tir.Expr:
    """Whether the rings are perf buffers; a constant to the verifier."""
    flag = tir.Load(tir.U64, fn.loc, fn.global_(fn.mod.perf_buffer()), tir.U64, True)
    return fn.cmp("ne", fn.keep(flag), fn.num(0, False))


def scratch(fn: Fn, ring: str, size: int) -> tir.Expr:
    """Per-CPU memory for a record of ``ring``; one per program and block, since one may interrupt another."""
    index = fn.mod.scratch((fn.root, ring, len(fn.frames)), size)
    place = fn.slot(("key", "u32"), tir.U32)
    fn.store(place, fn.num(index), tir.U32)
    return fn.helper(consts.BPF_FUNC_map_lookup_elem, fn.global_(SCRATCH), place, result=tir.Ptr("mem"))


def claim(fn: Fn, word: tir.Expr) -> tir.Expr:
    """Whether per-CPU memory is nobody's, counted in ``word`` of it; what was claimed is given back either way.

    A program of a uprobe stays on its CPU but may be preempted there by another
    thread that runs it, too.  Of two that claim at once both may lose, but never
    both win; an addition that fetches nothing is known to every kernel.
    """
    _add(fn, word, 1)
    return fn.keep(fn.cmp("eq", fn.load(word, tir.U64, volatile=True), fn.num(1, False)))


def give_back(fn: Fn, word: tir.Expr) -> None:
    """End what :func:`claim` began."""
    _add(fn, word, -1)


def _add(fn: Fn, word: tir.Expr, n: int) -> None:
    fn.emit(tir.Eval(fn.loc, tir.Atomic(tir.VOID, fn.loc, "add", word, fn.num(n), tir.U64)))


def room(fn: Fn, ring: str, size: int) -> tir.Expr:
    """Room for a record of ``size`` bytes, null where there is none."""
    found = fn.local(tir.Ptr("mem"), "room")
    perf: list[tir.Stmt] = []
    with fn.into(perf):
        fits = size <= PERCPU_LIMIT  # else it is lost there, and counted
        fn.set(found, scratch(fn, ring, size) if fits else tir.Const(tir.Ptr("mem"), fn.loc, 0))
    plain: list[tir.Stmt] = []
    with fn.into(plain):
        array = fn.global_(ring)
        fn.set(found, fn.helper(RESERVE, array, fn.num(size), fn.num(0), result=tir.Ptr("mem")))
    fn.if_(is_perf(fn), perf, plain)
    return fn.get(found)


def send(fn: Fn, ring: str, name: str, base: tir.Expr, size: int, drop: tir.Expr | None) -> None:
    """Send what :func:`room` gave; where ``drop`` holds, give it back."""
    perf: list[tir.Stmt] = []
    with fn.into(perf):
        out: list[tir.Stmt] = []
        with fn.into(out):
            output(fn, ring, name, base, fn.num(size))
        if drop is None:
            fn.block.extend(out)
        else:
            fn.if_(fn.not_(drop), out)
    plain: list[tir.Stmt] = []
    with fn.into(plain):
        submit: list[tir.Stmt] = []
        with fn.into(submit):
            fn.do(SUBMIT, base, _flags(fn))
        if drop is None:
            fn.block.extend(submit)
        else:
            discard: list[tir.Stmt] = []
            with fn.into(discard):
                fn.do(DISCARD, base, fn.num(NO_WAKEUP))
            fn.if_(drop, discard, submit)
    fn.if_(is_perf(fn), perf, plain)


def send_copy(fn: Fn, ring: str, name: str, base: tir.Expr, size: tir.Expr) -> None:
    """Send a copy of ``size`` bytes of memory."""
    size = fn.keep(size)
    perf: list[tir.Stmt] = []
    with fn.into(perf):
        output(fn, ring, name, base, size)
    plain: list[tir.Stmt] = []
    with fn.into(plain):
        code = fn.helper(OUTPUT, fn.global_(ring), base, size, _flags(fn))
        _count(fn, name, code)
    fn.if_(is_perf(fn), perf, plain)


def output(
    fn: Fn, ring: str, name: str, base: tir.Expr, size: tir.Expr, *, kind: str = "ring"
) -> None:
    """Copy a record into the perf buffer of this CPU; ``kind`` of loss where it does not take it."""
    context = fn.context()
    if context is None:  # a subprogram with all its registers taken: see Fn.context
        fn.lost(kind, name)
        return
    flags = fn.num(CURRENT_CPU, False)
    code = fn.helper(consts.BPF_FUNC_perf_event_output, context, fn.global_(ring), flags, base, size)
    _count(fn, name, code, kind)


def _flags(fn: Fn) -> tir.Expr:
    return fn.keep(tir.Load(tir.U64, fn.loc, fn.global_(fn.mod.ring_flags()), tir.U64, True))


def _count(fn: Fn, name: str, code: tir.Expr, kind: str = "ring") -> None:
    failed: list[tir.Stmt] = []
    with fn.into(failed):
        fn.lost(kind, name)
    fn.if_(fn.cmp("ne", code, fn.num(0)), failed)
