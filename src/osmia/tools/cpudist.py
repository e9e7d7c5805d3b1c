# SPDX-License-Identifier: Apache-2.0
"""Summarize on-CPU or off-CPU time per turn of a thread as a histogram."""

from __future__ import annotations

from osmia import Hash, cpu, first_of, histogram, ktime, log2_hist, option, raw_tracepoint, tp_btf, u32, u64
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted_task  # noqa: F401 - options
from osmia.lang.pidns import process_id, thread_id
from osmia.lang.types import Comm
from osmia.tools._sched import has_ended

offcpu = option("-O", "--offcpu", help="measure the time off the CPU")
timestamp = option("-T", "--timestamp", help="show the time of each summary")
milliseconds = option("-m", "--milliseconds", help="milliseconds instead of microseconds")
pids = option("-P", "--pids", help="one histogram per process")
tids = option("-L", "--tids", help="one histogram per thread")
idle = option("-I", "--include-idle", help="count the idle time of CPUs, too, as that of process 0")
extension = option("-e", "--extension", help="show average, total and number after each summary")
json = option("-j", "--json", help="print JSON, one object per summary and line")

IDLE = 1 << 32  # and the CPU: each has an idle thread of its own, all of them with the number 0

starts = Hash[u64, u64](32768)  # thread -> since when it is on, or with -O off, the CPU
total = log2_hist("usecs")
split = log2_hist("usecs", key=u32, max_entries=4096)
names = Hash[u32, Comm](4096)  # of what has a histogram


def thread(task):
    """The key of a thread, also of an idle one."""
    return task.pid if task.pid else IDLE + cpu()


def begin(task):
    if (task.pid or idle) and wanted_task(task):
        starts[thread(task)] = ktime()


def end(task):
    start = starts.pop(thread(task))
    if start is None:
        return
    took = (ktime() - start) // (1_000_000 if milliseconds else 1000)
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


def unit():
    return "msecs" if milliseconds else "usecs"


def label(id):
    """A process or thread by number and, where it has one, name; idle threads are called differently on each CPU."""
    return f"{id} {names[id]}" if id and id in names else str(id)


def summary(shot):
    """-e: a line after each summary."""
    if not extension or not shot.count:
        return ""
    return f"\navg = {shot.sum // shot.count} {unit()}, total: {shot.sum} {unit()}, count: {shot.count}\n"


def prepare():
    tool.banner = f"Tracing {'off' if offcpu else 'on'}-CPU time... Hit Ctrl-C to end."
    for chosen, section in ((tids, "tid"), (pids, "pid")):
        if chosen:
            tool.hist, tool.section, tool.label = split, section, label
            break


tool = histogram(total, unit=unit, footer=summary, prepare=prepare)
