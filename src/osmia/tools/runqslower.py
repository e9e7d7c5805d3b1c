# SPDX-License-Identifier: Apache-2.0
"""Trace threads that wait long for a CPU."""

from __future__ import annotations

from osmia import Col, Ring, event_table, first_of, ktime, option, raw_tracepoint, tp_btf
from osmia.lang.filters import cgroup, name, pid, uid  # noqa: F401 - options
from osmia.lang.pidns import process_id, thread_id
from osmia.lang.types import Comm, Event, u32, u64
from osmia.tools._queued import turn, wakeup, wakeup_new  # noqa: F401 - programs
from osmia.tools._show import clock, microseconds
from osmia.tools._thread import one_thread, tid  # noqa: F401 - an option

min_us = option("min_us", type=u64, default=10_000, parse=microseconds,
                help="shortest wait to show, in microseconds (default: 10000; 0: all)")  # fmt: skip
timestamp = option("-T", "--timestamp", help="accepted for the other tools' sake: the time is always shown")
previous = option("-P", "--previous", help="show the thread that had the CPU before, too")


class Wait(Event):
    """One wait for a CPU, at its end.  ``prev_*``: the thread that gave the CPU up."""

    ts: u64
    delta_us: u64
    pid: u32
    tid: u32
    prev_tid: u32
    comm: Comm
    prev_comm: Comm


waits = Ring(Wait)


@first_of(tp_btf("sched_switch"), raw_tracepoint("sched_switch"))
def switch(preempt, prev, next):
    start = turn(preempt, prev, next)
    if start is None:
        return
    now = ktime()
    delta = (now - start) // 1000
    if min_us and delta <= min_us:
        return
    with waits.reserve() as e:
        e.ts, e.delta_us = now, delta
        e.pid, e.tid, e.comm = process_id(next), thread_id(next), next.comm
        e.prev_tid, e.prev_comm = thread_id(prev), prev.comm


def prepare():
    one_thread()


tool = event_table(
    waits,
    [
        Col("ts", "TIME", 8, show=clock, align="<"),
        Col("comm", "COMM", 16),
        Col("tid", "TID", 6, align="<"),
        Col("delta_us", "LAT(us)", 14),
        Col("prev_comm", "PREV COMM", 16, when=previous),
        Col("prev_tid", "PREV TID", 6, align="<", when=previous),
    ],
    prepare=prepare,
)
