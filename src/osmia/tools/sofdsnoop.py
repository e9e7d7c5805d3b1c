# SPDX-License-Identifier: Apache-2.0
"""Trace file descriptors that processes pass on to each other through Unix sockets."""

from __future__ import annotations

from osmia import Col, Hash, Ring, cast, current, event_table, ktime, lost, option, read_user, tracepoint
from osmia.kernel.named import thread_number
from osmia.lang.drift import loops_are_long
from osmia.lang.filters import cgroup, name, pid, uid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_is_thread, current_process_id, current_thread_id
from osmia.lang.types import Comm, Event, Str, s32, u32, u64
from osmia.tools._fd import file_of, kind_of, name_of
from osmia.tools._files import S_IFSOCK, shown_name
from osmia.tools._show import elapsed

SEND, RECV = 0, 1
ACTIONS = ("SEND", "RECV")
AF_UNIX = SOL_SOCKET = SCM_RIGHTS = 1  # include/linux/socket.h
# struct user_msghdr, in words of 8 bytes; struct cmsghdr: length (8), level (4), type (4)
MSG_CONTROL, MSG_CONTROLLEN = 4, 5
HEAD = 16
MESSAGES = 8  # that go with one: descriptors, credentials, ...
MOST = 253  # SCM_MAX_FD, include/net/scm.h
FEW = 64  # of them, where the verifier walks through each round

timestamp = option("-T", "--timestamp", help="show the time in seconds since the first row")
tid = option("-t", "--tid", type=int, parse=thread_number, metavar="TID", help="trace this thread only")


class Passed(Event):
    """One descriptor.  Numbers are those of the process whose row it is."""

    ts: u64
    ino: u64
    sock_ino: u64
    pid: u32
    tid: u32
    action: u32
    sock: s32
    fd: s32
    mode: u32
    comm: Comm
    name: Str[256]


calls = Hash[u32, tuple[u64, s32]](32768)  # thread -> address of its message, and the socket, until the call returns
passed = Ring(Passed)


def enter(sock, message):
    if not wanted() or (tid and not current_is_thread(tid)):
        return
    file = file_of(sock)
    if file and kind_of(file) == S_IFSOCK:
        socket = cast(file.private_data, "struct socket")
        if socket.sk.__sk_common.skc_family == AF_UNIX:
            calls[current.pid] = message, sock


def number(address, kind):
    """What is at a user address."""
    return read_user(cast(address, "char", user=True), kind)


def leave(action, ret):
    """The kernel has read the message, or filled it in, so that it is in memory now."""
    one = calls.pop(current.pid)
    if one is None or ret < 0:
        return
    message, sock = one
    at = number(message + 8 * MSG_CONTROL, u64)
    end = at + number(message + 8 * MSG_CONTROLLEN, u64)
    for _ in range(MESSAGES):
        if at + HEAD > end:
            break
        length = number(at, u64)
        if length < HEAD or at + length > end:
            break
        if number(at + 8, u32) == SOL_SOCKET and number(at + 12, u32) == SCM_RIGHTS:
            show(action, sock, at + HEAD, (length - HEAD) // 4)
            break
        at += (length + 7) // 8 * 8


def show(action, sock, numbers, count):
    socket = file_of(sock)
    for i in range(MOST):
        if i >= count:
            break
        if i >= FEW and not loops_are_long():
            lost("descriptors, of which there were more than 64 in a message", count - FEW)
            break
        fd = number(numbers + 4 * i, s32)
        with passed.reserve() as e:
            e.ts, e.action, e.sock, e.fd, e.comm = ktime(), action, sock, fd, current.comm
            e.pid, e.tid = current_process_id(), current_thread_id()
            file = file_of(fd)
            e.sock_ino, e.ino, e.mode = socket.f_inode.i_ino, file.f_inode.i_ino, file.f_inode.i_mode
            e.name = name_of(file)


@tracepoint("syscalls:sys_enter_sendmsg")
def enter_sendmsg(call):
    enter(call.fd, call.msg)


@tracepoint("syscalls:sys_enter_recvmsg")
def enter_recvmsg(call):
    enter(call.fd, call.msg)


@tracepoint("syscalls:sys_exit_sendmsg")
def leave_sendmsg(exit):
    leave(SEND, exit.ret)


@tracepoint("syscalls:sys_exit_recvmsg")
def leave_recvmsg(exit):
    leave(RECV, exit.ret)


def path(e):
    """The file's path, if the process still has it open; else what the kernel calls it."""
    import os

    place = f"/proc/{e.tid}/fd/{e.fd}"
    try:
        if os.stat(place).st_ino == e.ino:
            return os.readlink(place)
    except OSError:
        pass
    return shown_name("" if e.mode & S_IFSOCK == S_IFSOCK else e.name, e.mode, e.ino)


tool = event_table(
    passed,
    [
        Col("ts", "TIME(s)", 14, show=elapsed(9, from_first=True), when=timestamp, align="<"),
        Col("what", "ACTION", 6, row=lambda e: ACTIONS[e.action]),
        Col("tid", "TID", 6, align="<"),
        Col("comm", "COMM", 16),
        Col("socket", "SOCKET", 25, row=lambda e: f"{e.sock}:socket:[{e.sock_ino}]"),
        Col("fd", "FD", 5, align="<"),
        Col("file", "NAME", row=path),
    ],
)
