# SPDX-License-Identifier: Apache-2.0
"""Which hook of a plan to take: what the object has, what this kernel offers, and what came out when it was tried."""

from __future__ import annotations

from osmia.errors import NotSupported
from osmia.lang.options import Option
from osmia.obj import meta

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from osmia.errors import UserError
    from osmia.lang.probes import Hook, Prog
    from osmia.obj.spec import ObjectSpec

#: Parameters of hooks that say where they attach.
_WHERE = ("where", "function", "patterns")
_BY_FUNCTION = ("fentry", "fexit", "fmod_ret", "lsm")


def choose(
    progs: Iterable[Prog], spec: ObjectSpec, records: list[tuple[str, ...]], note: Callable[[str], None]
) -> dict[Prog, Hook]:
    """The first hook of each plan that is in the object and that this kernel seems to have."""
    left = {record[1]: record[2] for record in records if record[0] == "left" and len(record) > 2}
    chosen: dict[Prog, Hook] = {}
    for prog in progs:
        for hook in prog.hooks:
            if prog.elf_name(hook) in left:
                note(f"{prog.name}: not {hook!r}: {left[prog.elf_name(hook)]}")
        hooks = [hook for hook in prog.hooks if prog.elf_name(hook) in spec.progs]
        if len(prog.hooks) > 1:
            hooks = _likely(hooks)
        elif prog.optional and hooks and hooks[0].kind == "tracepoint" and not offered(hooks[0]):
            hooks = []  # an object that was made elsewhere has what this kernel has not
        if not hooks:
            if not prog.optional:
                raise NotSupported(f"this kernel offers none of {names(prog.hooks)}", where=prog.name)
            note(f"{prog.name}: left out: this kernel offers none of {names(prog.hooks)}")
            continue
        chosen[prog] = hooks[0]
        for hook in prog.hooks[: prog.hooks.index(hooks[0])]:
            if prog.elf_name(hook) not in left:
                note(f"{prog.name}: not {hook!r}: this kernel does not offer it")
    return chosen


def _likely(hooks: list[Hook]) -> list[Hook]:
    """Those that this kernel seems to have, the last one if it seems to have none."""
    return [hook for hook in hooks if offered(hook)] or hooks[-1:]


def wanted(prog: Prog) -> bool:
    """Whether this run loads ``prog``."""
    return prog.enabled and not (prog.optional and nowhere(prog))


def first(prog: Prog) -> Hook | None:
    """The hook that ``prog`` will probably be loaded for, None if this run does not want it."""
    if not wanted(prog):
        return None
    hooks = _likely(list(prog.hooks)) if len(prog.hooks) > 1 else [prog.hooks[0]]
    return next((hook for hook in hooks if hook.kind not in _BY_FUNCTION or _attachable()), hooks[0])


def _attachable() -> bool:
    """Whether fentry programs can be had: that the kernel has types for the function does not say so."""
    from osmia.kernel import features

    return features.has("fentry") is True


def narrow(spec: ObjectSpec) -> bool:
    """Whether the object does not have all hooks of all plans, but what one run seemed to need."""
    return ("narrow",) in meta.load(spec.meta)


def satisfied(progs: Iterable[Prog], spec: ObjectSpec) -> bool:
    """Whether a narrow object was made with all programs that this run wants."""
    left = {record[1] for record in meta.load(spec.meta) if record[0] == "left"}
    for prog in progs:
        names = [prog.elf_name(hook) for hook in prog.hooks]
        if wanted(prog) and left.isdisjoint(names) and not any(name in spec.progs for name in names):
            return False
    return True


def told(value: Any) -> tuple[str, ...]:
    """The places that a probe's parameter names: texts, or what options say, separated by commas."""
    out: list[str] = []
    for one in value if isinstance(value, tuple) else (value,):
        out += str(one.value or "").split(",") if isinstance(one, Option) else [str(one)]
    return tuple([place for place in out if place])


def nowhere(prog: Prog) -> bool:
    """Whether ``prog`` is left out because options are to say where to attach it, and say nothing."""
    said = [hook.params[name] for hook in prog.hooks for name in _WHERE if name in hook.params]
    return prog.optional and len(said) == len(prog.hooks) and not any(told(one) for one in said)


def may_fail(chosen: dict[Prog, Hook], spec: ObjectSpec) -> set[str]:
    """ELF names of the optional programs that have come to the last hook of their plan."""
    optional = [(prog, hook) for prog, hook in chosen.items() if prog.optional]
    if narrow(spec):
        return {prog.elf_name(hook) for prog, hook in optional if hook is prog.hooks[-1]}
    return {prog.elf_name(hook) for prog, hook in optional if following(prog, hook, spec) is None}


def following(prog: Prog, hook: Hook, spec: ObjectSpec) -> Hook | None:
    """The next hook of the plan that the object has; None: that was the last."""
    for other in prog.hooks[prog.hooks.index(hook) + 1 :]:
        if prog.elf_name(other) in spec.progs:
            return other
    return None


def fall_back(
    chosen: dict[Prog, Hook], prog: Prog, spec: ObjectSpec, err: UserError, note: Callable[[str], None]
) -> bool:
    """After ``err``: put the next hook of ``prog``'s plan into ``chosen``; False if there is none."""
    hook = chosen[prog]
    other = following(prog, hook, spec)
    if other is None:
        return False
    note(f"{prog.name}: {hook!r} does not do: {err}")
    chosen[prog] = other
    return True


def names(hooks: Iterable[Hook]) -> str:
    """``tp_btf:sched_switch, raw_tracepoint:sched_switch``."""
    return ", ".join([repr(hook) for hook in hooks])


def offered(hook: Hook) -> bool:
    """Whether this kernel seems to have the hook: asked only where a plan has alternatives."""
    from osmia.kernel import btf_source, features, tracefs
    from osmia.obj import consts

    if hook.kind == "tracepoint":
        return any(tracefs.exists(*target.split(":")) for target in hook.targets)
    prefix = {"tp_btf": ("btf_trace_", consts.BTF_KIND_TYPEDEF), "iter": ("bpf_iter_", consts.BTF_KIND_FUNC)}
    if hook.kind in prefix:
        head, kind = prefix[hook.kind]
        return btf_source.has_kernel_btf() and bool(btf_source.type_id(head + hook.target, kind))
    if hook.kind in _BY_FUNCTION:
        from osmia.kernel import functions

        name = f"bpf_lsm_{hook.target}" if hook.kind == "lsm" else hook.target
        return btf_source.has_kernel_btf() and functions.has_types(name)
    if hook.kind in ("kprobe", "kretprobe"):
        return features.has("kprobe") is not False
    if hook.kind in ("kprobe_multi", "kretprobe_multi"):
        return features.has("kprobe_multi") is not False
    return True
