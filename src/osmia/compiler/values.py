# SPDX-License-Identifier: Apache-2.0
"""Front-end values: what an expression of kernel code is, while it is being compiled.

A :class:`Val` has a front-end type (``T…``) and the typed-program
expressions of its components: none for what is known when compiling
(:class:`TConst`), one for an integer or a pointer, a presence flag and the
rest for an optional, and so on for tuples.
"""

from __future__ import annotations

from osmia.compiler import tir
from osmia.compiler.ktypes import KT
from osmia.compiler.node import node, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@value
class TInt:
    """A 64-bit integer."""

    signed: bool

    def __str__(self) -> str:
        return "s64" if self.signed else "u64"


@value
class TBool:
    def __str__(self) -> str:
        return "bool"


@value
class TConst:
    """A Python object known when compiling: number, text, None, class, map, function, module, …"""

    value: Any

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TConst) or type(self.value) is not type(other.value):
            return False
        if isinstance(self.value, (int, str, bytes)):
            return bool(self.value == other.value)
        return self.value is other.value

    def __hash__(self) -> int:
        return hash(self.value) if isinstance(self.value, (int, str, bytes)) else id(self.value)

    def __str__(self) -> str:
        return f"the constant {self.value!r}"


@value
class TOpt:
    """None or a value: components are ``present`` and the value's (a lone pointer: only the pointer, null for None)."""

    inner: TInt | TBool | TPtr | TRef | TTuple | TStr | TMap

    def __str__(self) -> str:
        return f"{self.inner} or None"


@value
class TTuple:
    items: tuple[FT, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.items))})"


@value
class TPtr:
    """An address of something of the kernel's or a user's: ``space`` as in :class:`osmia.compiler.tir.Ptr`.

    ``kt`` is what is there (None: unknown).
    """

    space: str
    kt: KT | None

    def __str__(self) -> str:
        return f"{self.space} pointer to {self.kt or 'void'}"


@value
class TEmbed:
    """A structure or array that lies inside another (``steps`` from ``root``): component is the root's address."""

    space: str
    root: KT
    steps: tuple[tir.KField | int, ...]
    kt: KT

    def __str__(self) -> str:
        return f"{self.kt} in {self.space} memory"


@value
class TRef:
    """A structure (or array) of the author's in own memory, by address: events, map values."""

    kind: Any

    def __str__(self) -> str:
        return getattr(self.kind, "__name__", str(self.kind))


@value
class TStr:
    """Text in own memory of ``n`` bytes, by address."""

    n: int

    def __str__(self) -> str:
        return f"Str[{self.n}]"


@value
class TText:
    """Text that has not been copied yet: ``source`` is ``comm``, ``user``, ``kernel`` or ``either``.

    Its component is its address, except for ``comm``.
    """

    source: str
    n: int

    def __str__(self) -> str:
        return f"Str[{self.n}]"


@value
class TEvent:
    """A reserved event: components are its address and the address of its send state."""

    ring: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TEvent) and self.ring is other.ring

    def __hash__(self) -> int:
        return id(self.ring)

    def __str__(self) -> str:
        return f"{self.ring.event.__name__} being filled in"


@value
class TTail:
    """The tail of a reserved event: same components."""

    event: TEvent

    @property
    def kind(self) -> Any:
        """The type of the field."""
        return self.event.ring.event.layout().tail.type

    def __str__(self) -> str:
        return "strings or bytes of variable length"


@value
class TMap:
    """A map found in ``outer``, a map of maps: by its address, which only helpers take."""

    outer: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TMap) and self.outer is other.outer

    def __hash__(self) -> int:
        return id(self.outer)

    def __str__(self) -> str:
        return f"a map out of {self.outer.name or 'a map of maps'}"


FT = TInt | TBool | TConst | TOpt | TTuple | TPtr | TEmbed | TRef | TStr | TText | TEvent | TTail | TMap

SINT, UINT, TBOOL = TInt(True), TInt(False), TBool()
NONE = TConst(None)


@node
class Val:
    """A value: its type and the expressions of its components."""

    ft: FT
    exprs: list[tir.Expr]

    @property
    def const(self) -> Any:
        """The Python object, where it is known when compiling; else :data:`UNKNOWN`."""
        return self.ft.value if isinstance(self.ft, TConst) else UNKNOWN


class _Unknown:
    def __bool__(self) -> bool:
        return False


UNKNOWN = _Unknown()


def const(value: Any) -> Val:
    """A compile-time value."""
    return Val(TConst(value), [])


def is_number(ft: FT) -> bool:
    """Whether ``ft`` is an integer, a truth value, or a constant one."""
    return isinstance(ft, (TInt, TBool)) or (isinstance(ft, TConst) and isinstance(ft.value, int))


def lone(ft: FT) -> bool:
    """Whether an optional ``ft`` is one pointer whose null means None."""
    return isinstance(ft, (TPtr, TRef, TStr, TMap))


def components(ft: FT) -> list[tir.Mem]:
    """Types of the components of a value of type ``ft``."""
    if isinstance(ft, TInt):
        return [tir.S64 if ft.signed else tir.U64]
    if isinstance(ft, TBool):
        return [tir.BOOL]
    if isinstance(ft, TConst):
        return []
    if isinstance(ft, TOpt):
        return components(ft.inner) if lone(ft.inner) else [tir.BOOL, *components(ft.inner)]
    if isinstance(ft, TTuple):
        return [c for item in ft.items for c in components(item)]
    if isinstance(ft, (TPtr, TEmbed)):
        return [space_type(ft.space)]
    if isinstance(ft, TText):
        return [] if ft.source == "comm" else [tir.U64]
    if isinstance(ft, (TEvent, TTail)):
        return [tir.Ptr("mem"), tir.Ptr("mem")]
    return [tir.Ptr("mem")]


def space_type(space: str) -> tir.Int | tir.Ptr:
    """How an address of ``space`` is held: what cannot be dereferenced is a number."""
    return tir.U64 if space in ("kernel", "user", "either") else tir.Ptr(space)


def join(a: FT, b: FT) -> FT | None:
    """The type of a variable that is assigned an ``a`` here and a ``b`` there; None where there is none."""
    if a == b:
        return a
    if is_number(a) and is_number(b):
        return _join_numbers(a, b)
    for x, y in ((a, b), (b, a)):
        if x == NONE:
            return _optional(y)
        if isinstance(x, TOpt):
            inner = join(x.inner, y.inner if isinstance(y, TOpt) else y)
            return None if inner is None else _optional(inner)
    if isinstance(a, TTuple) and isinstance(b, TTuple) and len(a.items) == len(b.items):
        items = [join(x, y) for x, y in zip(a.items, b.items, strict=True)]
        return None if any(i is None for i in items) else TTuple(tuple(i for i in items if i is not None))
    if _text(a) and _text(b):
        return TStr(max(_text(a), _text(b)))
    if isinstance(a, TPtr) and isinstance(b, TPtr) and a.space == b.space:
        return TPtr(a.space, a.kt if a.kt == b.kt else None)
    for x, y in ((a, b), (b, a)):
        if isinstance(x, TPtr) and isinstance(y, TEmbed) and x.space == y.space and x.kt == y.kt:
            return x
    if isinstance(a, TEmbed) and isinstance(b, TEmbed) and a.space == b.space and a.kt == b.kt:
        return TPtr(a.space, a.kt)
    return None


def _text(ft: FT) -> int:
    """Bytes that the text ``ft`` needs; 0 where it is none."""
    if isinstance(ft, (TStr, TText)):
        return ft.n
    if isinstance(ft, TConst) and isinstance(ft.value, str):
        return len(ft.value.encode()) + 1
    return 0


def _join_numbers(a: FT, b: FT) -> FT:
    if isinstance(a, TBool) and isinstance(b, TBool):
        return TBOOL
    bools = [isinstance(x, TBool) or (isinstance(x, TConst) and isinstance(x.value, bool)) for x in (a, b)]
    if all(bools):
        return TBOOL
    signs = []
    for x in (a, b):
        if isinstance(x, TInt):
            signs.append(x.signed)
        elif isinstance(x, TConst) and x.value < 0:
            signs.append(True)
        elif isinstance(x, TConst) and x.value >> 63:
            signs.append(False)
    if not signs:
        return SINT
    return SINT if any(signs) else UINT


def _optional(ft: FT) -> FT | None:
    if isinstance(ft, TOpt):
        return ft
    if isinstance(ft, TConst):
        if isinstance(ft.value, bool):
            return TOpt(TBOOL)
        if isinstance(ft.value, int):
            return TOpt(SINT)
        return TOpt(TStr(_text(ft))) if _text(ft) else None
    if isinstance(ft, TEmbed):
        return TOpt(TPtr(ft.space, ft.kt))
    if isinstance(ft, TText):
        return TOpt(TStr(ft.n))
    if isinstance(ft, (TInt, TBool, TPtr, TRef, TTuple, TStr, TMap)):
        return TOpt(ft)
    return None


def settled(ft: FT) -> FT:
    """The type of a variable that was assigned one ``ft``: text is copied, embedded things become pointers."""
    if isinstance(ft, TText):
        return TStr(ft.n)
    if isinstance(ft, TTuple):
        return TTuple(tuple(settled(i) for i in ft.items))
    return ft
