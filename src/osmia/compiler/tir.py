# SPDX-License-Identifier: Apache-2.0
"""The typed program: what the front end hands to the back end.

The front end (:mod:`osmia.compiler.infer` and its neighbours) has by now
resolved every name, given every expression a type, expanded maps, histograms
and events into loads, stores and helper calls, and inserted the checks that
the verifier wants.  The back end (:mod:`osmia.compiler.lower`) only spells
the result as LLVM IR with debug information; it knows no Python.

Integers are computed in 64 bits; narrower types appear in memory only, and
:class:`Load` yields the widened 64-bit value (:class:`Store` truncates).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Union

# --------------------------------------------------------------------------
# Types of values


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Bool:
    """A truth value: i1 as an expression, one byte (0 or 1) in memory."""

    size = 1
    align = 1

    def __str__(self) -> str:
        return "bool"


@dataclass(frozen=True)
class Void:
    """No value."""

    size = 0
    align = 1

    def __str__(self) -> str:
        return "void"


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Member:
    """A member of a :class:`Struct`: ``offset`` in bytes from its start."""

    name: str
    type: Mem
    offset: int


@dataclass(frozen=True)
class Struct:
    """A structure of the program's own (an Event, a tuple key, a histogram): laid out as C would."""

    name: str
    members: tuple[Member, ...]
    size: int
    align: int

    def __str__(self) -> str:
        return f"struct {self.name}"


Mem = Union[Int, Bool, Ptr, Array, Struct]
Type = Union[Int, Bool, Void, Ptr]

# --------------------------------------------------------------------------
# Types of the kernel, as far as CO-RE relocation needs them.  The back end
# describes to LLVM only the members that some access names.


@dataclass(frozen=True)
class KInt:
    """An integer, ``char`` or ``bool`` of the kernel (``name`` as in its BTF); ``size`` in bytes."""

    name: str
    size: int
    signed: bool


@dataclass(frozen=True)
class KPtr:
    """Any pointer: the relocation compares no pointees."""


@dataclass(frozen=True)
class KFloat:
    """A floating-point member (cannot be read, may be measured)."""

    size: int


@dataclass(frozen=True)
class KEnum:
    """An enumeration; ``size`` in bytes."""

    name: str
    size: int
    signed: bool


@dataclass(frozen=True)
class KStruct:
    """A structure or union (``kind``) of the kernel by ``name``; ``size`` in bytes.

    ``name`` is empty only for members that are anonymous; accesses through
    those are flattened by the front end and never name them.
    """

    name: str
    kind: str  # "struct" or "union"
    size: int


@dataclass(frozen=True)
class KArray:
    """``n`` elements (0: flexible)."""

    elem: KType
    n: int


KType = Union[KInt, KPtr, KFloat, KEnum, KStruct, KArray]


@dataclass(frozen=True)
class KField:
    """A member of a kernel structure: offset in **bits** from the start of the (named) structure that holds it.

    ``bits`` is the width of a bit-field and 0 for an ordinary member.
    """

    name: str
    bit_offset: int
    bits: int
    type: KType


@dataclass(frozen=True)
class Access:
    """A path into a kernel structure: ``steps`` are fields, and ints for array elements."""

    root: KStruct
    steps: tuple[KField | int, ...]


# --------------------------------------------------------------------------
# Expressions.  ``loc`` is ``(line, column)`` in the function's file.

Loc = tuple[int, int]


@dataclass
class Expr:
    type: Type
    loc: Loc


@dataclass
class Const(Expr):
    """An integer, truth value or null pointer."""

    value: int


@dataclass
class Get(Expr):
    """The value of a scalar local."""

    local: Local


@dataclass
class AddrOf(Expr):
    """The address (``Ptr("mem")``) of a memory local (its type is Array or Struct) or of a scalar one."""

    local: Local


@dataclass
class Global(Expr):
    """The address of a map (``Ptr("mem")``, to be passed to helpers) or of a data variable, by its name."""

    name: str


@dataclass
class FuncAddr(Expr):
    """The address of a callback."""

    func: Func


@dataclass
class Bin(Expr):
    """``add sub mul and or xor shl lshr ashr udiv umod`` and the floor forms ``sdiv smod`` (Python's // and %).

    All are 64-bit and wrap.  Shift counts are below 64 and divisors are not
    zero: the front end has put the guards.  At BPF ISA v3 there is no signed
    division: the back end spells it with the unsigned one.
    """

    op: str
    a: Expr
    b: Expr


@dataclass
class Cmp(Expr):
    """``eq ne ult ule ugt uge slt sle sgt sge`` on two integers, or ``eq ne`` on two pointers; yields Bool."""

    op: str
    a: Expr
    b: Expr


@dataclass
class Not(Expr):
    a: Expr


@dataclass
class And(Expr):
    """Short circuit; both sides Bool."""

    a: Expr
    b: Expr


@dataclass
class Or(Expr):
    """Short circuit; both sides Bool."""

    a: Expr
    b: Expr


@dataclass
class Cond(Expr):
    """``a if test else b``; only the chosen side is evaluated."""

    test: Expr
    a: Expr
    b: Expr


@dataclass
class Seq(Expr):
    """Run ``stmts``, then the value is ``result`` (how the front end puts checks and calls inside an expression)."""

    stmts: list[Stmt]
    result: Expr


@dataclass
class Convert(Expr):
    """Between integers and Bool and Ptr.

    ``to`` names the (possibly narrow) type whose value range is taken: the
    64-bit operand is truncated to ``to`` and widened again by ``to``'s sign,
    so ``type`` is S64, U64, Bool or Ptr.  To Bool: ``!= 0``.
    """

    a: Expr
    to: Mem


@dataclass
class Load(Expr):
    """Read ``mem`` (Int, Bool or Ptr) at ``addr`` (space ctx, mem or btf), widened to 64 bits.

    ``volatile`` for ``.rodata`` options, which LLVM must not fold.
    """

    addr: Expr
    mem: Mem
    volatile: bool = False


@dataclass
class Offset(Expr):
    """``addr + offset + index * scale`` bytes, in the space of ``addr``; ``index`` (64-bit) may be None."""

    addr: Expr
    offset: int
    index: Expr | None = None
    scale: int = 1


@dataclass
class FieldAddr(Expr):
    """``addr`` plus the relocated offset of ``access`` (CO-RE ``BYTE_OFFSET``), in the space of ``addr``.

    A Load right on top of it must end up as one load instruction with the
    relocation on it where the space allows direct loads (ctx, btf).
    """

    addr: Expr
    access: Access


@dataclass
class CoreField(Expr):
    """A CO-RE fact of a field: ``kind`` is ``offset size exists signed lshift_u64 rshift_u64``; 64-bit result."""

    access: Access
    kind: str


@dataclass
class CoreType(Expr):
    """A CO-RE fact of a type: ``kind`` is ``exists`` or ``size``."""

    ktype: KStruct
    kind: str


@dataclass
class CoreEnum(Expr):
    """A CO-RE fact of an enumerator: ``kind`` is ``exists`` or ``value``; ``local_value`` is the compile-time value."""

    enum: KEnum
    enumerator: str
    local_value: int
    kind: str


@dataclass
class Helper(Expr):
    """Call of BPF helper ``id`` with up to five 64-bit or pointer arguments."""

    id: int
    args: list[Expr]


@dataclass
class Call(Expr):
    """Call of another function of the module."""

    func: Func
    args: list[Expr]


@dataclass
class Atomic(Expr):
    """``op`` (``add and or xor xchg``) on ``mem`` (32 or 64 bits) at ``addr``.

    With ``fetch`` the old value is the result; without it the type is Void
    and the plain form is emitted (``add`` then works on 5.10).
    """

    op: str
    addr: Expr
    value: Expr
    mem: Int
    fetch: bool = False


@dataclass
class Fls(Expr):
    """Position of the highest set bit of ``a`` taken as u64, counted from 1; 0 for 0."""

    a: Expr


@dataclass
class Barrier(Expr):
    """``a`` unchanged, but opaque to LLVM's optimiser (llvm.bpf.passthrough)."""

    a: Expr


# --------------------------------------------------------------------------
# Statements


@dataclass
class Stmt:
    loc: Loc


@dataclass
class Set(Stmt):
    local: Local
    value: Expr


@dataclass
class Store(Stmt):
    """Write ``value`` truncated to ``mem`` (Int, Bool, Ptr) at ``addr`` (space mem)."""

    addr: Expr
    value: Expr
    mem: Mem


@dataclass
class Copy(Stmt):
    """``size`` bytes, a constant, from ``src`` to ``dst`` (both space mem, ``align`` known)."""

    dst: Expr
    src: Expr
    size: int
    align: int = 1


@dataclass
class Zero(Stmt):
    """Zero ``size`` bytes at ``dst``."""

    dst: Expr
    size: int
    align: int = 8


@dataclass
class Eval(Stmt):
    value: Expr


@dataclass
class If(Stmt):
    test: Expr
    then: list[Stmt]
    orelse: list[Stmt] = field(default_factory=list)


@dataclass
class For(Stmt):
    """``for var in range(start, stop, step)``: ``start`` and ``stop`` are evaluated once.

    ``bound`` is the largest number of rounds that can happen, known when
    compiling.  ``orelse`` is not supported (refused before).  Assignments to
    ``var`` in the body do not change the iteration.
    """

    var: Local
    start: Expr
    stop: Expr
    step: int
    body: list[Stmt]
    bound: int


@dataclass
class While(Stmt):
    """``while test``; ``bound`` is None where the verifier itself must see the end."""

    test: Expr
    body: list[Stmt]
    bound: int | None = None


@dataclass
class Break(Stmt):
    pass


@dataclass
class Continue(Stmt):
    pass


@dataclass
class Return(Stmt):
    value: Expr | None = None


# --------------------------------------------------------------------------
# Functions and the module


@dataclass(eq=False)
class Local:
    """A variable or parameter: a scalar, or memory on the stack (Array, Struct: zeroed at each function entry)."""

    name: str
    type: Mem


@dataclass(eq=False)
class Func:
    """A function.

    ``section`` is the ELF section of an entry program (one parameter, the
    context) and empty otherwise; ``inline`` functions are always inlined,
    the others become BPF subprograms.  ``file`` is the Python file's path,
    ``line`` the line of ``def``.
    """

    name: str
    section: str
    params: list[Local]
    ret: Type
    file: str
    line: int
    body: list[Stmt] = field(default_factory=list)
    locals: list[Local] = field(default_factory=list)
    inline: bool = True


@dataclass
class MapDef:
    """A map for ``.maps``: ``type`` is a ``BPF_MAP_TYPE_*`` number; ``key``/``value`` None for ring buffers."""

    name: str
    type: int
    key: Mem | None
    value: Mem | None
    max_entries: int
    flags: int = 0


@dataclass
class Data:
    """A variable in ``section`` (``.rodata``, ``.bss``): ``init`` is its bytes (padded with zeros)."""

    name: str
    section: str
    type: Mem
    init: bytes = b""


@dataclass
class Module:
    """One object file to be: ``exports`` are structures that BTF must describe though no map holds them."""

    name: str
    license: str = "GPL"
    maps: list[MapDef] = field(default_factory=list)
    data: list[Data] = field(default_factory=list)
    funcs: list[Func] = field(default_factory=list)
    exports: list[Struct] = field(default_factory=list)
    meta: bytes = b""
