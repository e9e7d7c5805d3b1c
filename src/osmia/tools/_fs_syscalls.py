# SPDX-License-Identifier: Apache-2.0
"""Kernel half: the beginnings of system calls, for the tools of :mod:`osmia.tools._fs`.

A tool imports them behind the programs at the calls' ends, and so they are attached later: no call is seen
to begin whose end is not.
"""

from __future__ import annotations

from osmia.lang.builtins import current, ktime
from osmia.lang.filters import wanted
from osmia.lang.probes import tracepoint
from osmia.tools._fs import AT_POSITION, FSYNC, OPEN, READ, RWF_APPEND, WRITE, Op, begin, ops


@tracepoint("syscalls:sys_enter_read")
def enter_read(call):
    begin(READ, call.fd, AT_POSITION, 0)


@tracepoint("syscalls:sys_enter_readv")
def enter_readv(call):
    begin(READ, call.fd, AT_POSITION, 0)


@tracepoint("syscalls:sys_enter_pread64")
def enter_pread64(call):
    begin(READ, call.fd, call.pos, 0)


@tracepoint("syscalls:sys_enter_preadv")
def enter_preadv(call):
    begin(READ, call.fd, call.pos_l, 0)


@tracepoint("syscalls:sys_enter_preadv2")
def enter_preadv2(call):
    begin(READ, call.fd, call.pos_l, 0)


@tracepoint("syscalls:sys_enter_write")
def enter_write(call):
    begin(WRITE, call.fd, AT_POSITION, 0)


@tracepoint("syscalls:sys_enter_writev")
def enter_writev(call):
    begin(WRITE, call.fd, AT_POSITION, 0)


@tracepoint("syscalls:sys_enter_pwrite64")
def enter_pwrite64(call):
    begin(WRITE, call.fd, call.pos, 0)


@tracepoint("syscalls:sys_enter_pwritev")
def enter_pwritev(call):
    begin(WRITE, call.fd, call.pos_l, 0)


@tracepoint("syscalls:sys_enter_pwritev2")
def enter_pwritev2(call):
    begin(WRITE, call.fd, call.pos_l, call.flags & RWF_APPEND)


@tracepoint("syscalls:sys_enter_fsync", "syscalls:sys_enter_fdatasync")
def enter_fsync(call):
    begin(FSYNC, call.fd, 0, 0)


@tracepoint("syscalls:sys_enter_openat", "syscalls:sys_enter_open", "syscalls:sys_enter_openat2",
            "syscalls:sys_enter_creat", "syscalls:sys_enter_open_by_handle_at")  # fmt: skip
def enter_open():
    """Which file system it is about turns out when the file is open."""
    if wanted():
        ops[current.pid] = Op(file=0, fd=-1, kind=OPEN, offset=0, start=ktime())


#: Where reads, writes, fsync() and open() begin.
FILE_CALLS = (enter_read, enter_readv, enter_pread64, enter_preadv, enter_preadv2, enter_write, enter_writev,
              enter_pwrite64, enter_pwritev, enter_pwritev2, enter_fsync, enter_open)  # fmt: skip
