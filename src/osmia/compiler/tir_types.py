# SPDX-License-Identifier: Apache-2.0
"""Types of the typed program: of values, of own memory, and of the kernel's structures as far as CO-RE needs them.

Used through :mod:`osmia.compiler.tir`.
"""

from __future__ import annotations

from osmia.compiler.node import value

# --------------------------------------------------------------------------
# Types of values


@value
class Int:
    """An integer.  As an expression's type only ``S64`` and ``U64`` occur; narrower ones describe memory."""

    bits: int
    signed: bool
    char: bool = False  # spelled `char` in BTF

    @property
    def size(self) -> int:
        return self.bits // 8

    @property
    def align(self) -> int:
        return self.size

    def __str__(self) -> str:
        return f"{'s' if self.signed else 'u'}{self.bits}"


@value
class Bool:
    """A truth value: i1 as an expression, one byte (0 or 1) in memory."""

    size = 1
    align = 1

    def __str__(self) -> str:
        return "bool"


@value
class Void:
    """No value."""

    size = 0
    align = 1

    def __str__(self) -> str:
        return "void"


@value
class Ptr:
    """An address.

    ``space`` says how it may be dereferenced: ``"ctx"`` (the program's
    context; direct, constant offsets only), ``"mem"`` (own memory: stack,
    map value, ring record; direct), ``"btf"`` (kernel object that the
    verifier tracks; direct), ``"kernel"`` and ``"user"`` (a bare number: by
    helper only; the back end never loads through these).
    """

    space: str
    size = 8
    align = 8

    def __str__(self) -> str:
        return f"{self.space}*"


S8, S16, S32, S64 = (Int(b, True) for b in (8, 16, 32, 64))
U8, U16, U32, U64 = (Int(b, False) for b in (8, 16, 32, 64))
CHAR = Int(8, True, char=True)
BOOL, VOID = Bool(), Void()


@value
class Array:
    """``n`` elements in a row (``Str[16]`` is ``Array(CHAR, 16)``)."""

    elem: Mem
    n: int

    @property
    def size(self) -> int:
        return self.elem.size * self.n

    @property
    def align(self) -> int:
        return self.elem.align

    def __str__(self) -> str:
        return f"{self.elem}[{self.n}]"


@value
class Member:
    """A member of a :class:`Struct`: ``offset`` in bytes from its start."""

    name: str
    type: Mem
    offset: int


@value
class Struct:
    """A structure of the program's own (an Event, a tuple key, a histogram): laid out as C would."""

    name: str
    members: tuple[Member, ...]
    size: int
    align: int

    def __str__(self) -> str:
        return f"struct {self.name}"


Mem = Int | Bool | Ptr | Array | Struct
Type = Int | Bool | Void | Ptr

# --------------------------------------------------------------------------
# Types of the kernel, as far as CO-RE relocation needs them.  The back end
# describes to LLVM only the members that some access names.


@value
class KInt:
    """An integer, ``char`` or ``bool`` of the kernel (``name`` as in its BTF); ``size`` in bytes."""

    name: str
    size: int
    signed: bool


@value
class KPtr:
    """Any pointer: the relocation compares no pointees."""


@value
class KFloat:
    """A floating-point member (cannot be read, may be measured)."""

    size: int


@value
class KEnum:
    """An enumeration; ``size`` in bytes."""

    name: str
    size: int
    signed: bool


@value
class KStruct:
    """A structure or union (``kind``) of the kernel by ``name``; ``size`` in bytes.

    Where a structure has no name (``kuid_t``; an anonymous member), ``number``
    tells it from others without one.
    """

    name: str
    kind: str  # "struct" or "union"
    size: int
    number: int = 0


@value
class KArray:
    """``n`` elements (0: flexible)."""

    elem: KType
    n: int


KType = KInt | KPtr | KFloat | KEnum | KStruct | KArray


@value
class KField:
    """A member of a kernel structure: offset in **bits** from the start of the (named) structure that holds it.

    ``bits`` is the width of a bit-field and 0 for an ordinary member.
    """

    name: str
    bit_offset: int
    bits: int
    type: KType


@value
class Access:
    """A path into a kernel structure: ``steps`` are fields, and ints for array elements."""

    root: KStruct
    steps: tuple[KField | int, ...]
