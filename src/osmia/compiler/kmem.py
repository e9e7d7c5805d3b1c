# SPDX-License-Identifier: Apache-2.0
"""Memory of the kernel and of users: relocated field accesses, direct or by helper."""

from __future__ import annotations

from osmia.compiler import syntax as ast
from osmia.compiler import tir
from osmia.compiler.core import Fn
from osmia.compiler.ktypes import KT
from osmia.compiler.layout import int_type
from osmia.compiler.values import (
    SINT,
    TBOOL,
    UINT,
    UNKNOWN,
    TEmbed,
    TPtr,
    Val,
)
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

READ = {"kernel": consts.BPF_FUNC_probe_read_kernel, "user": consts.BPF_FUNC_probe_read_user}


READ_STR = {"kernel": consts.BPF_FUNC_probe_read_kernel_str, "user": consts.BPF_FUNC_probe_read_user_str}


DIRECT = ("ctx", "btf")
#: Memory of which only its address says whose it is: the kernel's have the highest bit set, on every machine that
#: BPF is compiled for here.
EITHER = "either"


def kernel_type(fn: Fn, node: ast.AST | None, name: str) -> Any:
    """A kernel type by its C name."""
    try:
        return fn.mod.kernel.named(name)
    except KeyError:
        if fn.mod.kernel.btf is None:
            fn.fail(node, f"{name} is not known: there is no kernel BTF", "give one with --btf FILE")
        word, _, rest = name.rpartition(" ")
        kinds = (consts.BTF_KIND_STRUCT, consts.BTF_KIND_UNION, consts.BTF_KIND_TYPEDEF)
        near = fn.mod.kernel.suggest(rest[:4], rest[4:], kinds) if word else []
        hint = f"did you mean {word} {rest[:4]}{near[0]}?" if near else ""
        fn.fail(node, f"the kernel's BTF has no {name}", hint)


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
    unnamed = ft.space == "mem" and not ft.root.name
    if ft.root.kernel.fixed or (
        unnamed and all(isinstance(s, tir.KField) and not s.bits for s in ft.steps)
    ):  # fmt: skip
        # A user program's, or a structure without a name, held in registers (kuid_t): no kernel lays it out
        # differently, and CO-RE could not find it.
        return fn.offset(base, sum(s.bit_offset // 8 for s in ft.steps if isinstance(s, tir.KField)))
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
    copy(fn, space, scratch, fn.num(mem.size), place)
    return fn.load(scratch, mem)


def copy(fn: Fn, space: str, to: tir.Expr, size: tir.Expr, place: tir.Expr) -> None:
    """Copy ``size`` bytes at ``place``; zeros where they cannot be read."""
    if space == EITHER:
        by_helper(fn, READ, space, to, size, place)
    else:
        fn.do(READ[space], to, size, place)


def by_helper(
    fn: Fn, helpers: dict[str, int], space: str, to: tir.Expr, size: tir.Expr, place: tir.Expr
) -> tir.Expr:
    """Copy ``size`` bytes at ``place`` by the helper for its ``space``; what that returns."""
    if space != EITHER:
        return fn.helper(helpers[space], to, size, place)
    place, size = fn.keep(place), fn.keep(size)
    result = fn.local(tir.S64, "read")
    sides: list[list[tir.Stmt]] = []
    for one in ("kernel", "user"):
        with fn.into([]):
            fn.set(result, fn.helper(helpers[one], to, size, place))
            sides.append(fn.block)
    number = tir.Convert(tir.S64, fn.loc, place, tir.S64)
    fn.if_(fn.cmp("slt", number, fn.num(0)), *sides)
    return fn.get(result)


def _bitfield(fn: Fn, value: Val) -> Val:
    """A bit-field: read the bytes that hold it, then shift as the target kernel's layout says."""
    ft = value.ft
    assert isinstance(ft, TEmbed)
    field = ft.steps[-1]
    assert isinstance(field, tir.KField)
    path = access(ft)
    signed = isinstance(field.type, (tir.KInt, tir.KEnum)) and field.type.signed
    if ft.root.kernel.fixed:
        return _fixed_bits(fn, value, field, signed)
    scratch = fn.slot("bits", tir.U64)
    fn.store(scratch, fn.num(0), tir.U64)
    size = tir.CoreField(tir.U64, fn.loc, path, "size")
    space = ft.space if ft.space in ("user", EITHER) else "kernel"
    base = value.exprs[0]
    place = tir.FieldAddr(base.type, fn.loc, base, path)
    copy(fn, space, scratch, size, place)
    raw = fn.load(scratch, tir.U64)
    left = fn.bin("shl", raw, tir.CoreField(tir.U64, fn.loc, path, "lshift_u64"), signed)
    right = tir.CoreField(tir.U64, fn.loc, path, "rshift_u64")
    made = fn.keep(fn.bin("ashr" if signed else "lshr", left, right, signed))
    return Val(SINT if signed else UINT, [made])


def _fixed_bits(fn: Fn, value: Val, field: tir.KField, signed: bool) -> Val:
    """A bit-field of a structure that is laid out as it is known here."""
    ft = value.ft
    assert isinstance(ft, TEmbed)
    low = field.bit_offset % 8
    scratch = fn.slot("bits", tir.U64)
    fn.store(scratch, fn.num(0), tir.U64)
    copy(fn, ft.space, scratch, fn.num(min(8, (low + field.bits + 7) // 8)), address(fn, value))
    up = fn.bin("shl", fn.load(scratch, tir.U64), fn.num(64 - low - field.bits), signed)
    made = fn.keep(fn.bin("ashr" if signed else "lshr", up, fn.num(64 - field.bits), signed))
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
