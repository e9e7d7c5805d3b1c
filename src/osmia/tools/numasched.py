# SPDX-License-Identifier: Apache-2.0
"""Trace threads that the scheduler moves from one NUMA node to another."""

from __future__ import annotations

from osmia import Array, Col, Ring, event_table, first_of, ktime, option, raw_tracepoint, tp_btf
from osmia.errors import NotSupported
from osmia.kernel import cpus
from osmia.lang.drift import task_cpu
from osmia.lang.filters import cgroup, name, pid, uid, wanted_task  # noqa: F401 - options
from osmia.lang.pidns import process_id, thread_id
from osmia.lang.types import Comm, Event, Str, u32, u64
from osmia.tools._show import clock
from osmia.tools._thread import one_thread, tid  # noqa: F401 - an option

comm = option("-c", "--comm", type=Str.of(16), metavar="COMM", help="trace threads of this name only")


class Move(Event):
    """One thread that is given a CPU of another node."""

    ts: u64
    pid: u32
    tid: u32
    old_nid: u32
    new_nid: u32
    comm: Comm


moves = Ring(Move)
nodes = Array[u32](1)  # CPU -> its node, and 1; set below


@first_of(tp_btf("sched_migrate_task"), raw_tracepoint("sched_migrate_task"))
def migrate(task, cpu):
    """The task still says which CPU it had; ``cpu`` is the one that it gets."""
    old, new = nodes[task_cpu(task)], nodes[cpu]
    if old == new or old == 0 or new == 0 or not wanted_task(task):
        return
    if comm and task.comm != comm:
        return
    with moves.reserve() as e:
        e.ts, e.pid, e.tid, e.comm = ktime(), process_id(task), thread_id(task), task.comm
        e.old_nid, e.new_nid = old - 1, new - 1


def prepare():
    known = cpus.nodes()
    if len(set(known.values())) < 2:
        raise NotSupported("this machine has one NUMA node, so nothing can move to another", where="numasched",
                           fix="cpuwalk shows on which CPUs programs run")  # fmt: skip
    nodes.max_entries = 1 + max(known)
    nodes.update({one: 1 + node for one, node in known.items()})
    one_thread()


tool = event_table(
    moves,
    [
        Col("ts", "TIME", 8, show=clock, align="<"),
        Col("pid", "PID", 8, align="<"),
        Col("tid", "TID", 8, align="<"),
        Col("old_nid", "SRC_NID", 8, align="<"),
        Col("new_nid", "  ", 2, row=lambda e: "->"),
        Col("new_nid", "DST_NID", 8, align="<"),
        Col("comm", "COMM", 8),
    ],
    prepare=prepare,
    banner="Tracing task NUMA switch...",
)
