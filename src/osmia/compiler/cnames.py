# SPDX-License-Identifier: Apache-2.0
"""What the names in a specification's expressions mean: arguments, results, the current task, the kernel's constants.

``arg1`` … are whatever the place has as arguments; names are those of the
signature that was typed, else those that the kernel's types (or the
program's debug information) give them.
"""

from __future__ import annotations

from osmia.compiler import cplaces, cvalues, entry_functions, entry_user, kmem, signatures, tir
from osmia.compiler import syntax as ast
from osmia.compiler.built import Scope
from osmia.compiler.core import Fn, Record
from osmia.compiler.cvalues import C, CInt, CPtr, CText
from osmia.compiler.entry import SyscallRecord
from osmia.compiler.kmem import kernel_type
from osmia.compiler.ktypes import KT
from osmia.compiler.values import TPtr, TText, Val
from osmia.obj import consts, ptregs
from osmia.probespec import FUNCTION, STATIC, TRACEPOINT, USER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from osmia.probespec.signatures import Param

_LATENCY = "$latency"
#: Names of the current task, as bcc's tools and people write them: (helper, whether the upper half is wanted).
_CURRENT = {
    "$pid": (14, False), "$tid": (14, False), "$TID": (14, False), "$tgid": (14, True), "$PID": (14, True),
    "$TGID": (14, True), "$uid": (15, False), "$UID": (15, False), "$gid": (15, True), "$GID": (15, True),
}  # fmt: skip
_OTHERS = ("$COMM", "$comm", "$CPU", "$cpu", "$TASK", "$task", "$retval", _LATENCY)
#: Registers of a system call's arguments, as the wrappers of system calls find them in their struct pt_regs.
_CALL_REGISTERS = {
    "x86_64": ("rdi", "rsi", "rdx", "r10", "r8", "r9"), "aarch64": ("x0", "x1", "x2", "x3", "x4", "x5"),
}  # fmt: skip
_WRAPPERS = ("__x64_sys_", "__ia32_sys_", "__arm64_sys_")


def scope_of(fn: Fn) -> Scope:
    """The scope of the specification that is compiled."""
    scope = fn.source.scope
    assert isinstance(scope, Scope)
    return scope


def name(fn: Fn, node: ast.Name) -> C:
    """The value of a name."""
    scope, text = scope_of(fn), node.id
    number = _argument_number(text)
    if number:
        return argument(fn, node, number)
    if text in ("retval", "$retval"):
        return _returned(fn, node)
    if text.startswith("$"):
        return _dollar(fn, node, text)
    if text == "args" and scope.place.kind == TRACEPOINT:
        return _record(fn, node)
    if text == "ctx" and scope.place.kind in (FUNCTION, USER):
        kind = kernel_type(fn, node, "struct pt_regs")
        return CPtr(cvalues.as_number(fn, fn.program_context()), "ctx", kind)
    found = _parameter(fn, node, text) if scope.place.kind != TRACEPOINT else _field(fn, node, text)
    if found is not None:
        return found
    from osmia.compiler.enumerators import constant

    value = constant(fn.mod.kernel, text)
    if value is not None:
        return cvalues.literal(fn, value)
    known = [*_parameter_names(fn), *_CURRENT, *_OTHERS, "retval", "arg1"]
    fn.fail(node, f"nothing here is called {text!r}", _near(text, known) or _what_there_is(fn))


def _near(text: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(text, known, 2, 0.6)
    return f"did you mean {' or '.join(near)}?" if near else ""


def _what_there_is(fn: Fn) -> str:
    if scope_of(fn).place.kind == TRACEPOINT:
        return "the fields of a tracepoint are args->NAME"
    names = [one for one in _parameter_names(fn) if one]
    if names and not scope_of(fn).place.returns:
        return f"it has the arguments {', '.join(names)}"
    own = "arguments are arg1, arg2, ..., or have the names of a signature: FUNCTION(TYPE NAME, ...)"
    return scope_of(fn).advice() or own


def _argument_number(text: str) -> int:
    """3 for ``arg3``; 0 for what is no argument."""
    return int(text[3:]) if text.startswith("arg") and text[3:].isdecimal() and len(text) < 6 else 0


# --------------------------------------------------------------------------
# Arguments


def argument(fn: Fn, node: ast.expr, number: int) -> C:
    """Argument ``number``, from 1, as the place has it: an unsigned long, or of the type that a static probe says."""
    scope = scope_of(fn)
    place = scope.place
    if scope.call:
        record = _call(fn)
        if record.args is None or number > len(record.args):
            has = f"has {len(record.args)} arguments" if record.args is not None else "has only its result here"
            fn.fail(node, f"the system call {record.name} {has}", "" if record.args is not None else "it is retval")
        attribute = ast.Attribute(value=node, attr=record.args[number - 1][0], ctx=ast.Load())
        return cvalues.of_val(fn, record.field(fn, ast.copy_location(attribute, node)))
    if place.kind == TRACEPOINT:
        fn.fail(node, "a tracepoint has no numbered arguments", "its fields are args->NAME")
    if place.returns:
        _gone(fn, node, f"arg{number}")
    if place.kind == STATIC:
        return cvalues.of_val(fn, fn.read(fn.env[f"arg{number}"]))
    if place.offset:
        fn.fail(node, f"inside of {place.function} the arguments may be anywhere",
                "registers are ctx->di, ctx->ax, ...")
    raw = _register(fn, number - 1)
    return CInt(raw, 64, False)


def _register(fn: Fn, at: int) -> tir.Expr:
    """The 64 bits of argument ``at``, from 0, where the calling convention has it."""
    hook = fn.hook
    assert hook is not None
    if scope_of(fn).place.kind == USER:
        return entry_user.call_argument(fn, entry_functions.machine_of(fn), at)
    if not hook.target.startswith(_WRAPPERS):
        return entry_functions.raw_argument(fn, hook, at)
    # The wrapper of a system call: its only argument points to the registers of the program that called.
    machine = entry_functions.machine_of(fn)
    order = _CALL_REGISTERS[machine.name]
    where = fn.bin("add", entry_functions.raw_argument(fn, hook, 0), fn.num(machine.offsets[order[min(at, 5)]]), False)
    return kmem.read_raw(fn, "kernel", where, tir.U64)


def _returned(fn: Fn, node: ast.expr) -> C:
    scope = scope_of(fn)
    if scope.call:
        record = _call(fn)
        if record.args is None:
            attribute = ast.Attribute(value=node, attr="ret", ctx=ast.Load())
            return cvalues.of_val(fn, record.field(fn, ast.copy_location(attribute, node)))
    if not scope.place.returns:
        fn.fail(node, "there is no return value before the function returns", "r:FUNCTION is its return")
    machine: ptregs.Machine = entry_functions.machine_of(fn)
    raw = fn.load(fn.offset(fn.program_context(), machine.offsets[machine.ret]), tir.U64)
    return CInt(raw, 64, False)


def _record(fn: Fn, node: ast.expr) -> C:
    """``args`` of a tracepoint: the address of its record."""
    val = fn.read(fn.env["args"])
    if isinstance(val.const, Record):
        fn.fail(node, "the arguments of a system call's tracepoint are fields", "args->NAME")
    assert isinstance(val.ft, TPtr)
    return CPtr(val.exprs[0], "ctx", val.ft.kt)


# --------------------------------------------------------------------------
# Parameters by name


def _parameter(fn: Fn, node: ast.Name, text: str) -> C | None:
    """A parameter of the function by its name; None where it has none of that name."""
    scope = scope_of(fn)
    params = _typed_params(fn)
    if scope.call and not params:
        return _of_call(fn, node, text)
    for at, param in enumerate(params):
        if param.name == text:
            if scope.place.returns:
                if text in scope.entries:
                    return entered(fn, node, text)
                _gone(fn, node, text)
            return of_type(fn, node, argument(fn, node, at + 1), param.kind, param.user)
    if params or scope.place.kind != FUNCTION or scope.place.offset:
        return None
    found = _kernel_parameter(fn, text)
    if found is None:
        return None
    slot, kt = found
    if scope.place.returns:
        _gone(fn, node, text)
    raw = cvalues.as_int(fn, node, argument(fn, node, slot + 1))
    return cvalues.typed(fn, node, raw, kt, "kernel" if _is_kernel_structure(kt) else "either")


def _call(fn: Fn) -> SyscallRecord:
    """The record of the system call that stands for the function."""
    record = fn.read(fn.env["args"]).const
    assert isinstance(record, SyscallRecord)
    return record


def _of_call(fn: Fn, node: ast.expr, text: str) -> C | None:
    """An argument of a system call by the name that the system call gives it."""
    for at, (param, _) in enumerate(_call(fn).args or ()):
        if param == text:
            return argument(fn, node, at + 1)
    return None


def _gone(fn: Fn, node: ast.expr, text: str) -> NoReturn:
    fn.fail(node, "when a function returns, its arguments are gone", f"$entry({text}) is what it was on entry")


def _typed_params(fn: Fn) -> list[Param]:
    """The parameters of the typed signature, else of the program's debug information."""
    scope = scope_of(fn)
    if scope.signature is not None:
        return scope.signature
    return scope.described() if scope.place.kind == USER else []


def _kernel_parameter(fn: Fn, text: str) -> tuple[int, KT] | None:
    """``(slot, type)`` of the parameter ``text`` by the kernel's types."""
    known = signatures.signature(fn.mod.kernel, scope_of(fn).place.name)
    slot = 0
    for param, kt in known.params if known is not None else []:
        if param == text:
            return slot, kt
        slot += signatures.width(kt)
    return None


def _is_kernel_structure(kt: KT) -> bool:
    """Whether a pointer of this type is to a structure of the kernel's own: users' ones cannot be told from it by BTF.

    What system calls take from users is text, numbers, and structures of the uapi; of those a few names tell.
    """
    target = kt.target() if kt.kind == "ptr" else kt
    return target.kind in ("struct", "union") and not target.name.startswith(("__kernel_", "user_", "old_"))


def _parameter_names(fn: Fn) -> list[str]:
    scope = scope_of(fn)
    params = _typed_params(fn)
    if params:
        return [param.name for param in params]
    if scope.call:
        return [param for param, _ in _call(fn).args or ()]
    if scope.place.kind == FUNCTION and not scope.place.offset:
        known = signatures.signature(fn.mod.kernel, scope.place.name)
        return [param for param, _ in known.params] if known is not None else []
    return []


def of_type(fn: Fn, node: ast.expr, value: C, kind: str, user: bool) -> C:
    """``value`` as the type that C spells ``kind``."""
    space = "user" if user else scope_of(fn).space
    return cvalues.typed(fn, node, value, cvalues.type_named(fn, node, kind), space)


def entered(fn: Fn, node: ast.expr, text: str) -> C:
    """``$entry(text)``: what a parameter was when the function was entered."""
    scope = scope_of(fn)
    variable = scope.entries.get(text)
    if variable is None or variable not in fn.env:
        fn.fail(node, f"${'entry'}({text}) is known when a function returns", "r:FUNCTION is its return")
    raw = cvalues.of_val(fn, fn.read(fn.env[variable]))
    if _argument_number(text):
        return raw
    for param in _typed_params(fn):
        if param.name == text:
            return of_type(fn, node, raw, param.kind, param.user)
    found = _kernel_parameter(fn, text) if scope.place.kind == FUNCTION else None
    if found is None:
        names = _parameter_names(fn)
        fn.fail(node, f"the function has no parameter {text!r}", _near(text, names) or _what_there_is(fn))
    return cvalues.typed(fn, node, raw, found[1], "kernel" if _is_kernel_structure(found[1]) else "either")


def _field(fn: Fn, node: ast.Name, text: str) -> C | None:
    """A field of a tracepoint's record by its name alone; None where it has none of that name."""
    val = fn.read(fn.env["args"])
    record = ast.copy_location(ast.Name(id="args", ctx=ast.Load()), node)
    attribute = ast.copy_location(ast.Attribute(value=record, attr=text, ctx=ast.Load()), node)
    if isinstance(val.const, SyscallRecord):
        known = [one for one, _ in val.const.args] if val.const.args is not None else ["ret"]
        return cvalues.of_val(fn, val.const.field(fn, attribute)) if text in known else None
    if not isinstance(val.ft, TPtr) or val.ft.kt is None:
        return None
    kt = val.ft.kt
    if kt.member(text) is None and kt.member(f"__data_loc_{text}") is None:
        return None
    return cplaces.field(fn, attribute, _record(fn, node))


# --------------------------------------------------------------------------
# The current task


def _dollar(fn: Fn, node: ast.expr, text: str) -> C:
    variable = scope_of(fn).entries.get(text, "")
    if text != _LATENCY and variable in fn.env:  # as people know it, in their PID namespace
        made = cvalues.of_val(fn, fn.read(fn.env[variable]))
        return cvalues.converted(fn, cvalues.as_int(fn, node, made), 32, False)
    if text in _CURRENT:
        helper, upper = _CURRENT[text]
        both = fn.helper(helper, result=tir.U64)
        part = fn.bin("lshr", both, fn.num(32), False) if upper else fn.bin("and", both, fn.num(0xFFFFFFFF), False)
        return CInt(part, 32, False)
    if text in ("$COMM", "$comm"):
        return CText(Val(TText("comm", 16), []))
    if text in ("$CPU", "$cpu"):
        number = fn.helper(consts.BPF_FUNC_get_smp_processor_id, result=tir.U64)
        return CInt(fn.bin("and", number, fn.num(0xFFFFFFFF), False), 32, False)
    if text in ("$TASK", "$task"):
        task = fn.helper(consts.BPF_FUNC_get_current_task, result=tir.U64)
        return CPtr(task, "kernel", kernel_type(fn, node, "struct task_struct"))
    if text == _LATENCY:
        if variable not in fn.env:
            fn.fail(node, "$latency is known when a function returns", "r:FUNCTION is its return")
        made = cvalues.of_val(fn, fn.read(fn.env[variable]))
        return CInt(cvalues.as_int(fn, node, made).expr, 64, False)
    known = [*_CURRENT, *_OTHERS, "$entry"]
    fn.fail(node, f"there is no {text}", _near(text, known) or f"there are {', '.join(known)}")


