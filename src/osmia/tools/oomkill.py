# SPDX-License-Identifier: Apache-2.0
"""Trace the kernel's OOM killer: who wanted memory, and who was killed for it."""

from __future__ import annotations

from osmia import Col, Comm, Event, LruHash, Ring, cast, event_table, first_of, ktime, lost, raw_tracepoint, tp_btf
from osmia.kernel.proc import load_averages
from osmia.lang.builtins import current
from osmia.lang.drift import resident_pages, victim_is_task
from osmia.lang.filters import cgroup, wanted  # noqa: F401 - an option
from osmia.lang.pidns import TaskPtr, current_process_id, process_id
from osmia.lang.types import u32, u64
from osmia.tools._show import clock

SIGKILL = 9


class Kill(Event):
    """``fpid`` wanted memory, ``tpid`` is killed; ``pages`` of it were in memory."""

    ts: u64
    fpid: u32
    tpid: u32
    pages: u64
    total: u64
    uid: u32
    fcomm: Comm
    tcomm: Comm
    cgroup: u64


doomed = LruHash[u32, TaskPtr](1024)  # thread -> whom it has just sent SIGKILL, where the tracepoint has a number only
kills = Ring(Kill)


def send(task):
    with kills.reserve() as e:
        e.ts, e.fpid, e.fcomm, e.cgroup = ktime(), current_process_id(), current.comm, current.cgroup_id
        e.tpid, e.tcomm, e.uid = process_id(task), task.group_leader.comm, task.cred.uid.val
        e.pages, e.total = resident_pages(task.mm), task.mm.total_vm


@first_of(tp_btf("signal_generate"), raw_tracepoint("signal_generate"))
def signal(sig, info, task):
    """The killer sends SIGKILL and then marks the victim, in the same thread (__oom_kill_process of the kernel)."""
    if sig == SIGKILL and not victim_is_task(task):
        doomed[current.pid] = task


@first_of(tp_btf("mark_victim"), raw_tracepoint("mark_victim"))
def marked(victim):
    if not wanted():
        return
    if victim_is_task(victim):
        send(cast(victim, "struct task_struct"))
        return
    task = doomed.get(current.pid)
    if task is not None and task.pid == victim:
        send(task)
    elif current.pid == victim:
        send(current.task)
    else:
        lost("a victim of which this kernel (before 6.9) gives only the number, and which was ending already")


tool = event_table(
    kills,
    [
        Col("ts", "TIME", 9, show=clock, align="<"),
        Col("fpid", "BY PID", 7, align="<"),
        Col("fcomm", "BY COMM", 16),
        Col("tpid", "KILLED", 7, align="<"),
        Col("tcomm", "COMM", 16),
        Col("pages", "PAGES", 9),
        Col("loadavg", "LOADAVG", row=lambda _: load_averages()),
    ],
    banner="Tracing OOM kills... Ctrl-C to stop.",
)
