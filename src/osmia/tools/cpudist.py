# SPDX-License-Identifier: Apache-2.0
"""Summarize on-CPU or off-CPU time per turn of a thread as a histogram."""

from __future__ import annotations

from osmia import Comm, Hash, first_of, histogram, ktime, log2_hist, option, raw_tracepoint, tp_btf, u32, u64
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted_task  # noqa: F401 - options
from osmia.lang.pidns import process_id, thread_id
from osmia.tools._sched import has_ended, thread_key
from osmia.tools._times import extension, in_unit, json, milliseconds, pids, split_by, summary, tids, timestamp, unit  # noqa: F401 - options

offcpu = option("-O", "--offcpu", help="measure the time off the CPU")
idle = option("-I", "--include-idle", help="count the idle time of CPUs, too, as that of process 0")

starts = Hash[u64, u64](32768)  # thread -> since when it is on, or with -O off, the CPU
total = log2_hist("usecs")
split = log2_hist("usecs", key=u32, max_entries=4096)
names = Hash[u32, Comm](4096)  # of what has a histogram


def begin(task):
    if (task.pid or idle) and wanted_task(task):
        starts[thread_key(task)] = ktime()


def end(task):
    start = starts.pop(thread_key(task))
    if start is None:
        return
    took = in_unit(ktime() - start)
    if tids:
        id = thread_id(task)
        names[id] = task.comm
        split[id].add(took)
    elif pids:
        id = process_id(task)
        names[id] = task.group_leader.comm
        split[id].add(took)
    else:
        total.add(took)


@first_of(tp_btf("sched_switch"), raw_tracepoint("sched_switch"))
def switch(preempt, prev, next):
    if not offcpu:
        end(prev)
        begin(next)
        return
    end(next)
    if not has_ended(prev):
        begin(prev)


def label(id):
    """A process or thread by number and, where it has one, name; idle threads are called differently on each CPU."""
    return f"{id} {names[id]}" if id and id in names else str(id)


def prepare():
    tool.banner = f"Tracing {'off' if offcpu else 'on'}-CPU time... Hit Ctrl-C to end."
    split_by(tool, split, {"tid": tids, "pid": pids}, label)


tool = histogram(total, unit=unit, footer=summary, prepare=prepare)
