# SPDX-License-Identifier: Apache-2.0
"""Summarize run queue (scheduler) latency as a histogram."""

from __future__ import annotations

from osmia import first_of, histogram, ktime, log2_hist, option, raw_tracepoint, tp_btf, u32
from osmia.lang.filters import cgroup, name, pid, tid, uid  # noqa: F401 - options
from osmia.lang.pidns import process_id, thread_id
from osmia.tools._queued import turn, wakeup, wakeup_new  # noqa: F401 - programs
from osmia.tools._times import in_unit, milliseconds, pids, split_by, tids, timestamp, unit  # noqa: F401 - options

pidnss = option("--pidnss", help="one histogram per PID namespace")

total = log2_hist("usecs")
split = log2_hist("usecs", key=u32, max_entries=4096)


@first_of(tp_btf("sched_switch"), raw_tracepoint("sched_switch"))
def switch(preempt, prev, next):
    start = turn(preempt, prev, next)
    if start is None:
        return
    latency = in_unit(ktime() - start)
    if tids:
        split[thread_id(next)].add(latency)
    elif pids:
        split[process_id(next)].add(latency)
    elif pidnss:
        where = next.thread_pid
        split[where.numbers[where.level].ns.ns.inum].add(latency)
    else:
        total.add(latency)


def prepare():
    split_by(tool, split, {"tid": tids, "pid": pids, "pidns": pidnss})


tool = histogram(total, unit=unit, prepare=prepare, banner="Tracing run queue latency... Hit Ctrl-C to end.")
