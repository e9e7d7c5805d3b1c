# SPDX-License-Identifier: Apache-2.0
"""Trace signals sent with the kill() system call."""

from __future__ import annotations

from osmia import Col, Hash, Ring, current, event_table, ktime, option, tracepoint
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.lang.types import Comm, Event, s32, u32, u64
from osmia.tools._show import clock
from osmia.tools._signals import signal_mask

failed = option("-x", "--failed", help="show failed calls only")
tpid = option("-T", "--tpid", type=int, metavar="PID", help="show signals to this process only")
signals = option("-s", "--signal", type=u64, parse=signal_mask, metavar="SIGNALS",
                 help="show these signals only (9, or 9,15, or KILL,TERM)")  # fmt: skip


class Kill(Event):
    """One call of kill().  ``tpid`` as it was given: 0 and below are groups of processes, see kill(2)."""

    ts: u64
    pid: u32
    tid: u32
    sig: s32
    tpid: s32
    ret: s32
    comm: Comm


calls = Hash[u32, tuple[s32, s32]]()  # thread -> target and signal, until the call returns
kills = Ring(Kill)


@tracepoint("syscalls:sys_enter_kill")
def enter(call):
    if tpid and call.pid != tpid:
        return
    if signals and not (1 <= call.sig <= 64 and signals >> (call.sig - 1) & 1):
        return
    if wanted():
        calls[current.pid] = call.pid, call.sig


@tracepoint("syscalls:sys_exit_kill")
def leave(call):
    asked = calls.pop(current.pid)
    if asked is None or (failed and call.ret >= 0):
        return
    target, sig = asked
    with kills.reserve() as e:
        e.ts, e.pid, e.tid, e.comm = ktime(), current_process_id(), current_thread_id(), current.comm
        e.sig, e.tpid, e.ret = sig, target, call.ret


tool = event_table(
    kills,
    [
        Col("ts", "TIME", 9, show=clock, align="<"),
        Col("pid", "PID", 7, align="<"),
        Col("comm", "COMM", 16),
        Col("sig", "SIG", 4, align="<"),
        Col("tpid", "TPID", 7, align="<"),
        Col("ret", "RESULT", align="<"),
    ],
)
