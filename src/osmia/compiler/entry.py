# SPDX-License-Identifier: Apache-2.0
"""Entry programs: what a probe's function gets as arguments, by hook."""

from __future__ import annotations

from osmia.compiler import kmem, tir
from osmia.compiler import syntax as ast
from osmia.compiler.core import Fn, Record, Var
from osmia.compiler.kmem import kernel_type
from osmia.compiler.ktypes import KT
from osmia.compiler.values import FT, SINT, UINT, TConst, TEmbed, TPtr, Val
from osmia.errors import NotFound
from osmia.lang.maps import Map
from osmia.lang.probes import Hook, Prog

MAX_PASSES = 8
#: Hooks of kernel functions, whose arguments lie in slots of the context, or in the registers that it holds.
BY_SLOT = ("fentry", "fexit", "fmod_ret", "lsm")
BY_REGISTER = ("kprobe", "kretprobe", "kprobe_multi", "kretprobe_multi")
# struct trace_event_raw_sys_enter: ent, id at 8, args at 16; sys_exit: ent, id at 8, ret at 16.
_SYSCALL_FIRST, _SYSCALL_NUMBER = 16, 8


def compile_prog(mod: object, prog: Prog, hook: Hook) -> tir.Func:
    """Compile ``prog`` for ``hook``; passes repeat until the types of its variables are settled."""
    from osmia.compiler.builder import Builder
    from osmia.compiler.stmts import function_body

    assert isinstance(mod, Builder)
    source = mod.sources.of(prog.function)  # type: ignore[arg-type]
    name = prog.elf_name(hook)
    types: dict[str, FT] = {}
    for _ in range(MAX_PASSES):
        func = tir.Func(name, hook.section, [tir.Local("ctx", tir.Ptr("ctx"))], tir.S64, source.file.name,
                        source.node.lineno, inline=False)
        fn = Fn(mod, source, func, ())
        fn.types = dict(types)
        fn.root = name
        fn.hook = hook
        _bind(fn, prog, hook)
        function_body(fn)
        if not fn.changed:
            break
        types = fn.types
    else:
        fn.fail(source.node, "the types of the variables do not settle", "give each variable one type")
    mod.module.funcs.append(func)
    mod.meta.append(("prog", name, prog.name, str(prog.hooks.index(hook))))
    return func


def _bind(fn: Fn, prog: Prog, hook: Hook) -> None:
    """Give the function's parameters their values."""
    names = [a.arg for a in fn.source.node.args.args]
    if hook.kind in ("socket_filter", "xdp", "tc"):  # each is imported where it is needed, as it takes a millisecond
        from osmia.compiler import entry_net

        entry_net.bind(fn, names, hook)
        return
    if hook.kind in ("uprobe", "uretprobe", "usdt"):
        from osmia.compiler import entry_user

        fn.mod.preempted.add(fn.root)
        entry_user.bind(fn, names, hook)
        return
    if hook.kind in BY_SLOT + BY_REGISTER:
        from osmia.compiler import entry_functions

        entry_functions.bind(fn, prog, hook)
        return
    if hook.kind in ("raw_tracepoint", "tp_btf"):
        _positional(fn, names, prog, hook)
        return
    if len(names) > 1:
        fn.fail(fn.source.node.args.args[1], f"a {hook.kind} function takes one argument",
                f"def {prog.name}({names[0]}): ...")
    if not names:
        return
    if hook.kind == "tracepoint":
        if not hook.target:
            fn.fail(fn.source.node.args.args[0], "an option says which tracepoint it is, so its fields are not known",
                    f"def {prog.name}(): ...")
        value = _tracepoint(fn, hook, hook.target)
        for other in hook.targets[1:]:
            _check_same(fn, hook, value, _tracepoint(fn, hook, other), other)
    elif hook.kind == "perf_event":
        from osmia.compiler import entry_perf

        value = Val(TConst(entry_perf.Sample(fn)), [])
    elif hook.kind == "iter":
        value = Val(TConst(IterRecord(fn, hook.target, hook.params.get("map"))), [])
    else:
        value = Val(TPtr("ctx", None), [fn.program_context()])
    fn.params[names[0]] = fn.hold(names[0], value)


def _check_same(fn: Fn, hook: Hook, first: Val, value: Val, other: str) -> None:
    """One program for several tracepoints reads one kind of record."""
    a, b = first.const, value.const
    same = first.ft == value.ft
    if isinstance(a, SyscallRecord) and isinstance(b, SyscallRecord):
        same = a.args == b.args
    if not same:
        fn.fail(fn.source.node, f"{hook.target} and {other} have different records",
                "give each its own function, and move what they share into a helper")


def _tracepoint(fn: Fn, hook: Hook, target: str) -> Val:
    category, event = target.split(":")
    if category == "syscalls":
        return Val(TConst(_syscall(fn, event)), [])
    kt = fn.mod.kernel.record(category, event)
    if kt is None:
        raise NotFound(f"this kernel has no tracepoint {target}", where=_place(fn),
                       fix=f"see /sys/kernel/tracing/events/{category}")
    return Val(TPtr("ctx", kt), [fn.program_context()])


def _place(fn: Fn) -> str:
    return f"{fn.file.name}:{fn.source.node.lineno}"


def _syscall(fn: Fn, event: str) -> Record:
    from osmia.compiler.syscalls import arguments

    for prefix in ("sys_enter_", "sys_exit_"):
        if event.startswith(prefix):
            name = event.removeprefix(prefix)
            args = arguments(name)
            if args is None:
                import difflib

                from osmia.compiler.syscalls import names

                near = difflib.get_close_matches(name, names(), 3)
                raise NotFound(f"there is no system call {name!r}", where=_place(fn),
                               fix=f"did you mean {' or '.join(near)}?" if near else "")
            return SyscallRecord(fn, args if prefix == "sys_enter_" else None, name)
    raise NotFound(f"there is no tracepoint syscalls:{event}", where=_place(fn),
                   fix="system calls have syscalls:sys_enter_NAME and syscalls:sys_exit_NAME")


class SyscallRecord(Record):
    """``call`` of a system call's tracepoint: arguments by name on entry, ``ret`` on exit, ``nr`` on both."""

    def __init__(self, fn: Fn, args: list[tuple[str, str]] | None, name: str) -> None:
        self.args = args
        self.name = name
        self.context = fn.func.params[0]

    def field(self, fn: Fn, node: ast.Attribute) -> Val:
        place = tir.Get(tir.Ptr("ctx"), fn.loc, self.context)
        if node.attr == "nr":
            # An int: the upper half of the slot is padding that the kernel leaves as it was.
            return Val(SINT, [fn.load(fn.offset(place, _SYSCALL_NUMBER), tir.S32)])
        if self.args is None:
            if node.attr != "ret":
                fn.fail(node, f"the exit of a system call has no field {node.attr!r}", "it has ret and nr")
            return Val(SINT, [fn.load(fn.offset(place, _SYSCALL_FIRST), tir.S64)])
        for at, (name, kind) in enumerate(self.args):
            if name == node.attr:
                raw = fn.load(fn.offset(place, _SYSCALL_FIRST + 8 * at), tir.U64)
                return self._typed(fn, raw, kind)
        names = ", ".join(name for name, _ in self.args)
        fn.fail(node, f"{self.name}() has no argument {node.attr!r}", f"it has {names}, and nr")

    @staticmethod
    def _typed(fn: Fn, raw: tir.Expr, kind: str) -> Val:
        """A register as the argument's C type: the kernel passes 64 bits, whatever the type."""
        kind = kind.removesuffix("const").rstrip()  # `void *const`: the argument itself, which nobody changes
        if kind.endswith("*"):
            return Val(TPtr("user", _pointee(fn, kind[:-1].strip())), [raw])
        words = kind.replace("const", "").split()
        plain = " ".join(words)
        if plain in ("int", "pid_t", "clockid_t", "key_serial_t", "mqd_t", "timer_t", "rwf_t"):
            return Val(SINT, [fn.keep(tir.Convert(tir.S64, fn.loc, raw, tir.S32))])
        if plain in ("long", "off_t", "loff_t", "ssize_t"):
            return Val(SINT, [tir.Convert(tir.S64, fn.loc, raw, tir.S64)])
        if plain in ("unsigned int", "u32", "__u32", "uid_t", "gid_t", "qid_t"):
            return Val(UINT, [fn.keep(tir.Convert(tir.U64, fn.loc, raw, tir.U32))])
        if plain in ("umode_t", "old_uid_t", "old_gid_t"):
            return Val(UINT, [fn.keep(tir.Convert(tir.U64, fn.loc, raw, tir.U16))])
        return Val(UINT, [raw])


def _pointee(fn: Fn, kind: str) -> KT | None:
    """What a pointer argument points to: text, a pointer, a structure, or unknown."""
    plain = " ".join(w for w in kind.replace("*", " * ").split() if w != "const")
    if plain.endswith("*"):
        inner = _pointee(fn, plain[:-1].strip())
        made = KT(fn.mod.kernel, "ptr", "", 8)
        made.fixed_target = inner or fn.mod.kernel.void
        return made
    if plain == "char":
        return fn.mod.kernel.named("char")
    if plain == "void":
        return None
    try:
        return fn.mod.kernel.named(plain)
    except KeyError:
        return None


class IterRecord(Record):
    """``ctx`` of an iterator: its pointers are followed directly, and are None for the call after the last object."""

    def __init__(self, fn: Fn, target: str, walked: Map | None = None) -> None:
        self.target = target
        self.walked = walked
        self.context = fn.func.params[0]
        if walked is not None:
            fn.mod.map(walked)
        self.kt: KT = kernel_type(fn, fn.source.node, f"struct bpf_iter__{target}")

    def field(self, fn: Fn, node: ast.Attribute) -> Val:
        found, kind = kmem.lookup(fn, node, self.kt, node.attr)
        place = tir.Get(tir.Ptr("ctx"), fn.loc, self.context)
        embed = Val(TEmbed("ctx", self.kt, (found,), kind), [place])
        if kind.kind != "ptr":
            return kmem.step(fn, Val(TEmbed("ctx", self.kt, (), self.kt), [place]), found, kind)
        if self.walked is not None and node.attr in ("key", "value"):
            from osmia.compiler import entry_perf

            return entry_perf.of_map(fn, node, self.walked, fn.load(kmem.address(fn, embed), tir.Ptr("mem")))
        raw = fn.load(kmem.address(fn, embed), tir.Ptr("btf"))
        return Val(TPtr("btf", kind.target()), [raw])


def _positional(fn: Fn, names: list[str], prog: Prog, hook: Hook) -> None:
    """Arguments of a raw tracepoint: u64 slots of the context, typed by the kernel's BTF.

    One that came with a later kernel has a default, which is its value where the kernel does not have it yet.  What is
    compiled for new kernels and loaded by old ones has to ask for something else that came with it (``exists``).
    """
    kinds = fn.mod.kernel.tracepoint_args(hook.target)
    if kinds is None:
        near = fn.mod.kernel.suggest("btf_trace_", hook.target, (8,))
        fix = f"did you mean {' or '.join(near)}?" if near else ""
        if fn.mod.kernel.btf is None:
            fix = "the kernel has no BTF to type its arguments with: give one with --btf FILE"
        raise NotFound(f"this kernel has no raw tracepoint {hook.target}", where=_place(fn), fix=fix)
    defaults = prog.function.__defaults__ or ()
    if len(names) - len(defaults) > len(kinds):
        fn.fail(fn.source.node.args.args[len(kinds)], f"{hook.target} has {len(kinds)} arguments, not {len(names)}")
    for name, value in zip(names[len(kinds) :], defaults[len(kinds) - len(names) :], strict=False):
        fn.params[name] = fn.hold(name, Val(SINT, [fn.num(int(value))]))
    for at, (name, kt) in enumerate(zip(names, kinds, strict=False)):
        def read(at: int = at, kt: KT = kt) -> Val:
            return _raw_argument(fn, hook, fn.offset(fn.program_context(), 8 * at), kt)

        if at < len(names) - len(defaults):
            fn.params[name] = fn.hold(name, read())
            continue
        with fn.into([]):  # only where it is used: an older kernel must not see a program read it
            ft = read().ft
        fn.params[name] = Var(ft, [], read)


def _raw_argument(fn: Fn, hook: Hook, place: tir.Expr, kt: KT) -> Val:
    if kt.kind == "ptr":
        target = kt.target()
        what = target if target.kind != "void" else None
        if hook.kind == "tp_btf" and target.kind in ("struct", "union"):
            return Val(TPtr("btf", what), [fn.load(place, tir.Ptr("btf"))])
        return Val(TPtr("kernel", what), [fn.load(place, tir.U64)])
    raw = fn.load(place, tir.U64)
    if kt.kind in ("int", "char", "enum", "bool") and kt.size < 8:
        from osmia.compiler.layout import int_type

        to = int_type(kt.size, kt.signed)
        raw = fn.keep(tir.Convert(tir.S64 if kt.signed else tir.U64, fn.loc, raw, to))
    elif kt.signed:
        raw = tir.Convert(tir.S64, fn.loc, raw, tir.S64)
    return Val(SINT if kt.signed else UINT, [raw])
