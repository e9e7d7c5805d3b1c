# SPDX-License-Identifier: Apache-2.0
"""Numbers that notice where kernel code and CPython may differ: beyond 64 bits.

Kernel integers are s64 or u64 and wrap; CPython's grow.  A :class:`Num`
computes as CPython does and remembers its kind.  A result that left the range
of its kind is *stray*: the low 64 bits are still right, so sums, products and
casts of it are, but comparing it, dividing it or asking for its truth is not.
Those raise :class:`Stray`, and the input is not one to compare on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

MASK = (1 << 64) - 1


class Stray(Exception):
    """The program looked at a number that has no place in 64 bits."""


class Num:
    """A number of kind ``s`` (s64) or ``u`` (u64), modulo 2**64; ``stray`` when that lost something."""

    __slots__ = ("kind", "stray", "value")

    def __init__(self, value: int, kind: str, stray: bool = False) -> None:
        low = value & MASK
        self.value = low - (1 << 64) if kind == "s" and low >> 63 else low
        self.kind = kind
        self.stray = stray or self.value != value

    def exact(self) -> int:
        """The value; Stray where it is not CPython's."""
        if self.stray:
            raise Stray
        return self.value

    # -- what is right modulo 2**64 --------------------------------------

    def _ring(self, other: Any, op: str, swap: bool) -> Num:
        a, b = (other, self) if swap else (self, other)
        kind = result_kind(op, kind_of(a), kind_of(b), constant_of(a), constant_of(b))
        x, y = raw(a), raw(b)
        value = {"+": x + y, "-": x - y, "*": x * y, "&": x & y, "|": x | y, "^": x ^ y}[op]
        return Num(value, kind, stray(a) or stray(b))

    def __add__(self, other: Any) -> Num:
        return self._ring(other, "+", False)

    def __radd__(self, other: Any) -> Num:
        return self._ring(other, "+", True)

    def __sub__(self, other: Any) -> Num:
        return self._ring(other, "-", False)

    def __rsub__(self, other: Any) -> Num:
        return self._ring(other, "-", True)

    def __mul__(self, other: Any) -> Num:
        return self._ring(other, "*", False)

    def __rmul__(self, other: Any) -> Num:
        return self._ring(other, "*", True)

    def __and__(self, other: Any) -> Num:
        return self._ring(other, "&", False)

    def __rand__(self, other: Any) -> Num:
        return self._ring(other, "&", True)

    def __or__(self, other: Any) -> Num:
        return self._ring(other, "|", False)

    def __ror__(self, other: Any) -> Num:
        return self._ring(other, "|", True)

    def __xor__(self, other: Any) -> Num:
        return self._ring(other, "^", False)

    def __rxor__(self, other: Any) -> Num:
        return self._ring(other, "^", True)

    def __neg__(self) -> Num:
        return Num(-self.value, "s", self.stray)

    def __invert__(self) -> Num:
        return Num(~self.value, "s", self.stray)

    def __lshift__(self, other: Any) -> Num:
        count = exact(other)
        return Num(self.value << count, self.kind, self.stray)

    def __rlshift__(self, other: Any) -> Num:
        return Num(other << self.exact(), kind_of(other))

    # -- what needs the exact value --------------------------------------

    def __rshift__(self, other: Any) -> Num:
        return Num(self.exact() >> exact(other), self.kind)

    def __rrshift__(self, other: Any) -> Num:
        return Num(other >> self.exact(), kind_of(other))

    def _divide(self, other: Any, modulo: bool, swap: bool) -> Num:
        a, b = (other, self) if swap else (self, other)
        kind = result_kind("//", kind_of(a), kind_of(b), constant_of(a), constant_of(b))
        x, y = exact(a), exact(b)
        if kind == "s" and (x >> 63 not in (0, -1) or y >> 63 not in (0, -1)):
            raise Stray  # divided as signed numbers, and one of them is none
        return Num(x % y if modulo else x // y, kind)

    def __floordiv__(self, other: Any) -> Num:
        return self._divide(other, False, False)

    def __rfloordiv__(self, other: Any) -> Num:
        return self._divide(other, False, True)

    def __mod__(self, other: Any) -> Num:
        return self._divide(other, True, False)

    def __rmod__(self, other: Any) -> Num:
        return self._divide(other, True, True)

    def __abs__(self) -> Num:
        return Num(abs(self.exact()), self.kind)

    def __bool__(self) -> bool:
        return bool(self.exact())

    def __int__(self) -> int:
        return self.exact()

    __index__ = __int__

    def __eq__(self, other: object) -> bool:
        return self.exact() == exact(other)

    def __lt__(self, other: Any) -> bool:
        return self.exact() < exact(other)

    def __le__(self, other: Any) -> bool:
        return self.exact() <= exact(other)

    def __gt__(self, other: Any) -> bool:
        return self.exact() > exact(other)

    def __ge__(self, other: Any) -> bool:
        return self.exact() >= exact(other)

    def __hash__(self) -> int:
        return hash(self.exact())

    def bit_length(self) -> Num:
        return Num(self.exact().bit_length(), "s")


def raw(x: Any) -> int:
    return x.value if isinstance(x, Num) else int(x)


def exact(x: Any) -> int:
    return x.exact() if isinstance(x, Num) else int(x)


def stray(x: Any) -> bool:
    return isinstance(x, Num) and x.stray


def kind_of(x: Any) -> str:
    if isinstance(x, Num):
        return x.kind
    return "u" if int(x) >> 63 > 0 else "s"


def constant_of(x: Any) -> int | None:
    return None if isinstance(x, (Num, bool)) else int(x)


def result_kind(op: str, a: str, b: str, a_const: int | None = None, b_const: int | None = None) -> str:
    """The kind of ``a op b``, as the language defines it: see :mod:`osmia.compiler.numbers`."""
    if op == "-":
        return "s"
    if op in ("<<", ">>"):
        return a
    if op == "//":  # and %
        unsigned = [k == "u" or (c is not None and c >= 0) for k, c in ((a, a_const), (b, b_const))]
        return "u" if all(unsigned) else "s"
    if a == b:
        return a
    if op == "&":
        return "u"
    other = b_const if a == "u" else a_const
    return "u" if other is not None and other >= 0 else "s"


def cast(bits: int, signed: bool) -> Any:
    """The tracked form of ``u8`` … ``s64``."""

    def convert(x: Any) -> Num:
        value = raw(x) & ((1 << bits) - 1)
        if signed and value >> (bits - 1):
            value -= 1 << bits
        return Num(value, "s" if signed else "u")

    return convert


def smallest(*values: Any) -> Any:
    return _extreme(min, values)


def largest(*values: Any) -> Any:
    return _extreme(max, values)


def _extreme(choose: Any, values: tuple[Any, ...]) -> Any:
    best = values[0]
    for value in values[1:]:
        kinds = {kind_of(best), kind_of(value)}
        picked = choose(exact(best), exact(value))
        nonnegative = all(
            (isinstance(v, Num) and v.kind == "u") or (constant_of(v) is not None and int(v) >= 0)
            for v in (best, value)
        )
        best = Num(picked, "u" if kinds == {"u"} or (len(kinds) == 2 and nonnegative) else "s")
    return best


def number(x: Any) -> Any:
    """``int(x)``: the same number."""
    return Num(int(x), "s") if isinstance(x, bool) else x


def numbers(*limits: Any) -> Iterator[Num]:
    """``range(...)``."""
    return (Num(i, "s") for i in range(*(exact(limit) for limit in limits)))


def run(text: str, prog: str, inputs: list[int], size: int) -> list[int]:
    """Run ``prog`` of a module's ``text`` on a context of ``size`` words; raises Stray where they would not do."""
    space = dict(NAMES)
    counters = re.sub(r"^( *w\d+) = 0$", r"\1 = s64(0)", text, flags=re.MULTILINE)
    exec(compile(counters, "tracked", "exec"), space)
    context: list[Any] = [Num(value, "s") for value in [*inputs, *[0] * (size - len(inputs))]]
    space[prog](context)
    return [exact(word) for word in context]


NAMES: dict[str, Any] = {
    "range": numbers,
    **{f"u{bits}": cast(bits, False) for bits in (8, 16, 32, 64)},
    **{f"s{bits}": cast(bits, True) for bits in (8, 16, 32, 64)},
    "min": smallest, "max": largest, "int": number, "bool": bool, "abs": abs,
    "subprogram": lambda function: function, "syscall_prog": lambda function: function,
}
