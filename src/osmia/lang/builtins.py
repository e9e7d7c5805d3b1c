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
    """The simulated machine that kernel functions see when they run as Python; set its fields in tests."""

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


machine = Machine()


class Current:
    """The task that is running when the probe fires.

    ``tgid`` (people's PID), ``pid`` (people's TID), ``comm``, ``uid``,
    ``gid`` (in the initial user namespace), ``cgroup_id`` (cgroup v2; 4.18)
    and ``task``, the ``task_struct`` itself.
    """

    @property
    def tgid(self) -> Any:
        return machine.tgid

    @property
    def pid(self) -> Any:
        return machine.pid

    @property
    def comm(self) -> Any:
        return machine.comm

    @property
    def uid(self) -> Any:
        return machine.uid

    @property
    def gid(self) -> Any:
        return machine.gid

    @property
    def cgroup_id(self) -> Any:
        return machine.cgroup_id

    @property
    def task(self) -> Any:
        return machine.task


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
    """Nanoseconds since boot, without suspend (CLOCK_MONOTONIC): bpf_ktime_get_ns, 4.1."""
    return machine.ktime


@_builtin
def boot_ktime() -> int:
    """Nanoseconds since boot, suspend included (CLOCK_BOOTTIME): bpf_ktime_get_boot_ns, 5.8."""
    return machine.boot_ktime


@_builtin
def cpu() -> int:
    """Number of the CPU that the probe runs on."""
    return machine.cpu


@_builtin
def random() -> int:
    """A pseudo-random u32: bpf_get_prandom_u32, 4.1."""
    return machine.random() & 0xFFFFFFFF


@_builtin
def user_str(pointer: Any, size: int = 256) -> str:
    """The string at a user address, up to ``size`` - 1 bytes (a constant); empty where it cannot be read (5.5)."""
    return _memory_text(pointer, size)


@_builtin
def kernel_str(pointer: Any, size: int = 64) -> str:
    """The string at a kernel address, up to ``size`` - 1 bytes (a constant); empty where it cannot be read (5.5)."""
    return _memory_text(pointer, size)


@_builtin
def read_user(pointer: Any, kind: Any, index: int = 0) -> Any:
    """The ``kind`` (an integer type) at a user address, or at element ``index`` of an array there; 0 on a fault."""
    return machine.memory.get(int(pointer) + index * kind.size, zero(kind))


@_builtin
def read_kernel(pointer: Any, kind: Any, index: int = 0) -> Any:
    """The ``kind`` (an integer type) at a kernel address; 0 on a fault."""
    return machine.memory.get(int(pointer) + index * kind.size, zero(kind))


@_builtin
def cast(pointer: Any, kind: Any) -> Any:
    """``pointer`` as a pointer to the kernel structure ``kind``: ``"struct mount"`` or a flavour class.

    ``cast(p, "struct x", user=True)`` for a user address.
    """
    return pointer


@_builtin
def container_of(pointer: Any, kind: str, member: str) -> Any:
    """The structure ``kind`` (``"struct mount"``) whose field ``member`` is at ``pointer``."""
    return pointer


@_builtin
def exists(field: Any) -> bool:
    """Whether this kernel has the field (``exists(task.__state)``) or type (``exists("struct folio")``)."""
    return field is not None


@_builtin
def sizeof(kind: Any) -> int:
    """Size in bytes, on the target kernel, of a structure (``"struct sock"``) or of a field (``task.comm``)."""
    from osmia.lang.types import size_align

    return size_align(kind)[0]


@_builtin
def enum_value(enum: str, enumerator: str) -> int:
    """Value of an enumerator on the target kernel: ``enum_value("bpf_func_id", "BPF_FUNC_loop")``."""
    raise NotImplementedError("enum_value() has no meaning on the simulated machine; patch it in the test")


@_builtin
def enum_exists(enum: str, enumerator: str) -> bool:
    """Whether the target kernel has the enumerator."""
    raise NotImplementedError("enum_exists() has no meaning on the simulated machine; patch it in the test")


@_builtin
def cgroup_under(path_id: int) -> bool:
    """Whether the current task is in the cgroup with id ``path_id`` or below it (cgroup v2; 5.7)."""
    return machine.cgroup_id == path_id


@_builtin
def fls(value: int) -> int:
    """Position of the highest set bit, from 1; 0 for 0 (``int.bit_length`` of a u64)."""
    return (value & ((1 << 64) - 1)).bit_length()


@_builtin
def lost(why: str, n: int = 1) -> None:
    """Count something that could not be recorded; shown at the end under the constant text ``why``."""
    machine.lost[why] = machine.lost.get(why, 0) + n


def _memory_text(pointer: Any, size: int) -> str:
    if isinstance(pointer, str):
        text = pointer
    else:
        text = machine.memory.get(int(pointer), "")
    return text.encode("utf-8", "surrogateescape")[: size - 1].decode("utf-8", "surrogateescape")


def subprogram(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a helper function to become a BPF subprogram (4.16), instead of being inlined where it is called."""
    _subprograms.append(function)
    return function


_subprograms: list[Any] = []


def is_subprogram(function: Any) -> bool:
    """Whether :func:`subprogram` marked it."""
    return any(function is one for one in _subprograms)
