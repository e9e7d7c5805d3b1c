# SPDX-License-Identifier: Apache-2.0
"""Expressions with C's meaning, in functions that were made of a specification.

The rest of the front end meets one kind of node, :class:`InC`; what is below
it is evaluated here, with C's types (:mod:`osmia.compiler.cvalues`), into the
same typed program.
"""

from __future__ import annotations

from osmia.compiler import cnames, cplaces, cvalues, numbers, texts, tir
from osmia.compiler import syntax as ast
from osmia.compiler.core import Fn
from osmia.compiler.cvalues import C, CInt, CPlace, CPtr, CText
from osmia.compiler.dispatch import expression
from osmia.compiler.layout import int_type
from osmia.compiler.values import UNKNOWN, TText, Val, const
from osmia.probespec.tree import AddressOf, Cast, InC, InSpace, SizeOf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_PLAIN: dict[type[ast.operator], str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor",
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge",
}  # fmt: skip


@expression(InC)
def _in_c(fn: Fn, node: InC) -> Val:
    value = evaluate(fn, node.value)
    if node.text:
        return cplaces.text(fn, node.value, value, cnames.scope_of(fn).space)
    if isinstance(value, (CPlace, CText)):
        value = cvalues.as_int(fn, node.value, value)
    return cvalues.result(fn, value)


def evaluate(fn: Fn, node: ast.expr) -> C:
    """The value of an expression, as C has it."""
    fn.at(node)
    return _HANDLERS[type(node)](fn, node)


def _integer(fn: Fn, node: ast.expr) -> CInt:
    value = cvalues.as_int(fn, node, evaluate(fn, node))
    return CInt(fn.keep(value.expr), value.bits, value.signed, value.known, value.space)


def _constant(fn: Fn, node: ast.Constant) -> C:
    if isinstance(node.value, str):
        return CText(const(node.value))
    return cvalues.literal(fn, int(node.value), node.kind or "")  # type: ignore[arg-type]


def _attribute(fn: Fn, node: ast.Attribute) -> C:
    if isinstance(node.value, ast.Name) and node.value.id == "args":
        from osmia.compiler.core import Record

        record = fn.read(fn.env["args"]).const if "args" in fn.env else None
        if isinstance(record, Record):  # a system call's tracepoint
            return cvalues.of_val(fn, record.field(fn, node))
    return cplaces.field(fn, node, evaluate(fn, node.value))


def _subscript(fn: Fn, node: ast.Subscript) -> C:
    return cplaces.element(fn, node, evaluate(fn, node.value), evaluate(fn, node.slice))


def _address_of(fn: Fn, node: AddressOf) -> C:
    inner = node.operand
    if isinstance(inner, ast.Attribute):
        return cplaces.address(fn, inner, evaluate(fn, inner.value), inner.attr)
    if isinstance(inner, ast.Subscript):
        base = evaluate(fn, inner.value)
        pointer = cvalues.decayed(fn, base) if isinstance(base, CPlace) else base
        if isinstance(pointer, CPtr):
            return cplaces.moved(fn, pointer, cvalues.as_int(fn, inner.slice, evaluate(fn, inner.slice)))
    return cplaces.address(fn, inner, evaluate(fn, inner))


def _cast(fn: Fn, node: Cast) -> C:
    kt = cvalues.type_named(fn, node, node.kind)
    space = "user" if node.user else cnames.scope_of(fn).space
    return cvalues.typed(fn, node, evaluate(fn, node.operand), kt, space)


def _in_space(fn: Fn, node: InSpace) -> C:
    value = evaluate(fn, node.operand)
    if isinstance(value, CPtr):
        return CPtr(value.expr, node.space, value.kt)
    number = cvalues.as_int(fn, node, value, "an address")
    return CInt(number.expr, number.bits, number.signed, number.known, node.space)


def _size_of(fn: Fn, node: SizeOf) -> C:
    kt = cvalues.type_named(fn, node, node.kind)
    if kt.kind in ("struct", "union") and kt.name and not kt.kernel.fixed:
        kind: Any = kt.tir()
        return CInt(tir.CoreType(tir.U64, fn.loc, kind, "size"), 64, False)
    return cvalues.number(fn, kt.size or 1, 64, False)


# --------------------------------------------------------------------------
# Operators


def _unary(fn: Fn, node: ast.UnaryOp) -> C:
    if isinstance(node.op, ast.Not):
        test = cvalues.condition(fn, node.operand, evaluate(fn, node.operand))
        return cvalues.truth(fn, fn.flag(not test.value) if isinstance(test, tir.Const) else fn.not_(test))
    value = cvalues.promoted(fn, _integer(fn, node.operand))
    if isinstance(node.op, ast.UAdd):
        return value
    if value.known is not None:
        known = -value.known if isinstance(node.op, ast.USub) else ~value.known
        return cvalues.converted(fn, CInt(value.expr, 64, True, known), value.bits, value.signed)
    if isinstance(node.op, ast.USub):
        made = fn.bin("sub", fn.num(0, value.signed), value.expr, value.signed)
    else:
        made = fn.bin("xor", value.expr, fn.num(-1), value.signed)
    return _cut(fn, made, value)


def _cut(fn: Fn, expr: tir.Expr, like: CInt) -> CInt:
    """A result in the 32 or 64 bits of its type."""
    if like.bits < 64:
        expr = tir.Convert(tir.S64 if like.signed else tir.U64, fn.loc, expr, int_type(like.bits // 8, like.signed))
    return CInt(expr, like.bits, like.signed, None, like.space)


def _binary(fn: Fn, node: ast.BinOp) -> C:
    left, right = evaluate(fn, node.left), evaluate(fn, node.right)
    fn.at(node)
    kind = type(node.op)
    if kind in (ast.Add, ast.Sub) and (cvalues.is_pointer(left) or cvalues.is_pointer(right)):
        return _pointer_arithmetic(fn, node, left, right)
    a, b = cvalues.as_int(fn, node.left, left), cvalues.as_int(fn, node.right, right)
    space = a.space or b.space
    if kind in (ast.LShift, ast.RShift):
        made = _shift(fn, kind is ast.LShift, cvalues.promoted(fn, a), b)
    else:
        a, b = cvalues.common(fn, a, b)
        if a.known is not None and b.known is not None:
            made = _fold(fn, node, kind, a, b)
        elif kind in _PLAIN:
            made = _cut(fn, fn.bin(_PLAIN[kind], a.expr, b.expr, a.signed), a)
        else:
            made = _divided(fn, kind, a, b)
    made.space = space
    return made


def _pointer_arithmetic(fn: Fn, node: ast.BinOp, left: C, right: C) -> C:
    a = cvalues.decayed(fn, left) if isinstance(left, CPlace) else left
    b = cvalues.decayed(fn, right) if isinstance(right, CPlace) else right
    minus = isinstance(node.op, ast.Sub)
    if isinstance(a, CPtr) and isinstance(b, CPtr):
        if not minus:
            fn.fail(node, "two pointers cannot be added")
        size = a.kt.size or 1 if a.kt is not None else 1
        difference = CInt(fn.bin("sub", a.expr, b.expr), 64, True)
        return _divided(fn, ast.Div, difference, cvalues.number(fn, size, 64)) if size > 1 else difference
    if isinstance(b, CPtr):
        a, b = b, a
        if minus:
            fn.fail(node, "a pointer cannot be subtracted from a number")
    assert isinstance(a, CPtr)
    number = cvalues.converted(fn, cvalues.as_int(fn, node.right, b), 64, True)
    if minus:
        negative = None if number.known is None else -number.known
        expr = fn.num(-number.known) if number.known is not None else fn.bin("sub", fn.num(0), number.expr)
        number = CInt(expr, 64, True, negative)
    return cplaces.moved(fn, a, number)


def _fold(fn: Fn, node: ast.BinOp, kind: type[ast.operator], a: CInt, b: CInt) -> CInt:
    """Two constants, of one type already."""
    assert a.known is not None and b.known is not None
    x, y = a.known, b.known
    if kind in (ast.Div, ast.FloorDiv, ast.Mod) and y == 0:
        fn.fail(node, "this divides by zero")
    quotient = 0
    if y:
        quotient = x // y if kind is ast.FloorDiv else abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
    table: dict[type[ast.operator], Callable[[], int]] = {
        ast.Add: lambda: x + y, ast.Sub: lambda: x - y, ast.Mult: lambda: x * y, ast.BitAnd: lambda: x & y,
        ast.BitOr: lambda: x | y, ast.BitXor: lambda: x ^ y, ast.Div: lambda: quotient,
        ast.FloorDiv: lambda: quotient, ast.Mod: lambda: x - y * quotient,
    }  # fmt: skip
    return cvalues.converted(fn, CInt(fn.num(0), 64, a.signed, table[kind]()), a.bits, a.signed)


def _divided(fn: Fn, kind: type[ast.operator], a: CInt, b: CInt) -> CInt:
    """``/`` cuts towards zero and ``%`` has the sign of what is divided; ``//`` is Python's.  By zero gives 0."""
    quotient = kind in (ast.Div, ast.FloorDiv)
    y: Any = UNKNOWN if b.known is None else b.known
    if not a.signed or kind is ast.FloorDiv:
        made = numbers.divide(fn, quotient, (a.expr, a.signed, UNKNOWN), (b.expr, b.signed, y))
        return _cut(fn, cvalues.as_int(fn, ast.Pass(), cvalues.of_val(fn, made)).expr, a)
    x, d = fn.keep(a.expr), fn.keep(b.expr)
    top, bottom = _magnitude(fn, x), _magnitude(fn, d)
    if b.known is not None:
        y = abs(b.known)
    made = numbers.divide(fn, quotient, (top, False, UNKNOWN), (bottom, False, y))
    size = fn.keep(cvalues.as_int(fn, ast.Pass(), cvalues.of_val(fn, made)).expr)
    negative = fn.cmp("slt", x, fn.num(0))
    if quotient:
        negative = fn.cmp("slt", fn.bin("xor", x, d), fn.num(0))
    signed = tir.Convert(tir.S64, fn.loc, size, tir.S64)
    return _cut(fn, tir.Cond(tir.S64, fn.loc, negative, fn.bin("sub", fn.num(0), signed), signed), a)


def _magnitude(fn: Fn, x: tir.Expr) -> tir.Expr:
    minus = tir.Cond(tir.S64, fn.loc, fn.cmp("slt", x, fn.num(0)), fn.bin("sub", fn.num(0), x), x)
    return fn.keep(tir.Convert(tir.U64, fn.loc, minus, tir.U64))


def _shift(fn: Fn, left: bool, a: CInt, b: CInt) -> CInt:
    if a.known is not None and b.known is not None and 0 <= b.known < 64:
        value = a.known << b.known if left else a.known >> b.known
        return cvalues.converted(fn, CInt(a.expr, 64, True, value), a.bits, a.signed)
    known: Any = UNKNOWN if b.known is None else b.known
    made = numbers.shift(fn, left, a.expr, a.signed, cvalues.converted(fn, b, 64, False).expr, known)
    return _cut(fn, cvalues.as_int(fn, ast.Pass(), cvalues.of_val(fn, made)).expr, a)


def _compare(fn: Fn, node: ast.Compare) -> C:
    op = node.ops[0]
    left = evaluate(fn, node.left)
    if isinstance(op, (ast.In, ast.NotIn)):
        return _contained(fn, node, left)
    right = evaluate(fn, node.comparators[0])
    fn.at(node)
    negative = isinstance(op, ast.NotEq)
    if isinstance(left, CText) or isinstance(right, CText):
        return _same_text(fn, node, left, right, negative)
    a, b = cvalues.as_int(fn, node.left, left), cvalues.as_int(fn, node.comparators[0], right)
    _check_sign(fn, node, a, b)
    return cvalues.truth(fn, _compared(fn, _COMPARE[type(op)], a, b))


def _compared(fn: Fn, name: str, a: CInt, b: CInt) -> tir.Expr:
    a, b = cvalues.common(fn, a, b)
    if name not in ("eq", "ne"):
        name = ("s" if a.signed else "u") + name
    return fn.cmp(name, a.expr, b.expr)


def _check_sign(fn: Fn, node: ast.Compare, a: CInt, b: CInt) -> None:
    """An unsigned number is never below 0: who asks whether it is takes it for a signed one."""
    literal = isinstance(node.comparators[0], ast.Constant) and b.known == 0
    if literal and a.bits >= 32 and not a.signed and isinstance(node.ops[0], (ast.Lt, ast.GtE)):
        fn.fail(node, "this is unsigned, so it is never less than 0", "take it as a signed number: (int)retval < 0")


def _same_text(fn: Fn, node: ast.Compare, left: C, right: C, negative: bool) -> C:
    if not isinstance(node.ops[0], (ast.Eq, ast.NotEq)):
        fn.fail(node, "text is compared with == and != only")
    if isinstance(left, CText) and isinstance(left.val.const, str):
        left, right = right, left
    if not (isinstance(right, CText) and isinstance(right.val.const, str)):
        fn.fail(node, "text is compared with a constant", 'as in x == "text"')
    raw = right.val.const.encode("utf-8", "surrogateescape") + b"\0"
    value = cplaces.text(fn, node, left, cnames.scope_of(fn).space)
    place = _copied(fn, node, value, len(raw))
    same = texts.bytes_equal(fn, place, raw)
    return cvalues.truth(fn, fn.not_(same) if negative else same)


def _copied(fn: Fn, node: ast.AST, value: Val, size: int) -> tir.Expr:
    """The first ``size`` bytes of a text in own memory; one more is read, to see whether it goes on."""
    if not isinstance(value.ft, TText) or value.ft.source == "comm":
        return texts.in_memory(fn, value, node, key="compared").exprs[0]
    place = fn.slot(("compared", size + 1), tir.Array(tir.CHAR, size + 1))
    fn.emit(tir.Zero(fn.loc, place, size + 1))
    texts.read_text(fn, place, size + 1, Val(TText(value.ft.source, 0), value.exprs))
    return place


def _contained(fn: Fn, node: ast.Compare, left: C) -> C:
    """``x in (1, 2, 3)``, ``"part" in text``."""
    right, negative = node.comparators[0], isinstance(node.ops[0], ast.NotIn)
    if isinstance(right, ast.Tuple):
        number = cvalues.as_int(fn, node.left, left)
        number = CInt(fn.keep(number.expr), number.bits, number.signed, number.known)
        found = fn.flag(False)
        for item in right.elts:
            found = tir.Or(tir.BOOL, fn.loc, found, fn.keep(_compared(fn, "eq", number, _integer(fn, item))))
    else:
        space = cnames.scope_of(fn).space
        whole = cplaces.text(fn, right, evaluate(fn, right), space)
        part = cplaces.text(fn, node.left, left, space)
        found = texts.contains_text(fn, node, part, whole, node.left, right)
    return cvalues.truth(fn, fn.not_(found) if negative else found)


def _bool_op(fn: Fn, node: ast.BoolOp) -> C:
    is_and = isinstance(node.op, ast.And)
    made = tir.And if is_and else tir.Or
    result = cvalues.condition(fn, node.values[0], evaluate(fn, node.values[0]))
    for part in node.values[1:]:
        stmts: list[tir.Stmt] = []
        with fn.into(stmts):
            right = cvalues.condition(fn, part, evaluate(fn, part))
        if isinstance(result, tir.Const):  # decided when compiling: the rest counts, or is never run
            if bool(result.value) != is_and:
                continue
            fn.block.extend(stmts)
            result = right
            continue
        result = made(tir.BOOL, fn.loc, result, tir.Seq(tir.BOOL, fn.loc, stmts, right) if stmts else right)
    return cvalues.truth(fn, result)


def _conditional(fn: Fn, node: ast.IfExp) -> C:
    test = cvalues.condition(fn, node.test, evaluate(fn, node.test))
    sides: list[tuple[CInt, list[tir.Stmt]]] = []
    for part in (node.body, node.orelse):
        stmts: list[tir.Stmt] = []
        with fn.into(stmts):
            sides.append((_integer(fn, part), stmts))
    a, b = cvalues.common(fn, sides[0][0], sides[1][0])
    local = fn.local(tir.S64 if a.signed else tir.U64, "either")
    for value, (_, stmts) in zip((a, b), sides, strict=True):
        with fn.into(stmts):
            fn.set(local, value.expr)
    fn.if_(test, sides[0][1], sides[1][1])
    return CInt(fn.get(local), a.bits, a.signed, None, a.space or b.space)


# --------------------------------------------------------------------------
# Calls


def _call(fn: Fn, node: ast.Call) -> C:
    if isinstance(node.func, ast.Attribute) and node.func.attr == "startswith":
        return _begins(fn, node, evaluate(fn, node.func.value), node.args)
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name == "STRCMP":
        return _strcmp(fn, node)
    if name == "$entry":
        if len(node.args) != 1 or not isinstance(node.args[0], ast.Name):
            fn.fail(node, "$entry() takes the name of one parameter", "as in $entry(size)")
        return cnames.entered(fn, node, node.args[0].id)
    fn.fail(node, f"{name or 'this'} cannot be called", "there are STRCMP(), $entry() and sizeof()")


def _strcmp(fn: Fn, node: ast.Call) -> C:
    if len(node.args) != 2:
        fn.fail(node, "STRCMP takes a text and what is compared with it", 'as in STRCMP("name", arg1)')
    first, second = node.args
    if isinstance(second, ast.Constant) and isinstance(second.value, str):
        first, second = second, first
    return _begins(fn, node, evaluate(fn, second), [first])


def _begins(fn: Fn, node: ast.Call, value: C, args: list[ast.expr]) -> C:
    literal = args[0] if len(args) == 1 else None
    if not isinstance(literal, ast.Constant) or not isinstance(literal.value, str):
        fn.fail(node, "a constant text is compared", 'as in STRCMP("name", arg1)')
    scope = cnames.scope_of(fn)
    raw = _bytes(fn, literal) if scope.binary else literal.value.encode("utf-8", "surrogateescape")
    return cvalues.truth(fn, cplaces.begins_with(fn, node, value, raw, scope.space))


def _bytes(fn: Fn, node: ast.Constant) -> bytes:
    """``{0x6C, 0x00}`` as bytes; other text as it is."""
    text = str(node.value).strip()
    if not text.startswith("{"):
        return text.encode("utf-8", "surrogateescape")
    try:
        return bytes([int(part, 0) for part in text.strip("{}").split(",") if part.strip()])
    except ValueError:
        fn.fail(node, "these are not bytes", 'as in "{0x6C, 0x00}"')


def _name(fn: Fn, node: ast.Name) -> C:
    return cnames.name(fn, node)


def _tuple(fn: Fn, node: ast.Tuple) -> C:
    fn.fail(node, "several values in parentheses stand behind `in` only", "x in (1, 2)")


_HANDLERS: dict[type[ast.AST], Callable[[Fn, Any], C]] = {
    ast.Constant: _constant, ast.Name: _name, ast.Attribute: _attribute, ast.Subscript: _subscript, ast.Tuple: _tuple,
    ast.UnaryOp: _unary, ast.BinOp: _binary, ast.Compare: _compare, ast.BoolOp: _bool_op, ast.IfExp: _conditional,
    ast.Call: _call, AddressOf: _address_of, Cast: _cast, InSpace: _in_space, SizeOf: _size_of,
}  # fmt: skip


@expression(AddressOf)
@expression(Cast)
@expression(InSpace)
@expression(SizeOf)
def _outside(fn: Fn, node: Any) -> Val:
    fn.fail(node, "this is C, and stands in Python's code")
