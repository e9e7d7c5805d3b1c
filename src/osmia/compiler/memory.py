# SPDX-License-Identifier: Apache-2.0
"""Reading and writing memory: the kernel's (relocated), a user's (by helper), and the program's own."""

from __future__ import annotations

import ast
from typing import Any

from osmia.compiler import tir
from osmia.compiler.core import Fn
from osmia.compiler.ktypes import KT
from osmia.compiler.layout import int_type, is_scalar, memory
from osmia.compiler.values import (
    SINT,
    TBOOL,
    UINT,
    UNKNOWN,
    TConst,
    TEmbed,
    TEvent,
    TPtr,
    TRef,
    TStr,
    TTail,
    TText,
    TTuple,
    Val,
)
from osmia.lang.types import Address, Array, Bytes, Event, Field, Str, Strs, is_enum, size_align, tuple_layout
from osmia.obj import consts

READ = {"kernel": consts.BPF_FUNC_probe_read_kernel, "user": consts.BPF_FUNC_probe_read_user}
READ_STR = {"kernel": consts.BPF_FUNC_probe_read_kernel_str, "user": consts.BPF_FUNC_probe_read_user_str}
DIRECT = ("ctx", "btf")
COMM_SIZE = 16
BIGGEST_ON_STACK = 256

# --------------------------------------------------------------------------
# Kernel structures


def field_of_pointer(fn: Fn, node: ast.Attribute, value: Val) -> Val:
    """``pointer.name``: the value of a scalar field, a view of an embedded structure, a pointer."""
    embed = as_embed(fn, value, node)
    assert isinstance(embed.ft, TEmbed)
    kt = embed.ft.kt
    if kt.member(node.attr) is None and kt.member(f"__data_loc_{node.attr}") is not None:
        return _data_location(fn, embed, kt, node.attr)
    found = lookup(fn, node, kt, node.attr)
    return step(fn, embed, found[0], found[1])


def _data_location(fn: Fn, embed: Val, kt: KT, name: str) -> Val:
    """A record's field of variable length: ``__data_loc_NAME`` holds its offset (low half) and length."""
    field, kind = kt.member(f"__data_loc_{name}") or (None, kt)
    assert field is not None
    place = step(fn, embed, field, kind).exprs[0]
    start = embed.exprs[0]
    number = tir.Convert(tir.U64, fn.loc, start, tir.U64) if isinstance(start.type, tir.Ptr) else start
    where = fn.keep(fn.bin("add", number, fn.bin("and", place, fn.num(0xFFFF), False), False))
    return Val(TPtr("kernel", fn.mod.kernel.named("char")), [where])


def lookup(fn: Fn, node: ast.AST, kt: KT | None, name: str) -> tuple[tir.KField, KT]:
    """The field ``name`` of ``kt``; CompileError with near names where there is none."""
    if kt is None or kt.kind not in ("struct", "union"):
        fn.fail(node, f"{kt or 'an untyped address'} has no fields", 'say what is there: cast(p, "struct ...")')
    found = kt.member(name)
    if found is None and kt.size == 0 and not kt.fields():
        fn.fail(node, f"the kernel's BTF says nothing about {kt}", "the structure is private to a module or absent")
    if found is None:
        import difflib

        near = difflib.get_close_matches(name, kt.fields(), 3, 0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"its fields: {', '.join(kt.fields()[:12])}"
        fn.fail(node, f"{kt} has no field {name!r}", hint)
    return found


def as_embed(fn: Fn, value: Val, node: ast.AST) -> Val:
    """A pointer to a structure as the start of an access path."""
    if isinstance(value.ft, TEmbed):
        return value
    if not isinstance(value.ft, TPtr):
        fn.expected(value, node, "a kernel structure")
    kt = value.ft.kt
    if kt is None:
        fn.fail(node, "an untyped address has no fields", 'say what is there: cast(p, "struct ...")')
    return Val(TEmbed(value.ft.space, kt, (), kt), value.exprs)


def access(ft: TEmbed) -> tir.Access:
    """The relocatable path of an embedded thing."""
    root = ft.root.tir()
    assert isinstance(root, tir.KStruct)
    return tir.Access(root, ft.steps)


def address(fn: Fn, value: Val) -> tir.Expr:
    """The address of an embedded thing (a pointer or a number, by its space)."""
    ft = value.ft
    assert isinstance(ft, TEmbed)
    base = value.exprs[0]
    return base if not ft.steps else tir.FieldAddr(base.type, fn.loc, base, access(ft))


def pointer(fn: Fn, value: Val) -> Val:
    """An embedded thing as a pointer to it."""
    if not isinstance(value.ft, TEmbed):
        return value
    return Val(TPtr(value.ft.space, value.ft.kt), [fn.keep(address(fn, value))])


def step(fn: Fn, embed: Val, field: tir.KField | int, kt: KT) -> Val:
    """Go from a structure to its field, or from an array to its element; scalars and pointers are read."""
    at = embed.ft
    assert isinstance(at, TEmbed)
    deeper = Val(TEmbed(at.space, at.root, (*at.steps, field), kt), embed.exprs)
    if kt.kind in ("struct", "union", "array"):
        return deeper
    if isinstance(field, tir.KField) and field.bits:
        return _bitfield(fn, deeper)
    return read_kt(fn, at.space, lambda: address(fn, deeper), kt)


def read_kt(fn: Fn, space: str, place: Any, kt: KT) -> Val:
    """Read a scalar or pointer of type ``kt`` at ``place()``."""
    if kt.kind == "float":
        fn.fail(None, "a floating-point field cannot be read in the kernel")
    size = kt.size or 8
    if kt.kind in ("ptr", "func") or size not in (1, 2, 4, 8):
        mem: tir.Mem = tir.Ptr("btf") if space in DIRECT and space == "btf" and kt.kind == "ptr" else tir.U64
    else:
        mem = int_type(size, kt.signed)
    expr = read_raw(fn, space, place(), mem)
    if kt.kind == "ptr":
        target = kt.target()
        below = "kernel" if space == "ctx" else space
        return Val(TPtr(below, target if target.kind != "void" else None), [expr])
    if kt.kind == "bool":
        return Val(TBOOL, [tir.Convert(tir.BOOL, fn.loc, expr, tir.BOOL)])
    return Val(SINT if isinstance(expr.type, tir.Int) and expr.type.signed else UINT, [expr])


def read_raw(fn: Fn, space: str, place: tir.Expr, mem: tir.Mem) -> tir.Expr:
    """Read ``mem`` at ``place``: directly where the verifier allows, else by helper."""
    if space in (*DIRECT, "mem"):
        return fn.load(place, mem)
    scratch = fn.slot("read", tir.U64)
    source = as_address(fn, place)
    fn.do(READ[space], scratch, fn.num(mem.size), source)
    return fn.load(scratch, mem)


def as_address(fn: Fn, expr: tir.Expr) -> tir.Expr:
    """An address as a helper's argument."""
    return expr


def _bitfield(fn: Fn, value: Val) -> Val:
    """A bit-field: read the bytes that hold it, then shift as the target kernel's layout says."""
    ft = value.ft
    assert isinstance(ft, TEmbed)
    field = ft.steps[-1]
    assert isinstance(field, tir.KField)
    path = access(ft)
    signed = isinstance(field.type, (tir.KInt, tir.KEnum)) and field.type.signed
    scratch = fn.slot("bits", tir.U64)
    fn.store(scratch, fn.num(0), tir.U64)
    size = tir.CoreField(tir.U64, fn.loc, path, "size")
    space = "user" if ft.space == "user" else "kernel"
    base = value.exprs[0]
    place = tir.FieldAddr(base.type, fn.loc, base, path)
    fn.do(READ[space], scratch, size, place)
    raw = fn.load(scratch, tir.U64)
    left = fn.bin("shl", raw, tir.CoreField(tir.U64, fn.loc, path, "lshift_u64"), signed)
    right = tir.CoreField(tir.U64, fn.loc, path, "rshift_u64")
    made = fn.keep(fn.bin("ashr" if signed else "lshr", left, right, signed))
    return Val(SINT if signed else UINT, [made])


def element(fn: Fn, node: ast.Subscript, value: Val, index: Val) -> Val:
    """``array[i]`` of a kernel array, or ``pointer[i]``."""
    number = index.const
    if isinstance(value.ft, TEmbed) and value.ft.kt.kind == "array":
        inner = value.ft.kt.target()
        if number is not UNKNOWN and isinstance(number, int):
            if not (0 <= number < value.ft.kt.n or (value.ft.kt.n == 0 and number >= 0)):
                fn.fail(node, f"index {number} is outside {value.ft.kt}")
            return step(fn, value, number, inner)
        if value.ft.space == "ctx":
            fn.fail(node, "this array is indexed by a constant only", "the kernel lets records be read at fixed places")
        base = fn.keep(address(fn, value))
        return _indexed(fn, node, value.ft.space, base, index, inner)
    if isinstance(value.ft, TEmbed):
        value = pointer(fn, value)
    assert isinstance(value.ft, TPtr)
    kt = value.ft.kt
    if kt is None:
        fn.fail(node, "an untyped address cannot be indexed", "use read_kernel(p, TYPE, i) or read_user(p, TYPE, i)")
    return _indexed(fn, node, value.ft.space, value.exprs[0], index, kt)


def _indexed(fn: Fn, node: ast.Subscript, space: str, base: tir.Expr, index: Val, kt: KT) -> Val:
    number, _ = fn.as_int(index, node.slice)
    if space == "btf":  # the verifier takes no variable offset there
        base, space = tir.Convert(tir.U64, fn.loc, base, tir.U64), "kernel"
    size = kt.size or (8 if kt.kind in ("ptr", "func") else 1)
    place = fn.keep(fn.offset(base, 0, number, size))
    if kt.kind in ("struct", "union", "array"):
        return Val(TPtr(space, kt), [place])
    return read_kt(fn, space, lambda: place, kt)


# --------------------------------------------------------------------------
# Own memory


def field_of_ref(fn: Fn, node: ast.Attribute, value: Val) -> Val:
    """``event.name``: a field of own memory."""
    field = own_field(fn, node, value)
    if isinstance(value.ft, TEvent) and field is value.ft.ring.event.layout().tail:
        return Val(TTail(value.ft), value.exprs)
    return read(fn, fn.offset(value.exprs[0], field.offset), field.type)


def own_field(fn: Fn, node: ast.Attribute, value: Val) -> Field:
    """The field that ``node`` names."""
    kind = value.ft.ring.event if isinstance(value.ft, TEvent) else value.ft.kind  # type: ignore[union-attr]
    if not (isinstance(kind, type) and issubclass(kind, Event)):
        fn.fail(node, f"{value.ft} has no fields")
    for field in kind.layout():
        if field.name == node.attr:
            return field
    names = ", ".join(f.name for f in kind.layout())
    fn.fail(node, f"{kind.__name__} has no field {node.attr!r}", f"its fields: {names}")


def read(fn: Fn, place: tir.Expr, kind: Any) -> Val:
    """The value of the author's type ``kind`` at ``place``: numbers are loaded, the rest stays where it is."""
    if kind is bool:
        return Val(TBOOL, [fn.load(place, tir.BOOL)])
    if isinstance(kind, tuple):
        parts = [read(fn, fn.offset(place, f.offset), f.type) for f in tuple_layout(kind)]
        return Val(TTuple(tuple(p.ft for p in parts)), [e for p in parts for e in p.exprs])
    if is_scalar(kind):
        mem = memory(kind)
        expr = fn.load(place, mem)
        if isinstance(kind, type) and issubclass(kind, Address):
            from osmia.compiler.exprs import kernel_type

            return Val(TPtr(kind.space, kernel_type(fn, ast.Pass(), kind.target)), [expr])
        assert isinstance(mem, tir.Int)
        return Val(SINT if mem.signed else UINT, [expr])
    if issubclass(kind, Str):
        return Val(TStr(kind.n), [place])
    return Val(TRef(kind), [place])


def own_element(fn: Fn, node: ast.Subscript, value: Val, index: Val) -> tuple[tir.Expr, Any]:
    """Address and type of ``array[i]`` in own memory; an index out of range is counted and reads element 0."""
    kind = value.ft.kind  # type: ignore[union-attr]
    if not (isinstance(kind, type) and issubclass(kind, (Array, Bytes))):
        fn.fail(node, f"{value.ft} cannot be indexed")
    elem: Any = kind.elem if issubclass(kind, Array) else int
    size = size_align(elem)[0] if issubclass(kind, Array) else 1
    number = index.const
    if number is not UNKNOWN and isinstance(number, int):
        if not 0 <= number < kind.n:
            fn.fail(node, f"index {number} is outside {kind.__name__}")
        return fn.offset(value.exprs[0], number * size), elem
    expr, _ = fn.as_int(index, node.slice)
    local = fn.local(tir.U64, "index")
    fn.set(local, tir.Convert(tir.U64, fn.loc, expr, tir.U64))
    bad: list[tir.Stmt] = []
    with fn.into(bad):
        fn.lost("text", f"index out of range at {fn.file.name.rsplit('/', 1)[-1]}:{node.lineno}")
        fn.set(local, fn.num(0, False))
    fn.if_(fn.cmp("uge", fn.get(local), fn.num(kind.n, False)), bad)
    return fn.offset(value.exprs[0], 0, fn.get(local), size), elem


def write(fn: Fn, node: ast.AST, place: tir.Expr, kind: Any, value: Val, *, fresh: bool = False) -> None:
    """Store ``value`` as a ``kind`` at ``place``; ``fresh``: the memory is zero already (or need not be)."""
    if isinstance(kind, tuple):
        _write_tuple(fn, node, place, kind, value)
    elif is_scalar(kind):
        if kind is bool:
            from osmia.compiler.exprs import truth_of

            fn.store(place, truth_of(fn, value, node), tir.BOOL)
            return
        if is_enum(kind) or isinstance(value.ft, TConst):
            _check_range(fn, node, kind, value)
        fn.store(place, fn.as_int(pointer(fn, value), node)[0], memory(kind))
    elif issubclass(kind, Str):
        write_str(fn, node, place, kind.n, value, fresh=fresh)
    elif issubclass(kind, Bytes):
        _write_bytes(fn, node, place, kind.n, value)
    else:
        if not isinstance(value.ft, TRef) or value.ft.kind is not kind:
            fn.expected(value, node, f"a {kind.__name__}")
        size, align = size_align(kind)
        fn.emit(tir.Copy(fn.loc, place, value.exprs[0], size, align))


def _check_range(fn: Fn, node: ast.AST, kind: Any, value: Val) -> None:
    """A constant must fit the field; anything else is cut to its width as in C."""
    number = value.const
    if number is UNKNOWN or not isinstance(number, int):
        return
    mem = memory(kind)
    assert isinstance(mem, tir.Int)
    if not -(1 << (mem.bits - 1)) <= number < 1 << mem.bits:
        fn.fail(node, f"{int(number)} does not fit in {getattr(kind, '__name__', kind)}")


def _write_tuple(fn: Fn, node: ast.AST, place: tir.Expr, kind: tuple[Any, ...], value: Val) -> None:
    if not isinstance(value.ft, TTuple) or len(value.ft.items) != len(kind):
        fn.expected(value, node, f"a tuple of {len(kind)} values")
    for field, part in zip(tuple_layout(kind), split(value), strict=True):
        write(fn, node, fn.offset(place, field.offset), field.type, part, fresh=True)


def split(value: Val) -> list[Val]:
    """The parts of a tuple."""
    from osmia.compiler.values import components

    assert isinstance(value.ft, TTuple)
    out, at = [], 0
    for item in value.ft.items:
        n = len(components(item))
        out.append(Val(item, value.exprs[at : at + n]))
        at += n
    return out


# --------------------------------------------------------------------------
# Text and bytes


def as_text(fn: Fn, value: Val, node: ast.AST) -> Val:
    """``value`` as text: text itself, or the string that a ``char`` pointer or array leads to."""
    ft = value.ft
    if isinstance(ft, (TStr, TText)) or (isinstance(ft, TConst) and isinstance(ft.value, str)):
        return value
    if isinstance(ft, TEmbed) and ft.kt.kind == "array" and ft.kt.target().size == 1:
        place = address(fn, value)
        if isinstance(place.type, tir.Ptr):
            place = tir.Convert(tir.U64, fn.loc, place, tir.U64)
        space = "user" if ft.space == "user" else "kernel"
        return Val(TText(space, max(1, ft.kt.n or 64)), [fn.keep(place)])
    if isinstance(ft, TPtr) and ft.kt is not None and ft.kt.size == 1 and ft.kt.kind in ("char", "int"):
        expr = value.exprs[0]
        if isinstance(expr.type, tir.Ptr):
            expr = tir.Convert(tir.U64, fn.loc, expr, tir.U64)
        return Val(TText("user" if ft.space == "user" else "kernel", 0), [expr])
    fn.expected(value, node, "text")


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
    return fn.helper(READ_STR[ft.source], place, fn.num(size), text.exprs[0])


def in_memory(fn: Fn, value: Val, node: ast.AST, *, key: Any = "text") -> Val:
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
    if size > BIGGEST_ON_STACK:
        fn.fail(
            node, f"text of {size} bytes does not fit on the kernel's 512-byte stack",
            f"limit it to {BIGGEST_ON_STACK} bytes, or assign it to a field of an event directly",
        )
    place = fn.slot((key, len(fn.slots)), tir.Array(tir.CHAR, size))
    fn.emit(tir.Zero(fn.loc, place, size))
    read_text(fn, place, size, text)
    return Val(TStr(size), [place])


def _write_bytes(fn: Fn, node: ast.AST, place: tir.Expr, n: int, value: Val) -> None:
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
        where = pointer(fn, value)
        expr = where.exprs[0]
        if isinstance(expr.type, tir.Ptr):
            expr = tir.Convert(tir.U64, fn.loc, expr, tir.U64)
        size = min(n, ft.kt.size) if isinstance(ft, TEmbed) and ft.kt.size else n
        fn.do(READ["user" if ft.space == "user" else "kernel"], place, fn.num(size), expr)
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
        return _bytes_equal(fn, x.exprs[0], raw)
    y = in_memory(fn, b, right, key="text b")
    assert isinstance(y.ft, TStr)
    return _equal_loop(fn, x.exprs[0], y.exprs[0], min(x.ft.n, y.ft.n))


def _bytes_equal(fn: Fn, place: tir.Expr, raw: bytes) -> tir.Expr:
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
    return _bytes_equal(fn, x.exprs[0], raw) if raw else fn.flag(True)


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


def is_strings(kind: Any) -> bool:
    """Whether ``kind`` is a tail of strings."""
    return isinstance(kind, type) and issubclass(kind, Strs)
