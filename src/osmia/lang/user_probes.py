# SPDX-License-Identifier: Apache-2.0
"""Decorators for functions and static probes of user programs."""

from __future__ import annotations

from osmia.lang.options import Option
from osmia.lang.probes import Hook, Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Beginning of the name of the map that tells a program where its static probes keep their arguments (the program's
#: name follows), and how many places it has unless the user side asks for another number.
USDT_MAP, USDT_PLACES = "osmia_usdt", 256


def uprobe(target: Any, *more: str, optional: bool = False) -> Plan:
    """Entry of functions in a program or library: ``uprobe("c:malloc")``, ``uprobe("/usr/bin/bash:readline")``.

    ``FILE:FUNCTION``: the file is a path, a library's short name (``c``,
    ``libssl``), or a program on PATH; left out with ``-p PID`` it is that
    process's program.  The function may be a shell pattern (``"c:str*"``,
    any number), have a version (``memcpy@GLIBC_2.2.5``) or an offset
    (``main+4``, a warning), or be an address as ``objdump`` shows it.

    Parameters are the function's arguments by position, u64 unless annotated:
    ``def enter(size: u64, name: User["char"])``.  Memory is read as it is: a
    text that the program has not touched yet (it is still on disk) reads as
    empty.  ``attach_cookie()`` is the
    position in the link's ``names`` of the function that was called.  Every
    process is traced, also those that start later; with the tool's ``-p``
    only that one.  4.17; one link for any number since 6.6.

    Example::

        @uprobe("c:getenv")
        def asked(name: User["char"]):
            print(f"{current.tgid} asks for {user_str(name)}")
    """
    return _plan("uprobe", target, more, optional)


def uretprobe(target: Any, *more: str, optional: bool = False) -> Plan:
    """Return of functions in a program or library; the only parameter is ``ret`` (4.17).  See :func:`uprobe`.

    Not for Go programs: they move their stacks, and crash when a return
    address on it is not their own.

    Example::

        slept = Hash[tuple[u32, s32], u64]()

        @uretprobe("c:usleep")
        def woken(ret: s32):
            slept[current.tgid, ret] += 1
    """
    return _plan("uretprobe", target, more, optional)


def usdt(target: Any, *more: str, optional: bool = False) -> Plan:
    """Static probes of user programs: ``usdt("python3.11:python:gc__start")``, ``usdt("c:libc:memory_*")``.

    ``FILE:PROVIDER:NAME`` or ``FILE:NAME``, the file as in :func:`uprobe`.
    Parameters are the probe's arguments by position, with the size and sign
    that the program gave them (s64); an annotation overrides the sign and
    says what a pointer points to.  Semaphores are taken care of, for
    processes that start later too.  With ``-p PID``, probes that the process
    registered at run time are found as well.  4.17, where the program has a
    semaphore 4.20.

    Example::

        collections = Hash[tuple[u32, s32], u64]()

        @usdt("/usr/bin/python3:python:gc__start")
        def start(generation: s32):
            collections[current.tgid, generation] += 1
    """
    return _plan("usdt", target, more, optional)


def _plan(kind: str, target: Any, more: tuple[str, ...], optional: bool) -> Plan:
    if isinstance(target, Option):
        return Plan((Hook(kind, "", where=target),), optional)
    for one in (target, *more):
        file, colon, name = one.rpartition(":") if isinstance(one, str) else ("", "", "")
        if not colon or not name or one.split() != [one]:
            form = "FILE:PROVIDER:NAME" if kind == "usdt" else "FILE:FUNCTION"
            example = "python3:python:gc__start" if kind == "usdt" else "c:malloc"
            raise TypeError(f'{kind}({one!r}): write {form}, as in {kind}("{example}")')
        del file
    return Plan((Hook(kind, target, *more),), optional)
