# SPDX-License-Identifier: Apache-2.0
"""Count new processes and threads, each second."""

from __future__ import annotations

import time

from osmia import Col, PerCpuArray, count_table, first_of, option, raw_tracepoint, tp_btf
from osmia.lang.filters import cgroup, name, pid, uid, wanted  # noqa: F401 - options
from osmia.lang.types import u64

PROCESSES, THREADS = 0, 1
WHAT = {PROCESSES: "processes", THREADS: "threads"}

processes = option("-P", "--processes", help="count processes only, not threads")

made = PerCpuArray[u64](2)


@first_of(tp_btf("sched_process_fork"), raw_tracepoint("sched_process_fork"))
def forked(parent, child):
    if not wanted():
        return
    if child.pid == child.tgid:
        made[PROCESSES] += 1
    elif not processes:
        made[THREADS] += 1


def line(entries, seconds):
    """As bcc prints it; the count itself where the interval was a second, which it never is exactly."""
    count = sum(one.count for one in entries)
    rate = count if 0.9 < seconds < 1.1 else round(count / seconds)
    return f"{time.strftime('%H:%M:%S')}: PIDs/sec: {rate}"


tool = count_table(
    made,
    [Col("what", "WHAT", row=lambda one: WHAT[one.key]), Col("count", "COUNT")],
    text=line,
    interval=1.0,
    banner="Tracing... Ctrl-C to end.",
)
