# SPDX-License-Identifier: Apache-2.0
"""The state of one function while it is compiled, and the small words that all parts of the front end share."""

from __future__ import annotations

from osmia.compiler import syntax as ast
from osmia.compiler import tir
from osmia.compiler.node import node
from osmia.compiler.source import File, Source
from osmia.compiler.values import FT, UNKNOWN, TBool, TConst, TInt, TPtr, TRef, Val, components, space_type
from osmia.errors import CompileError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from osmia.compiler.builder import Builder
    from osmia.lang.probes import Hook

_PLACED = (ast.expr, ast.stmt, ast.arg, ast.pattern, ast.keyword)  # syntax-tree nodes that know their place


@node
class Var:
    """A local variable: its type and the locals that hold its components, or ``late``, which makes its value anew."""

    ft: FT
    locals: list[tir.Local]
    late: Any = None


@node
class Frame:
    """An open ``with ring.reserve()`` block: leaving the function or the loop has to send the event first."""

    close: Any
    loop_depth: int


class _Into:
    """The ``with`` block of :meth:`Fn.into`."""

    __slots__ = ("before", "block", "fn")

    def __init__(self, fn: Fn, block: list[tir.Stmt]) -> None:
        self.fn = fn
        self.block = block

    def __enter__(self) -> None:
        self.before, self.fn.block = self.fn.block, self.block

    def __exit__(self, *_exc: object) -> None:
        self.fn.block = self.before


class Fn:
    """One function being compiled (for one combination of argument types)."""

    def __init__(self, mod: Builder, source: Source, func: tir.Func, chain: tuple[tuple[str, int, str], ...]) -> None:
        self.mod = mod
        self.source = source
        self.func = func
        self.chain = chain
        self.loc: tir.Loc = (source.node.lineno, source.node.col_offset)
        self.block: list[tir.Stmt] = func.body
        self.env: dict[str, Var] = {}
        self.types: dict[str, FT] = {}
        self.changed = False
        self.first = False  # the first pass, in which the types of variables are not known yet
        self.known: set[str] = set()
        self.assigned: set[str] = set()
        self.rebound: set[str] = set()  # by := in the middle of an expression: reading them takes a copy
        self.frames: list[Frame] = []
        self.loop_depth = 0
        self.ret: FT | None = None
        self.ret_known: FT | None = None
        self.ret_varied = False  # whether a return gave a wider type than those before it
        self.out: tir.Local | None = None
        self.slots: dict[Any, tir.Local] = {}
        self.entry = bool(func.section)
        self.hook: Hook | None = None  # of an entry program
        self.nothing = 0  # what an entry program returns where its function returns None
        self.result_unused = ""  # an entry program's hook, where the kernel allows it no result but 0
        self.root = func.name
        self.per_root = False  # whether what is compiled is for this entry program alone (scratch memory)
        self.stack: tuple[Any, ...] = (source.function.__code__,)
        self.params: dict[str, Var] = {}
        self.vars: dict[tuple[str, FT], Var] = {}
        self.out_struct: tir.Struct | None = None
        self.context_param: tir.Local | None = None
        self._names = 0

    @property
    def file(self) -> File:
        return self.source.file

    # -- diagnostics ----------------------------------------------------

    def fail(self, node: ast.AST | None, what: str, fix: str = "") -> NoReturn:
        """Refuse the program at ``node`` (None: at the statement being compiled)."""
        line, column = self.loc
        end = column + 1
        if isinstance(node, _PLACED) and hasattr(node, "lineno"):  # a node made up here has no place
            line, column = node.lineno, node.col_offset
            end = (node.end_col_offset or column + 1) if node.end_lineno == line else 10_000
        text = self.file.line(line)
        raw = text.encode()
        raise CompileError(
            what, file=self.file.name, line=line, column=len(raw[:column].decode(errors="replace")),
            end_column=len(raw[:end].decode(errors="replace")), source=text, fix=fix, context=self.chain,
        )

    def at(self, node: ast.AST) -> None:
        """What is emitted from now on comes from ``node``."""
        if isinstance(node, _PLACED):
            self.loc = (node.lineno, node.col_offset)

    # -- emitting -------------------------------------------------------

    def emit(self, stmt: tir.Stmt) -> None:
        self.block.append(stmt)

    def program_context(self) -> tir.Expr:
        """An entry program's only parameter: what the kernel gives it."""
        return self.get(self.func.params[0])

    def hold(self, name: str, value: Val) -> Var:
        """A variable with ``value`` in it."""
        locals_ = [self.local(kind, name) for kind in components(value.ft)]
        for local, part in zip(locals_, value.exprs, strict=True):
            self.set(local, part)
        return Var(value.ft, locals_)

    def into(self, block: list[tir.Stmt]) -> _Into:
        """Emit into ``block`` for a while: ``with fn.into(block): …``."""
        return _Into(self, block)

    def local(self, kind: tir.Mem, name: str = "") -> tir.Local:
        """A new local of the typed program."""
        self._names += 1
        made = tir.Local(f"{name or 't'}.{self._names}", kind)
        self.func.locals.append(made)
        return made

    def slot(self, key: Any, kind: tir.Mem) -> tir.Expr:
        """Address of scratch memory on the stack, one per ``key``: reused, since the stack has 512 bytes."""
        made = self.slots.get((key, kind))
        if made is None:
            first = key[0] if isinstance(key, tuple) else key
            made = self.slots[key, kind] = self.local(kind, first if isinstance(first, str) else "slot")
        return tir.AddrOf(tir.Ptr("mem"), self.loc, made)

    def keep(self, expr: tir.Expr) -> tir.Expr:
        """Evaluate ``expr`` now, once; what comes back may be used often and later."""
        if isinstance(expr, (tir.Const, tir.Global, tir.AddrOf)):
            return expr
        kind = expr.type
        assert not isinstance(kind, tir.Void)
        made = self.local(kind)
        self.set(made, expr)
        return tir.Get(kind, self.loc, made)

    def set(self, local: tir.Local, expr: tir.Expr) -> None:
        self.emit(tir.Set(self.loc, local, expr))

    def get(self, local: tir.Local) -> tir.Expr:
        assert isinstance(local.type, (tir.Int, tir.Bool, tir.Ptr))
        return tir.Get(local.type, self.loc, local)

    # -- constructors ---------------------------------------------------

    def num(self, value: int, signed: bool = True) -> tir.Expr:
        return tir.Const(tir.S64 if signed else tir.U64, self.loc, value)

    def flag(self, value: bool) -> tir.Expr:
        return tir.Const(tir.BOOL, self.loc, int(value))

    def null(self, space: str = "mem") -> tir.Expr:
        return tir.Const(space_type(space), self.loc, 0)

    def bin(self, op: str, a: tir.Expr, b: tir.Expr, signed: bool = True) -> tir.Expr:
        return tir.Bin(tir.S64 if signed else tir.U64, self.loc, op, a, b)

    def cmp(self, op: str, a: tir.Expr, b: tir.Expr) -> tir.Expr:
        return tir.Cmp(tir.BOOL, self.loc, op, a, b)

    def not_(self, a: tir.Expr) -> tir.Expr:
        return tir.Not(tir.BOOL, self.loc, a)

    def not_null(self, pointer: tir.Expr) -> tir.Expr:
        return self.cmp("ne", pointer, tir.Const(pointer.type, self.loc, 0))

    def load(self, addr: tir.Expr, mem: tir.Mem, *, volatile: bool = False) -> tir.Expr:
        """A load, carried out now."""
        return self.keep(tir.Load(_wide(mem), self.loc, addr, mem, volatile))

    def store(self, addr: tir.Expr, value: tir.Expr, mem: tir.Mem) -> None:
        self.emit(tir.Store(self.loc, addr, value, mem))

    def offset(self, addr: tir.Expr, offset: int, index: tir.Expr | None = None, scale: int = 1) -> tir.Expr:
        if offset == 0 and index is None:
            return addr
        if isinstance(addr.type, tir.Int):
            if index is not None:
                step = self.bin("mul", index, self.num(scale), False)
                addr = self.bin("add", addr, step, False)
            return self.bin("add", addr, self.num(offset, False), False) if offset else addr
        return tir.Offset(addr.type, self.loc, addr, offset, index, scale)

    def helper(self, id: int, *args: tir.Expr, result: tir.Type = tir.S64) -> tir.Expr:
        """A helper call, carried out now."""
        return self.keep(tir.Helper(result, self.loc, id, list(args)))

    def do(self, id: int, *args: tir.Expr) -> None:
        """A helper call whose result does not matter."""
        self.emit(tir.Eval(self.loc, tir.Helper(tir.S64, self.loc, id, list(args))))

    def global_(self, name: str) -> tir.Expr:
        return tir.Global(tir.Ptr("mem"), self.loc, name)

    def context(self) -> tir.Expr | None:
        """The program's context, which some helpers want.

        A helper function in Python gets it as one more parameter once it
        turns out to need it; None in a subprogram whose registers are full.
        """
        if self.entry:
            return self.get(self.func.params[0])
        if self.context_param is None:
            if not self.func.inline and len(self.func.params) >= 5:
                return None
            self.context_param = tir.Local("context", tir.Ptr("ctx"))
            self.func.params.append(self.context_param)
        return self.get(self.context_param)

    def if_(self, test: tir.Expr, then: list[tir.Stmt], orelse: list[tir.Stmt] | None = None) -> None:
        self.emit(tir.If(self.loc, test, then, orelse or []))

    def lost(self, kind: str, what: str, n: tir.Expr | None = None) -> None:
        """Count a loss (see :meth:`Builder.loss`)."""
        slot = self.mod.loss(kind, what)
        call = tir.Call(tir.VOID, self.loc, self.mod.loss_function(self), [self.num(slot), n or self.num(1)])
        self.emit(tir.Eval(self.loc, call))

    def steady(self, value: Val) -> Val:
        """``value`` evaluated now, so that what follows cannot change it."""
        return Val(value.ft, [self.keep(e) for e in value.exprs])

    # -- variables ------------------------------------------------------

    def read(self, var: Var, name: str = "") -> Val:
        """The value of a variable."""
        if var.late is not None:
            return var.late()  # type: ignore[no-any-return]
        return Val(var.ft, self.gets(var.ft, var.locals))

    def gets(self, ft: FT, locals: list[tir.Local]) -> list[tir.Expr]:
        """The locals as expressions; text is memory, so its address."""
        out: list[tir.Expr] = []
        for local in locals:
            if isinstance(local.type, (tir.Array, tir.Struct)):
                out.append(tir.AddrOf(tir.Ptr("mem"), self.loc, local))
            else:
                out.append(self.get(local))
        return out

    def bind(self, name: str, ft: FT) -> Var:
        """Make locals for a variable of type ``ft``."""
        return Var(ft, [self.local(kind, name) for kind in components(ft)])

    # -- numbers --------------------------------------------------------

    def as_int(self, value: Val, node: ast.AST | None) -> tuple[tir.Expr, bool]:
        """``value`` as a 64-bit integer and whether it is signed; addresses are u64."""
        ft = value.ft
        if isinstance(ft, TInt):
            return value.exprs[0], ft.signed
        if isinstance(ft, TBool):
            return tir.Convert(tir.S64, self.loc, value.exprs[0], tir.S64), True
        if isinstance(ft, TConst) and isinstance(ft.value, int):
            number = int(ft.value)
            if not -(1 << 63) <= number < 1 << 64:
                self.fail(node, f"{number} does not fit in 64 bits", "kernel integers have 64 bits")
            return self.num(number, number < 1 << 63), number < 1 << 63
        if isinstance(ft, (TPtr, TRef)):
            expr = value.exprs[0]
            if isinstance(expr.type, tir.Ptr):
                expr = tir.Convert(tir.U64, self.loc, expr, tir.U64)
            return expr, False
        return self.expected(value, node, "a number")

    def expected(self, value: Val, node: ast.AST | None, what: str) -> NoReturn:
        """Refuse ``value`` where ``what`` is needed."""
        from osmia.compiler.values import TOpt

        if isinstance(value.ft, TOpt):
            fix = "give it a name, and test that: if (x := ...) is not None: ..."
            if isinstance(node, ast.Name):
                fix = f"test it first: if {node.id} is not None: ..."
            self.fail(node, "this may be None here", fix)
        if value.const is None:
            self.fail(node, f"None where {what} is expected")
        self.fail(node, f"expected {what}, got {describe(value)}")

    def constant_int(self, value: Val, node: ast.AST, what: str) -> int:
        """A number that must be known when compiling."""
        found = value.const
        if found is UNKNOWN or not isinstance(found, int):
            self.fail(node, f"{what} must be a constant number", "use a literal or a module constant")
        return int(found)


class Record:
    """An argument whose fields the compiler makes itself: see :mod:`osmia.compiler.entry`."""

    def field(self, fn: Fn, node: ast.Attribute) -> Val:
        """The field that ``node`` names."""
        raise NotImplementedError

    def method(self, fn: Fn, node: ast.Call, name: str) -> Val | None:
        """The result of the method ``name``; None where there is no such method."""
        return None


def describe(value: Val) -> str:
    """``value`` in words, for messages."""
    if isinstance(value.ft, TConst):
        item = value.ft.value
        if isinstance(item, (int, str, bytes)) or item is None:
            return repr(item)
        name = getattr(item, "__name__", None) or getattr(item, "name", "") or ""
        return f"{type(item).__name__} {name}".strip()
    return str(value.ft)


def _wide(mem: tir.Mem) -> tir.Type:
    """The type that a load of ``mem`` yields."""
    if isinstance(mem, tir.Int):
        return tir.S64 if mem.signed else tir.U64
    assert isinstance(mem, (tir.Bool, tir.Ptr))
    return mem
