# SPDX-License-Identifier: Apache-2.0
"""Trace the kernel's OOM killer: who wanted memory, and who was killed for it."""

from __future__ import annotations

from osmia import Col, Comm, Event, Hash, Ring, cast, event_table, first_of, ktime, raw_tracepoint, tp_btf, tracepoint
from osmia.kernel.proc import load_averages
from osmia.lang.builtins import current
from osmia.lang.drift import trace_event_raw_mark_victim___since_6_9, victim_is_told
from osmia.lang.filters import cgroup, wanted  # noqa: F401 - an option
from osmia.lang.pidns import current_process_id, process_id
from osmia.lang.types import u32, u64
from osmia.tools._show import clock


class Victim(Event):
    """Who is killed."""

    pid: u32
    uid: u32
    comm: Comm


class Kill(Event):
    """``fpid`` wanted memory, ``tpid`` is killed; of its memory, in kB, ``resident`` was there, ``total`` is mapped.

    Where the tracepoint has only the victim's number, nothing else of it is known.
    """

    ts: u64
    fpid: u32
    tpid: u32
    uid: u32
    fcomm: Comm
    tcomm: Comm
    resident: u64
    total: u64
    cgroup: u64


victims = Hash[u32, Victim](256)  # thread that kills -> whom, until the other program has told the memory
memory = Hash[u32, tuple[u64, u64]](256)  # the other way round: nobody says which of them runs first
kills = Ring(Kill)


def send(victim, resident, total):
    with kills.reserve() as e:
        e.ts, e.fpid, e.fcomm, e.cgroup = ktime(), current_process_id(), current.comm, current.cgroup_id
        e.tpid, e.uid, e.tcomm, e.resident, e.total = victim.pid, victim.uid, victim.comm, resident, total


@first_of(tp_btf("mark_victim"), raw_tracepoint("mark_victim"))
def marked(task):
    """The tracepoint itself has the task."""
    if not wanted() or not victim_is_told(task):
        return
    told = cast(task, "struct task_struct")
    victim = Victim(pid=process_id(told), uid=told.cred.uid.val, comm=told.group_leader.comm)
    sizes = memory.pop(current.pid)
    if sizes is None:
        victims[current.pid] = victim
    else:
        resident, total = sizes
        send(victim, resident, total)


@tracepoint("oom:mark_victim")
def recorded(record):
    """Its record has the memory."""
    if not wanted():
        return
    if not victim_is_told(record):
        send(Victim(pid=record.pid), 0, 0)
        return
    told = cast(record, trace_event_raw_mark_victim___since_6_9)
    resident = told.anon_rss + told.file_rss + told.shmem_rss
    victim = victims.get(current.pid)
    if victim is None:
        memory[current.pid] = resident, told.total_vm
    else:
        send(victim, resident, told.total_vm)
        del victims[current.pid]


def pages(kill):
    import os

    return kill.resident * 1024 // os.sysconf("SC_PAGE_SIZE")


tool = event_table(
    kills,
    [
        Col("ts", "TIME", 9, show=clock, align="<"),
        Col("fpid", "BY PID", 7, align="<"),
        Col("fcomm", "BY COMM", 16),
        Col("tpid", "KILLED", 7, align="<"),
        Col("tcomm", "COMM", 16),
        Col("pages", "PAGES", 9, row=pages, align=">"),
        Col("loadavg", "LOADAVG", row=lambda _: load_averages()),
    ],
    banner="Tracing OOM kills... Ctrl-C to stop.",
)
