# SPDX-License-Identifier: Apache-2.0
"""Arguments of programs on kernel functions: kprobes read registers, fentry and its kin read slots.

One body serves both, because either way a parameter becomes the same kind
of value: a number, or a pointer typed by the function's BTF.  Only what the
body uses is read.
"""

from __future__ import annotations

import os

from osmia.compiler import signatures, tir
from osmia.compiler import syntax as ast
from osmia.compiler.annotations import annotated, as_type
from osmia.compiler.core import Fn
from osmia.compiler.entry import BY_REGISTER, BY_SLOT
from osmia.compiler.kmem import kernel_type
from osmia.compiler.ktypes import KT
from osmia.compiler.layout import int_type
from osmia.compiler.signatures import IN_REGISTERS, Signature, width
from osmia.compiler.values import SINT, UINT, TPtr, Val
from osmia.errors import NotFound
from osmia.lang.probes import Hook, Prog
from osmia.obj import consts, ptregs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_WITH_RET = ("fexit", "fmod_ret", "lsm", "kretprobe", "kretprobe_multi")
_RET_ONLY = ("kretprobe", "kretprobe_multi")
_NO_RESULT = ("fentry", "fexit")  # the verifier wants 0 there
RET = "ret"
_FUNC_ID = tir.KEnum("bpf_func_id", 4, False)


def bind(fn: Fn, prog: Prog, hook: Hook) -> None:
    """Give the parameters of ``prog``'s function their values for ``hook``."""
    fn.result_unused = hook.kind if hook.kind in _NO_RESULT else ""
    args = fn.source.node.args.args
    if "+" in hook.target:
        _inside(fn, prog, hook, args)
        return
    known = _signature(fn, hook)
    used = {node.id for node in ast.walk(fn.source.node) if isinstance(node, ast.Name)}
    slots = _slots(known, len(args))
    for at, arg in enumerate(args):
        if arg.arg == RET and not _is_parameter(known, at):
            _check_ret(fn, hook, args, at)
            if RET in used:
                fn.params[RET] = fn.hold(RET, _result(fn, hook, known, arg))
            continue
        _check_argument(fn, hook, known, arg, at)
        if arg.arg in used:
            fn.params[arg.arg] = fn.hold(arg.arg, _argument(fn, hook, known, arg, at, slots[at]))


def _inside(fn: Fn, prog: Prog, hook: Hook, args: list[ast.arg]) -> None:
    """At an instruction within a function there are registers, and no arguments."""
    if not args:
        return
    if len(args) > 1 or args[0].arg != "regs":
        fn.fail(args[0], f"inside of {hook.target.partition('+')[0]} its arguments are not in their registers any more",
                f"def {prog.name}(regs): ... reads registers by name")
    kind = kernel_type(fn, args[0], "struct pt_regs")
    fn.params["regs"] = fn.hold("regs", Val(TPtr("ctx", kind), [fn.program_context()]))


# --------------------------------------------------------------------------
# What is known of the function


def _signature(fn: Fn, hook: Hook) -> Signature | None:
    """The function's signature; None where its arguments are not typed (several functions, or none known yet)."""
    target = hook.target
    if not target or any(c in target for c in "*?["):
        return None
    name = f"bpf_lsm_{target}" if hook.kind == "lsm" else target
    found = signatures.signature(fn.mod.kernel, name)
    if found is None and hook.kind in BY_SLOT:
        raise _unknown(fn, hook, name)
    return found


def _unknown(fn: Fn, hook: Hook, name: str) -> NotFound:
    where = f"{fn.file.name}:{fn.source.node.lineno}"
    if fn.mod.kernel.btf is None:
        return NotFound(f"{hook.kind} needs the kernel's BTF, and there is none", where=where,
                        fix=f'use kprobe("{hook.target}"), or give a file with --btf FILE')
    near = [n.removeprefix("bpf_lsm_") for n in signatures.near(fn.mod.kernel, name)]
    what = "no security hook" if hook.kind == "lsm" else "no function"
    fix = f"did you mean {' or '.join(near)}?" if near else ""
    if not fix and hook.kind != "lsm":
        fix = "it may be inlined into its callers, or its arguments may have been optimised away"
    return NotFound(f"the kernel's BTF has {what} {hook.target}", where=where, fix=fix)


def _is_parameter(known: Signature | None, at: int) -> bool:
    """Whether the function itself calls its argument number ``at`` ``ret``."""
    return known is not None and at < len(known.params) and known.params[at][0] == RET


def _slots(known: Signature | None, n: int) -> list[int]:
    """Number of the first slot (or register) of each argument."""
    out, slot = [], 0
    for at in range(n):
        out.append(slot)
        slot += width(known.params[at][1]) if known is not None and at < len(known.params) else 1
    return out


def _check_ret(fn: Fn, hook: Hook, args: list[ast.arg], at: int) -> None:
    if hook.kind not in _WITH_RET:
        fn.fail(args[at], f"a {hook.kind} program runs before the function has returned anything",
                f'use fexit("{hook.target}") or kretprobe("{hook.target}")' if hook.target else "use kretprobe_multi")
    if at != len(args) - 1:
        fn.fail(args[at], "ret comes after the arguments", "make it the last parameter")


def _check_argument(fn: Fn, hook: Hook, known: Signature | None, arg: ast.arg, at: int) -> None:
    """Refuse what cannot be an argument: none exist at a return, too many, or one under another's name."""
    if hook.kind in _RET_ONLY:
        fn.fail(arg, f"at a {hook.kind} the arguments are gone: there is only ret",
                f'fexit("{hook.target}") has both' if hook.target else "keep them in a map from kprobe_multi")
    if known is None:
        return
    names = [name for name, _ in known.params]
    if at >= len(names):
        fn.fail(arg, f"{known} has {len(names)} argument{'s' * (len(names) != 1)}, not {at + 1}")
    if arg.arg in names and names.index(arg.arg) != at and names[at] != arg.arg:
        fn.fail(arg, f"{arg.arg} is not argument {at + 1} of {known}",
                f"arguments are by position: ({', '.join(names[: names.index(arg.arg) + 1])})")


# --------------------------------------------------------------------------
# Values


def _argument(fn: Fn, hook: Hook, known: Signature | None, arg: ast.arg, at: int, slot: int) -> Val:
    kind = annotated(fn, arg)
    if kind is not None:
        return as_type(fn, arg, raw_argument(fn, hook, slot), kind)
    if known is not None:
        return _typed(fn, hook, arg, known.params[at][1], slot, _fits(fn, known, at, slot))
    if hook.kind.endswith("_multi") or not hook.target:
        return Val(UINT, [raw_argument(fn, hook, slot)])
    name = hook.target
    near = signatures.near(fn.mod.kernel, name)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise NotFound(
        f"the types of {name}'s arguments are not known: the kernel's BTF does not have it",
        where=f"{fn.file.name}:{arg.lineno}",
        fix=f'say them, if you are sure where they are: def f(size: u64, file: Kernel["struct file"]){hint}',
    )


def _fits(fn: Fn, known: Signature, at: int, slot: int) -> bool:
    """Whether a structure passed by value is in registers: all of it, or none."""
    return slot + width(known.params[at][1]) <= len(machine_of(fn).args)


def _typed(fn: Fn, hook: Hook, node: ast.arg, kt: KT, slot: int, in_registers: bool) -> Val:
    """The argument in ``slot`` as a value of the kernel's type ``kt``."""
    direct = hook.kind in BY_SLOT
    if kt.kind == "ptr":
        target = kt.target()
        if direct and target.kind in ("struct", "union"):
            return Val(TPtr("btf", target), [fn.load(fn.offset(fn.program_context(), 8 * slot), tir.Ptr("btf"))])
        what = target if target.kind != "void" else None
        plain = target.kind in ("void", "int", "char", "bool")
        return Val(TPtr("kernel", what), [raw_argument(fn, hook, slot, tracked=not plain)])
    if kt.kind in ("struct", "union"):
        return _structure(fn, hook, node, kt, slot, in_registers)
    if kt.kind == "float" or kt.size > 8:
        fn.fail(node, f"an argument of type {kt} cannot be read")
    return _number(fn, kt, raw_argument(fn, hook, slot))


def _number(fn: Fn, kt: KT, raw: tir.Expr) -> Val:
    """A register as the C type: what is above the type's size is rubbish."""
    if kt.kind == "bool":
        return as_type(fn, ast.Pass(), raw, bool)
    if kt.kind in ("int", "char", "enum") and kt.size < 8:
        to = int_type(kt.size, kt.signed)
        raw = fn.keep(tir.Convert(tir.S64 if kt.signed else tir.U64, fn.loc, raw, to))
    elif kt.signed:
        raw = tir.Convert(tir.S64, fn.loc, raw, tir.S64)
    return Val(SINT if kt.signed else UINT, [raw])


def _structure(fn: Fn, hook: Hook, node: ast.arg, kt: KT, slot: int, in_registers: bool) -> Val:
    """A structure passed by value (``kuid_t``, ``sockptr_t``): its registers, put together in own memory."""
    if kt.size > IN_REGISTERS or not kt.size:
        fn.fail(node, f"{kt} is passed by value in memory, which cannot be read here")
    if hook.kind in BY_REGISTER and not in_registers:
        fn.fail(node, f"{kt} is passed on the stack, where it cannot be read", f'use fentry("{hook.target}")')
    count = width(kt)
    place = fn.slot(f"{node.arg}.value", tir.Array(tir.U64, count))
    for at in range(count):
        fn.store(fn.offset(place, 8 * at), raw_argument(fn, hook, slot + at), tir.U64)
    return Val(TPtr("mem", kt), [place])


def _result(fn: Fn, hook: Hook, known: Signature | None, arg: ast.arg) -> Val:
    kind = annotated(fn, arg)
    slot = sum(width(kt) for _, kt in known.params) if known is not None else 0
    kt = known.ret if known is not None else None
    if kt is not None and hook.kind in BY_SLOT and hook.kind != "lsm" and kt.kind == "void":
        fn.fail(arg, f"{known} returns nothing", "leave ret out")
    if hook.kind in BY_REGISTER:
        machine = machine_of(fn)
        raw = fn.load(fn.offset(fn.program_context(), machine.offsets[machine.ret]), tir.U64)
    elif kind is None and kt is not None and kt.kind == "ptr" and kt.target().kind in ("struct", "union"):
        return Val(TPtr("btf", kt.target()), [fn.load(fn.offset(fn.program_context(), 8 * slot), tir.Ptr("btf"))])
    else:
        raw = fn.load(fn.offset(fn.program_context(), 8 * slot), tir.U64)
    if kind is not None:
        return as_type(fn, arg, raw, kind)
    if kt is None or kt.kind == "void":
        return Val(SINT, [tir.Convert(tir.S64, fn.loc, raw, tir.S64)])
    if kt.kind == "ptr":
        target = kt.target()
        return Val(TPtr("kernel", target if target.kind != "void" else None), [raw])
    if kt.kind in ("struct", "union", "float") or kt.size > 8:
        fn.fail(arg, f"a result of type {kt} cannot be read")
    return _number(fn, kt, raw)


def raw_argument(fn: Fn, hook: Hook, slot: int, tracked: bool = False) -> tir.Expr:
    """The 64 bits of argument ``slot``; ``tracked``: the verifier would refuse to load a pointer of this kind."""
    if hook.kind in BY_SLOT:
        if tracked and hook.kind != "lsm":
            return _by_helper(fn, slot)
        return fn.load(fn.offset(fn.program_context(), 8 * slot), tir.U64)
    machine = machine_of(fn)
    offset, on_stack = machine.argument(slot)
    if not on_stack:
        return fn.load(fn.offset(fn.program_context(), offset), tir.U64)
    stack = fn.load(fn.offset(fn.program_context(), machine.offsets[machine.sp]), tir.U64)
    scratch = fn.slot("stack argument", tir.U64)
    fn.do(consts.BPF_FUNC_probe_read_kernel, scratch, fn.num(8), fn.bin("add", stack, fn.num(offset), False))
    return fn.load(scratch, tir.U64)


def _by_helper(fn: Fn, slot: int) -> tir.Expr:
    """A pointer to a pointer or to a function: the verifier knows no type for it, bpf_get_func_arg (5.17) asks none."""
    scratch = fn.slot("argument", tir.U64)
    fn.store(scratch, fn.num(0), tir.U64)
    fn.do(consts.BPF_FUNC_get_func_arg, fn.program_context(), fn.num(slot), scratch)
    return fn.load(scratch, tir.U64)


def machine_of(fn: Fn) -> ptregs.Machine:
    """The machine that the kernel's types are of, by the names of its registers; this one where there are no types."""
    btf = fn.mod.kernel.btf
    if btf is not None:
        try:
            regs = fn.mod.kernel.named("struct pt_regs")
        except KeyError:
            regs = None
        if regs is not None and regs.member("orig_ax") is not None:
            return ptregs.X86_64
        if regs is not None and regs.member("pstate") is not None:
            return ptregs.ARM64
    return ptregs.machine(os.uname().machine)


# --------------------------------------------------------------------------
# Built-ins


def func_ip(fn: Fn, node: ast.Call) -> Val:
    """``func_ip()``: by helper; before there was one, a kprobe's own address from the registers."""
    _no_arguments(fn, node, "func_ip")
    kind = fn.func.section.partition("/")[0] if fn.entry else ""

    def older() -> tir.Expr:
        if kind not in ("kprobe", "kprobe.multi"):
            return fn.num(0, False)
        machine = machine_of(fn)
        ip = fn.load(fn.offset(fn.program_context(), machine.offsets[machine.ip]), tir.U64)
        # A kprobe's handler sees the address after the one-byte breakpoint on x86.
        return fn.bin("sub", ip, fn.num(1 if machine is ptregs.X86_64 else 0), False)

    return _if_kernel_has(fn, node, consts.BPF_FUNC_get_func_ip, "BPF_FUNC_get_func_ip", older)


def attach_cookie(fn: Fn, node: ast.Call) -> Val:
    """``attach_cookie()``: by helper; kernels without it get the number in its place (:mod:`osmia.load.cookies`)."""
    _no_arguments(fn, node, "attach_cookie")
    return Val(UINT, [fn.helper(consts.BPF_FUNC_get_attach_cookie, fn.program_context(), result=tir.U64)])


def _no_arguments(fn: Fn, node: ast.Call, name: str) -> None:
    if node.args or node.keywords:
        fn.fail(node, f"{name}() takes no arguments")
    if not fn.entry:
        fn.fail(node, f"{name}() is known in a probe's own function only", "call it there, and pass the number on")


def _if_kernel_has(fn: Fn, node: ast.Call, id: int, name: str, otherwise: Callable[[], tir.Expr]) -> Val:
    """The result of helper ``id(ctx)`` where the kernel has it; the verifier never sees the other way."""
    result = fn.local(tir.U64, node.func.id if isinstance(node.func, ast.Name) else "result")
    there: list[tir.Stmt] = []
    with fn.into(there):
        fn.set(result, fn.helper(id, fn.program_context(), result=tir.U64))
    older: list[tir.Stmt] = []
    with fn.into(older):
        fn.set(result, otherwise())
    has = tir.CoreEnum(tir.U64, fn.loc, _FUNC_ID, name, id, "exists")
    fn.if_(fn.cmp("ne", has, fn.num(0, False)), there, older)
    return Val(UINT, [fn.get(result)])
