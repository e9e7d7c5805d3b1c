# SPDX-License-Identifier: Apache-2.0
"""Truth values: what counts as true, short circuits, and what a test says about None."""

from __future__ import annotations

from osmia.compiler import syntax as ast
from osmia.compiler import texts, tir
from osmia.compiler.core import Fn
from osmia.compiler.dispatch import expr
from osmia.compiler.values import (
    TBool,
    TConst,
    TEmbed,
    TInt,
    TMap,
    TOpt,
    TPtr,
    TRef,
    TStr,
    TText,
    TTuple,
    Val,
    lone,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def unwrap(value: Val) -> Val:
    """The value of an optional that is known to be there."""
    assert isinstance(value.ft, TOpt)
    return Val(value.ft.inner, value.exprs if lone(value.ft.inner) else value.exprs[1:])


def present(fn: Fn, value: Val) -> tir.Expr:
    """Whether an optional is there."""
    assert isinstance(value.ft, TOpt)
    return fn.not_null(value.exprs[0]) if lone(value.ft.inner) else value.exprs[0]


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
        if isinstance(inner.ft, (TRef, TTuple, TPtr, TMap)):
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
        text = texts.in_memory(fn, value, node)
        first = fn.load(text.exprs[0], tir.U8)
        return fn.cmp("ne", first, fn.num(0, False))
    return fn.flag(True)


def condition(fn: Fn, node: ast.expr) -> tir.Expr:
    """The truth of an expression, with short circuits kept."""
    if isinstance(node, ast.BoolOp):
        return combined(fn, node)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = condition(fn, node.operand)
        return fn.flag(not inner.value) if isinstance(inner, tir.Const) else fn.not_(inner)
    return truth_of(fn, expr(fn, node), node)


def truth_value(fn: Fn, node: ast.expr) -> tir.Expr:
    """The same for an operand of a value: it has to be True or False itself, because Python gives the operand."""
    if isinstance(node, ast.BoolOp):
        return combined(fn, node, truth_value)
    if isinstance(node, ast.Compare) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)):
        return condition(fn, node)
    value = expr(fn, node)
    if isinstance(value.ft, TBool) or (isinstance(value.ft, TConst) and isinstance(value.ft.value, bool)):
        return truth_of(fn, value, node)
    fn.fail(
        node, "`and` / `or` gives one of its operands in Python; in kernel code only truth values are combined so",
        "write `a if a else b`, or compare: a != 0",
    )


def combined(fn: Fn, node: ast.BoolOp, condition: Callable[[Fn, ast.expr], tir.Expr] = condition) -> tir.Expr:
    """The truth of ``and`` and ``or``: ``condition`` is what compiles each operand, as far as they are needed."""
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
        if isinstance(right, tir.Const) and not stmts and bool(right.value) != is_and:
            fn.keep(result)  # decided after all, but what came before may have effects
            result = right
            break
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
