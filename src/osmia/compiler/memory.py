# SPDX-License-Identifier: Apache-2.0
"""The program's own memory: events, map values, structures and arrays of the author's."""

from __future__ import annotations

from osmia.compiler import kmem, texts, tir
from osmia.compiler import syntax as ast
from osmia.compiler.core import Fn
from osmia.compiler.kmem import kernel_type
from osmia.compiler.layout import is_scalar, memory
from osmia.compiler.truth import truth_of
from osmia.compiler.values import (
    SINT,
    TBOOL,
    UINT,
    UNKNOWN,
    TConst,
    TEvent,
    TPtr,
    TRef,
    TStr,
    TTail,
    TTuple,
    Val,
    components,
)
from osmia.lang.types import Address, Array, Bytes, Data, Event, Field, Str, Strs, is_enum, size_align, tuple_layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BIGGEST_ON_STACK = 256


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
            return Val(TPtr(kind.space, kernel_type(fn, None, kind.target)), [expr])
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
            fn.store(place, truth_of(fn, value, node), tir.BOOL)
            return
        if is_enum(kind) or isinstance(value.ft, TConst):
            _check_range(fn, node, kind, value)
        fn.store(place, fn.as_int(kmem.pointer(fn, value), node)[0], memory(kind))
    elif issubclass(kind, Str):
        texts.write_str(fn, node, place, kind.n, value, fresh=fresh)
    elif issubclass(kind, Bytes):
        texts.write_bytes(fn, node, place, kind.n, value)
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
    assert isinstance(value.ft, TTuple)
    out, at = [], 0
    for item in value.ft.items:
        n = len(components(item))
        out.append(Val(item, value.exprs[at : at + n]))
        at += n
    return out


def is_strings(kind: Any) -> bool:
    """Whether ``kind`` is a tail of strings."""
    return isinstance(kind, type) and issubclass(kind, Strs)


def is_data(kind: Any) -> bool:
    """Whether ``kind`` is a tail of bytes."""
    return isinstance(kind, type) and issubclass(kind, Data)
