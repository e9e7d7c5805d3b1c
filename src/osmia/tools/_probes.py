# SPDX-License-Identifier: Apache-2.0
"""Shared by the tools whose programs are made of specifications: from what was typed to kernel functions."""

from __future__ import annotations

from osmia.compiler import built
from osmia.compiler import syntax as ast
from osmia.compiler.built import Scope, in_c
from osmia.errors import UserError
from osmia.lang.builtins import attach_cookie, cpu, current, func_ip, ktime
from osmia.lang.filters import wanted
from osmia.lang.itself import is_itself
from osmia.lang.maps import Hash
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.lang.probes import Hook, Prog
from osmia.lang.types import Event, u32, u64
from osmia.probespec import FUNCTION, STATIC, TRACEPOINT, USER, Spec
from osmia.probespec.expressions import names
from osmia.probespec.statements import Statement
from osmia.probespec.tree import InC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from osmia.symbols.debuginfo import Described

_HOOKS = {FUNCTION: ("kprobe", "kretprobe"), USER: ("uprobe", "uretprobe"), TRACEPOINT: ("tracepoint",),
          STATIC: ("usdt",)}  # fmt: skip
_CALLS = ("sys_", "SyS_")
#: Functions that are in the kernel at the same time, at most, for what their returns ask of their entries.
_BEGUN = 10240
#: Names of the current task whose numbers depend on osmia's PID namespace: (variable, function).
_PEOPLE = {
    "$PID": ("process_number", "current_process_id"), "$TGID": ("process_number", "current_process_id"),
    "$TID": ("thread_number", "current_thread_id"),
}  # fmt: skip
#: What the frames of kernel functions mention.
NAMES: dict[str, Any] = {
    "wanted": wanted, "is_itself": is_itself, "current": current, "ktime": ktime, "cpu": cpu, "func_ip": func_ip,
    "attach_cookie": attach_cookie, "current_process_id": current_process_id, "current_thread_id": current_thread_id,
}  # fmt: skip


class Probe:
    """One specification: ``hooks`` are where it attaches (several for a pattern of tracepoints), ``progs`` what runs.

    ``declared`` are maps and programs by name, for the unit.
    """

    def __init__(self, statement: Statement, number: int, pid: int, binary: bool = False) -> None:
        self.statement = statement
        self.number = number
        self.place: Spec = statement.place
        self.scope = Scope(self.place, statement.signature)
        self.scope.binary = binary
        self.hooks = located(self.place, self.scope)
        self.progs: list[Prog] = []
        self.declared: dict[str, Any] = {}
        self._pid = pid
        self._debug: Described | None = None
        self._knows(self.scope)

    def _knows(self, scope: Scope) -> None:
        """Let ``scope`` ask the program's debug information."""
        if self.place.kind == USER:
            scope.described = lambda: self._described().params
            scope.types = lambda: self._described().types
            scope.advice = lambda: self._described().advice

    def _described(self) -> Described:
        """What the program's debug information says; read when a name or a type is asked for that nobody typed."""
        if self._debug is None:
            from osmia.symbols import debuginfo

            self._debug = debuginfo.describe(self.place.file, self.place.function, self._pid)
        return self._debug

    def made_of(self) -> str:
        """What its programs depend on besides the text: the very file whose types they may have been given."""
        if self.place.kind != USER:
            return ""
        import os

        from osmia.symbols import libs

        try:
            path = libs.find(self.place.file, self._pid).path
            info = os.stat(path)
        except (UserError, OSError):
            return ""  # attaching says what is wrong with it
        return f"{path} {info.st_mtime_ns} {info.st_size}"

    @property
    def shown(self) -> str:
        """What the place is called in a row."""
        return self.place.function if self.place.kind != STATIC else self.place.name

    @property
    def which(self) -> str:
        """What tells which of many functions it was: ``func_ip``, ``attach_cookie``; empty where there is one."""
        if not self.place.is_pattern or self.place.kind == TRACEPOINT:
            return ""
        return "func_ip" if self.place.kind == FUNCTION else "attach_cookie"

    # -- kernel functions

    def add(self, name: str, hook: Hook, body: list[str], holes: dict[str, ast.expr], space: dict[str, Any]) -> Prog:
        """Make the program ``name`` of the lines ``body``."""
        prog = self._prog(name, hook, body, holes, space, self.scope)
        self.progs.append(prog)
        return prog

    def _prog(
        self, name: str, hook: Hook, body: list[str], holes: dict[str, ast.expr], space: dict[str, Any], scope: Scope
    ) -> Prog:  # fmt: skip
        head = f"def {name}({', '.join(self._params(hook, holes.values()))}):\n"
        frame = head + "".join([f"    {line}\n" for line in body])
        holes = {key: value if isinstance(value, InC) else in_c(value) for key, value in holes.items()}
        made = built.function(name, frame, holes, self.statement.source, {**NAMES, **space}, scope)
        prog = Prog(made, (hook,))
        self.declared[name] = prog
        return prog

    def _params(self, hook: Hook, values: Iterable[ast.expr]) -> list[str]:
        """Parameters of the kernel function: a tracepoint's record, as many arguments of a static probe as used."""
        if hook.kind == "tracepoint":
            return ["args"]
        if hook.kind != "usdt":
            return []
        used = [int(one[3:]) for value in values for one in names(value) if one[:3] == "arg" and one[3:].isdecimal()]
        return [f"arg{n + 1}" for n in range(max(used, default=0))]

    def begins(self) -> list[str]:
        """Lines that come first: numbers of the current task as people know them, what was on entry; maybe none."""
        lines = []
        for name, (variable, function) in _PEOPLE.items():
            if name in self.statement.names():
                lines.append(f"{variable} = {function}()")
                self.scope.entries[name] = variable
        return lines + self._entered()

    def _entered(self) -> list[str]:
        """Lines of the program at a return that know what was on entry, whose program is made here, too."""
        wanted_names, latency = entries(self.statement)
        if not wanted_names and not latency:
            return []
        if not self.place.returns:
            _refuse_entry(self.statement)
        kept = f"begun_{self.number}"
        fields = {f"v{n}": u64 for n in range(len(wanted_names))}
        record = type(f"Begun{self.number}", (Event,), {"__annotations__": {"time": u64, **fields}})
        self.declared[kept] = Hash[u32, record](_BEGUN)
        lines = [f"begun = {kept}.get(current.pid)", "if begun is None:", "    return"]
        lines.append("latency = ktime() - begun.time")
        self.scope.entries["$latency"] = "latency"
        for n, name in enumerate(wanted_names):
            lines.append(f"entry_{n} = begun.v{n}")
            self.scope.entries[name] = f"entry_{n}"
        lines.append(f"del {kept}[current.pid]")
        self._entry(kept, record, wanted_names)
        return lines

    def _entry(self, kept: str, record: type[Event], values: dict[str, ast.expr]) -> None:
        place = self.place
        scope = Scope(Spec(place.kind, place.file, place.name, place.text), self.scope.signature)
        self._knows(scope)
        (hook,) = located(scope.place, scope)
        body = ["if not wanted():", "    return", "begun = Begun()", "begun.time = ktime()"]
        body += [f"begun.v{n} = __v{n}" for n in range(len(values))]
        holes = {f"__v{n}": value for n, value in enumerate(values.values())}
        space = {"Begun": record, kept: self.declared[kept]}
        self._prog(f"entry_{self.number}", hook, [*body, f"{kept}[current.pid] = begun"], holes, space, scope)


def _refuse_entry(statement: Statement) -> None:
    source = statement.source
    for word in ("$entry", "$latency"):
        at = source.text.find(word)
        if at >= 0:
            source.fail(at, at + len(word), f"{word} is known when a function returns", "r:FUNCTION is its return")


def entries(statement: Statement) -> tuple[dict[str, ast.expr], bool]:
    """Parameters that ``$entry(…)`` asks for, by name, and whether ``$latency`` is asked for."""
    found: dict[str, ast.expr] = {}
    rest: list[Any] = [*statement.values, *([statement.filter] if statement.filter is not None else [])]
    while rest:
        node = rest.pop(0)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "$entry":
            if len(node.args) == 1 and isinstance(node.args[0], ast.Name):
                found.setdefault(node.args[0].id, node.args[0])
            continue
        for field in node._fields:
            child = getattr(node, field, None)
            rest += [one for one in (child if isinstance(child, list) else [child]) if isinstance(one, ast.AST)]
    return found, "$latency" in statement.names()


def located(place: Spec, scope: Scope) -> list[Hook]:
    """Where ``place`` attaches on this machine.  Raises UserErrors with near names."""
    kind = _HOOKS[place.kind][place.returns]
    if place.kind == TRACEPOINT:
        return [Hook(kind, one) for one in _tracepoints(place)]
    if place.kind != FUNCTION:
        return [Hook(kind, place.place)]
    call = place.name[4:] if place.name.startswith(_CALLS) and not place.offset else ""
    if call and _is_call(call):
        # No function has this name since 4.17; the tracepoint of the system call has its arguments and its result.
        scope.call = call
        return [Hook("tracepoint", f"syscalls:sys_{'exit' if place.returns else 'enter'}_{call}")]
    if place.is_pattern:
        return [Hook(f"{kind}_multi", place.name, patterns=(place.name,))]
    return [Hook(kind, place.name)]


def _tracepoints(place: Spec) -> list[str]:
    from osmia.tools._places import places

    return places(place)


def _is_call(name: str) -> bool:
    from osmia.kernel import tracefs

    try:
        return tracefs.exists("syscalls", f"sys_enter_{name}")
    except UserError:
        return False


def check(probes: Iterable[Probe]) -> None:
    """Whether the kernel has the functions, before anything is compiled: the names that are near are what helps."""
    for probe in probes:
        (hook, *_) = probe.hooks
        if hook.kind in _HOOKS[FUNCTION]:
            _check_function(probe.place, hook.kind)


def _check_function(place: Spec, kind: str) -> None:
    from osmia.kernel import functions, kallsyms

    if functions.has_types(place.function):
        return
    try:
        known = bool(kallsyms.find(place.function)[0])
    except UserError:
        return
    if not known and not functions.stand_in(place.function):
        raise functions.why_not(place.function, kind, f"probe {place.text}")


def parsed(parse: Callable[[str, str], Any], texts: list[str], what: str) -> list[Any]:
    """The specifications ``texts``; errors call each by its number, where there are several."""
    return [parse(text, f"{what} {n + 1}" if len(texts) > 1 else what) for n, text in enumerate(texts)]


