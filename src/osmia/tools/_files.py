# SPDX-License-Identifier: Apache-2.0
"""Reads and writes by the file behind the descriptor: what filetop, dirtop and fileslower share.

System calls are followed from entry to exit.  The file is looked up at the
entry and may still be looked into at the exit, since the call holds it: what
the last holder gives back is freed by task work, which comes after the exit's
tracepoint (``exit_to_user_mode_loop``, kernel/entry/common.c).
"""

from __future__ import annotations

from osmia.lang.builtins import current, ktime, subprogram
from osmia.lang.filters import wanted
from osmia.lang.maps import Hash
from osmia.lang.options import option
from osmia.lang.probes import tracepoint
from osmia.lang.types import Event, Kernel, s32, u32, u64
from osmia.tools._fd import READS, S_IFMT, S_IFREG, WRITES, file_of, kind_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from osmia.lang.probes import Prog

S_IFSOCK, S_IFIFO = 0o140000, 0o010000  # include/uapi/linux/stat.h
READ, WRITE = 0, 1

#: Set before the load: whether files that are not regular count, whether times matter, and the one kind of call that
#: counts (-1: both).
every = option("every")
timed = option("timed")
only = option("only", type=int, default=-1)
#: filetop's ``-d``: the device of the directory's file system.
device = option("device", type=u32)

FilePtr = Kernel["struct file"]


class Sums(Event):
    """What was read and written.  Bytes are those that were moved, not those asked for."""

    reads: u64
    writes: u64
    rbytes: u64
    wbytes: u64


calls = Hash[u32, tuple[FilePtr, u64]](32768)  # thread -> file and beginning of the read or write under way


@subprogram  # once in the object, for all ten
def begin(kind: s32, fd: u64) -> bool:
    """Follow the call from here on, if it is to be seen."""
    if (only < 0 or kind == only) and wanted():
        file = file_of(fd)
        if file and (every or kind_of(file) == S_IFREG):
            calls[current.pid] = file, ktime() if timed else 0
            return True
    return False


@tracepoint("syscalls:sys_enter_read")
def enter_read(call):
    begin(READ, call.fd)


@tracepoint("syscalls:sys_enter_pread64")
def enter_pread64(call):
    begin(READ, call.fd)


@tracepoint("syscalls:sys_enter_readv")
def enter_readv(call):
    begin(READ, call.fd)


@tracepoint("syscalls:sys_enter_preadv")
def enter_preadv(call):
    begin(READ, call.fd)


@tracepoint("syscalls:sys_enter_preadv2")
def enter_preadv2(call):
    begin(READ, call.fd)


@tracepoint("syscalls:sys_enter_write")
def enter_write(call):
    begin(WRITE, call.fd)


@tracepoint("syscalls:sys_enter_pwrite64")
def enter_pwrite64(call):
    begin(WRITE, call.fd)


@tracepoint("syscalls:sys_enter_writev")
def enter_writev(call):
    begin(WRITE, call.fd)


@tracepoint("syscalls:sys_enter_pwritev")
def enter_pwritev(call):
    begin(WRITE, call.fd)


@tracepoint("syscalls:sys_enter_pwritev2")
def enter_pwritev2(call):
    begin(WRITE, call.fd)


#: What goes with :data:`READS` and :data:`WRITES`.
ENTRIES = (
    enter_read, enter_pread64, enter_readv, enter_preadv, enter_preadv2,
    enter_write, enter_pwrite64, enter_writev, enter_pwritev, enter_pwritev2,
)  # fmt: skip


def leaving(over: Callable[[int, int], None]) -> tuple[Prog, Prog]:
    """The ends of the calls: ``over(kind, ret)``, a function of the kernel half, for each."""

    @tracepoint(*READS)
    def leave_read(call):
        over(READ, call.ret)

    @tracepoint(*WRITES)
    def leave_write(call):
        over(WRITE, call.ret)

    return leave_read, leave_write


def add_to(one, kind, ret):
    """One more call, which returned ``ret``."""
    if kind == READ:
        one.reads += 1
        if ret > 0:
            one.rbytes += ret
    else:
        one.writes += 1
        if ret > 0:
            one.wbytes += ret


COLUMNS = ("all", "reads", "writes", "rbytes", "wbytes")
sort = option("-s", "--sort", type=str, default="all", choices=COLUMNS, metavar="COLUMN",
              help="the largest of this column first (default: all, calls and bytes together)")  # fmt: skip


def order(one: Any) -> int:
    """What entries are ordered by."""
    return int(one.reads + one.writes + one.rbytes + one.wbytes if sort == "all" else getattr(one, str(sort)))


def kilobytes(count: int) -> str:
    return str(count // 1024)


def letter(mode: int) -> str:
    """What kind of file it is, as bcc has it: regular, a socket, or another one."""
    return {S_IFREG: "R", S_IFSOCK: "S"}.get(mode & S_IFMT, "O")


def shown_name(name: str, mode: int, inode: int) -> str:
    """The file's name; pipes and what else has none are called as /proc/PID/fd has it."""
    if name:
        return name
    kind = {S_IFIFO: "pipe", S_IFSOCK: "socket"}.get(mode & S_IFMT, "file")
    return f"{kind}:[{inode}]"


def place_of(path: str) -> tuple[int, int]:
    """A directory as the kernel knows it: the device of its file system and its inode's number; ValueError.

    stat(2) is not asked for the device: btrfs shows one of its own for each
    subvolume there.
    """
    import os

    try:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
    except OSError as err:
        raise ValueError(f"{path} is no directory that can be seen: {err.strerror}") from None
    try:
        with open(f"/proc/self/fdinfo/{fd}") as file:
            mount = next(line.split()[1] for line in file if line.startswith("mnt_id:"))
        with open("/proc/self/mountinfo") as file:
            device = next((words[2] for words in map(str.split, file) if words[0] == mount), "0:0")
        inode = os.fstat(fd).st_ino
    finally:
        os.close(fd)
    major, minor = device.split(":")
    return int(major) << 20 | int(minor), inode
