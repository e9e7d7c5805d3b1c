# SPDX-License-Identifier: Apache-2.0
"""Values as C has them: integers of 8 to 64 bits, signed or not, pointers, structures, text.

The front end's own numbers have 64 bits; here each also has a width, and
C's usual arithmetic conversions are made explicit: what is narrower than an
``int`` becomes one, of two kinds the wider wins, and the unsigned one of two
that are equally wide.  A number is always held as the 64-bit number that it
is, so that only results have to be cut.
"""

from __future__ import annotations

from osmia.compiler import syntax as ast
from osmia.compiler import tir
from osmia.compiler.core import Fn
from osmia.compiler.kmem import EITHER, kernel_type
from osmia.compiler.ktypes import KT, Kernel
from osmia.compiler.layout import int_type
from osmia.compiler.values import SINT, UINT, TBool, TConst, TEmbed, TInt, TPtr, TStr, TText, Val, const
from osmia.obj.btf import Btf
from osmia.probespec import ctypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeGuard

#: Structures of libc that the kernel has under another name, with the same layout on 64-bit machines.
_ALIASES = {
    "struct timespec": "struct timespec64", "struct timeval": "struct __kernel_old_timeval",
    "struct sockaddr_in": "struct sockaddr_in", "struct itimerval": "struct __kernel_old_itimerval",
}  # fmt: skip


class CInt:
    """An integer: ``known`` is its value, where that is known when compiling.

    ``space``: whose memory it leads to if it is an address, where that was said or is plain from the probe.
    """

    def __init__(self, expr: tir.Expr, bits: int, signed: bool, known: int | None = None, space: str = "") -> None:
        self.expr = expr
        self.bits = bits
        self.signed = signed
        self.known = known
        self.space = space

    def __str__(self) -> str:
        return f"{'' if self.signed else 'unsigned '}{'long' if self.bits == 64 else 'int'}"


class CPtr:
    """A pointer: its address as a number, whose memory it leads to, and what is there (None: unknown)."""

    def __init__(self, expr: tir.Expr, space: str, kt: KT | None) -> None:
        self.expr = expr
        self.space = space
        self.kt = kt

    def __str__(self) -> str:
        return f"{self.kt or 'void'} *"


class CPlace:
    """A structure or an array, where it lies."""

    def __init__(self, val: Val) -> None:
        assert isinstance(val.ft, TEmbed)
        self.val = val
        self.space = val.ft.space
        self.kt = val.ft.kt

    def __str__(self) -> str:
        return str(self.kt)


class CText:
    """Text: a constant, or the name of the current task."""

    def __init__(self, val: Val) -> None:
        self.val = val

    def __str__(self) -> str:
        return "text"


C = CInt | CPtr | CPlace | CText


def number(fn: Fn, value: int, bits: int = 32, signed: bool = True) -> CInt:
    """A constant."""
    return CInt(fn.num(value, signed), bits, signed, value)


def truth(fn: Fn, test: tir.Expr) -> CInt:
    """What a comparison gives: the int 0 or 1."""
    if isinstance(test, tir.Const):
        return number(fn, int(bool(test.value)))
    return CInt(tir.Convert(tir.S64, fn.loc, test, tir.S64), 32, True)


def of_kt(fn: Fn, val: Val, kt: KT) -> C:
    """A value that was read from memory of the type ``kt``."""
    if isinstance(val.ft, TEmbed):
        return CPlace(val)
    if isinstance(val.ft, (TInt, TBool)) and kt.kind != "ptr":
        made = of_val(fn, val)
        if isinstance(made, CInt) and kt.size in (1, 2, 4):
            made.bits = 8 * kt.size
        return made
    return of_val(fn, val)


def of_val(fn: Fn, val: Val) -> C:
    """A value of the front end's; its numbers are 64 bits wide."""
    ft = val.ft
    if isinstance(ft, TInt):
        return CInt(val.exprs[0], 64, ft.signed)
    if isinstance(ft, TBool):
        return CInt(tir.Convert(tir.U64, fn.loc, val.exprs[0], tir.U64), 8, False)
    if isinstance(ft, TPtr):
        return CPtr(as_number(fn, val.exprs[0]), "kernel" if ft.space in ("btf", "mem") else ft.space, ft.kt)
    if isinstance(ft, TEmbed):
        return CPlace(val)
    if isinstance(ft, (TText, TStr)) or (isinstance(ft, TConst) and isinstance(ft.value, str)):
        return CText(val)
    if isinstance(ft, TConst) and isinstance(ft.value, int):
        return literal(fn, int(ft.value))
    fn.fail(None, f"{ft} cannot be used in an expression")


def literal(fn: Fn, value: int, suffix: str = "") -> CInt:
    """A number as written: the first of C's types that it fits in."""
    unsigned = "u" in suffix
    for bits in (64,) if "l" in suffix else (32, 64):
        if not unsigned and -(1 << (bits - 1)) <= value < 1 << (bits - 1):
            return number(fn, value, bits)
        if (unsigned or suffix == "x") and 0 <= value < 1 << bits:
            return number(fn, value, bits, False)
    return number(fn, value, 64, False)


def as_number(fn: Fn, expr: tir.Expr) -> tir.Expr:
    """An address as a number."""
    return tir.Convert(tir.U64, fn.loc, expr, tir.U64) if isinstance(expr.type, tir.Ptr) else expr


def converted(fn: Fn, value: CInt, bits: int, signed: bool) -> CInt:
    """``value`` as another integer type."""
    if value.known is not None:
        cut = value.known & ((1 << bits) - 1)
        if signed and cut >> (bits - 1):
            cut -= 1 << bits
        return CInt(fn.num(cut, signed), bits, signed, cut, value.space)
    wide = tir.S64 if signed else tir.U64
    expr = value.expr
    # What is narrower already is the 64-bit number that it is; only a sign that does not fit has to be cut away.
    if bits < value.bits or (bits < 64 and signed != value.signed):
        expr = tir.Convert(wide, fn.loc, expr, int_type(bits // 8, signed))
    elif expr.type != wide:
        expr = tir.Convert(wide, fn.loc, expr, wide)
    return CInt(expr, bits, signed, None, value.space)


def promoted(fn: Fn, value: CInt) -> CInt:
    """C's integer promotion: what is narrower than an int becomes one."""
    return converted(fn, value, 32, True) if value.bits < 32 else value


def common(fn: Fn, a: CInt, b: CInt) -> tuple[CInt, CInt]:
    """Two numbers as the one type that C gives them."""
    a, b = promoted(fn, a), promoted(fn, b)
    bits = max(a.bits, b.bits)
    signed = all(one.signed for one in (a, b) if one.bits == bits)
    return converted(fn, a, bits, signed), converted(fn, b, bits, signed)


def as_int(fn: Fn, node: ast.AST, value: C, what: str = "a number") -> CInt:
    """``value`` as an integer: addresses are unsigned longs."""
    if isinstance(value, CInt):
        return value
    if isinstance(value, CPtr):
        if value.space == "ctx":
            what = f"{what} is expected here, and this is all that the probe was given"
            fn.fail(node, what, "name one of its fields")
        return CInt(value.expr, 64, False, None, value.space)
    if isinstance(value, CPlace) and value.kt.kind == "array":
        return as_int(fn, node, decayed(fn, value))
    fix = "say which field" if isinstance(value, CPlace) else "STRCMP and == compare it, %s shows it"
    fn.fail(node, f"{what} is expected here, and this is {value}", fix)


def decayed(fn: Fn, value: CPlace) -> CPtr:
    """An array as a pointer to its first element, a structure as a pointer to it."""
    from osmia.compiler import kmem

    place = fn.keep(as_number(fn, kmem.address(fn, value.val)))
    kt = value.kt.target() if value.kt.kind == "array" else value.kt
    return CPtr(place, "kernel" if value.space == "ctx" else value.space, kt)


def condition(fn: Fn, node: ast.AST, value: C) -> tir.Expr:
    """Whether ``value`` is not 0, as C's conditions have it."""
    if isinstance(value, CInt):
        if value.known is not None:
            return fn.flag(value.known != 0)
        expr = value.expr
        if isinstance(expr, tir.Convert) and isinstance(expr.a.type, tir.Bool):
            return expr.a
        return fn.cmp("ne", expr, tir.Const(expr.type, fn.loc, 0))
    if isinstance(value, CPtr):
        return fn.not_null(value.expr)
    if isinstance(value, CPlace):
        fn.fail(node, f"this is {value}, which is neither true nor false", "compare it, or one of its fields")
    fn.fail(node, "text is neither true nor false", 'compare it: x == "text"')


def is_pointer(value: C) -> TypeGuard[CPtr | CPlace]:
    """Whether arithmetic with ``value`` counts elements."""
    return isinstance(value, CPtr) or (isinstance(value, CPlace) and value.kt.kind == "array")


def result(fn: Fn, value: C) -> Val:
    """A value for the rest of the front end."""
    if isinstance(value, CInt):
        if value.known is not None:
            return const(value.known)
        return Val(SINT if value.signed else UINT, [value.expr])
    if isinstance(value, CPtr):
        return Val(UINT, [value.expr])
    return value.val


# --------------------------------------------------------------------------
# Types by name


def type_named(fn: Fn, node: ast.AST | None, kind: str) -> KT:
    """The type that C spells ``kind``; CompileError with near names where there is none."""
    inner = ctypes.pointee(kind)
    if inner:
        made = KT(fn.mod.kernel, "ptr", "", 8)
        made.fixed_target = fn.mod.kernel.void if inner == "void" else type_named(fn, node, inner)
        return made
    words = ctypes.integer(kind)
    if words is not None:
        size, signed = words
        return KT(fn.mod.kernel, "char" if kind == "char" else "int", kind, size, signed)
    if kind == "void":
        return fn.mod.kernel.void
    own = _of_program(fn, kind)
    if own is not None:
        return own
    found = kernel_type(fn, node, _ALIASES.get(kind, kind))
    assert isinstance(found, KT)
    return found


def _of_program(fn: Fn, kind: str) -> KT | None:
    """A type of the traced program's own; None where its debug information has none of that name."""
    scope = fn.source.scope
    raw = scope.types() if scope is not None else b""
    if not raw:
        return None
    if scope.kernel is None:
        scope.kernel = Kernel(Btf(raw))
        scope.kernel.fixed = True
    try:
        found: KT = scope.kernel.named(kind)
    except KeyError:
        return None
    return found if found.size else None


def typed(fn: Fn, node: ast.AST, value: C, kt: KT, space: str) -> C:
    """``value`` cast to ``kt``; a pointer that was none before leads to memory of ``space``."""
    if kt.kind == "ptr":
        number = as_int(fn, node, value, "an address")
        target = kt.target()
        where = number.space or space
        return CPtr(fn.keep(converted(fn, number, 64, False).expr), where, target if target.kind != "void" else None)
    if kt.kind in ("struct", "union", "array", "float", "void"):
        fn.fail(node, f"nothing can be cast to {kt}", f"a pointer can: ({kt} *)")
    number = as_int(fn, node, value)
    if kt.kind == "bool" or kt.name in ("bool", "_Bool"):
        return truth(fn, condition(fn, node, number))
    return converted(fn, number, 8 * (kt.size or 8), kt.signed)


__all__ = [
    "EITHER", "C", "CInt", "CPlace", "CPtr", "CText", "as_int", "as_number", "common", "condition", "converted",
    "decayed", "is_pointer", "literal", "number", "of_kt", "of_val", "promoted", "result", "truth",
    "type_named", "typed",
]  # fmt: skip
