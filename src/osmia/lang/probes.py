# SPDX-License-Identifier: Apache-2.0
"""Decorators that make a function the kernel half of a probe.

The function stays callable: called from ordinary Python it runs as Python.
"""

from __future__ import annotations

from osmia.lang.options import Option

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
        if self.kind == "tracepoint" and self.target:
            return "tracepoint/" + self.target.replace(":", "/")
        if self.kind in ("socket_filter", "xdp", "tc"):  # their names have no place for the device
            return {"socket_filter": "socket", "xdp": "xdp", "tc": f"tcx/{self.params.get('direction')}"}[self.kind]
        kind = self.kind.replace("_multi", ".multi")  # libbpf's spelling
        return f"{kind}/{self.target}" if self.target else kind


class TailCall(Exception):
    """How ``tail_call()`` leaves a function that runs as Python."""

    def __init__(self, prog: Prog) -> None:
        super().__init__(prog.name)
        self.prog = prog


class Prog:
    """A kernel function and its plan: the hooks to try, in order; the first that this kernel offers is taken.

    ``optional``: no error where the kernel offers none of them, nor where an
    option says where to attach and is empty.  ``tail``: it is only loaded,
    because other programs jump to it.  ``enabled``: a template's ``prepare``
    sets it to False for what this run's options do not need, which is then
    neither loaded nor attached.
    """

    tail = False
    enabled = True
    #: What each ``attach_cookie()`` stands for, once it is attached to several places; and of functions and static
    #: probes of programs by what they were found (``c:str*``), where the user says where.
    names: list[str] = []
    targets: list[str] = []

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
        try:
            return self.function(*args)
        except TailCall as jump:
            return jump.prog(*args)

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


def tracepoint(name: Any, *more: str, optional: bool = False) -> Plan:
    """Static tracepoint ``category:event``; the function's argument is its record, fields by name.

    One program may serve several tracepoints with the same record: those
    that a kernel lacks are left out, as long as it has one of them.

    For ``syscalls:sys_enter_NAME`` the fields are the call's arguments by
    name, for ``syscalls:sys_exit_NAME`` there is ``ret``.  BPF since 4.7.

    Where an option says which ones (``tracepoint(which)``, names separated by
    commas), the function has no argument.

    Example::

        @tracepoint("sched:sched_process_exec")
        def executed(record):
            print(f"{current.comm} started as {record.pid}")
    """
    if isinstance(name, Option):
        return Plan((Hook("tracepoint", "", where=name),), optional)
    for one in (name, *more):
        if one.count(":") != 1 or not all(one.split(":")):
            raise TypeError(f'tracepoint("{one}"): the name is "category:event", as in /sys/kernel/tracing/events')
    return Plan((Hook("tracepoint", name, *more),), optional)


def raw_tracepoint(name: str, *, optional: bool = False) -> Plan:
    """The same event without its record: the function's arguments are the tracepoint's own, by position (4.17).

    One that came with a later kernel has a default (``err=0``), which is its value on kernels without it.

    Example::

        @raw_tracepoint("sched_process_exec")
        def executed(task, old_pid, program):
            print(f"{task.comm} started as {task.tgid}")
    """
    return Plan((Hook("raw_tracepoint", _event(name)),), optional)


def tp_btf(name: str, *, optional: bool = False) -> Plan:
    """As :func:`raw_tracepoint`, with arguments that may be dereferenced directly (BTF, 5.5).

    Example::

        @tp_btf("sched_process_exec")
        def executed(task, old_pid, program):
            print(f"{task.real_parent.comm} started {task.tgid}")
    """
    return Plan((Hook("tp_btf", _event(name)),), optional)


def perf_event(kind: str = "cpu-clock", *, frequency: Any = 0, period: Any = 0) -> Plan:
    """Sampling: ``frequency`` samples a second on every CPU, or one each ``period`` events (ns for the clocks).

    ``kind`` is spelled as in ``perf list``: software (``cpu-clock``,
    ``page-faults``, ``context-switches`` ...), hardware (``cpu-cycles``,
    ``instructions``, ``cache-misses`` ...), caches (``L1-dcache-load-misses``,
    ``LLC-loads``, ``dTLB-store-misses`` ...) or raw (``r01c2``, the number
    in the processor's manual).  The function's argument has ``sample_period``,
    ``addr`` (of a page fault; 0 where the event has none) and ``ip``, the
    interrupted instruction.  4.9.

    Example::

        hot = Hash[u64, u64]()

        @perf_event("page-faults", period=1)
        def fault(sample):
            hot[sample.addr // 4096] += 1
    """
    if bool(frequency) == bool(period):
        raise TypeError("perf_event: give frequency= or period=, one of them")
    return Plan((Hook("perf_event", "", event=kind, frequency=frequency, period=period),))


def iterator(target: str, map: Any = None, *, optional: bool = False) -> Plan:
    """Run for each object of a kind (``task``, ``task_file``, ``bpf_map``, …) when the user side reads (5.8).

    The argument's fields are those of the kernel's ``struct bpf_iter__KIND``;
    pointers are None in the one call after the last object.  Kinds:
    ``task``, ``task_file``, ``bpf_map``, ``netlink``, ``ipv6_route`` (5.8),
    ``tcp``, ``udp``, ``bpf_map_elem``, ``bpf_prog`` (5.9), ``task_vma``
    (5.12), ``unix`` (5.15), ``bpf_link`` (5.19), ``ksym`` (6.0), ``cgroup``
    (6.1).  ``bpf_map_elem`` walks a map of the tool: ``map`` says which, and
    ``key`` and ``value`` then have its types.

    Example::

        reads = Hash[u32, u64]()
        total = Array[u64](1)

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            reads[current.tgid] += 1

        @iterator("bpf_map_elem", map=reads)
        def add(element):
            value = element.value
            if value is not None:
                total[0] += value

        @iterator("task")
        def show(record):
            task = record.task
            if task:
                print(f"{task.tgid} {task.comm}")
    """
    if (target == "bpf_map_elem") != (map is not None):
        raise TypeError('iterator("bpf_map_elem", map=m) walks the map m; other iterators take no map')
    return Plan((Hook("iter", target, **({} if map is None else {"map": map})),), optional)


def syscall_prog(function: Callable[..., Any]) -> Prog:
    """A program that user space runs (BPF_PROG_TYPE_SYSCALL, 5.14); its argument is a pointer to the context.

    Example::

        @syscall_prog
        def double(context):
            context[1] = context[0] * 2
    """
    return Prog(function, (Hook("syscall", ""),))


def tail_program(plan: Plan | Callable[..., Any]) -> Callable[[Callable[..., Any]], Prog]:
    """A program that others jump to with ``tail_call()``: ``@tail_program(tracepoint("sched:sched_switch"))``.

    The plan says what kind of program it is and what its argument is, which
    must be those of the programs that jump; it is not attached itself.

    Example::

        long = Hash[u32, u64]()

        @tail_program(tracepoint("syscalls:sys_enter_read"))
        def large(call):
            long[current.tgid] += 1

        steps = ProgArray([large])

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            if call.count > 4096:
                tail_call(steps, 0)
    """

    def decorate(function: Callable[..., Any]) -> Prog:
        prog: Prog = plan(function)
        prog.tail = True
        return prog

    return decorate


def first_of(*plans: Plan) -> Plan:
    """An ordered plan: ``@first_of(tp_btf("sched_switch"), raw_tracepoint("sched_switch"))``.

    Example::

        @first_of(tp_btf("sched_process_exec"), raw_tracepoint("sched_process_exec"))
        def executed(task, old_pid, program):
            print(f"{task.comm} started as {task.tgid}")
    """
    hooks = tuple(hook for plan in plans for hook in plan.hooks)
    return Plan(hooks, all(plan.optional for plan in plans))


def _event(name: str) -> str:
    if not name or ":" in name:
        raise TypeError(f'"{name}": a raw tracepoint has no category, only the event\'s name')
    return name
