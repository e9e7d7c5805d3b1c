# SPDX-License-Identifier: Apache-2.0
"""Decorators for the kernel's own functions: on entry, on return, many at once, and security hooks.

Parameters are the function's arguments by position, typed by the kernel's
BTF; an annotation (``buf: User["char"]``) overrides that.  **A parameter
named** ``ret`` **is the return value.**  One body may serve several hooks:
``@first_of(fentry("vfs_read"), kprobe("vfs_read"))``.
"""

from __future__ import annotations

from osmia.lang.options import Option
from osmia.lang.probes import Hook, Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def kprobe(function: Any, *, optional: bool = False) -> Plan:
    """Entry of a kernel function, or an instruction of it: ``"vfs_read"``, ``"module:function"``, ``"vfs_read+8"``.

    At an offset the registers hold no arguments any more: the function then
    takes none, or ``regs`` (the ``struct pt_regs``).  4.1 (without tracefs
    since 4.17).

    Example::

        @kprobe("vfs_open")
        def opened(path, file):
            print(f"{current.comm} opens {kernel_str(path.dentry.d_name.name)}")
    """
    return _plan("kprobe", function, optional)


def kretprobe(function: Any, *, optional: bool = False) -> Plan:
    """Return of a kernel function: ``ret`` only, since the arguments are gone by then (:func:`fexit` keeps them; 4.1).

    Example::

        results = Hash[tuple[u32, s64], u64]()

        @kretprobe("vfs_read")
        def read(ret):
            results[current.tgid, ret] += 1
    """
    _no_offset("kretprobe", function)
    return _plan("kretprobe", function, optional)


def fentry(function: str, *, optional: bool = False) -> Plan:
    """Entry of a kernel function, cheaper than a kprobe, with pointers that are followed directly (BTF; 5.5).

    Example::

        asked = Hash[u32, u64]()

        @fentry("vfs_read")
        def read(file, buf, count):
            asked[current.tgid] += count
    """
    _no_offset("fentry", function)
    return _plan("fentry", function, optional)


def fexit(function: str, *, optional: bool = False) -> Plan:
    """Return of a kernel function with its arguments and ``ret`` (BTF; 5.5).

    Example::

        missing = Hash[u32, u64]()

        @fexit("vfs_read")
        def read(file, buf, count, pos, ret):
            if 0 <= ret < count:
                missing[current.tgid] += count - ret
    """
    _no_offset("fexit", function)
    return _plan("fexit", function, optional)


def fmod_ret(function: str, *, optional: bool = False) -> Plan:
    """Before a function that allows error injection: returning a number other than 0 makes it fail with that (5.7).

    Example::

        EPERM = 1
        pid = option("-p", "--pid", type=int, help="this process may not open anything")

        @fmod_ret("security_file_open")
        def refuse(file):
            return -EPERM if pid and current.tgid == pid else 0
    """
    _no_offset("fmod_ret", function)
    return _plan("fmod_ret", function, optional)


def lsm(hook: str, *, optional: bool = False) -> Plan:
    """A security hook (``"file_open"``): returning ``-EPERM`` forbids the action, 0 allows it (5.7).

    The kernel runs it only if ``bpf`` is among its active security modules
    (``/sys/kernel/security/lsm``).

    Example::

        opens = Hash[u32, u64]()

        @lsm("file_open")
        def allow(file):
            opens[current.tgid] += 1
            return 0
    """
    _no_offset("lsm", hook)
    return _plan("lsm", hook.removeprefix("bpf_lsm_"), optional)


def kprobe_multi(*patterns: Any, optional: bool = False) -> Plan:
    """Entries of many kernel functions with one link (5.18): names or patterns, ``kprobe_multi("vfs_*", "ksys_*")``.

    ``*``, ``?`` and ``[...]`` as in the shell; ``"module:*"`` for a module's.
    ``func_ip()`` says which function it was.  Arguments are untyped numbers
    unless there is one function only, or an annotation says what they are.
    Older kernels get one kprobe per function.

    Example::

        calls = Hash[tuple[u32, u64], u64]()

        @kprobe_multi("vfs_*")
        def called():
            calls[current.tgid, func_ip()] += 1
    """
    return _multi("kprobe_multi", patterns, optional)


def kretprobe_multi(*patterns: Any, optional: bool = False) -> Plan:
    """Returns of many kernel functions with one link (5.18); see :func:`kprobe_multi`.

    Example::

        failures = Hash[tuple[u32, u64], u64]()

        @kretprobe_multi("vfs_read", "vfs_write")
        def returned(ret: s64):
            if ret < 0:
                failures[current.tgid, func_ip()] += 1
    """
    return _multi("kretprobe_multi", patterns, optional)


def _plan(kind: str, function: Any, optional: bool) -> Plan:
    if isinstance(function, Option):
        return Plan((Hook(kind, "", function=function),), optional)
    _check(kind, function)
    return Plan((Hook(kind, function),), optional)


def _multi(kind: str, patterns: tuple[Any, ...], optional: bool) -> Plan:
    if not patterns:
        raise TypeError(f'{kind}() needs the name of a function or a pattern: {kind}("vfs_*")')
    for pattern in patterns:
        if not isinstance(pattern, Option):
            _check(kind, pattern)
    first = patterns[0] if len(patterns) == 1 and isinstance(patterns[0], str) else ""
    return Plan((Hook(kind, first, patterns=patterns),), optional)


def _check(kind: str, function: Any) -> None:
    if not isinstance(function, str) or not function or function.split() != [function]:
        raise TypeError(f'{kind}({function!r}): give the name of a kernel function, as in {kind}("vfs_read")')


def _no_offset(kind: str, function: Any) -> None:
    if isinstance(function, str) and "+" in function:
        plain = function.partition("+")[0]
        raise TypeError(f'{kind}("{function}"): only a kprobe may be inside a function; write {kind}("{plain}")')
