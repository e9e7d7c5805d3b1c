# SPDX-License-Identifier: Apache-2.0
"""What kernel code may call: the current task, clocks, memory, kernel types.

The compiler knows these objects by identity and turns them into helper
calls.  In ordinary Python they work on a simulated machine
(:data:`machine`), so that kernel functions can be unit-tested and debugged.
"""

from __future__ import annotations

from osmia.lang.types import zero

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Machine:
    """The simulated machine that kernel functions see when they run as Python; set its fields in tests.

    Example::

        reads = Hash[u32, u64]()

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            reads[current.tgid] += 1

        def test_a_read_is_counted():
            machine.tgid = 181
            read(None)  # as plain Python
            assert reads[181] == 1
    """

    def __init__(self) -> None:
        self.ktime = 0
        self.boot_ktime = 0
        self.cpu = 0
        self.random: Callable[[], int] = lambda: 4
        self.memory: dict[int, Any] = {}
        self.lost: dict[str, int] = {}
        self.tgid = 1
        self.pid = 1
        self.comm = "python"
        self.uid = 0
        self.gid = 0
        self.cgroup_id = 1
        self.task: Any = None
        self.func_ip = 0
        self.kernel_stack: list[int] = []
        self.user_stack: list[int] = []
        self.counters: dict[str, int] = {}
        self.printk: list[str] = []
        self.attach_cookie = 0


machine = Machine()


def _of_the_machine(name: str) -> Any:
    return property(lambda _: getattr(machine, name))


class Current:
    """The task that is running when the probe fires.

    ``tgid`` (people's PID), ``pid`` (people's TID), ``comm``, ``uid``,
    ``gid`` (in the initial user namespace), ``cgroup_id`` (cgroup v2; 4.18)
    and ``task``, the ``task_struct`` itself.

    Example::

        reads = Hash[tuple[u32, u32, Comm], u64]()

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            reads[current.tgid, current.uid, current.comm] += 1
    """

    tgid = _of_the_machine("tgid")
    pid = _of_the_machine("pid")
    comm = _of_the_machine("comm")
    uid = _of_the_machine("uid")
    gid = _of_the_machine("gid")
    cgroup_id = _of_the_machine("cgroup_id")
    task = _of_the_machine("task")


current = Current()


class Builtin:
    """A function that the compiler expands itself; ``python`` is what it does on the simulated machine."""

    def __init__(self, python: Callable[..., Any]) -> None:
        self.name = python.__name__
        self.python = python
        self.__doc__ = python.__doc__

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self.python(*args, **named)

    def __repr__(self) -> str:
        return f"<built-in {self.name}>"


BUILTINS: dict[str, Builtin] = {}


def _builtin(function: Callable[..., Any]) -> Any:
    made = BUILTINS[function.__name__] = Builtin(function)
    return made


@_builtin
def ktime() -> int:
    """Nanoseconds since boot, without suspend (CLOCK_MONOTONIC): bpf_ktime_get_ns, 4.1.

    Example::

        since = Hash[u32, u64]()
        took = log2_hist("nsecs")

        @tracepoint("syscalls:sys_enter_read")
        def enter(call):
            since[current.pid] = ktime()

        @tracepoint("syscalls:sys_exit_read")
        def leave(call):
            start = since.pop(current.pid)
            if start is not None:
                took.add(ktime() - start)
    """
    return machine.ktime


@_builtin
def boot_ktime() -> int:
    """Nanoseconds since boot, suspend included (CLOCK_BOOTTIME): bpf_ktime_get_boot_ns, 5.8.

    Example::

        started = Hash[u32, u64]()

        @tracepoint("sched:sched_process_exec")
        def executed(record):
            started[current.tgid] = boot_ktime()
    """
    return machine.boot_ktime


@_builtin
def cpu() -> int:
    """Number of the CPU that the probe runs on.

    Example::

        runs = Hash[tuple[u32, u32], u64]()

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            runs[current.tgid, cpu()] += 1
    """
    return machine.cpu


@_builtin
def random() -> int:
    """A pseudo-random u32: bpf_get_prandom_u32, 4.1.

    Example::

        seen = Array[u64](2)

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            seen[0] += 1
            if random() % 4 == 0:  # one in four
                seen[1] += 1
    """
    return machine.random() & 0xFFFFFFFF


@_builtin
def user_str(pointer: Any, size: int = 256) -> str:
    """The string at a user address, up to ``size`` - 1 bytes (a constant); empty where it cannot be read (5.5).

    Example::

        @tracepoint("syscalls:sys_enter_chdir")
        def enter(call):
            print(f"{current.tgid} changes to {user_str(call.filename, 64)}")
    """
    return _memory_text(pointer, size)


@_builtin
def kernel_str(pointer: Any, size: int = 64) -> str:
    """The string at a kernel address, up to ``size`` - 1 bytes (a constant); empty where it cannot be read (5.5).

    Example::

        @raw_tracepoint("sched_process_exec")
        def executed(task, old_pid, program):
            print(f"{task.tgid} runs {kernel_str(program.filename)}")
    """
    return _memory_text(pointer, size)


@_builtin
def read_user(pointer: Any, kind: Any, index: int = 0) -> Any:
    """The ``kind`` (an integer type) at a user address, or at element ``index`` of an array there; 0 on a fault.

    Example::

        asked = Hash[u32, u64]()

        @tracepoint("syscalls:sys_enter_clock_nanosleep")
        def enter(call):
            asked[current.tgid] = read_user(call.rqtp, u64, 1)  # of struct timespec: seconds, nanoseconds
    """
    return machine.memory.get(int(pointer) + index * kind.size, zero(kind))


@_builtin
def read_kernel(pointer: Any, kind: Any, index: int = 0) -> Any:
    """The ``kind`` (an integer type) at a kernel address; 0 on a fault.

    Example::

        @raw_tracepoint("sched_process_exec")
        def executed(task, old_pid, program):
            if read_kernel(program.filename, u8) == ord("/"):
                print(f"{task.tgid} has an absolute path")
    """
    return machine.memory.get(int(pointer) + index * kind.size, zero(kind))


@_builtin
def cast(pointer: Any, kind: Any) -> Any:
    """``pointer`` as a pointer to the kernel structure ``kind``: ``"struct mount"`` or a flavour class.

    ``cast(p, "struct x", user=True)`` for a user address.

    Example::

        @tracepoint("syscalls:sys_enter_clock_nanosleep")
        def enter(call):
            wanted = cast(call.rqtp, "struct __kernel_timespec", user=True)
            print(f"{current.tgid} sleeps {wanted.tv_sec} s and {wanted.tv_nsec} ns")
    """
    return pointer


@_builtin
def container_of(pointer: Any, kind: str, member: str) -> Any:
    """The structure ``kind`` (``"struct mount"``) whose field ``member`` is at ``pointer``.

    Example::

        @tracepoint("sched:sched_process_exec")
        def executed(record):
            task = container_of(current.task.se, "struct task_struct", "se")
            print(f"{task.tgid} is {current.tgid}")
    """
    return pointer


@_builtin
def exists(field: Any) -> bool:
    """Whether this kernel has the field (``exists(task.__state)``) or type (``exists("struct folio")``).

    Example::

        @tracepoint("sched:sched_process_exec")
        def executed(record):
            if exists("struct folio"):
                print("this kernel has folios")
    """
    return field is not None


@_builtin
def sizeof(kind: Any) -> int:
    """Size in bytes, on the target kernel, of a structure (``"struct sock"``) or of a field (``task.comm``).

    Example::

        @tracepoint("sched:sched_process_exec")
        def executed(record):
            print(f"{current.tgid}: a name has {sizeof(current.task.comm)} bytes")
    """
    from osmia.lang.types import size_align

    return size_align(kind)[0]


@_builtin
def enum_value(enum: str, enumerator: str) -> int:
    """Value of an enumerator on the target kernel: ``enum_value("bpf_func_id", "BPF_FUNC_loop")``.

    Example::

        @tracepoint("sched:sched_process_exec")
        def executed(record):
            print(f"{current.tgid}: the helper has number {enum_value('bpf_func_id', 'BPF_FUNC_ktime_get_ns')}")
    """
    raise NotImplementedError("enum_value() has no meaning on the simulated machine; patch it in the test")


@_builtin
def enum_exists(enum: str, enumerator: str) -> bool:
    """Whether the target kernel has the enumerator; the simulated machine is a new one and has them all.

    Example::

        @tracepoint("sched:sched_process_exec")
        def executed(record):
            if enum_exists("bpf_func_id", "BPF_FUNC_map_lookup_elem"):
                print(f"{current.tgid} runs on a kernel with maps")
    """
    return True


@_builtin
def cgroup_under(path_id: int) -> bool:
    """Whether the current task is in the cgroup with id ``path_id`` or below it (cgroup v2; 5.7).

    Example::

        ROOT = 1  # the id of the topmost cgroup
        tasks = Hash[u32, u64]()

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            if cgroup_under(ROOT):
                tasks[current.tgid] += 1
    """
    return machine.cgroup_id == path_id


@_builtin
def fls(value: int) -> int:
    """Position of the highest set bit, from 1; 0 for 0 (``int.bit_length`` of a u64).

    Example::

        lengths = Hash[tuple[u32, u32], u64]()

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            lengths[current.tgid, fls(call.count)] += 1  # 13: from 4096 to 8191 bytes
    """
    return (value & ((1 << 64) - 1)).bit_length()


@_builtin
def func_ip() -> int:
    """Kernel address of the function that the probe is on: bpf_get_func_ip, 5.15.

    Before that it is known at a kprobe (x86-64 and arm64), and 0 elsewhere.
    :func:`osmia.kernel.kallsyms.symbol` gives its name on the user side.

    Example::

        calls = Hash[tuple[u32, u64], u64]()

        @kprobe_multi("vfs_read", "vfs_write")
        def called():
            calls[current.tgid, func_ip()] += 1
    """
    return machine.func_ip


@_builtin
def attach_cookie() -> int:
    """The number given to this attachment: bpf_get_attach_cookie, 5.15; 0 where the kernel has none.

    For ``kprobe_multi`` it is the function's position in the list of functions that the link reports.

    Example::

        calls = Hash[tuple[u32, u64], u64]()

        @uprobe("c:getenv", "c:setenv")
        def called():
            calls[current.tgid, attach_cookie()] += 1  # 0: called.names[0]
    """
    return machine.attach_cookie


@_builtin
def lost(why: str, n: int = 1) -> None:
    """Count something that could not be recorded; shown at the end under the constant text ``why``.

    Example::

        begun = Hash[u32, u64]()

        @tracepoint("syscalls:sys_exit_read")
        def leave(call):
            if begun.pop(current.pid) is None:
                lost("the beginning of a read")
    """
    machine.lost[why] = machine.lost.get(why, 0) + n


@_builtin
def trace_printk(*values: Any) -> None:
    """Write a line to the kernel's trace pipe: ``trace_printk(f"{pid} opened {name}")``: bpf_trace_printk, 4.1.

    For debugging, and where others read the pipe: it is one for the whole
    machine, slow, and drops lines under load.  ``print()`` is the better way.
    Up to three values (12 from 5.16 on); before 5.13 one text among them,
    no percent sign and no ``{x:X}``: a program that wants more is refused
    there.  ``{x:x}`` for hexadecimal.  Behind a text comes a space or a
    sign.  :class:`osmia.kernel.trace_pipe.TracePipe`
    reads it, raw or as fields.

    Example::

        @tracepoint("sched:sched_process_exec")
        def executed(record):
            trace_printk(f"{current.comm} runs as {current.pid}")
    """
    machine.printk.append(" ".join(map(str, values)))


@_builtin
def tail_call(array: Any, index: int) -> None:
    """Jump to program ``index`` of a :class:`osmia.ProgArray` and do not come back: bpf_tail_call, 4.2.

    Goes on behind the call where there is no such program.

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
    array.jump(index)


def _memory_text(pointer: Any, size: int) -> str:
    if isinstance(pointer, str):
        text = pointer
    else:
        text = machine.memory.get(int(pointer), "")
    return text.encode("utf-8", "surrogateescape")[: size - 1].decode("utf-8", "surrogateescape")


def subprogram(function: Callable[..., Any] | None = None, *, when: Any = None) -> Callable[..., Any]:
    """Mark a helper function to become a BPF subprogram (4.16), instead of being inlined where it is called.

    With ``when``, an option, it is left out of runs without that option, and
    must not be called in them: what is rarely wanted costs no start then.

    Example::

        squares = Hash[u32, u64]()

        @subprogram
        def square(n: u64) -> u64:
            return n * n

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            squares[current.tgid] = square(call.count)
    """
    if function is None:
        return lambda function: subprogram(function, when=when)
    _subprograms[function] = when
    return function


_subprograms: dict[Any, Any] = {}


def is_subprogram(function: Any) -> bool:
    """Whether :func:`subprogram` marked it."""
    return function in _subprograms


def condition_of(function: Any) -> Any:
    """The option without which the subprogram is left out; None where there is no condition."""
    return _subprograms.get(function)


def conditions() -> list[Any]:
    """All options without which some subprogram of the modules that are loaded is left out, each once."""
    return list({id(one): one for one in _subprograms.values() if one is not None}.values())
