# SPDX-License-Identifier: Apache-2.0
"""Decorators that make a function the kernel half of a probe.

The function stays callable: called from ordinary Python it runs as Python.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Hook:
    """Where a program attaches: ``kind`` (``"tracepoint"``), ``target`` (``"block:block_rq_issue"``), parameters.

    ``targets`` are all the places that one program serves, ``target`` first.
    """

    __slots__ = ("kind", "params", "target", "targets")

    def __init__(self, kind: str, target: str, *more: str, **params: Any) -> None:
        self.kind = kind
        self.target = target
        self.targets = (target, *more)
        self.params = params

    def __call__(self, function: Callable[..., Any]) -> Prog:
        return Prog(function, (self,))

    def __repr__(self) -> str:
        return f"{self.kind}:{','.join(self.targets)}" if self.target else self.kind

    @property
    def section(self) -> str:
        """The ELF section that libbpf expects for it."""
        if self.kind == "tracepoint":
            return "tracepoint/" + self.target.replace(":", "/")
        return f"{self.kind}/{self.target}" if self.target else self.kind


class Prog:
    """A kernel function and its plan: the hooks to try, in order; the first that this kernel offers is taken.

    ``optional``: no error where the kernel offers none of them.
    """

    def __init__(self, function: Callable[..., Any], hooks: tuple[Hook, ...], optional: bool = False) -> None:
        if isinstance(function, Prog):
            raise TypeError("this function has a probe already: use first_of(...) for alternatives")
        self.function = function
        self.hooks = hooks
        self.optional = optional
        self.name: str = function.__name__
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__wrapped__ = function

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def elf_name(self, hook: Hook) -> str:
        """Name of the program in the object: the function's, with the hook's kind where there are several."""
        if len(self.hooks) == 1:
            return self.name
        same = [one for one in self.hooks if one.kind == hook.kind]
        number = f"_{same.index(hook) + 1}" if len(same) > 1 else ""
        return f"{self.name}__{hook.kind}{number}"

    def __repr__(self) -> str:
        return f"<prog {self.name} on {' or '.join(map(repr, self.hooks))}>"


class Plan:
    """Decorator made by :func:`first_of` and by ``optional=True``."""

    def __init__(self, hooks: tuple[Hook, ...], optional: bool = False) -> None:
        self.hooks = hooks
        self.optional = optional

    def __call__(self, function: Callable[..., Any]) -> Prog:
        return Prog(function, self.hooks, self.optional)


def tracepoint(name: str, *more: str, optional: bool = False) -> Plan:
    """Static tracepoint ``category:event``; the function's argument is its record, fields by name.

    One program may serve several tracepoints with the same record: those
    that a kernel lacks are left out, as long as it has one of them.

    For ``syscalls:sys_enter_NAME`` the fields are the call's arguments by
    name, for ``syscalls:sys_exit_NAME`` there is ``ret``.  BPF since 4.7.
    """
    for one in (name, *more):
        if one.count(":") != 1 or not all(one.split(":")):
            raise TypeError(f'tracepoint("{one}"): the name is "category:event", as in /sys/kernel/tracing/events')
    return Plan((Hook("tracepoint", name, *more),), optional)


def raw_tracepoint(name: str, *, optional: bool = False) -> Plan:
    """The same event without its record: the function's arguments are the tracepoint's own, by position (4.17)."""
    return Plan((Hook("raw_tracepoint", _event(name)),), optional)


def tp_btf(name: str, *, optional: bool = False) -> Plan:
    """As :func:`raw_tracepoint`, with arguments that may be dereferenced directly (BTF, 5.5)."""
    return Plan((Hook("tp_btf", _event(name)),), optional)


def perf_event(kind: str = "cpu-clock", *, frequency: Any = 0, period: Any = 0) -> Plan:
    """Timed sampling: ``frequency`` samples a second on every CPU, or one each ``period`` events.

    ``kind``: ``cpu-clock``, ``task-clock``, ``page-faults``, ``context-switches``, ``cpu-migrations``.
    """
    if bool(frequency) == bool(period):
        raise TypeError("perf_event: give frequency= or period=, one of them")
    return Plan((Hook("perf_event", "", event=kind, frequency=frequency, period=period),))


def iterator(target: str) -> Plan:
    """Run for each object of a kind (``task``, ``task_file``, ``bpf_map``, …) when the user side reads (5.8)."""
    return Plan((Hook("iter", target),))


def syscall_prog(function: Callable[..., Any]) -> Prog:
    """A program that user space runs (BPF_PROG_TYPE_SYSCALL, 5.14); its argument is a pointer to the context."""
    return Prog(function, (Hook("syscall", ""),))


def first_of(*plans: Plan) -> Plan:
    """An ordered plan: ``@first_of(tp_btf("sched_switch"), raw_tracepoint("sched_switch"))``."""
    hooks = tuple(hook for plan in plans for hook in plan.hooks)
    return Plan(hooks, all(plan.optional for plan in plans))


def _event(name: str) -> str:
    if not name or ":" in name:
        raise TypeError(f'"{name}": a raw tracepoint has no category, only the event\'s name')
    return name
