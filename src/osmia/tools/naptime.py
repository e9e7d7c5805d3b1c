# SPDX-License-Identifier: Apache-2.0
"""Trace programs that sleep because they want to: how long, and who started them."""

from __future__ import annotations

import time

from osmia import Col, Hash, Ring, boot_ktime, current, event_table, ktime, option, read_user, tracepoint
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id, current_thread_id, process_id
from osmia.lang.types import Comm, Event, User, s32, s64, u32, u64
from osmia.tools._show import clock

all_calls = option("-a", "--all", help="also show sleeps that a signal ended, or that failed, with the result")
took = option("--took", help="show how long each really took")

TIMER_ABSTIME = 1  # include/uapi/linux/time.h
#: Clocks, the same file; those with an alarm wake up a machine that is suspended.
REALTIME, MONOTONIC, BOOTTIME, REALTIME_ALARM, BOOTTIME_ALARM, TAI = 0, 1, 7, 8, 9, 11
Requested = User["struct __kernel_timespec"]


class Nap(Event):
    """One sleep: ``requested`` is a length, or with TIMER_ABSTIME in ``flags`` a time of ``clock``; in ns.

    It began at ``at`` and lasted until ``ts``; ``suspended`` is what BOOTTIME was ahead by then.
    """

    ts: u64
    at: u64
    suspended: s64
    requested: s64
    pid: u32
    tid: u32
    ppid: u32
    clock: s32
    flags: s32
    ret: s32
    comm: Comm
    pcomm: Comm


class Call(Event):
    """What a thread asked for, until the call returns."""

    at: u64
    suspended: s64
    where: Requested
    requested: s64
    clock: s32
    flags: s32


calls = Hash[u32, Call](16384)  # by thread
naps = Ring(Nap)


def asked(where):
    """The time at a user address, in ns."""
    return read_user(where, s64, 0) * 1_000_000_000 + read_user(where, s64, 1)


def enter(where, which, flags):
    if wanted():
        now = ktime()
        calls[current.pid] = Call(at=now, where=where, requested=asked(where), clock=which, flags=flags,
                                  suspended=boot_ktime() - now)  # fmt: skip


@tracepoint("syscalls:sys_enter_nanosleep")
def enter_nanosleep(call):
    enter(call.rqtp, MONOTONIC, 0)


@tracepoint("syscalls:sys_enter_clock_nanosleep")
def enter_clock_nanosleep(call):
    enter(call.rqtp, call.which_clock, call.flags)


@tracepoint("syscalls:sys_exit_nanosleep", "syscalls:sys_exit_clock_nanosleep")
def leave(exit):
    call = calls.get(current.pid)
    if call is None:
        return
    if all_calls or exit.ret == 0:
        with naps.reserve() as e:
            e.ts, e.at, e.suspended = ktime(), call.at, call.suspended
            # What the program has not touched yet is read by the kernel itself only after the call began.
            e.requested = call.requested if call.requested else asked(call.where)
            e.clock, e.flags, e.ret = call.clock, call.flags, exit.ret
            e.pid, e.tid, e.comm = current_process_id(), current_thread_id(), current.comm
            parent = current.task.real_parent
            e.ppid, e.pcomm = process_id(parent), parent.comm
    del calls[current.pid]


def seconds(e):
    """How long the program wanted to sleep; None for a time of a clock that only the kernel can read."""
    if not e.flags & TIMER_ABSTIME:
        return e.requested / 1e9
    if e.clock in (BOOTTIME, BOOTTIME_ALARM):
        ahead = e.suspended
    elif e.clock in (REALTIME, REALTIME_ALARM):
        ahead = time.time_ns() - time.monotonic_ns()
    elif e.clock == TAI:
        ahead = time.time_ns() - time.monotonic_ns() + time.clock_gettime_ns(time.CLOCK_TAI) - time.clock_gettime_ns(0)
    elif e.clock == MONOTONIC:
        ahead = 0
    else:
        return None
    return max(e.requested - ahead - e.at, 0) / 1e9


def digits(value):
    """Milliseconds as bpftrace has them; microseconds where there would be nothing to see."""
    if value is None:
        return "-"
    return f"{value:.3f}" if value >= 0.001 or not value else f"{value:.6f}"


tool = event_table(
    naps,
    [
        Col("ts", "TIME", 8, show=clock, align="<"),
        Col("ppid", "PPID", 6, align="<"),
        Col("pcomm", "PCOMM", 16),
        Col("pid", "PID", 6, align="<"),
        Col("comm", "COMM", 16),
        Col("seconds", "SECONDS", 9, row=seconds, show=digits, align="<"),
        Col("took", "TOOK", 9, row=lambda e: (e.ts - e.at) / 1e9, show=digits, align="<", when=took),
        Col("ret", "RESULT", align="<", when=all_calls),
    ],
    banner="Tracing sleeps. Hit Ctrl-C to end.",
)
