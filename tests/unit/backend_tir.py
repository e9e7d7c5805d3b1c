# SPDX-License-Identifier: Apache-2.0
"""Short names for building typed programs by hand, shared by the back end's tests."""

from __future__ import annotations

import struct

from osmia.compiler import tir

MASK = (1 << 64) - 1
LOC = (1, 0)
CTX, MEM, BTF, KERNEL = (tir.Ptr(s) for s in ("ctx", "mem", "btf", "kernel"))


def s64(value: int) -> int:
    """``value`` as a signed 64-bit number."""
    value &= MASK
    return value - (1 << 64) if value >> 63 else value


def at(line: int) -> tir.Loc:
    return (line, 0)


def c(value: int, type: tir.Type = tir.S64) -> tir.Const:
    return tir.Const(type, LOC, value)


def g(local: tir.Local, loc: tir.Loc = LOC) -> tir.Get:
    t = local.type
    if isinstance(t, tir.Int):
        return tir.Get(tir.S64 if t.signed else tir.U64, loc, local)
    assert isinstance(t, (tir.Bool, tir.Ptr))
    return tir.Get(t, loc, local)


def bin(op: str, a: tir.Expr, b: tir.Expr, loc: tir.Loc = LOC) -> tir.Bin:
    return tir.Bin(a.type, loc, op, a, b)


def add(a: tir.Expr, b: tir.Expr) -> tir.Bin:
    return bin("add", a, b)


def cmp(op: str, a: tir.Expr, b: tir.Expr) -> tir.Cmp:
    return tir.Cmp(tir.BOOL, LOC, op, a, b)


def off(addr: tir.Expr, offset: int, index: tir.Expr | None = None, scale: int = 1) -> tir.Offset:
    return tir.Offset(addr.type, LOC, addr, offset, index, scale)


def load(addr: tir.Expr, mem: tir.Mem, volatile: bool = False, loc: tir.Loc = LOC) -> tir.Load:
    type: tir.Type = tir.U64
    if isinstance(mem, tir.Int):
        type = tir.S64 if mem.signed else tir.U64
    elif isinstance(mem, (tir.Bool, tir.Ptr)):
        type = mem
    return tir.Load(type, loc, addr, mem, volatile)


def addr(local: tir.Local) -> tir.AddrOf:
    return tir.AddrOf(MEM, LOC, local)


def glob(name: str) -> tir.Global:
    return tir.Global(MEM, LOC, name)


def helper(id: int, *args: tir.Expr, type: tir.Type = tir.S64) -> tir.Helper:
    return tir.Helper(type, LOC, id, list(args))


def set_(local: tir.Local, value: tir.Expr, loc: tir.Loc = LOC) -> tir.Set:
    return tir.Set(loc, local, value)


def inc(local: tir.Local, value: tir.Expr) -> tir.Set:
    return tir.Set(LOC, local, add(g(local), value))


def store(address: tir.Expr, value: tir.Expr, mem: tir.Mem = tir.U64) -> tir.Store:
    return tir.Store(LOC, address, value, mem)


def if_(test: tir.Expr, then: list[tir.Stmt], orelse: list[tir.Stmt] | None = None) -> tir.If:
    return tir.If(LOC, test, then, orelse or [])


def for_(var: tir.Local, start: tir.Expr, stop: tir.Expr, body: list[tir.Stmt], bound: int, step: int = 1) -> tir.For:
    return tir.For(LOC, var, start, stop, step, body, bound)


def while_(test: tir.Expr, body: list[tir.Stmt], bound: int | None = None) -> tir.While:
    return tir.While(LOC, test, body, bound)


def ret(value: tir.Expr | None = None) -> tir.Return:
    return tir.Return(LOC, value)


def var(name: str, type: tir.Mem = tir.S64) -> tir.Local:
    return tir.Local(name, type)


class Prog:
    """A ``syscall`` program: its context is an array of 64-bit words that it reads and writes."""

    def __init__(self, name: str = "prog", file: str = "/nowhere/prog.py") -> None:
        self.ctx = tir.Local("ctx", CTX)
        self.func = tir.Func(name, "syscall", [self.ctx], tir.S64, file, 1)
        self.module = tir.Module("test", funcs=[self.func])

    def word(self, i: int, type: tir.Int = tir.S64) -> tir.Load:
        return load(off(g(self.ctx), 8 * i), type)

    def out(self, i: int, value: tir.Expr) -> tir.Store:
        return store(off(g(self.ctx), 8 * i), value)

    def body(self, *stmts: tir.Stmt) -> Prog:
        self.func.body = list(stmts)
        return self

    def sub(
        self,
        name: str,
        params: list[tir.Local],
        body: list[tir.Stmt],
        *,
        inline: bool = False,
        type: tir.Type = tir.S64,
    ) -> tir.Func:
        func = tir.Func(name, "", params, type, self.func.file, 1, body, inline=inline)
        self.module.funcs.append(func)
        return func


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *(v & MASK for v in values))
