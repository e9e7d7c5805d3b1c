# SPDX-License-Identifier: Apache-2.0
"""Names, attributes and elements: what a piece of kernel code refers to."""

from __future__ import annotations

from types import ModuleType

from osmia.compiler import currenttask, kmem, mapops, mapops_more, texts, tir
from osmia.compiler import memory as mem
from osmia.compiler import syntax as ast
from osmia.compiler.core import Fn, Record, describe
from osmia.compiler.dispatch import expr, expression
from osmia.compiler.truth import unwrap
from osmia.compiler.values import (
    SINT,
    TBOOL,
    UINT,
    TBool,
    TConst,
    TEmbed,
    TEvent,
    TInt,
    TOpt,
    TPtr,
    TRef,
    TStr,
    TTail,
    TText,
    TTuple,
    Val,
    const,
)
from osmia.lang.builtins import Current
from osmia.lang.hist import Hist
from osmia.lang.maps import Map, MapBase
from osmia.lang.maps_special import ArrayOfMaps, Global, PerThread
from osmia.lang.options import Option
from osmia.lang.types import Str
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CURRENT = ("tgid", "pid", "comm", "uid", "gid", "cgroup_id", "task")


@expression(ast.Constant)
def _constant(fn: Fn, node: ast.Constant) -> Val:
    if node.value is Ellipsis or isinstance(node.value, (float, complex)):
        fix = "count in whole numbers of a smaller unit" if isinstance(node.value, float) else ""
        fn.fail(node, f"{type(node.value).__name__} values do not exist in the kernel", fix)
    return const(node.value)


@expression(ast.Name)
def _name(fn: Fn, node: ast.Name) -> Val:
    name = node.id
    if name in fn.env:
        value = fn.read(fn.env[name])
        if name in fn.rebound:
            value = fn.steady(value)
        return unwrap(value) if isinstance(value.ft, TOpt) and name in fn.known else value
    if name in fn.assigned:
        fn.fail(node, f"{name!r} has no value yet on some way to here", f"assign it before: {name} = 0")
    found, item = fn.source.lookup(name)
    if not found:
        fn.fail(node, f"the name {name!r} is not defined", _near_name(fn, name))
    _note_constant(fn, name, item)
    return reified(fn, node, item)


def _note_constant(fn: Fn, name: str, item: Any) -> None:
    """Remember a module constant that gets baked into the program, for the check of cached objects."""
    scope = fn.source.function.__globals__
    if isinstance(item, (int, str, bytes)) and name in scope:
        fn.mod.constants[scope.get("__name__", ""), name] = repr(item)


def _near_name(fn: Fn, name: str) -> str:
    import difflib

    names = [*fn.env, *fn.source.function.__globals__]
    near = difflib.get_close_matches(name, names, 1)
    return f"did you mean {near[0]}?" if near else ""


def reified(fn: Fn, node: ast.AST, item: Any) -> Val:
    """A Python object as a value of kernel code."""
    if isinstance(item, Option):
        return _option(fn, node, item)
    if isinstance(item, float):
        fn.fail(node, f"{item!r} is a float, and the kernel has none", "make it a whole number of a smaller unit")
    if isinstance(item, tuple):
        parts = [reified(fn, node, one) for one in item]
        return Val(TTuple(tuple(p.ft for p in parts)), [e for p in parts for e in p.exprs])
    if isinstance(item, (list, dict, set)):
        kind = type(item).__name__
        fn.fail(node, f"a Python {kind} does not exist in the kernel", "use a map: Hash[u32, u64](), Array[u64](n)")
    return const(item)


def _option(fn: Fn, node: ast.AST, item: Option) -> Val:
    kind = item.stored
    if kind is None:
        fn.fail(node, f"the option {item.flags[-1]} cannot be read in kernel code", "give it type=int, bool or Str[n]")
    if item in fn.mod.without:
        return const(item.value)
    place = fn.global_(fn.mod.option(item))
    if isinstance(kind, type) and issubclass(kind, Str):
        return Val(TStr(kind.n), [place])
    from osmia.compiler.layout import memory

    what = memory(kind)
    load = fn.keep(tir.Load(_wide(what), fn.loc, place, what, True))
    return Val(TBOOL if kind is bool else SINT if what.signed else UINT, [load])  # type: ignore[union-attr]


def _wide(what: tir.Mem) -> tir.Type:
    if isinstance(what, tir.Int):
        return tir.S64 if what.signed else tir.U64
    return tir.BOOL


@expression(ast.Attribute)
def _attribute(fn: Fn, node: ast.Attribute) -> Val:
    if isinstance(node.value, ast.Attribute):
        from_task = currenttask.field(fn, node)
        if from_task is not None:
            return from_task
    value = expr(fn, node.value)
    fn.at(node)
    if isinstance(value.ft, (TPtr, TEmbed)):
        return kmem.field_of_pointer(fn, node, value)
    if isinstance(value.ft, (TRef, TEvent)):
        return mem.field_of_ref(fn, node, value)
    if isinstance(value.ft, TConst):
        return _of_object(fn, node, value.ft.value)
    if isinstance(value.ft, (TTail, TStr, TText, TTuple, TInt, TBool)):
        fn.fail(node, f"{describe(value)} has no attribute {node.attr!r} in kernel code")
    fn.expected(value, node.value, "something with fields")


def _of_object(fn: Fn, node: ast.Attribute, item: Any) -> Val:
    if isinstance(item, Current):
        return _current(fn, node)
    if isinstance(item, (ModuleType, type)):
        if not hasattr(item, node.attr):
            fn.fail(node, f"{item.__name__} has no attribute {node.attr!r}")
        return reified(fn, node, getattr(item, node.attr))
    if isinstance(item, int) and hasattr(type(item), "__members__") and node.attr == "value":
        return const(int(item))
    if isinstance(item, (Global, PerThread)):
        return mapops_more.attribute(fn, node, item)
    if isinstance(item, (MapBase, str)):
        fn.fail(node, f"{node.attr!r} of {describe(const(item))} can only be called here")
    if isinstance(item, Record):
        return item.field(fn, node)
    if item is None:
        fn.fail(node, "None has no fields")
    fn.fail(node, f"attributes of {describe(const(item))} cannot be read in kernel code")


def _current(fn: Fn, node: ast.Attribute) -> Val:
    name = node.attr
    if name not in CURRENT:
        fn.fail(node, f"current has no attribute {name!r}", f"it has {', '.join(CURRENT)}")
    if name == "comm":
        return Val(TText("comm", texts.COMM_SIZE), [])
    if name == "task":
        task = fn.helper(consts.BPF_FUNC_get_current_task, result=tir.U64)
        return Val(TPtr("kernel", kmem.kernel_type(fn, node, "struct task_struct")), [task])
    ids = {"tgid": 14, "pid": 14, "uid": 15, "gid": 15, "cgroup_id": consts.BPF_FUNC_get_current_cgroup_id}
    both = fn.helper(ids[name], result=tir.U64)
    if name == "cgroup_id":
        return Val(UINT, [both])
    if name in ("tgid", "gid"):
        return Val(SINT, [fn.bin("lshr", both, fn.num(32))])
    return Val(SINT, [fn.bin("and", both, fn.num(0xFFFFFFFF))])


@expression(ast.Subscript)
def _subscript(fn: Fn, node: ast.Subscript) -> Val:
    value = expr(fn, node.value)
    index = expr(fn, node.slice)
    fn.at(node)
    item = mapops.as_map(value)
    if isinstance(item, Map):
        return mapops.load(fn, node, item, index)
    if isinstance(item, ArrayOfMaps):
        return mapops_more.inner_map(fn, node, item, index)
    if isinstance(item, Hist):
        if not item.keyed:
            fn.fail(node, "this histogram has no key", "make it with key=TYPE")
        return const(mapops.KeyedHist(item, fn.steady(index)))
    if isinstance(value.ft, TPtr) and value.ft.space == "ctx" and value.ft.kt is None:
        at = fn.constant_int(index, node.slice, "the index")
        if at < 0:
            fn.fail(node.slice, "the words of the context are counted from 0")
        return Val(SINT, [fn.load(fn.offset(value.exprs[0], 8 * at), tir.S64)])
    if isinstance(value.ft, (TPtr, TEmbed)):
        return kmem.element(fn, node, value, index)
    if isinstance(value.ft, TRef):
        place, kind = mem.own_element(fn, node, value, index)
        if kind is int:  # a byte of Bytes[n]
            return Val(UINT, [fn.load(place, tir.U8)])
        return mem.read(fn, place, kind)
    if isinstance(value.ft, TTuple):
        at = fn.constant_int(index, node.slice, "the index of a tuple")
        parts = mem.split(value)
        if not -len(parts) <= at < len(parts):
            fn.fail(node, f"index {at} is outside a tuple of {len(parts)}")
        return parts[at]
    if isinstance(item, type):
        fn.fail(node, "types are made outside kernel code", "give the type a name in the module")
    if isinstance(value.ft, (TStr, TText)):
        fn.fail(node, "text cannot be indexed in kernel code", "compare it, use startswith() or `in`")
    fn.expected(value, node.value, "something with elements")
