# SPDX-License-Identifier: Apache-2.0
"""Trace the kernel's OOM killer: who wanted memory, and who was killed for it."""

from __future__ import annotations

from osmia import Col, Comm, Event, Ring, cast, event_table, first_of, ktime, raw_tracepoint, tp_btf
from osmia.kernel.proc import load_averages
from osmia.lang.builtins import current
from osmia.lang.drift import resident_pages, victim_is_task
from osmia.lang.filters import cgroup, wanted  # noqa: F401 - an option
from osmia.lang.pidns import current_process_id, process_id
from osmia.lang.types import u32, u64
from osmia.tools._show import clock


class Kill(Event):
    """``fpid`` wanted memory, ``tpid`` is killed; ``pages`` of it were in memory.

    Where the tracepoint has only the victim's number, nothing else of it is known.
    """

    ts: u64
    fpid: u32
    tpid: u32
    pages: u64
    total: u64
    uid: u32
    fcomm: Comm
    tcomm: Comm
    cgroup: u64


kills = Ring(Kill)


@first_of(tp_btf("mark_victim"), raw_tracepoint("mark_victim"))
def marked(victim):
    if not wanted():
        return
    with kills.reserve() as e:
        e.ts, e.fpid, e.fcomm, e.cgroup = ktime(), current_process_id(), current.comm, current.cgroup_id
        if victim_is_task(victim):
            task = cast(victim, "struct task_struct")
            e.tpid, e.tcomm, e.uid = process_id(task), task.group_leader.comm, task.cred.uid.val
            e.pages, e.total = resident_pages(task.mm), task.mm.total_vm
        else:
            e.tpid = victim


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
