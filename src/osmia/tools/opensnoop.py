# SPDX-License-Identifier: Apache-2.0
"""Trace open() system calls, with the absolute path of every file."""

from __future__ import annotations

from osmia import Col, Hash, Ring, cast, current, event_table, exists, ktime, option, tracepoint
from osmia.kernel.named import thread_number, user_number
from osmia.lang.filters import cgroup, name, pid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_is_thread, current_process_id, current_thread_id
from osmia.lang.types import Comm, Event, Path, User, s32, u16, u32, u64
from osmia.tools._paths import AT_FDCWD, add_path
from osmia.tools._pinned import cgroupmap, mntnsmap  # noqa: F401 - options
from osmia.tools._show import elapsed

MODES = {"O_RDONLY": 1 << 32, "O_WRONLY": 1 << 33, "O_RDWR": 1 << 34}  # bit 32 + the access mode
O_CREAT, O_ACCMODE, O_TMPFILE = 0o100, 3, 0o20000000  # include/uapi/asm-generic/fcntl.h; O_TMPFILE without O_DIRECTORY


def flag_bits(word):
    """What ``-f`` asks for, joined with what it asked for before: flags, and access modes from bit 32 up."""
    import os

    bits = MODES.get(word) or (getattr(os, word, 0) if word.startswith("O_") else 0)
    if not bits:
        raise ValueError(f"there is no flag {word!r}: it is spelled as in open(2), O_WRONLY for example")
    return flags.value | bits


timestamp = option("-T", "--timestamp", help="show the time in seconds since the first row")
print_uid = option("-U", "--print-uid", help="show the user's id")
failed = option("-x", "--failed", help="show failed opens only")
tid = option("-t", "--tid", type=int, parse=thread_number, metavar="TID", help="trace this thread only")
uid = option("-u", "--uid", type=int, default=-1, parse=user_number, metavar="USER", help="this user only (name or id)")
extended = option("-e", "--extended_fields", help="show the flags and the mode")
flags = option("-f", "--flag_filter", type=int, parse=flag_bits, metavar="FLAG",
               help="show opens with this flag only (O_WRONLY, ...); may be given more than once")  # fmt: skip
full = option("-F", "--full-path", help="accepted for bcc's sake: full paths are always shown")


UserStr = User["char"]


class Call(Event):
    """What a thread asked for, until the call returns."""

    path: UserStr
    how: u64  # address of a struct open_how, or 0
    directory: s32
    flags: u32
    mode: u32


class Open(Event):
    """One open.  ``fd`` is -1 and ``err`` the errno where it failed."""

    ts: u64
    pid: u32
    tid: u32
    uid: u32
    fd: s32
    err: s32
    flags: u32
    mode: u16
    comm: Comm
    path: Path[8192, 4096]


calls = Hash[u32, Call]()  # by thread
opens = Ring(Open)


def enter(path, directory, flags, mode, how):
    if wanted() and (not tid or current_is_thread(tid)) and (uid < 0 or current.uid == uid):
        calls[current.pid] = Call(path=path, directory=directory, flags=flags, mode=mode, how=how)


@tracepoint("syscalls:sys_enter_open", optional=True)  # arm64 has no open()
def enter_open(call):
    enter(call.filename, AT_FDCWD, call.flags, call.mode, 0)


@tracepoint("syscalls:sys_enter_openat")
def enter_openat(call):
    enter(call.filename, call.dfd, call.flags, call.mode, 0)


@tracepoint("syscalls:sys_enter_openat2", optional=True)  # 5.6
def enter_openat2(call):
    enter(call.filename, call.dfd, 0, 0, call.how)


@tracepoint("syscalls:sys_exit_openat", "syscalls:sys_exit_openat2", "syscalls:sys_exit_open")
def leave(exit):
    """Send the event: only now has the kernel itself touched the name and the structure, so they can be read."""
    call = calls.get(current.pid)
    if call is not None:
        if exit.ret < 0 or not failed:
            send(call, exit.ret)
        del calls[current.pid]


def send(call, ret):
    opening, mode = call.flags, call.mode
    if call.how and exists("struct open_how"):
        how = cast(call.how, "struct open_how", user=True)
        opening, mode = how.flags, how.mode
    if flags and not flags & (opening & ~O_ACCMODE | 1 << (32 + (opening & O_ACCMODE))):
        return
    with opens.reserve() as e:
        e.ts, e.uid, e.comm = ktime(), current.uid, current.comm
        e.pid, e.tid = current_process_id(), current_thread_id()
        e.fd, e.err = (ret, 0) if ret >= 0 else (-1, -ret)
        e.flags, e.mode = opening, mode
        add_path(e.path, call.directory, call.path)


def show_mode(e):
    """The mode, which open(2) ignores unless it creates a file."""
    return f"{e.mode:04o}" if e.mode or e.flags & (O_CREAT | O_TMPFILE) else "n/a"


tool = event_table(
    opens,
    [
        Col("ts", "TIME(s)", 14, show=elapsed(9, from_first=True), when=timestamp, align="<"),
        Col("uid", "UID", 6, when=print_uid, align="<"),
        Col("pid", "PID", 6, when=lambda: not tid, align="<"),
        Col("tid", "TID", 6, when=tid, align="<"),
        Col("comm", "COMM", 16),
        Col("fd", "FD", 4),
        Col("err", "ERR", 3),
        Col("flags", "FLAGS", 8, show="{:08o}".format, when=extended),
        Col("mode", "MODE", 4, row=show_mode, when=extended),
        Col("path", "PATH"),
    ],
)
