# SPDX-License-Identifier: Apache-2.0
"""Trace stat() system calls: which files programs look for, and whether they are there."""

from __future__ import annotations

from osmia import Col, Hash, Ring, current, event_table, exists, ktime, option, read_user, tracepoint
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.lang.types import Comm, Event, Path, User, s32, u8, u32, u64
from osmia.tools._fd import file_of
from osmia.tools._paths import AT_FDCWD, add_names, add_path
from osmia.tools._show import elapsed

NEWSTAT, NEWLSTAT, NEWFSTATAT, STATX, STATFS = range(5)
NAMES = ("newstat", "newlstat", "newfstatat", "statx", "statfs")

timestamp = option("-t", "--timestamp", help="show the time in seconds since the first row")
sysname = option("-s", "--sysname", help="show the name of the system call")
failed = option("-x", "--failed", help="show failed calls only")

UserStr = User["char"]


class Stat(Event):
    """One look at a file.  ``err`` is the errno where it failed."""

    ts: u64
    pid: u32
    tid: u32
    err: s32
    call: u32
    comm: Comm
    path: Path[8192, 4096]


calls = Hash[u32, tuple[UserStr, s32, u32]](32768)  # thread -> path, directory and which call, until it returns
stats = Ring(Stat)


def enter(call, directory, path):
    if wanted():
        calls[current.pid] = path, directory, call


@tracepoint("syscalls:sys_enter_newstat", optional=True)  # arm64 has neither this one nor the next one
def enter_newstat(call):
    enter(NEWSTAT, AT_FDCWD, call.filename)


@tracepoint("syscalls:sys_enter_newlstat", optional=True)
def enter_newlstat(call):
    enter(NEWLSTAT, AT_FDCWD, call.filename)


@tracepoint("syscalls:sys_enter_newfstatat")
def enter_newfstatat(call):
    enter(NEWFSTATAT, call.dfd, call.filename)


@tracepoint("syscalls:sys_enter_statx")
def enter_statx(call):
    enter(STATX, call.dfd, call.filename)


@tracepoint("syscalls:sys_enter_statfs")
def enter_statfs(call):
    enter(STATFS, AT_FDCWD, call.pathname)


@tracepoint(
    "syscalls:sys_exit_newfstatat", "syscalls:sys_exit_statx", "syscalls:sys_exit_statfs", "syscalls:sys_exit_newstat",
    "syscalls:sys_exit_newlstat",
)  # fmt: skip
def leave(exit):
    """Only now has the kernel itself touched the name, so it can be read."""
    one = calls.pop(current.pid)
    if one is None or (failed and exit.ret >= 0):
        return
    path, directory, call = one
    with stats.reserve() as e:
        e.ts, e.call, e.comm = ktime(), call, current.comm
        e.pid, e.tid = current_process_id(), current_thread_id()
        e.err = -exit.ret if exit.ret < 0 else 0
        if call >= NEWFSTATAT and directory >= 0 and read_user(path, u8) == 0 and exists("struct task_struct"):
            file = file_of(directory)  # AT_EMPTY_PATH: the open file itself, as fstat() asks for it
            if file:
                add_names(e.path, file.f_path)
        else:
            add_path(e.path, directory, path)


tool = event_table(
    stats,
    [
        Col("ts", "TIME(s)", 14, show=elapsed(9, from_first=True), when=timestamp, align="<"),
        Col("pid", "PID", 7, align="<"),
        Col("comm", "COMM", 16),
        Col("fd", "FD", 4, row=lambda e: -1 if e.err else 0, align=">"),
        Col("err", "ERR", 3),
        Col("sysname", "SYSCALL", 12, row=lambda e: NAMES[e.call], when=sysname),
        Col("path", "PATH"),
    ],
)
