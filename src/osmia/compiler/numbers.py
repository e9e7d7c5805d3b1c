# SPDX-License-Identifier: Apache-2.0
"""Arithmetic and comparison: Python's meaning in 64 bits.

Values are s64 or u64.  A difference is always signed (``now - start`` may be
negative, as in Python); sums and products of unsigned values are unsigned;
``//`` and ``%`` round down.  What exceeds 64 bits wraps.  Division by zero
gives 0 instead of an exception, as BPF itself does.
"""

from __future__ import annotations

import _operator as operator  # the module around it takes as long to import as this one to run

from osmia.compiler import syntax as ast
from osmia.compiler import tir
from osmia.compiler.core import Fn
from osmia.compiler.values import SINT, TBOOL, UINT, UNKNOWN, TBool, TConst, TInt, Val, const, is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_FOLD: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.BitXor: operator.xor,
    ast.LShift: operator.lshift, ast.RShift: operator.rshift, ast.Pow: operator.pow,
}
_PLAIN: dict[type[ast.operator], str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor",
}
_COMPARE: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Eq: ("eq", operator.eq), ast.NotEq: ("ne", operator.ne), ast.Lt: ("lt", operator.lt),
    ast.LtE: ("le", operator.le), ast.Gt: ("gt", operator.gt), ast.GtE: ("ge", operator.ge),
}


def binary(fn: Fn, node: ast.AST, op: ast.operator, a: Val, b: Val, left: ast.AST, right: ast.AST) -> Val:
    """``a op b``."""
    kind = type(op)
    if kind is ast.Div:
        fn.fail(node, "/ makes a float, and the kernel has none", "use // for whole-number division")
    if kind not in _FOLD:
        fn.fail(node, "this operator has no meaning for integers")
    x, y = a.const, b.const
    if x is not UNKNOWN and y is not UNKNOWN:
        return _fold(fn, node, kind, x, y)
    if kind is ast.Pow:
        fn.fail(node, "** needs two constants in kernel code", "multiply, or shift: 1 << n")
    if isinstance(a.ft, TBool) and isinstance(b.ft, TBool) and kind in (ast.BitAnd, ast.BitOr, ast.BitXor):
        return _bools(fn, kind, a, b)
    left_expr, left_signed = fn.as_int(a, left)
    right_expr, right_signed = fn.as_int(b, right)
    if kind in (ast.LShift, ast.RShift):
        return shift(fn, kind is ast.LShift, left_expr, left_signed, right_expr, y)
    if kind in (ast.FloorDiv, ast.Mod):
        return divide(fn, kind is ast.FloorDiv, (left_expr, left_signed, x), (right_expr, right_signed, y))
    signed = _signed_result(kind, (left_signed, x), (right_signed, y))
    return number(fn.bin(_PLAIN[kind], left_expr, right_expr, signed))


def number(expr: tir.Expr) -> Val:
    """An integer value."""
    assert isinstance(expr.type, tir.Int)
    return Val(SINT if expr.type.signed else UINT, [expr])


def _fold(fn: Fn, node: ast.AST, kind: type[ast.operator], x: Any, y: Any) -> Val:
    try:
        if isinstance(x, (int, str, bytes)) and isinstance(y, (int, str, bytes)):
            if kind in (ast.LShift, ast.Pow) and isinstance(y, int) and y > 4096:
                raise OverflowError("the result is enormous")
            return const(_FOLD[kind](x, y))
    except ZeroDivisionError:
        fn.fail(node, "this constant expression divides by zero")
    except (TypeError, ValueError, ArithmeticError) as err:
        fn.fail(node, f"this constant expression fails: {err}")
    fn.fail(node, f"this operator is not for {type(x).__name__} and {type(y).__name__} in kernel code")


def _bools(fn: Fn, kind: type[ast.operator], a: Val, b: Val) -> Val:
    """``&``, ``|``, ``^`` of truth values; both sides are evaluated."""
    x, y = a.exprs[0], b.exprs[0]
    if kind is ast.BitAnd:
        return Val(TBOOL, [tir.Cond(tir.BOOL, fn.loc, x, y, fn.flag(False))])
    if kind is ast.BitOr:
        return Val(TBOOL, [tir.Cond(tir.BOOL, fn.loc, x, fn.flag(True), y)])
    y = fn.keep(y)
    return Val(TBOOL, [tir.Cond(tir.BOOL, fn.loc, x, fn.not_(y), y)])


def _signed_result(kind: type[ast.operator], a: tuple[bool, Any], b: tuple[bool, Any]) -> bool:
    """Whether ``a op b`` is signed; each side is ``(signed, constant or UNKNOWN)``."""
    if kind is ast.Sub:
        return True
    unsigned = [not signed for signed, _ in (a, b)]
    if not any(unsigned):
        return True
    if all(unsigned) or kind is ast.BitAnd:
        return False
    other = b if unsigned[0] else a
    return not (other[1] is not UNKNOWN and other[1] >= 0)


def shift(fn: Fn, left: bool, a: tir.Expr, signed: bool, count: tir.Expr, known: Any) -> Val:
    """``a << count`` and ``a >> count``; counts from 64 on (and negative ones) give what is left over: 0 or -1."""
    op = "shl" if left else "ashr" if signed else "lshr"
    if known is not UNKNOWN:
        if 0 <= known < 64:
            return number(fn.bin(op, a, fn.num(known), signed))
        return number(fn.bin("ashr", a, fn.num(63))) if op == "ashr" else const(0)
    a, count = fn.keep(a), fn.keep(count)
    fits = fn.cmp("ult", count, fn.num(64))
    masked = fn.bin("and", count, fn.num(63))
    over = fn.bin("ashr", a, fn.num(63)) if op == "ashr" else fn.num(0, signed)
    kind = tir.S64 if signed else tir.U64
    return number(tir.Cond(kind, fn.loc, fits, fn.bin(op, a, masked, signed), over))


def divide(fn: Fn, quotient: bool, a: tuple[tir.Expr, bool, Any], b: tuple[tir.Expr, bool, Any]) -> Val:
    """``a // b`` or ``a % b``, rounding down; 0 where ``b`` is 0."""
    unsigned = all(not signed or (known is not UNKNOWN and known >= 0) for _, signed, known in (a, b))
    known = b[2]
    if known is not UNKNOWN and known > 0 and known & (known - 1) == 0:  # exact for negative numbers too
        if quotient:
            op = "lshr" if unsigned else "ashr"
            return number(fn.bin(op, a[0], fn.num(known.bit_length() - 1), not unsigned))
        return number(fn.bin("and", a[0], fn.num(known - 1), not unsigned))
    op = ("udiv" if quotient else "umod") if unsigned else ("sdiv" if quotient else "smod")
    if known is not UNKNOWN:
        return number(fn.bin(op, a[0], b[0], not unsigned)) if known else const(0)
    top, bottom = fn.keep(a[0]), fn.keep(b[0])
    kind = tir.U64 if unsigned else tir.S64
    zero = fn.cmp("eq", bottom, fn.num(0))
    safe = tir.Cond(kind, fn.loc, zero, fn.num(0, not unsigned), fn.bin(op, top, bottom, not unsigned))
    return number(safe)


def unary(fn: Fn, node: ast.UnaryOp, a: Val) -> Val:
    """``-a``, ``+a``, ``~a``."""
    if a.const is not UNKNOWN and isinstance(a.const, int):
        table: dict[type[ast.unaryop], Callable[[int], int]] = {
            ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: lambda v: ~int(v),
        }
        return const(table[type(node.op)](a.const))
    expr, signed = fn.as_int(a, node.operand)
    if isinstance(node.op, ast.USub):
        return number(fn.bin("sub", fn.num(0), expr))
    if isinstance(node.op, ast.UAdd):
        return number(expr) if signed else Val(UINT, [expr])
    return number(fn.bin("xor", expr, fn.num(-1)))


def compare(fn: Fn, node: ast.AST, op: ast.cmpop, a: Val, b: Val, left: ast.AST, right: ast.AST) -> Val:
    """``a op b`` of two numbers, exact for every mixture of signs."""
    name, fold = _COMPARE[type(op)]
    if isinstance(a.ft, TConst) and isinstance(b.ft, TConst):
        return const(bool(fold(a.const, b.const)))
    x, x_signed = fn.as_int(a, left)
    y, y_signed = fn.as_int(b, right)
    if x_signed == y_signed:
        return truth(_cmp(fn, name, x, y, x_signed))
    for value, signed in ((a, x_signed), (b, y_signed)):
        if isinstance(value.ft, TConst) and signed and value.const >= 0:
            return truth(_cmp(fn, name, x, y, False))
    return truth(_mixed(fn, name, x, x_signed, y))


def _cmp(fn: Fn, name: str, x: tir.Expr, y: tir.Expr, signed: bool) -> tir.Expr:
    return fn.cmp(name if name in ("eq", "ne") else ("s" if signed else "u") + name, x, y)


def _mixed(fn: Fn, name: str, x: tir.Expr, x_signed: bool, y: tir.Expr) -> tir.Expr:
    """One side signed, the other not: a negative one is below everything unsigned."""
    x, y = fn.keep(x), fn.keep(y)
    negative = fn.cmp("slt", x if x_signed else y, fn.num(0))
    below = x_signed  # when negative, x < y holds exactly if x is the signed one
    answers = {"eq": False, "ne": True, "lt": below, "le": below, "gt": not below, "ge": not below}
    return tir.Cond(tir.BOOL, fn.loc, negative, fn.flag(answers[name]), _cmp(fn, name, x, y, False))


def truth(expr: tir.Expr) -> Val:
    """A truth value."""
    return Val(TBOOL, [expr])


def extreme(fn: Fn, node: ast.Call, values: list[Val], largest: bool) -> Val:
    """``min(...)`` or ``max(...)`` of numbers."""
    best = values[0]
    for value, arg in zip(values[1:], node.args[1:], strict=True):
        if isinstance(best.ft, TConst) and isinstance(value.ft, TConst):
            best = const(max(best.const, value.const) if largest else min(best.const, value.const))
            continue
        a, b = settle(fn, best, node.args[0]), settle(fn, value, arg)
        op: ast.cmpop = ast.GtE() if largest else ast.LtE()
        test = compare(fn, node, op, a, b, node.args[0], arg)
        x, x_signed = fn.as_int(a, node.args[0])
        y, y_signed = fn.as_int(b, arg)
        # Of a mixture, min is signed (a negative one wins); max is signed too, unless one side cannot be negative.
        signed = (x_signed and y_signed) or (x_signed != y_signed and not _nonnegative(best, value))
        kind = tir.S64 if signed else tir.U64
        best = number(tir.Cond(kind, fn.loc, _expr(fn, test), x, y))
    return best


def _nonnegative(a: Val, b: Val) -> bool:
    return all(
        (isinstance(v.ft, TInt) and not v.ft.signed) or (isinstance(v.ft, TConst) and v.const >= 0) for v in (a, b)
    )


def _expr(fn: Fn, test: Val) -> tir.Expr:
    return fn.flag(bool(test.const)) if isinstance(test.ft, TConst) else test.exprs[0]


def settle(fn: Fn, value: Val, node: ast.AST) -> Val:
    """A number evaluated once."""
    if not is_number(value.ft):
        fn.expected(value, node, "a number")
    if isinstance(value.ft, TConst):
        return value
    return Val(value.ft, [fn.keep(value.exprs[0])])


def absolute(fn: Fn, node: ast.expr, value: Val) -> Val:
    """``abs(x)`` of the number at ``node``."""
    if value.const is not UNKNOWN and isinstance(value.const, int):
        return const(abs(value.const))
    expr, signed = fn.as_int(value, node)
    if not signed:
        return number(expr)
    expr = fn.keep(expr)
    negative = fn.cmp("slt", expr, fn.num(0))
    return number(tir.Cond(tir.S64, fn.loc, negative, fn.bin("sub", fn.num(0), expr), expr))
