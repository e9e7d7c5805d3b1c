# SPDX-License-Identifier: Apache-2.0
"""Kernel half: calls of stat() on one file system, for the tools of :mod:`osmia.tools._fs` that show them.

``fstat()`` has a descriptor.  A file that is named by a path is known when the
call is over, by the device number that the caller is given; which numbers are
the file system's is found out when tracing begins.
"""

from __future__ import annotations

from osmia.lang.builtins import current, ktime, lost, read_user
from osmia.lang.filters import wanted
from osmia.lang.maps import Hash
from osmia.lang.probes import tracepoint
from osmia.lang.templates import before_attach
from osmia.lang.types import Event, User, u8, u32, u64
from osmia.tools._fs import GETATTR, SYSTEMS, begin, magic, mounts

AT_EMPTY_PATH = 0x1000  # include/uapi/linux/fcntl.h
STATX_DEV = 34  # struct statx: stx_dev_major and stx_dev_minor are the 34th u32 and the next

UserStr = User["char"]


class Stat(Event):
    """A call under way that names its file by a path."""

    start: u64
    path: UserStr
    buffer: UserStr
    extended: u32


stats = Hash[u32, Stat](32768)  # by thread
devices = Hash[u32, u8](16384)  # number of a device that was mounted at the start -> whether it is the file system's


@before_attach
def find_devices():
    """Also those of what is never mounted, but has paths in /proc: pipes, sockets, memory, namespaces, others."""
    import os
    from _socket import socket

    other = socket()
    ends = [*os.pipe(), os.memfd_create("osmia"), os.open("/proc/self/ns/mnt", os.O_RDONLY)]
    for fd in (*ends, other.fileno()):
        devices[os.fstat(fd).st_dev] = 0
    for fd in ends:
        os.close(fd)
    other.close()
    for kind, device, _ in mounts():
        devices[device] = any(number == magic.value and kind in kinds for number, kinds in SYSTEMS.values())


@tracepoint("syscalls:sys_enter_newfstat")
def enter_newfstat(call):
    begin(GETATTR, call.fd, 0, 0)


@tracepoint("syscalls:sys_enter_newfstatat")
def enter_newfstatat(call):
    if call.flag & AT_EMPTY_PATH and not read_user(call.filename, u8):
        begin(GETATTR, call.dfd, 0, 0)
    elif wanted():
        stats[current.pid] = Stat(path=call.filename, buffer=call.statbuf, extended=0, start=ktime())


@tracepoint("syscalls:sys_enter_statx")
def enter_statx(call):
    if call.flags & AT_EMPTY_PATH and not read_user(call.filename, u8):
        begin(GETATTR, call.dfd, 0, 0)
    elif wanted():
        stats[current.pid] = Stat(path=call.filename, buffer=call.buffer, extended=1, start=ktime())


@tracepoint("syscalls:sys_enter_newstat", optional=True)  # arm64 has no stat() and lstat()
def enter_newstat(call):
    if wanted():
        stats[current.pid] = Stat(path=call.filename, buffer=call.statbuf, extended=0, start=ktime())


@tracepoint("syscalls:sys_enter_newlstat", optional=True)
def enter_newlstat(call):
    if wanted():
        stats[current.pid] = Stat(path=call.filename, buffer=call.statbuf, extended=0, start=ktime())


#: Where stat() and its relatives begin.
STAT_CALLS = (enter_newfstat, enter_newfstatat, enter_statx, enter_newstat, enter_newlstat)


def is_on_it(stat):
    """Whether the call that is over was about a file of the file system."""
    if stat.extended:
        major, minor = read_user(stat.buffer, u32, STATX_DEV), read_user(stat.buffer, u32, STATX_DEV + 1)
        device = (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12  # include/linux/kdev_t.h: new_encode_dev()
    else:
        device = read_user(stat.buffer, u32)
    known = devices.get(device)
    if known is None:
        lost("calls of stat() on file systems that were not mounted when tracing began")
        return False
    return known == 1
