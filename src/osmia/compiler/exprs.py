# SPDX-License-Identifier: Apache-2.0
"""Operators and the other expressions of kernel code."""

from __future__ import annotations

from osmia.compiler import kmem, mapops, mapops_more, numbers, texts, tir
from osmia.compiler import memory as mem
from osmia.compiler import syntax as ast
from osmia.compiler.assign import assign, assign_name
from osmia.compiler.core import Fn, describe
from osmia.compiler.dispatch import expr, expression
from osmia.compiler.truth import combined, condition, narrowing, present, truth_value
from osmia.compiler.values import (
    NONE,
    TConst,
    TOpt,
    TPtr,
    TTuple,
    Val,
    const,
    is_number,
    join,
    settled,
)
from osmia.lang.maps import Map
from osmia.lang.maps_more import Bloom
from osmia.lang.maps_special import ArrayOfMaps


@expression(ast.BoolOp)
def _bool_op(fn: Fn, node: ast.BoolOp) -> Val:
    """``a and b`` as a value: Python gives one of the operands, so all of them must be truth values."""
    return _simplify(numbers.truth(combined(fn, node, truth_value)))


def _simplify(value: Val) -> Val:
    only = value.exprs[0]
    return const(bool(only.value)) if isinstance(only, tir.Const) else value


@expression(ast.UnaryOp)
def _unary(fn: Fn, node: ast.UnaryOp) -> Val:
    if isinstance(node.op, ast.Not):
        return _simplify(numbers.truth(condition(fn, node)))
    return numbers.unary(fn, node, expr(fn, node.operand))


@expression(ast.BinOp)
def _binary(fn: Fn, node: ast.BinOp) -> Val:
    left = expr(fn, node.left)
    right = expr(fn, node.right)
    fn.at(node)
    if isinstance(node.op, ast.Mod) and isinstance(left.const, str):
        fn.fail(node, "text is not formatted with % in kernel code", 'use print(f"...")')
    return numbers.binary(fn, node, node.op, left, right, node.left, node.right)


@expression(ast.Compare)
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
    if texts.texty(a) and texts.texty(b):
        if not isinstance(op, (ast.Eq, ast.NotEq)):
            fn.fail(node, "text is compared with == and != only")
        same = texts.same_text(fn, node, a, b, left, right)
        return numbers.truth(fn.not_(same) if negative else same)
    return numbers.compare(fn, node, op, kmem.pointer(fn, a), kmem.pointer(fn, b), left, right)


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
    container = mapops.as_map(b)
    if isinstance(container, Map):
        found = mapops.contains(fn, node, container, a)
    elif isinstance(container, (Bloom, ArrayOfMaps)):
        found = mapops_more.contains(fn, node, container, a)
    elif isinstance(b.ft, TTuple):
        found = fn.flag(False)
        for part in mem.split(b):
            test = numbers.compare(fn, node, ast.Eq(), a, part, left, right)
            one = fn.flag(bool(test.const)) if isinstance(test.ft, TConst) else test.exprs[0]
            found = tir.Or(tir.BOOL, fn.loc, found, one)
    elif texts.texty(a) and texts.texty(b):
        found = texts.contains_text(fn, node, a, b, left, right)
    else:
        fn.fail(node, f"`in` does not work on {describe(b)} in kernel code", "it takes a map, a tuple or text")
    return fn.not_(found) if negative else found


@expression(ast.IfExp)
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
    kind = settled(kind)
    var = fn.bind("either", kind)
    for value, stmts, part in sides:
        with fn.into(stmts):
            assign(fn, part, var, value)
    fn.at(node)
    fn.if_(test, a_stmts, b_stmts)
    return fn.read(var)


@expression(ast.Tuple)
def _tuple(fn: Fn, node: ast.Tuple) -> Val:
    parts = [fn.steady(expr(fn, item)) for item in node.elts]
    return Val(TTuple(tuple(p.ft for p in parts)), [e for p in parts for e in p.exprs])


@expression(ast.NamedExpr)
def _named(fn: Fn, node: ast.NamedExpr) -> Val:
    value = expr(fn, node.value)
    assign_name(fn, node.target, node.target.id, value)
    return fn.steady(fn.read(fn.env[node.target.id]))


@expression(ast.Call)
def _call(fn: Fn, node: ast.Call) -> Val:
    from osmia.compiler.calls import call

    return call(fn, node)


@expression(ast.JoinedStr)
def _joined(fn: Fn, node: ast.JoinedStr) -> Val:
    fn.fail(node, "f-strings work in print() only in kernel code", 'print(f"...")')
