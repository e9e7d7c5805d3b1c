# SPDX-License-Identifier: Apache-2.0
"""Text and bytes: copying, comparing, searching."""

from __future__ import annotations

from osmia.compiler import kmem, tir
from osmia.compiler import memory as mem
from osmia.compiler import syntax as ast
from osmia.compiler.core import Fn
from osmia.compiler.values import (
    TConst,
    TEmbed,
    TPtr,
    TRef,
    TStr,
    TText,
    Val,
)
from osmia.lang.types import Bytes
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

COMM_SIZE = 16


def as_text(fn: Fn, value: Val, node: ast.AST | None) -> Val:
    """``value`` as text: text itself, or the string that a ``char`` pointer or array leads to."""
    ft = value.ft
    if isinstance(ft, (TStr, TText)) or (isinstance(ft, TConst) and isinstance(ft.value, str)):
        return value
    if isinstance(ft, TEmbed) and ft.kt.kind == "array" and ft.kt.target().size == 1:
        place = kmem.address(fn, value)
        if isinstance(place.type, tir.Ptr):
            place = tir.Convert(tir.U64, fn.loc, place, tir.U64)
        space = ft.space if ft.space in ("user", kmem.EITHER) else "kernel"
        return Val(TText(space, max(1, ft.kt.n or 64)), [fn.keep(place)])
    if isinstance(ft, TPtr) and ft.kt is not None and ft.kt.size == 1 and ft.kt.kind in ("char", "int"):
        expr = value.exprs[0]
        if isinstance(expr.type, tir.Ptr):
            expr = tir.Convert(tir.U64, fn.loc, expr, tir.U64)
        return Val(TText(ft.space if ft.space in ("user", kmem.EITHER) else "kernel", 0), [expr])
    fn.expected(value, node, "text")


def texty(value: Val) -> bool:
    ft = value.ft
    if isinstance(ft, TConst):
        return isinstance(ft.value, str)
    if isinstance(ft, TEmbed):
        return ft.kt.kind == "array" and ft.kt.target().size == 1
    return isinstance(ft, (TStr, TText)) or (isinstance(ft, TPtr) and ft.kt is not None and ft.kt.kind == "char")


def write_str(fn: Fn, node: ast.AST, place: tir.Expr, n: int, value: Val, *, fresh: bool = False) -> None:
    """Copy text into ``n`` bytes at ``place``, always ended by NUL."""
    text = as_text(fn, value, node)
    ft = text.ft
    if isinstance(ft, TText):
        read_text(fn, place, n, text)
    elif isinstance(ft, TStr):
        size = min(n, ft.n)
        fn.emit(tir.Copy(fn.loc, place, text.exprs[0], size))
        if ft.n > n:
            fn.store(fn.offset(place, n - 1), fn.num(0), tir.CHAR)
        elif n > ft.n and not fresh:
            fn.emit(tir.Zero(fn.loc, fn.offset(place, size), n - size, 1))
    else:
        raw = str(text.const).encode("utf-8", "surrogateescape")
        if len(raw) >= n:
            fn.fail(node, f"{text.const!r} does not fit in Str[{n}]", f"it needs {len(raw) + 1} bytes with its NUL")
        for at, byte in enumerate(raw + (b"\0" * (n - len(raw)) if not fresh and n <= 64 else b"\0")):
            fn.store(fn.offset(place, at), fn.num(byte), tir.U8)


def read_text(fn: Fn, place: tir.Expr, n: int, text: Val) -> tir.Expr:
    """Copy uncopied text into ``n`` bytes at ``place``; the number of bytes with NUL (negative: fault)."""
    ft = text.ft
    assert isinstance(ft, TText)
    if ft.source == "comm":
        fn.do(consts.BPF_FUNC_get_current_comm, place, fn.num(min(n, COMM_SIZE)))
        return fn.num(COMM_SIZE)
    size = min(n, ft.n) if ft.n else n
    return kmem.by_helper(fn, kmem.READ_STR, ft.source, place, fn.num(size), text.exprs[0])


def in_memory(fn: Fn, value: Val, node: ast.AST | None, *, key: Any = "text") -> Val:
    """``value`` as text in own memory, copied to the stack where it is not yet."""
    text = as_text(fn, value, node)
    if isinstance(text.ft, TStr):
        return text
    if isinstance(text.ft, TConst):
        size = len(str(text.const).encode("utf-8", "surrogateescape")) + 1
        raw = str(text.const).encode("utf-8", "surrogateescape") + b"\0"
        return Val(TStr(size), [fn.global_(fn.mod.text(raw))])
    assert isinstance(text.ft, TText)
    size = text.ft.n or 64
    if size > mem.BIGGEST_ON_STACK:
        fn.fail(
            node, f"text of {size} bytes does not fit on the kernel's 512-byte stack",
            f"limit it to {mem.BIGGEST_ON_STACK} bytes, or assign it to a field of an event directly",
        )
    place = fn.slot((key, len(fn.slots)), tir.Array(tir.CHAR, size))
    fn.emit(tir.Zero(fn.loc, place, size))
    read_text(fn, place, size, text)
    return Val(TStr(size), [place])


def write_bytes(fn: Fn, node: ast.AST, place: tir.Expr, n: int, value: Val) -> None:
    ft = value.ft
    if isinstance(ft, TRef) and isinstance(ft.kind, type) and issubclass(ft.kind, Bytes):
        fn.emit(tir.Copy(fn.loc, place, value.exprs[0], min(n, ft.kind.n)))
        return
    if isinstance(ft, TConst) and isinstance(ft.value, bytes):
        if len(ft.value) > n:
            fn.fail(node, f"{len(ft.value)} bytes do not fit in Bytes[{n}]")
        for at, byte in enumerate(ft.value.ljust(n, b"\0")):
            fn.store(fn.offset(place, at), fn.num(byte), tir.U8)
        return
    if isinstance(ft, (TEmbed, TPtr)):
        where = kmem.pointer(fn, value)
        expr = where.exprs[0]
        if isinstance(expr.type, tir.Ptr):
            expr = tir.Convert(tir.U64, fn.loc, expr, tir.U64)
        size = min(n, ft.kt.size) if isinstance(ft, TEmbed) and ft.kt.size else n
        fn.do(kmem.READ["user" if ft.space == "user" else "kernel"], place, fn.num(size), expr)
        return
    fn.expected(value, node, "bytes")


def same_text(fn: Fn, node: ast.AST, a: Val, b: Val, left: ast.AST, right: ast.AST) -> tir.Expr:
    """Whether two texts are equal."""
    a, b = as_text(fn, a, left), as_text(fn, b, right)
    if isinstance(a.ft, TConst) and isinstance(b.ft, TConst):
        return fn.flag(a.const == b.const)
    if isinstance(a.ft, TConst):
        a, b = b, a
    x = in_memory(fn, a, left, key="text a")
    assert isinstance(x.ft, TStr)
    if isinstance(b.ft, TConst):
        raw = str(b.const).encode("utf-8", "surrogateescape") + b"\0"
        if len(raw) > x.ft.n:
            return fn.flag(False)
        return bytes_equal(fn, x.exprs[0], raw)
    y = in_memory(fn, b, right, key="text b")
    assert isinstance(y.ft, TStr)
    return _equal_loop(fn, x.exprs[0], y.exprs[0], min(x.ft.n, y.ft.n))


def bytes_equal(fn: Fn, place: tir.Expr, raw: bytes) -> tir.Expr:
    """Whether memory starts with ``raw``: byte by byte with an early end."""
    result: tir.Expr = fn.flag(True)
    for at in reversed(range(len(raw))):
        load = tir.Load(tir.U64, fn.loc, fn.offset(place, at), tir.U8)
        test = fn.cmp("eq", load, fn.num(raw[at], False))
        result = test if at == len(raw) - 1 else tir.And(tir.BOOL, fn.loc, test, result)
    return fn.keep(result)


def _equal_loop(fn: Fn, x: tir.Expr, y: tir.Expr, n: int) -> tir.Expr:
    same, i = fn.local(tir.BOOL, "same"), fn.local(tir.U64, "i")
    fn.set(same, fn.flag(True))
    body: list[tir.Stmt] = []
    with fn.into(body):
        a = fn.load(fn.offset(x, 0, fn.get(i)), tir.U8)
        b = fn.load(fn.offset(y, 0, fn.get(i)), tir.U8)
        differ: list[tir.Stmt] = [tir.Set(fn.loc, same, fn.flag(False)), tir.Break(fn.loc)]
        fn.if_(fn.cmp("ne", a, b), differ)
        fn.if_(fn.cmp("eq", a, fn.num(0, False)), [tir.Break(fn.loc)])
    fn.emit(tir.For(fn.loc, i, fn.num(0, False), fn.num(n, False), 1, body, n))
    return fn.get(same)


def starts_with(fn: Fn, node: ast.AST, value: Val, prefix: Val) -> tir.Expr:
    """``text.startswith("constant")``."""
    if not isinstance(prefix.const, str):
        fn.fail(node, "startswith() takes a constant text in kernel code")
    x = in_memory(fn, value, node, key="text a")
    raw = prefix.const.encode("utf-8", "surrogateescape")
    assert isinstance(x.ft, TStr)
    if len(raw) >= x.ft.n:
        return fn.flag(False)
    return bytes_equal(fn, x.exprs[0], raw) if raw else fn.flag(True)


def contains_text(fn: Fn, node: ast.AST, part: Val, whole: Val, left: ast.AST, right: ast.AST) -> tir.Expr:
    """``part in whole``: every place is tried, with two bounded loops."""
    w = in_memory(fn, whole, right, key="text a")
    p = in_memory(fn, part, left, key="text b")
    assert isinstance(w.ft, TStr) and isinstance(p.ft, TStr)
    n, m = w.ft.n, min(w.ft.n, p.ft.n)
    if n * m > 64 * 64:
        fn.fail(node, f"`in` on texts of {n} and {p.ft.n} bytes is too much work for a probe", "use at most 64 bytes")
    found, miss = fn.local(tir.BOOL, "found"), fn.local(tir.BOOL, "miss")
    i, j = fn.local(tir.U64, "i"), fn.local(tir.U64, "j")
    fn.set(found, fn.flag(False))
    outer: list[tir.Stmt] = []
    with fn.into(outer):
        fn.set(miss, fn.flag(False))
        inner: list[tir.Stmt] = []
        with fn.into(inner):
            b = fn.load(fn.offset(p.exprs[0], 0, fn.get(j)), tir.U8)
            fn.if_(fn.cmp("eq", b, fn.num(0, False)), [tir.Break(fn.loc)])
            at = fn.keep(fn.bin("add", fn.get(i), fn.get(j), False))
            wrong: list[tir.Stmt] = [tir.Set(fn.loc, miss, fn.flag(True)), tir.Break(fn.loc)]
            fn.if_(fn.cmp("uge", at, fn.num(n, False)), wrong)
            a = fn.load(fn.offset(w.exprs[0], 0, at), tir.U8)
            fn.if_(fn.cmp("ne", a, b), list(wrong))
        fn.emit(tir.For(fn.loc, j, fn.num(0, False), fn.num(m, False), 1, inner, m))
        hit: list[tir.Stmt] = [tir.Set(fn.loc, found, fn.flag(True)), tir.Break(fn.loc)]
        fn.if_(fn.not_(fn.get(miss)), hit)
    fn.emit(tir.For(fn.loc, i, fn.num(0, False), fn.num(n, False), 1, outer, n))
    return fn.get(found)
