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

from osmia.compiler.node import field, node
from osmia.compiler.tir_types import (
    BOOL as BOOL,
)
from osmia.compiler.tir_types import (
    CHAR as CHAR,
)
from osmia.compiler.tir_types import (
    S8 as S8,
)
from osmia.compiler.tir_types import (
    S16 as S16,
)
from osmia.compiler.tir_types import (
    S32 as S32,
)
from osmia.compiler.tir_types import (
    S64 as S64,
)
from osmia.compiler.tir_types import (
    U8 as U8,
)
from osmia.compiler.tir_types import (
    U16 as U16,
)
from osmia.compiler.tir_types import (
    U32 as U32,
)
from osmia.compiler.tir_types import (
    U64 as U64,
)
from osmia.compiler.tir_types import (
    VOID as VOID,
)
from osmia.compiler.tir_types import (
    Access as Access,
)
from osmia.compiler.tir_types import (
    Array as Array,
)
from osmia.compiler.tir_types import (
    Bool as Bool,
)
from osmia.compiler.tir_types import (
    Int as Int,
)
from osmia.compiler.tir_types import (
    KArray as KArray,
)
from osmia.compiler.tir_types import (
    KEnum as KEnum,
)
from osmia.compiler.tir_types import (
    KField as KField,
)
from osmia.compiler.tir_types import (
    KFloat as KFloat,
)
from osmia.compiler.tir_types import (
    KInt as KInt,
)
from osmia.compiler.tir_types import (
    KPtr as KPtr,
)
from osmia.compiler.tir_types import (
    KStruct as KStruct,
)
from osmia.compiler.tir_types import (
    KType as KType,
)
from osmia.compiler.tir_types import (
    Mem as Mem,
)
from osmia.compiler.tir_types import (
    Member as Member,
)
from osmia.compiler.tir_types import (
    Ptr as Ptr,
)
from osmia.compiler.tir_types import (
    Struct as Struct,
)
from osmia.compiler.tir_types import (
    Type as Type,
)
from osmia.compiler.tir_types import (
    Void as Void,
)

# --------------------------------------------------------------------------
# Expressions.  ``loc`` is ``(line, column)`` in the function's file.

Loc = tuple[int, int]


@node
class Expr:
    type: Type
    loc: Loc


@node
class Const(Expr):
    """An integer, truth value or null pointer."""

    value: int


@node
class Get(Expr):
    """The value of a scalar local."""

    local: Local


@node
class AddrOf(Expr):
    """The address (``Ptr("mem")``) of a memory local (its type is Array or Struct) or of a scalar one."""

    local: Local


@node
class Global(Expr):
    """The address of a map (``Ptr("mem")``, to be passed to helpers) or of a data variable, by its name."""

    name: str


@node
class FuncAddr(Expr):
    """The address of a callback."""

    func: Func


@node
class Bin(Expr):
    """``add sub mul and or xor shl lshr ashr udiv umod`` and the floor forms ``sdiv smod`` (Python's // and %).

    All are 64-bit and wrap.  Shift counts are below 64 and divisors are not
    zero: the front end has put the guards.  At BPF ISA v3 there is no signed
    division: the back end spells it with the unsigned one.
    """

    op: str
    a: Expr
    b: Expr


@node
class Cmp(Expr):
    """``eq ne ult ule ugt uge slt sle sgt sge`` on two integers, or ``eq ne`` on two pointers; yields Bool."""

    op: str
    a: Expr
    b: Expr


@node
class Not(Expr):
    a: Expr


@node
class And(Expr):
    """Short circuit; both sides Bool."""

    a: Expr
    b: Expr


@node
class Or(Expr):
    """Short circuit; both sides Bool."""

    a: Expr
    b: Expr


@node
class Cond(Expr):
    """``a if test else b``; only the chosen side is evaluated."""

    test: Expr
    a: Expr
    b: Expr


@node
class Seq(Expr):
    """Run ``stmts``, then the value is ``result`` (how the front end puts checks and calls inside an expression)."""

    stmts: list[Stmt]
    result: Expr


@node
class Convert(Expr):
    """Between integers and Bool and Ptr.

    ``to`` names the (possibly narrow) type whose value range is taken: the
    64-bit operand is truncated to ``to`` and widened again by ``to``'s sign,
    so ``type`` is S64, U64, Bool or Ptr.  To Bool: ``!= 0``.
    """

    a: Expr
    to: Mem


@node
class Load(Expr):
    """Read ``mem`` (Int, Bool or Ptr) at ``addr`` (space ctx, mem or btf), widened to 64 bits.

    ``volatile`` for ``.rodata`` options, which LLVM must not fold.
    """

    addr: Expr
    mem: Mem
    volatile: bool = False


@node
class Offset(Expr):
    """``addr + offset + index * scale`` bytes, in the space of ``addr``; ``index`` (64-bit) may be None."""

    addr: Expr
    offset: int
    index: Expr | None = None
    scale: int = 1


@node
class FieldAddr(Expr):
    """``addr`` plus the relocated offset of ``access`` (CO-RE ``BYTE_OFFSET``), in the space of ``addr``.

    A Load right on top of it must end up as one load instruction with the
    relocation on it where the space allows direct loads (ctx, btf).
    """

    addr: Expr
    access: Access


@node
class CoreField(Expr):
    """A CO-RE fact of a field: ``kind`` is ``offset size exists signed lshift_u64 rshift_u64``; 64-bit result."""

    access: Access
    kind: str


@node
class CoreType(Expr):
    """A CO-RE fact of a type: ``kind`` is ``exists`` or ``size``."""

    ktype: KStruct
    kind: str


@node
class CoreEnum(Expr):
    """A CO-RE fact of an enumerator: ``kind`` is ``exists`` or ``value``; ``local_value`` is the compile-time value."""

    enum: KEnum
    enumerator: str
    local_value: int
    kind: str


@node
class Helper(Expr):
    """Call of BPF helper ``id`` with up to five 64-bit or pointer arguments."""

    id: int
    args: list[Expr]


@node
class Call(Expr):
    """Call of another function of the module."""

    func: Func
    args: list[Expr]


@node
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


@node
class Fls(Expr):
    """Position of the highest set bit of ``a`` taken as u64, counted from 1; 0 for 0."""

    a: Expr


@node
class Barrier(Expr):
    """``a`` unchanged, but opaque to LLVM's optimiser (llvm.bpf.passthrough)."""

    a: Expr


# --------------------------------------------------------------------------
# Statements


@node
class Stmt:
    loc: Loc


@node
class Set(Stmt):
    local: Local
    value: Expr


@node
class Store(Stmt):
    """Write ``value`` truncated to ``mem`` (Int, Bool, Ptr) at ``addr`` (space mem)."""

    addr: Expr
    value: Expr
    mem: Mem


@node
class Copy(Stmt):
    """``size`` bytes, a constant, from ``src`` to ``dst`` (both space mem, ``align`` known)."""

    dst: Expr
    src: Expr
    size: int
    align: int = 1


@node
class Zero(Stmt):
    """Zero ``size`` bytes at ``dst``."""

    dst: Expr
    size: int
    align: int = 8


@node
class Eval(Stmt):
    value: Expr


@node
class If(Stmt):
    test: Expr
    then: list[Stmt]
    orelse: list[Stmt] = field(default_factory=list)


@node
class For(Stmt):
    """``for var in range(start, stop, step)``: ``start`` and ``stop`` are evaluated once.

    ``bound`` is the largest number of rounds that can happen, known when
    compiling.  ``orelse`` is not supported (refused before).  Assignments to
    ``var`` in the body do not change the iteration.  ``called``: the body
    becomes a function for ``bpf_loop``, however few rounds there are, which
    the verifier is done with sooner.
    """

    var: Local
    start: Expr
    stop: Expr
    step: int
    body: list[Stmt]
    bound: int
    called: bool = False


@node
class While(Stmt):
    """``while test``; ``bound`` is None where the verifier itself must see the end."""

    test: Expr
    body: list[Stmt]
    bound: int | None = None


@node
class Break(Stmt):
    pass


@node
class Continue(Stmt):
    pass


@node
class Return(Stmt):
    value: Expr | None = None


# --------------------------------------------------------------------------
# Functions and the module


@node
class Local:
    """A variable or parameter: a scalar, or memory on the stack (Array, Struct: zeroed at each function entry)."""

    name: str
    type: Mem


@node
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


@node
class MapDef:
    """A map for ``.maps``: ``type`` is a ``BPF_MAP_TYPE_*`` number; ``key``/``value`` None where there are none.

    ``inner`` is the shape of the maps in a map of maps; ``pinned``: kept in
    bpffs by its name; ``extra`` is the kernel's ``map_extra``.
    """

    name: str
    type: int
    key: Mem | None
    value: Mem | None
    max_entries: int
    flags: int = 0
    extra: int = 0
    pinned: bool = False
    inner: MapDef | None = None


@node
class Data:
    """A variable in ``section`` (``.rodata``, ``.bss``): ``init`` is its bytes (padded with zeros).

    ``settable``: the loader may put another value there, so LLVM must not
    take ``init`` for granted even where the section is read-only.
    """

    name: str
    section: str
    type: Mem
    init: bytes = b""
    settable: bool = False


@node
class Module:
    """One object file to be: ``exports`` are structures that BTF must describe though no map holds them."""

    name: str
    license: str = "GPL"
    maps: list[MapDef] = field(default_factory=list)
    data: list[Data] = field(default_factory=list)
    funcs: list[Func] = field(default_factory=list)
    exports: list[Struct] = field(default_factory=list)
    meta: bytes = b""
