# SPDX-License-Identifier: Apache-2.0
"""Expressions of kernel code: one function per kind of syntax-tree node; what is not here is refused."""

from __future__ import annotations

import ast
from collections.abc import Callable
from types import ModuleType
from typing import Any

from osmia.compiler import mapops, numbers, tir
from osmia.compiler import memory as mem
from osmia.compiler.core import Fn, Record, describe
from osmia.compiler.values import (
    NONE,
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
    components,
    const,
    is_number,
    join,
    lone,
)
from osmia.lang.builtins import Current
from osmia.lang.hist import Hist
from osmia.lang.maps import Map, MapBase
from osmia.lang.options import Option
from osmia.lang.types import Str
from osmia.obj import consts

CURRENT = ("tgid", "pid", "comm", "uid", "gid", "cgroup_id", "task")


def expr(fn: Fn, node: ast.expr) -> Val:
    """The value of ``node``."""
    fn.at(node)
    handler = _HANDLERS.get(type(node))
    if handler is None:
        what, fix = _REFUSED.get(type(node), (f"{type(node).__name__} is not possible in kernel code", ""))
        fn.fail(node, what, fix)
    return handler(fn, node)


def _constant(fn: Fn, node: ast.Constant) -> Val:
    if node.value is Ellipsis or isinstance(node.value, (float, complex)):
        fix = "count in whole numbers of a smaller unit" if isinstance(node.value, float) else ""
        fn.fail(node, f"{type(node.value).__name__} values do not exist in the kernel", fix)
    return const(node.value)


def _name(fn: Fn, node: ast.Name) -> Val:
    name = node.id
    if name in fn.env:
        value = fn.read(fn.env[name])
        if isinstance(value.ft, TOpt) and name in fn.known:
            return unwrap(value)
        return value
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


def unwrap(value: Val) -> Val:
    """The value of an optional that is known to be there."""
    assert isinstance(value.ft, TOpt)
    return Val(value.ft.inner, value.exprs if lone(value.ft.inner) else value.exprs[1:])


def present(fn: Fn, value: Val) -> tir.Expr:
    """Whether an optional is there."""
    assert isinstance(value.ft, TOpt)
    return fn.not_null(value.exprs[0]) if lone(value.ft.inner) else value.exprs[0]


# --------------------------------------------------------------------------
# Truth


def truth_of(fn: Fn, value: Val, node: ast.AST) -> tir.Expr:
    """``bool(value)`` as Python has it."""
    ft = value.ft
    if isinstance(ft, TBool):
        return value.exprs[0]
    if isinstance(ft, TInt):
        return fn.cmp("ne", value.exprs[0], tir.Const(value.exprs[0].type, fn.loc, 0))
    if isinstance(ft, TConst):
        if isinstance(ft.value, (int, str, bytes)) or ft.value is None:
            return fn.flag(bool(ft.value))
        fn.expected(value, node, "a condition")
    if isinstance(ft, TOpt):
        there = present(fn, value)
        inner = unwrap(value)
        if isinstance(inner.ft, (TRef, TTuple, TPtr)):
            return there
        rest: list[tir.Stmt] = []
        with fn.into(rest):
            deeper = truth_of(fn, inner, node)
        return tir.And(tir.BOOL, fn.loc, there, tir.Seq(tir.BOOL, fn.loc, rest, deeper) if rest else deeper)
    if isinstance(ft, TPtr):
        return fn.not_null(value.exprs[0])
    if isinstance(ft, TTuple):
        return fn.flag(bool(ft.items))
    if isinstance(ft, (TStr, TText, TEmbed)):
        text = mem.in_memory(fn, value, node)
        first = fn.load(text.exprs[0], tir.U8)
        return fn.cmp("ne", first, fn.num(0, False))
    return fn.flag(True)


def condition(fn: Fn, node: ast.expr) -> tir.Expr:
    """The truth of an expression, with short circuits kept."""
    if isinstance(node, ast.BoolOp):
        return _bool_op_truth(fn, node)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = condition(fn, node.operand)
        return fn.flag(not inner.value) if isinstance(inner, tir.Const) else fn.not_(inner)
    return truth_of(fn, expr(fn, node), node)


def _bool_op_truth(fn: Fn, node: ast.BoolOp) -> tir.Expr:
    is_and = isinstance(node.op, ast.And)
    before = set(fn.known)
    result = condition(fn, node.values[0])
    for previous, part in zip(node.values, node.values[1:], strict=False):
        yes, no = narrowing(fn, previous)
        fn.known |= yes if is_and else no
        if isinstance(result, tir.Const):  # decided when compiling: the rest counts, or is never run
            if bool(result.value) != is_and:
                break
            result = condition(fn, part)
            continue
        stmts: list[tir.Stmt] = []
        with fn.into(stmts):
            right = condition(fn, part)
        if stmts:
            right = tir.Seq(tir.BOOL, fn.loc, stmts, right)
        made = tir.And if is_and else tir.Or
        result = made(tir.BOOL, fn.loc, result, right)
    fn.known = before
    return result


def narrowing(fn: Fn, node: ast.expr) -> tuple[set[str], set[str]]:
    """Names that are certainly not None where ``node`` is true, and where it is false."""
    if isinstance(node, ast.Name):
        return {node.id}, set()
    if isinstance(node, ast.NamedExpr):
        return {node.target.id}, set()
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yes, no = narrowing(fn, node.operand)
        return no, yes
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        left, right = node.left, node.comparators[0]
        if isinstance(left, ast.NamedExpr):
            left = left.target
        if isinstance(left, ast.Name) and isinstance(right, ast.Constant) and right.value is None:
            if isinstance(node.ops[0], (ast.IsNot, ast.NotEq)):
                return {left.id}, set()
            if isinstance(node.ops[0], (ast.Is, ast.Eq)):
                return set(), {left.id}
    if isinstance(node, ast.BoolOp):
        both = [narrowing(fn, value) for value in node.values]
        if isinstance(node.op, ast.And):
            return set().union(*(yes for yes, _ in both)), set()
        return set(), set().union(*(no for _, no in both))
    return set(), set()


# --------------------------------------------------------------------------
# Operators


def _bool_op(fn: Fn, node: ast.BoolOp) -> Val:
    """``a and b`` as a value: Python gives one of the operands, so they must agree in type."""
    result = numbers.truth(_bool_op_truth(fn, node))
    first = node.values[0]
    if isinstance(first, (ast.Compare, ast.BoolOp)) or (
        isinstance(first, ast.UnaryOp) and isinstance(first.op, ast.Not)
    ):
        return _simplify(result)
    fn.fail(
        node, "`and` / `or` gives one of its operands in Python; in kernel code only truth values are combined so",
        "write `a if a else b`, or compare: a != 0",
    )


def _simplify(value: Val) -> Val:
    only = value.exprs[0]
    return const(bool(only.value)) if isinstance(only, tir.Const) else value


def _unary(fn: Fn, node: ast.UnaryOp) -> Val:
    if isinstance(node.op, ast.Not):
        return _simplify(numbers.truth(condition(fn, node)))
    return numbers.unary(fn, node, expr(fn, node.operand))


def _binary(fn: Fn, node: ast.BinOp) -> Val:
    left = expr(fn, node.left)
    right = expr(fn, node.right)
    fn.at(node)
    if isinstance(node.op, ast.Mod) and isinstance(left.const, str):
        fn.fail(node, "text is not formatted with % in kernel code", 'use print(f"...")')
    return numbers.binary(fn, node, node.op, left, right, node.left, node.right)


def _compare(fn: Fn, node: ast.Compare) -> Val:
    left_node = node.left
    left = expr(fn, left_node)
    result: tir.Expr | None = None
    for at, (op, right_node) in enumerate(zip(node.ops, node.comparators, strict=True)):
        stmts: list[tir.Stmt] = []
        with fn.into(stmts):
            right = expr(fn, right_node)
            if at + 1 < len(node.ops) and is_number(right.ft):
                right = numbers.settle(fn, right, right_node)
            fn.at(node)
            test = _compare_one(fn, node, op, left, right, left_node, right_node)
            made = fn.flag(bool(test.const)) if isinstance(test.ft, TConst) else test.exprs[0]
        if result is None:
            fn.block.extend(stmts)
            result = made
        else:
            part = tir.Seq(tir.BOOL, fn.loc, stmts, made) if stmts else made
            result = tir.And(tir.BOOL, fn.loc, result, part)
        left, left_node = right, right_node
    assert result is not None
    return _simplify(numbers.truth(result))


def _compare_one(fn: Fn, node: ast.Compare, op: ast.cmpop, a: Val, b: Val, left: ast.expr, right: ast.expr) -> Val:
    if isinstance(op, (ast.In, ast.NotIn)):
        return numbers.truth(_contains(fn, node, isinstance(op, ast.NotIn), a, b, left, right))
    negative = isinstance(op, (ast.IsNot, ast.NotEq))
    if a.ft == NONE or b.ft == NONE:
        return _is_none(fn, b if a.ft == NONE else a, negative)
    if isinstance(op, (ast.Is, ast.IsNot)):
        fn.fail(node, "`is` compares with None only in kernel code", "use == or !=")
    if _texty(a) and _texty(b):
        if not isinstance(op, (ast.Eq, ast.NotEq)):
            fn.fail(node, "text is compared with == and != only")
        same = mem.same_text(fn, node, a, b, left, right)
        return numbers.truth(fn.not_(same) if negative else same)
    return numbers.compare(fn, node, op, mem.pointer(fn, a), mem.pointer(fn, b), left, right)


def _texty(value: Val) -> bool:
    ft = value.ft
    if isinstance(ft, TConst):
        return isinstance(ft.value, str)
    if isinstance(ft, TEmbed):
        return ft.kt.kind == "array" and ft.kt.target().size == 1
    return isinstance(ft, (TStr, TText)) or (isinstance(ft, TPtr) and ft.kt is not None and ft.kt.kind == "char")


def _is_none(fn: Fn, value: Val, negative: bool) -> Val:
    if isinstance(value.ft, TConst):
        return const((value.const is None) != negative)
    if isinstance(value.ft, TOpt):
        there = present(fn, value)
        return numbers.truth(there if negative else fn.not_(there))
    if isinstance(value.ft, TPtr):  # a null pointer of the kernel's is None
        there = fn.not_null(value.exprs[0])
        return numbers.truth(there if negative else fn.not_(there))
    return const(negative)


def _contains(fn: Fn, node: ast.Compare, negative: bool, a: Val, b: Val, left: ast.expr, right: ast.expr) -> tir.Expr:
    container = b.const
    if isinstance(container, Map):
        found = mapops.contains(fn, node, container, a)
    elif isinstance(b.ft, TTuple):
        found = fn.flag(False)
        for part in mem.split(b):
            test = numbers.compare(fn, node, ast.Eq(), a, part, left, right)
            one = fn.flag(bool(test.const)) if isinstance(test.ft, TConst) else test.exprs[0]
            found = tir.Or(tir.BOOL, fn.loc, found, one)
    elif _texty(a) and _texty(b):
        found = mem.contains_text(fn, node, a, b, left, right)
    else:
        fn.fail(node, f"`in` does not work on {describe(b)} in kernel code", "it takes a map, a tuple or text")
    return fn.not_(found) if negative else found


def _if_exp(fn: Fn, node: ast.IfExp) -> Val:
    test = condition(fn, node.test)
    if isinstance(test, tir.Const):
        return expr(fn, node.body if test.value else node.orelse)
    yes, no = narrowing(fn, node.test)
    sides = []
    for part, names in ((node.body, yes), (node.orelse, no)):
        stmts: list[tir.Stmt] = []
        before = set(fn.known)
        fn.known |= names
        with fn.into(stmts):
            sides.append((expr(fn, part), stmts, part))
        fn.known = before
    (a, a_stmts, _), (b, b_stmts, _) = sides
    kind = join(a.ft, b.ft)
    if kind is None:
        fn.fail(node, f"the two sides are of different kinds: {describe(a)} and {describe(b)}")
    from osmia.compiler.values import settled

    kind = settled(kind)
    var = fn.bind("either", kind)
    for value, stmts, part in sides:
        with fn.into(stmts):
            assign(fn, part, var, value)
    fn.at(node)
    fn.if_(test, a_stmts, b_stmts)
    return fn.read(var)


def assign(fn: Fn, node: ast.AST, var: Any, value: Val) -> None:
    """Put ``value`` into the locals of ``var``, converting it to the variable's type."""
    for local, part in zip(var.locals, converted(fn, node, var.ft, value), strict=True):
        if isinstance(local.type, (tir.Array, tir.Struct)):
            place = tir.AddrOf(tir.Ptr("mem"), fn.loc, local)
            mem.write_str(fn, node, place, local.type.size, part)
        else:
            fn.set(local, part)


def converted(fn: Fn, node: ast.AST, ft: Any, value: Val) -> list[Any]:
    """The components of ``value`` as type ``ft`` (text as a Val, to be copied)."""
    if isinstance(ft, TStr):
        return [value]
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
        return mem.pointer(fn, value).exprs
    return list(value.exprs)


def _nothing(fn: Fn, ft: TOpt) -> list[tir.Expr]:
    if lone(ft.inner):
        return []
    return [tir.Const(kind, fn.loc, 0) for kind in components(ft.inner)]  # type: ignore[arg-type]


def _tuple(fn: Fn, node: ast.Tuple) -> Val:
    parts = []
    for item in node.elts:
        if isinstance(item, ast.Starred):
            fn.fail(item, "unpacking with * is not possible in kernel code")
        parts.append(_steady(fn, expr(fn, item)))
    return Val(TTuple(tuple(p.ft for p in parts)), [e for p in parts for e in p.exprs])


def _steady(fn: Fn, value: Val) -> Val:
    """Evaluate the components now, so that what follows cannot change them."""
    return Val(value.ft, [fn.keep(e) for e in value.exprs])


def _named(fn: Fn, node: ast.NamedExpr) -> Val:
    from osmia.compiler.stmts import assign_name

    value = expr(fn, node.value)
    assign_name(fn, node.target, node.target.id, value)
    return fn.read(fn.env[node.target.id])


# --------------------------------------------------------------------------
# Attributes and subscripts


def _attribute(fn: Fn, node: ast.Attribute) -> Val:
    value = expr(fn, node.value)
    fn.at(node)
    if isinstance(value.ft, (TPtr, TEmbed)):
        return mem.field_of_pointer(fn, node, value)
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
        return Val(TText("comm", mem.COMM_SIZE), [])
    if name == "task":
        task = fn.helper(consts.BPF_FUNC_get_current_task, result=tir.U64)
        return Val(TPtr("kernel", kernel_type(fn, node, "struct task_struct")), [task])
    ids = {"tgid": 14, "pid": 14, "uid": 15, "gid": 15, "cgroup_id": consts.BPF_FUNC_get_current_cgroup_id}
    both = fn.helper(ids[name], result=tir.U64)
    if name == "cgroup_id":
        return Val(UINT, [both])
    if name in ("tgid", "gid"):
        return Val(SINT, [fn.bin("lshr", both, fn.num(32))])
    return Val(SINT, [fn.bin("and", both, fn.num(0xFFFFFFFF))])


def kernel_type(fn: Fn, node: ast.AST, name: str) -> Any:
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


def _subscript(fn: Fn, node: ast.Subscript) -> Val:
    if isinstance(node.slice, ast.Slice):
        fn.fail(node, "slices do not exist in kernel code")
    value = expr(fn, node.value)
    index = expr(fn, node.slice)
    fn.at(node)
    item = value.const
    if isinstance(item, Map):
        return mapops.load(fn, node, item, index)
    if isinstance(item, Hist):
        if not item.keyed:
            fn.fail(node, "this histogram has no key", "make it with key=TYPE")
        return const(mapops.KeyedHist(item, _steady(fn, index)))
    if isinstance(value.ft, TPtr) and value.ft.space == "ctx" and value.ft.kt is None:
        at = fn.constant_int(index, node.slice, "the index")
        if at < 0:
            fn.fail(node.slice, "the words of the context are counted from 0")
        return Val(SINT, [fn.load(fn.offset(value.exprs[0], 8 * at), tir.S64)])
    if isinstance(value.ft, (TPtr, TEmbed)):
        return mem.element(fn, node, value, index)
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


def _call(fn: Fn, node: ast.Call) -> Val:
    from osmia.compiler.calls import call

    return call(fn, node)


def _joined(fn: Fn, node: ast.JoinedStr) -> Val:
    fn.fail(node, "f-strings work in print() only in kernel code", 'print(f"...")')



_HANDLERS: dict[type[ast.expr], Callable[[Fn, Any], Val]] = {
    ast.Constant: _constant, ast.Name: _name, ast.BoolOp: _bool_op, ast.UnaryOp: _unary, ast.BinOp: _binary,
    ast.Compare: _compare, ast.IfExp: _if_exp, ast.Tuple: _tuple, ast.NamedExpr: _named, ast.Attribute: _attribute,
    ast.Subscript: _subscript, ast.Call: _call, ast.JoinedStr: _joined,
}
_REFUSED: dict[type[ast.expr], tuple[str, str]] = {
    ast.Lambda: ("a lambda cannot be compiled for the kernel", "write a def"),
    ast.List: ("a Python list does not exist in the kernel", "use a map: Array[u64](n), or a tuple"),
    ast.Dict: ("a Python dict does not exist in the kernel", "use a map: Hash[u32, u64]()"),
    ast.Set: ("a Python set does not exist in the kernel", "use a map, or `x in (1, 2, 3)`"),
    ast.ListComp: ("comprehensions do not exist in kernel code", "write a for loop"),
    ast.SetComp: ("comprehensions do not exist in kernel code", "write a for loop"),
    ast.DictComp: ("comprehensions do not exist in kernel code", "write a for loop"),
    ast.GeneratorExp: ("generators do not exist in kernel code", "write a for loop"),
    ast.Await: ("await is not possible in kernel code", ""),
    ast.Yield: ("yield is not possible in kernel code", "send an event: with ring.reserve() as e: ..."),
    ast.YieldFrom: ("yield is not possible in kernel code", "send an event: with ring.reserve() as e: ..."),
    ast.Starred: ("unpacking with * is not possible in kernel code", ""),
}
