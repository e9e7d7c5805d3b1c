# SPDX-License-Identifier: Apache-2.0
"""The typed program as LLVM IR text.

Text, not an IR builder: formatting strings is ten to thirty times faster than
llvmlite's builder classes, and needs no LLVM in this process.  The text is a
pure function of the module: equal modules give equal objects.
"""

from __future__ import annotations

from osmia.compiler import tir, walk
from osmia.compiler.body import Body, Shared, memory_type, value_type
from osmia.compiler.core_globals import CoreGlobals
from osmia.compiler.debuginfo import DebugInfo, escape, quoted
from osmia.compiler.loops import ALL_WALKED, LIMIT, LOOP_ENUM, LOOP_ENUMERATOR, Planner
from osmia.compiler.lower_expr import abi_type, coerce, lower_expr, set_local, store
from osmia.compiler.lower_loop import give_back
from osmia.compiler.lower_stmt import lower_stmts, zero
from osmia.errors import InternalError, UserError

_HEAD = [
    'target datalayout = "e-m:e-p:64:64-i64:64-i128:128-n32:64-S128"',
    'target triple = "bpfel"',
]
# By number: 0 programs, 1 barriers (body.py), 2 relocation globals
# (core_globals.py), 3 inlined functions, 4 subprograms and loop callbacks.
# no-builtins: without it LLVM makes loops into calls of memset, which BPF has not.
_ATTRIBUTES = [
    'attributes #0 = { nounwind "no-builtins" }',
    "attributes #1 = { nounwind memory(none) }",
    'attributes #2 = { "btf_ama" }',
    'attributes #3 = { alwaysinline nounwind "no-builtins" }',
    'attributes #4 = { noinline nounwind "no-builtins" }',
    "attributes #5 = { nounwind willreturn memory(none) }",
]
#: Section of the pointers that make BTF describe the exported structures; no
#: loader makes a map of it, so they cost nothing at run time.
TYPES_SECTION = "osmia.types"
META_SECTION = "osmia"


def lower(module: tir.Module, sources: dict[str, str] | None = None, *, loop_limit: int = LIMIT) -> str:
    """LLVM IR text for ``module``.

    ``sources`` gives the text of source files that are not on disk
    (``<stdin>``), so that BTF can carry the lines.  ``loop_limit``: see
    :data:`osmia.compiler.loops.LIMIT`.  Raises
    :class:`~osmia.errors.UserError` for names that collide and
    :class:`~osmia.errors.InternalError` for a program that the front end
    should not have made.
    """
    _check_names(module)
    shared = _survey(module, sources or {}, loop_limit)
    info = shared.info
    keep: list[str] = []
    variables = _variables(module, info, keep)
    functions = [_function(shared, f, keep) for f in module.funcs]
    path = module.funcs[0].file if module.funcs else module.name
    used = ", ".join(f"ptr {name}" for name in keep)
    return "\n".join(
        [
            f"; {module.name}",
            f"source_filename = {quoted(module.name)}",
            *_HEAD,
            *variables,
            *shared.core.lines(),
            f'@llvm.compiler.used = appending global [{len(keep)} x ptr] [{used}], section "llvm.metadata"',
            *functions,
            *shared.callbacks,
            *shared.declarations,
            *_ATTRIBUTES,
            *info.finish(path),
            "",
        ]
    )


def _check_names(module: tir.Module) -> None:
    """LLVM ends the process when a function is named like a section, or a name is used twice."""
    sections = {f.section for f in module.funcs} | {"license", META_SECTION}
    seen: set[str] = set()
    names = [m.name for m in module.maps] + [d.name for d in module.data] + [f.name for f in module.funcs]
    for name in names:
        if name in sections:
            raise UserError(
                f"{name!r} is the name of an ELF section of the program, too", fix="give the function another name"
            )
        if name in seen:
            raise UserError(f"two functions, maps or variables are named {name!r}", fix="rename one of them")
        seen.add(name)


def _survey(module: tir.Module, sources: dict[str, str], loop_limit: int) -> Shared:
    """Look through the whole module for what has to be known before the first line is written."""
    info = DebugInfo(sources)
    core = CoreGlobals(info)
    planner = Planner(loop_limit)
    shared = Shared(info, core, planner, lower_expr, lower_stmts)
    for func in module.funcs:
        planner.plan(func)
        for node in walk.walk(func.body):
            core.gather(node)
            if isinstance(node, tir.FuncAddr):
                shared.addressed.add(node.func)
            elif isinstance(node, tir.AddrOf):
                shared.in_memory.add(node.local)
    _check_parameters(module, shared.addressed)
    if planner.uses_bpf_loop:
        core.gather_enum(LOOP_ENUM, LOOP_ENUMERATOR, 181)
        core.gather(ALL_WALKED)
    return shared


def _check_parameters(module: tir.Module, addressed: set[tir.Func]) -> None:
    """BPF passes arguments in five registers; LLVM would drop unused ones and so hide the mistake."""
    for func in module.funcs:
        if len(func.params) > 5 and (not func.inline or func in addressed):
            raise UserError(
                f"{func.name} takes {len(func.params)} arguments, but a BPF function at most five",
                where=f"{func.file}:{func.line}",
                fix="pass a tuple or an event, or let the function be inlined",
            )


# --------------------------------------------------------------------------
# Variables


def _variables(module: tir.Module, info: DebugInfo, keep: list[str]) -> list[str]:
    lines = []

    def add(name: str, text: str, dbg: str = "") -> None:
        symbol = "@" + quoted(name)
        lines.append(f"{symbol} = {text}" + (f", !dbg {dbg}" if dbg else ""))
        keep.append(symbol)

    for m in module.maps:
        words = 1 + sum(x is not None for x in (m.key, m.value))
        words += sum(map(bool, (m.max_entries, m.flags, m.extra, m.pinned)))
        text = f'global {{ {", ".join(["ptr"] * words)} }} zeroinitializer, section ".maps", align 8'
        add(m.name, text, info.variable(m.name, info.map_type(m)))
    for d in module.data:
        add(d.name, _data(d), info.variable(d.name, info.type(d.type)))
    for s in module.exports:
        name = f"__osmia_type_{s.name}"
        text = f"global ptr null, section {quoted(TYPES_SECTION)}, align 8"
        add(name, text, info.variable(name, info.pointer(info.type(s))))
    add("LICENSE", _bytes(module.license.encode() + b"\0", "global", "license", 1))
    if module.meta:
        add("osmia.meta", _bytes(module.meta, "constant", META_SECTION, 1))
    return lines


def _data(d: tir.Data) -> str:
    size = max(d.type.size, 1)
    if len(d.init) > size:
        raise InternalError(f"{d.name}: {len(d.init)} bytes do not fit in {size}")
    kind = "constant" if d.section.startswith(".rodata") else "global"
    if d.settable:
        kind = f"externally_initialized {kind}"
    return _bytes(d.init + bytes(size - len(d.init)), kind, d.section, d.type.align)


def _bytes(data: bytes, kind: str, section: str, align: int) -> str:
    init = f'c"{escape(data)}"' if any(data) else "zeroinitializer"
    return f"{kind} [{len(data)} x i8] {init}, section {quoted(section)}, align {align}"


# --------------------------------------------------------------------------
# Functions


def _function(shared: Shared, func: tir.Func, keep: list[str]) -> str:
    name = "@" + quoted(func.name)
    entry = bool(func.section)
    ret = tir.S32 if entry and isinstance(func.ret, tir.Void) else func.ret
    params = [(p.name, p.type) for p in func.params]
    scope = shared.info.subprogram(
        func.name, func.file, func.line, None if isinstance(ret, tir.Void) else ret, params, local=not entry
    )
    b = Body(shared, func, scope, (func.line, 0))
    _open_locals(b)
    b.run(func.body)
    if b.open:
        b.at((func.line, 0))
        give_back(b, "")
    args = ", ".join(f"{_abi(p.type)} %a{i}" for i, p in enumerate(func.params))
    if entry:
        keep.append(name)
        linkage, attributes = "", f"#0 section {quoted(func.section)}"
    else:
        inline = func.inline and func not in shared.addressed
        linkage, attributes = "internal ", "#3" if inline else "#4"
    head = f"define {linkage}{abi_type(func.ret)} {name}({args}) {attributes} !dbg {scope} {{"
    return "\n".join([head, *b.text()])


def _abi(t: tir.Mem) -> str:
    return "ptr" if isinstance(t, tir.Ptr) else "i64"


def _open_locals(b: Body) -> None:
    """Give every local its place, cleared: the verifier refuses reads of what was never written."""
    func = b.func
    plan = b.shared.planner.plan(func)
    b.shared.in_memory.update(plan.frame.locals)  # callbacks write to them
    frame, elsewhere = plan.frame, {local for own in plan.own.values() for local in own}
    if frame.size:
        b.frame = b.slot(f"[{frame.size} x i8]")
        zero(b, b.frame, frame.size, 8)
    elif plan.big:
        b.frame = "null"  # callbacks that share nothing
    known = dict.fromkeys([*func.params, *func.locals, *walk.locals_of(func.body)])
    for local in known:
        if local in elsewhere:
            continue
        if local in frame.locals:
            b.slots[local] = b.at_entry(f"getelementptr i8, ptr {b.frame}, i64 {frame.locals[local]}")
            continue
        b.slots[local] = b.slot(memory_type(local.type))
        if local not in func.params:
            zero(b, b.slots[local], local.type.size, 8) if _is_memory(local.type) else _clear(b, local)
    for i, param in enumerate(func.params):
        have: tir.Type = param.type if isinstance(param.type, tir.Ptr) else tir.U64
        value = coerce(b, f"%a{i}", have, param.type)
        set_local(b, param, value)


def _is_memory(t: tir.Mem) -> bool:
    return isinstance(t, (tir.Array, tir.Struct))


def _clear(b: Body, local: tir.Local) -> None:
    kind = value_type(local.type)
    value = {"i64": "0", "i1": "false", "ptr": "null"}[kind]
    store(b, b.slots[local], value, local.type)
    b.wrote(local)
