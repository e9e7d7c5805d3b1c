# SPDX-License-Identifier: Apache-2.0
"""The typed program as text that reads like Python with types: what ``--dump typed`` prints.

Meant for people who wonder what the front end made of a kernel function.  It
is not parsed by anything, but it is deterministic, so that two dumps can be
compared.
"""

from __future__ import annotations

from osmia.compiler import tir, walk
from osmia.obj.consts import helper_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_BINARY = {
    "add": "+", "sub": "-", "mul": "*", "and": "&", "or": "|", "xor": "^", "shl": "<<", "lshr": ">>>", "ashr": ">>",
    "udiv": "/u", "umod": "%u", "sdiv": "//", "smod": "%",
}  # fmt: skip
_COMPARE = {
    "eq": "==", "ne": "!=", "ult": "<u", "ule": "<=u", "ugt": ">u", "uge": ">=u",
    "slt": "<", "sle": "<=", "sgt": ">", "sge": ">=",
}  # fmt: skip


def dump(module: tir.Module) -> str:
    """``module`` as text."""
    out = [f"# module {module.name}, license {module.license}"]
    for s in module.exports:
        out.extend(["", f"struct {s.name}:  # {s.size} bytes"])
        out.extend(f"    {m.name}: {m.type}  # at {m.offset}" for m in s.members)
    if module.maps or module.data:
        out.append("")
    for m in module.maps:
        types = f"[{m.key}, {m.value}]" if m.key is not None else ""
        flags = f", flags={m.flags:#x}" if m.flags else ""
        out.append(f"{m.name} = map{types}(type={m.type}, max_entries={m.max_entries}{flags})")
    for d in module.data:
        init = f" = {d.init!r}" if any(d.init) else ""
        out.append(f"{d.name}: {d.type}{init}  # {d.section}")
    for func in module.funcs:
        out.extend(["", *_function(func)])
    return "\n".join(out) + "\n"


def _function(func: tir.Func) -> list[str]:
    kind = f"@section({func.section!r})" if func.section else ("@inline" if func.inline else "@subprogram")
    params = ", ".join(f"{p.name}: {p.type}" for p in func.params)
    writer = _Writer(func)
    writer.block(func.body, 1)
    head = [f"# {func.file}:{func.line}", kind, f"def {func.name}({params}) -> {func.ret}:"]
    declared = [f"    {writer.name(v)}: {v.type}" for v in writer.locals]
    return head + declared + writer.lines


class _Writer:
    """Writes one function; locals of the same name are told apart by a number."""

    def __init__(self, func: tir.Func) -> None:
        self.lines: list[str] = []
        self._names: dict[tir.Local, str] = {}
        taken: dict[str, int] = {}
        for local in dict.fromkeys([*func.params, *func.locals, *walk.locals_of(func.body)]):
            count = taken[local.name] = taken.get(local.name, 0) + 1
            self._names[local] = local.name if count == 1 else f"{local.name}.{count}"
        self.locals = [v for v in self._names if v not in func.params]

    def name(self, local: tir.Local) -> str:
        return self._names[local]

    # -- statements

    def block(self, stmts: list[tir.Stmt], depth: int) -> None:
        for s in stmts:
            self._stmt(s, depth)
        if not stmts:
            self._put("pass", depth)

    def _put(self, text: str, depth: int, loc: tir.Loc | None = None) -> None:
        note = f"  # {loc[0]}" if loc else ""
        self.lines.append("    " * depth + text + note)

    def _stmt(self, s: tir.Stmt, depth: int) -> None:
        ex = self.expr
        if isinstance(s, tir.If):
            self._put(f"if {ex(s.test, depth)}:", depth, s.loc)
            self.block(s.then, depth + 1)
            if s.orelse:
                self._put("else:", depth)
                self.block(s.orelse, depth + 1)
        elif isinstance(s, tir.For):
            bounds = f"{ex(s.start, depth)}, {ex(s.stop, depth)}, {s.step}"
            self._put(f"for {self.name(s.var)} in range({bounds}):  # at most {s.bound} rounds", depth)
            self.block(s.body, depth + 1)
        elif isinstance(s, tir.While):
            bound = "" if s.bound is None else f"  # at most {s.bound} rounds"
            self._put(f"while {self._inner(s.test)}:{bound}", depth)
            self.block(s.body, depth + 1)
        else:
            self._put(self._simple(s, depth), depth, s.loc)

    def _simple(self, s: tir.Stmt, depth: int) -> str:
        ex = self.expr
        if isinstance(s, tir.Set):
            return f"{self.name(s.local)} = {ex(s.value, depth)}"
        if isinstance(s, tir.Store):
            return f"{s.mem}[{ex(s.addr, depth)}] = {ex(s.value, depth)}"
        if isinstance(s, tir.Copy):
            return f"copy({ex(s.dst, depth)}, {ex(s.src, depth)}, {s.size}, align={s.align})"
        if isinstance(s, tir.Zero):
            return f"zero({ex(s.dst, depth)}, {s.size}, align={s.align})"
        if isinstance(s, tir.Eval):
            return ex(s.value, depth)
        if isinstance(s, tir.Return):
            return "return" if s.value is None else f"return {ex(s.value, depth)}"
        return {tir.Break: "break", tir.Continue: "continue"}.get(type(s), f"<{type(s).__name__}>")

    # -- expressions

    def expr(self, e: tir.Expr, depth: int = 0) -> str:
        """``e`` as text; statements inside it go on lines of their own before."""
        handler = _EXPRESSIONS.get(type(e))
        return handler(self, e, depth) if handler else f"<{type(e).__name__}>"

    def _args(self, args: list[tir.Expr], depth: int) -> str:
        return ", ".join([self.expr(a, depth) for a in args])

    def _const(self, e: tir.Const, depth: int) -> str:
        if isinstance(e.type, tir.Bool):
            return str(bool(e.value))
        if isinstance(e.type, tir.Ptr):
            return "null" if e.value == 0 else f"{e.type}({e.value:#x})"
        return str(e.value)

    def _get(self, e: tir.Get, depth: int) -> str:
        return self.name(e.local)

    def _addr_of(self, e: tir.AddrOf, depth: int) -> str:
        return f"&{self.name(e.local)}"

    def _global(self, e: tir.Global, depth: int) -> str:
        return f"&{e.name}"

    def _func_addr(self, e: tir.FuncAddr, depth: int) -> str:
        return f"&{e.func.name}"

    def _bin(self, e: tir.Bin, depth: int) -> str:
        return f"({self.expr(e.a, depth)} {_BINARY.get(e.op, e.op)} {self.expr(e.b, depth)})"

    def _cmp(self, e: tir.Cmp, depth: int) -> str:
        return f"({self.expr(e.a, depth)} {_COMPARE.get(e.op, e.op)} {self.expr(e.b, depth)})"

    def _not(self, e: tir.Not, depth: int) -> str:
        return f"not {self.expr(e.a, depth)}"

    def _and(self, e: tir.And, depth: int) -> str:
        return f"({self.expr(e.a, depth)} and {self._inner(e.b)})"

    def _or(self, e: tir.Or, depth: int) -> str:
        return f"({self.expr(e.a, depth)} or {self._inner(e.b)})"

    def _cond(self, e: tir.Cond, depth: int) -> str:
        return f"({self._inner(e.a)} if {self.expr(e.test, depth)} else {self._inner(e.b)})"

    def _seq(self, e: tir.Seq, depth: int) -> str:
        self.block(e.stmts, depth)
        return self.expr(e.result, depth)

    def _inner(self, e: tir.Expr) -> str:
        """An expression that may not run: its statements stay with it, in braces."""
        saved, self.lines = self.lines, []
        text = self.expr(e, 0)
        inside, self.lines = self.lines, saved
        return "{" + "; ".join([line.strip() for line in inside] + [text]) + "}" if inside else text

    def _convert(self, e: tir.Convert, depth: int) -> str:
        return f"{e.to}({self.expr(e.a, depth)})"

    def _load(self, e: tir.Load, depth: int) -> str:
        return f"{'volatile ' if e.volatile else ''}{e.mem}[{self.expr(e.addr, depth)}]"

    def _offset(self, e: tir.Offset, depth: int) -> str:
        text = self.expr(e.addr, depth)
        if e.index is not None:
            text += f" + {self.expr(e.index, depth)}" + (f"*{e.scale}" if e.scale != 1 else "")
        return text + (f" + {e.offset}" if e.offset else "")

    def _field_addr(self, e: tir.FieldAddr, depth: int) -> str:
        return f"&({self.expr(e.addr, depth)})->{_path(e.access)}"

    def _core_field(self, e: tir.CoreField, depth: int) -> str:
        return f"core_{e.kind}({e.access.root.name}.{_path(e.access)})"

    def _core_type(self, e: tir.CoreType, depth: int) -> str:
        return f"core_{e.kind}({e.ktype.kind} {e.ktype.name})"

    def _core_enum(self, e: tir.CoreEnum, depth: int) -> str:
        return f"core_{e.kind}({e.enum.name}.{e.enumerator})"

    def _helper(self, e: tir.Helper, depth: int) -> str:
        return f"{helper_name(e.id)}({self._args(e.args, depth)})"

    def _call(self, e: tir.Call, depth: int) -> str:
        return f"{e.func.name}({self._args(e.args, depth)})"

    def _atomic(self, e: tir.Atomic, depth: int) -> str:
        kind = "fetch_" if e.fetch else ""
        return f"atomic_{kind}{e.op}({e.mem}[{self.expr(e.addr, depth)}], {self.expr(e.value, depth)})"

    def _fls(self, e: tir.Fls, depth: int) -> str:
        return f"fls({self.expr(e.a, depth)})"

    def _barrier(self, e: tir.Barrier, depth: int) -> str:
        return f"barrier({self.expr(e.a, depth)})"


def _path(access: tir.Access) -> str:
    text = ""
    for step in access.steps:
        text += f"[{step}]" if isinstance(step, int) else f".{step.name}"
    return text.lstrip(".")


_EXPRESSIONS: dict[type, Callable[..., str]] = {
    tir.Const: _Writer._const,
    tir.Get: _Writer._get,
    tir.AddrOf: _Writer._addr_of,
    tir.Global: _Writer._global,
    tir.FuncAddr: _Writer._func_addr,
    tir.Bin: _Writer._bin,
    tir.Cmp: _Writer._cmp,
    tir.Not: _Writer._not,
    tir.And: _Writer._and,
    tir.Or: _Writer._or,
    tir.Cond: _Writer._cond,
    tir.Seq: _Writer._seq,
    tir.Convert: _Writer._convert,
    tir.Load: _Writer._load,
    tir.Offset: _Writer._offset,
    tir.FieldAddr: _Writer._field_addr,
    tir.CoreField: _Writer._core_field,
    tir.CoreType: _Writer._core_type,
    tir.CoreEnum: _Writer._core_enum,
    tir.Helper: _Writer._helper,
    tir.Call: _Writer._call,
    tir.Atomic: _Writer._atomic,
    tir.Fls: _Writer._fls,
    tir.Barrier: _Writer._barrier,
}
