# SPDX-License-Identifier: Apache-2.0
"""Assignment: to variables (whose type is the join of all that they are given), fields, elements and maps."""

from __future__ import annotations

from osmia.compiler import eventops, kmem, mapops, mapops_more, numbers, texts, tir
from osmia.compiler import memory as mem
from osmia.compiler import syntax as ast
from osmia.compiler.core import Fn, Var, describe
from osmia.compiler.dispatch import expr, statement
from osmia.compiler.layout import memory
from osmia.compiler.truth import truth_of, unwrap
from osmia.compiler.values import (
    NONE,
    TBool,
    TEmbed,
    TEvent,
    TInt,
    TOpt,
    TPtr,
    TRef,
    TStr,
    TTuple,
    Val,
    components,
    join,
    lone,
    settled,
)
from osmia.lang.hist import Hist
from osmia.lang.maps import Map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def assign(fn: Fn, node: ast.AST, var: Any, value: Val) -> None:
    """Put ``value`` into the locals of ``var``, converting it to the variable's type."""
    if isinstance(var.ft, TStr):
        # Memory of the variable's own: what the text is copied from may change, and in a loop does.
        fn.set(var.locals[0], _copied(fn, node, var.ft.n, value, id(var)))
        return
    for local, part in zip(var.locals, converted(fn, node, var.ft, value), strict=True):
        fn.set(local, part)


def _copied(fn: Fn, node: ast.AST, size: int, value: Val, key: int) -> tir.Expr:
    """The address of ``value``, a text, in ``size`` bytes of the stack."""
    if size > mem.BIGGEST_ON_STACK:
        fn.fail(node, f"text of {size} bytes does not fit on the kernel's 512-byte stack",
                f"limit it to {mem.BIGGEST_ON_STACK} bytes, or use it where it is, without a name")  # fmt: skip
    place = fn.slot(("text", key), tir.Array(tir.CHAR, size))
    copied = isinstance(texts.as_text(fn, value, node).ft, TStr)  # perhaps from that very place
    if not copied:
        fn.emit(tir.Zero(fn.loc, place, size))
    texts.write_str(fn, node, place, size, value, fresh=not copied)
    return place


def converted(fn: Fn, node: ast.AST, ft: Any, value: Val) -> list[Any]:
    """The components of ``value`` as type ``ft``."""
    if isinstance(ft, TStr):
        text = texts.as_text(fn, value, node)
        if isinstance(text.ft, TStr) and text.ft.n >= ft.n:
            return list(text.exprs)
        return [_copied(fn, node, ft.n, value, -len(fn.slots))]
    if value.ft == ft:
        return list(value.exprs)
    if isinstance(ft, TInt):
        made, _ = fn.as_int(value, node)
        want = tir.S64 if ft.signed else tir.U64
        return [made if made.type == want else tir.Convert(want, fn.loc, made, want)]
    if isinstance(ft, TBool):
        return [truth_of(fn, value, node)]
    if isinstance(ft, TOpt):
        if value.ft == NONE:
            return [fn.null() if lone(ft.inner) else fn.flag(False), *_nothing(fn, ft)]
        if isinstance(value.ft, TOpt):
            rest = converted(fn, node, ft.inner, unwrap(value))
            return rest if lone(ft.inner) else [value.exprs[0], *rest]
        rest = converted(fn, node, ft.inner, value)
        return rest if lone(ft.inner) else [fn.flag(True), *rest]
    if isinstance(ft, TTuple) and isinstance(value.ft, TTuple):
        return [c for t, p in zip(ft.items, mem.split(value), strict=True) for c in converted(fn, node, t, p)]
    if isinstance(ft, TPtr):
        return kmem.pointer(fn, value).exprs
    return list(value.exprs)


def _nothing(fn: Fn, ft: TOpt) -> list[tir.Expr]:
    if lone(ft.inner):
        return []
    return [tir.Const(kind, fn.loc, 0) for kind in components(ft.inner)]  # type: ignore[arg-type]


def _start_empty(fn: Fn, var: Var) -> None:
    """What := binds in a part that may not run (``a and (x := …)``) is zero, or None, until it has run."""
    for local in var.locals:
        if not isinstance(local.type, (tir.Array, tir.Struct)):  # those are zero from the start
            fn.func.body.insert(0, tir.Set(fn.loc, local, tir.Const(local.type, fn.loc, 0)))


def assign_name(fn: Fn, node: ast.AST, name: str, value: Val) -> None:
    """``name = value``; the variable's type is the join of all its assignments."""
    ft = settled(value.ft)
    have = fn.types.get(name)
    if have is None:
        fn.types[name] = have = ft
    wider = join(have, ft)
    if wider is None:
        before = describe(Val(have, []))
        fn.fail(node, f"{name!r} was {before} and becomes {describe(value)}", "use two variables")
    wider = settled(wider)
    if wider != have:
        fn.types[name] = have = wider
        fn.changed = True
    var = fn.env.get(name)
    if var is None or var.ft != have:
        var = fn.vars.get((name, have))
        if var is None:
            var = fn.vars[name, have] = fn.bind(name, have)
            if name in fn.rebound:
                _start_empty(fn, var)
    assign(fn, node, var, value)
    fn.env[name] = var
    fn.known.discard(name)
    if isinstance(have, TOpt) and not isinstance(value.ft, TOpt) and value.ft != NONE:
        fn.known.add(name)


@statement(ast.Assign)
def _assign(fn: Fn, node: ast.Assign) -> bool:
    value = expr(fn, node.value)
    fn.at(node)
    if len(node.targets) > 1:
        value = Val(value.ft, [fn.keep(e) for e in value.exprs])
    for target in node.targets:
        _assign_to(fn, target, value)
    return False


def _assign_to(fn: Fn, target: ast.expr, value: Val) -> None:
    if isinstance(target, ast.Name):
        assign_name(fn, target, target.id, value)
    elif isinstance(target, (ast.Tuple, ast.List)):
        _unpack(fn, target, value)
    elif isinstance(target, ast.Attribute):
        _assign_attribute(fn, target, value)
    elif isinstance(target, ast.Subscript):
        _assign_element(fn, target, value)
    else:
        fn.fail(target, "this cannot be assigned to in kernel code")


def _unpack(fn: Fn, target: ast.Tuple | ast.List, value: Val) -> None:
    if not isinstance(value.ft, TTuple):
        fn.expected(value, target, f"a tuple of {len(target.elts)} values")
    parts = mem.split(value)
    if len(parts) != len(target.elts):
        fn.fail(target, f"{len(target.elts)} names for a tuple of {len(parts)} values")
    parts = [Val(p.ft, [fn.keep(e) for e in p.exprs]) for p in parts]
    for one, part in zip(target.elts, parts, strict=True):
        _assign_to(fn, one, part)


def _assign_attribute(fn: Fn, target: ast.Attribute, value: Val) -> None:
    owner = expr(fn, target.value)
    fn.at(target)
    if mapops_more.assign_attribute(fn, target, owner, value):
        return
    if isinstance(owner.ft, (TEvent, TRef)):
        eventops.assign_field(fn, target, owner, value)
        return
    if isinstance(owner.ft, (TPtr, TEmbed)):
        fn.fail(target, "kernel and user memory cannot be written by a tracing program")
    fn.expected(owner, target.value, "an event or a structure of yours")


def _assign_element(fn: Fn, target: ast.Subscript, value: Val) -> None:
    owner = expr(fn, target.value)
    index = expr(fn, target.slice)
    fn.at(target)
    item = mapops.as_map(owner)
    if isinstance(item, Map):
        mapops.store(fn, target, item, index, value)
    elif isinstance(item, Hist):
        fn.fail(target, "a histogram is filled with add()", "write h[key].add(value)")
    elif isinstance(owner.ft, TRef):
        place, kind = mem.own_element(fn, target, owner, index)
        if kind is int:
            fn.store(place, fn.as_int(value, target)[0], tir.U8)
        else:
            mem.write(fn, target, place, kind, value)
    elif isinstance(owner.ft, TPtr) and owner.ft.space == "ctx" and owner.ft.kt is None:
        at = fn.constant_int(index, target.slice, "the index")
        fn.store(fn.offset(owner.exprs[0], 8 * at), fn.as_int(value, target)[0], tir.S64)
    elif isinstance(owner.ft, (TPtr, TEmbed)):
        fn.fail(target, "kernel and user memory cannot be written by a tracing program")
    else:
        fn.expected(owner, target.value, "a map or an array of yours")


@statement(ast.AnnAssign)
def _ann_assign(fn: Fn, node: ast.AnnAssign) -> bool:
    if not isinstance(node.target, ast.Name) or node.value is None:
        fn.fail(node, "an annotation without a value has no meaning in kernel code", "assign a value")
    from osmia.compiler.calls import _construct

    kind = expr(fn, node.annotation).const
    call = ast.Call(func=node.annotation, args=[node.value], keywords=[])
    ast.copy_location(call, node.value)
    numeric = isinstance(kind, type) and issubclass(kind, int)
    value = _construct(fn, call, kind) if numeric else expr(fn, node.value)
    assign_name(fn, node.target, node.target.id, value)
    return False


@statement(ast.AugAssign)
def _aug_assign(fn: Fn, node: ast.AugAssign) -> bool:
    target = node.target
    if isinstance(target, ast.Name):
        left = expr(fn, ast.copy_location(ast.Name(id=target.id, ctx=ast.Load()), target))
        right = expr(fn, node.value)
        fn.at(node)
        assign_name(fn, target, target.id, numbers.binary(fn, node, node.op, left, right, target, node.value))
        return False
    if isinstance(target, ast.Subscript):
        owner = expr(fn, target.value)
        item = mapops.as_map(owner)
        if isinstance(item, Map):
            _map_update(fn, node, target, item)
            return False
        if isinstance(owner.ft, TRef):
            index = expr(fn, target.slice)
            place, kind = mem.own_element(fn, target, owner, index)
            _memory_update(fn, node, place, kind)
            return False
    if isinstance(target, ast.Attribute):
        owner = expr(fn, target.value)
        if mapops_more.update_attribute(fn, node, target, owner):
            return False
        if isinstance(owner.ft, (TRef, TEvent)):
            field = mem.own_field(fn, target, owner)
            _memory_update(fn, node, fn.offset(owner.exprs[0], field.offset), field.type)
            return False
    if isinstance(target, (ast.Subscript, ast.Attribute)) and isinstance(owner.ft, TOpt):
        fn.expected(owner, target.value, "a map or a structure of yours")
    fn.fail(node, "this cannot be updated in kernel code")


def _map_update(
    fn: Fn, node: ast.AugAssign, target: ast.Subscript | ast.Attribute, item: Map, index: Val | None = None
) -> None:
    """``m[k] += n`` (atomic); other operators read, compute and store."""
    if index is None:
        assert isinstance(target, ast.Subscript)
        index = expr(fn, target.slice)
    index = Val(index.ft, [fn.keep(e) for e in index.exprs])
    amount = expr(fn, node.value)
    fn.at(node)
    if isinstance(node.op, (ast.Add, ast.Sub)):
        number, _ = fn.as_int(amount, node.value)
        if isinstance(node.op, ast.Sub):
            number = fn.bin("sub", fn.num(0), number)
        mapops.add(fn, node, item, index, number)
        return
    old = mapops.load(fn, target, item, index)
    new = numbers.binary(fn, node, node.op, old, amount, target, node.value)
    mapops.store(fn, target, item, index, new)


def _memory_update(fn: Fn, node: ast.AugAssign, place: tir.Expr, kind: Any) -> None:
    """``ref.field += n``: atomic on 32 and 64-bit numbers, since the memory may be shared."""
    place = fn.keep(place)
    amount = expr(fn, node.value)
    fn.at(node)
    what: Any = tir.U8 if kind is int else memory(kind)
    if isinstance(node.op, (ast.Add, ast.Sub)) and isinstance(what, tir.Int) and what.bits >= 32:
        number, _ = fn.as_int(amount, node.value)
        if isinstance(node.op, ast.Sub):
            number = fn.bin("sub", fn.num(0), number)
        mapops.atomic_add(fn, place, number, what)
        return
    old = mem.read(fn, place, kind)
    mem.write(fn, node, place, kind, numbers.binary(fn, node, node.op, old, amount, node.target, node.value))


@statement(ast.Delete)
def _delete(fn: Fn, node: ast.Delete) -> bool:
    for target in node.targets:
        item = mapops.as_map(expr(fn, target.value)) if isinstance(target, ast.Subscript) else None
        if not isinstance(item, Map):
            fn.fail(target, "del works on map entries only: del m[key]")
        assert isinstance(target, ast.Subscript)
        mapops.delete(fn, target, item, expr(fn, target.slice))
    return False
