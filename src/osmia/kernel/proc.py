# SPDX-License-Identifier: Apache-2.0
"""Small facts of the running system: clocks, page size, PID namespace."""

from __future__ import annotations

import os
import struct
import time

_INITIAL = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h, since 3.8


def wall_offset_ns() -> int:
    """Wall clock minus CLOCK_MONOTONIC, ns: add it to bpf_ktime_get_ns() values.

    The best of five readings: the one whose two monotonic reads lie closest.
    """
    best, offset = 1 << 62, 0
    for _ in range(5):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        wall = time.clock_gettime_ns(time.CLOCK_REALTIME)
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        if after - before < best:
            best, offset = after - before, wall - (before + after) // 2
    return offset


def boot_offset_ns() -> int:
    """CLOCK_BOOTTIME minus CLOCK_MONOTONIC, ns: the time spent suspended."""
    monotonic = time.clock_gettime_ns(time.CLOCK_MONOTONIC)  # first, so that the difference is never negative
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - monotonic


def clock_ticks() -> int:
    """USER_HZ: ticks per second of times in /proc."""
    return os.sysconf("SC_CLK_TCK")


def page_size() -> int:
    """Bytes of a page."""
    return os.sysconf("SC_PAGE_SIZE")


def ring_size(size: int) -> int:
    """The smallest valid ring buffer size of at least ``size`` bytes: a power of two of pages."""
    page = page_size()
    pages = max(1, (size + page - 1) // page)
    return int(page << (pages - 1).bit_length())


def pid_namespace() -> tuple[int, int] | None:
    """``(device, inode)`` of our PID namespace, as bpf_get_ns_current_pid_tgid() wants it; None if unreadable."""
    try:
        info = os.stat("/proc/self/ns/pid")
    except OSError:
        return None
    return info.st_dev, info.st_ino


def in_initial_pid_namespace() -> bool | None:
    """Whether PIDs that we see are the kernel's own; None: could not tell."""
    found = pid_namespace()
    return None if found is None else found[1] == _INITIAL


def foreign_pid_namespace() -> int:
    """Inode number of our PID namespace; 0 where it is the initial one, or could not be told."""
    found = pid_namespace()
    return 0 if found is None or found[1] == _INITIAL else found[1]


def kernel_pid() -> int:
    """Our process id as the kernel's own number, which in a nested PID namespace only the kernel can tell.

    A program is run on the spot, in our own context (raw tracepoint programs
    since 5.10).  OSError where that is not possible.
    """
    if not foreign_pid_namespace():
        return os.getpid()
    from osmia.kernel import bpf
    from osmia.obj import consts

    # call get_current_pid_tgid; r0 >>= 32; exit
    code = struct.pack("<BBhiBBhiBBhi", 0x85, 0, 0, consts.BPF_FUNC_get_current_pid_tgid, 0x77, 0, 0, 32, 0x95, 0, 0, 0)
    fd = bpf.prog_load(consts.BPF_PROG_TYPE_RAW_TRACEPOINT, code, "GPL")
    try:
        return bpf.prog_test_run(fd)[0]
    finally:
        os.close(fd)


def adopt(orphans: bool) -> bool:
    """Whether we, and not init, become the parent of descendants whose own has ended (3.4); False if refused."""
    from osmia.kernel import door

    return door.syscall(door.NR_PRCTL, 36, int(orphans), 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER


def sysctl(name: str) -> str | None:
    """Value of a sysctl such as ``kernel.perf_event_paranoid``; None if absent or unreadable."""
    try:
        with open("/proc/sys/" + name.replace(".", "/"), encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def load_averages() -> str:
    """The kernel's load averages over 1, 5 and 15 minutes, and its counts of tasks: the line of ``/proc/loadavg``."""
    try:
        with open("/proc/loadavg", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "unknown"


def mapped_inodes() -> set[int]:
    """Inode numbers of the files that this process has mapped: its interpreter and libraries."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            return {int(line.split(None, 5)[4]) for line in maps} - {0}
    except OSError:
        return set()


#: sysinfo(2) per machine; the others share the generic table.
_SYSINFO = {"x86_64": 99, "s390x": 116, "ppc64le": 116}


def loads() -> tuple[float, float, float]:
    """The load averages over 1, 5 and 15 minutes, with all the digits that the kernel has.

    sysinfo(2) gives its ``avenrun``, which has 11 bits after the point, as 16
    bits after the point (SI_LOAD_SHIFT); ``/proc/loadavg`` rounds it to two
    decimal places.
    """
    from osmia.kernel import door

    info = bytearray(128)  # struct sysinfo, include/uapi/linux/sysinfo.h: uptime, then the three
    code = door.syscall(_SYSINFO.get(door.MACHINE, 179), door.address(info))
    if code < 0:
        raise OSError(-code, os.strerror(-code))
    one, five, fifteen = struct.unpack_from("3L", info, 8)
    return one / 65536, five / 65536, fifteen / 65536
