# SPDX-License-Identifier: Apache-2.0
"""Trace the end of processes: their age, exit code or signal."""

from __future__ import annotations

import time

from osmia import Col, Ring, event_table, first_of, ktime, option, raw_tracepoint, tp_btf
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted_task  # noqa: F401 - options
from osmia.lang.pidns import process_id, thread_id
from osmia.lang.types import Comm, Event, u32, u64
from osmia.tools._signals import signal_name

timestamp = option("-t", "--timestamp", help="show the time (local)")
utc = option("--utc", help="show the time in UTC")
label = option("--label", type=str, metavar="LABEL", help="put LABEL in front of each row")
failed = option("-x", "--failed", help="show failures only, not exit(0)")
per_thread = option("--per-thread", help="show the end of each thread")
json = option("-j", "--json", help="print JSON, one object a line")

GROUP_EXIT = 4  # SIGNAL_GROUP_EXIT, include/linux/sched/signal.h
CORE_DUMPED = 0x80  # in the lower byte of what wait(2) gives; the rest of it is the signal


class Exit(Event):
    """The end of a process or, with --per-thread, of a thread."""

    ts: u64
    start: u64
    pid: u32
    ppid: u32
    tid: u32
    exit_code: u32
    signal: u32
    core_dumped: u32
    comm: Comm


exits = Ring(Exit)


def wait_status(leader):
    """What the parent of a process gets from wait(2)."""
    if leader.signal.flags & GROUP_EXIT:  # exit_group(2), or a signal that killed it
        return leader.signal.group_exit_code
    return leader.exit_code


@first_of(tp_btf("sched_process_exit"), raw_tracepoint("sched_process_exit"))
def ended(task):
    """The last thread that ends, whichever that is, ends the process."""
    if not wanted_task(task):
        return
    if per_thread:
        send(task, task.exit_code)
    elif task.signal.live.counter == 0:
        send(task.group_leader, wait_status(task.group_leader))


def send(task, status):
    if failed and status == 0:
        return
    with exits.reserve() as e:
        e.ts, e.start, e.comm = ktime(), task.start_time, task.comm
        e.pid, e.tid, e.ppid = process_id(task), thread_id(task), process_id(task.real_parent)
        e.exit_code = status >> 8 & 0xFF
        e.signal, e.core_dumped = status & 0x7F, 1 if status & CORE_DUMPED else 0


shown: dict[tuple[int, int, int], None] = {}


def keep(e):
    """Once each: threads that end at the same time all see that none is left."""
    key = (e.pid, e.tid, e.start)
    if key in shown:
        return False
    shown[key] = None
    if len(shown) > 1000:
        del shown[next(iter(shown))]
    return True


def when(ts):
    """The time of day, to the millisecond."""
    wall = time.time() - (time.monotonic_ns() - ts) / 1e9
    day = time.gmtime(wall) if utc else time.localtime(wall)
    return time.strftime("%H:%M:%S", day) + f".{int(wall % 1 * 1000):03d}"


def outcome(e):
    """How it ended, in words."""
    if not e.signal:
        return f"code {e.exit_code}" if e.exit_code else "0"
    return f"signal {e.signal} ({signal_name(e.signal)})" + (", core dumped" if e.core_dumped else "")


tool = event_table(
    exits,
    [
        Col("ts", "TIME-UTC", 12, show=when, when=utc, align="<"),
        Col("ts", "TIME-" + time.strftime("%Z"), 12, show=when, when=lambda: timestamp and not utc, align="<"),
        Col("comm", "LABEL", 5, show=lambda _: str(label) or "exit", when=lambda: label.given),
        Col("comm", "PCOMM", 16),
        Col("pid", "PID", 7, align="<"),
        Col("ppid", "PPID", 7, align="<"),
        Col("tid", "TID", 7, align="<"),
        Col("age", "AGE(s)", 7, row=lambda e: (e.ts - e.start) / 1e9, show="{:.2f}".format, align="<"),
        Col("exit_code", "EXIT_CODE", row=outcome),
    ],
    keep=keep,
)
