# SPDX-License-Identifier: Apache-2.0
"""Summarize how long work waits in the kernel's workqueues."""

from __future__ import annotations

from osmia import Hash, first_of, histogram, kernel_str, ktime, log2_hist, option, raw_tracepoint, tp_btf, u64
from osmia.lang.types import Event, Kernel, Str
from osmia.tools._times import timestamp  # noqa: F401 - an option

NAME = 32  # WQ_NAME_LEN in kernel/workqueue.c: 24, since 6.9 32


def queue_name(word):
    """What ``-w`` means; ValueError where no workqueue can be called so."""
    if not 0 < len(word.encode()) < NAME:
        raise ValueError(f"{word!r} is no name of a workqueue: those have 1 to {NAME - 1} bytes")
    return word


nanoseconds = option("-N", "--nanoseconds", help="nanoseconds instead of microseconds")
by_queue = option("-W", "--workqueues", help="one histogram per workqueue")
only = option("-w", "--wqname", type=Str.of(NAME), parse=queue_name, metavar="WQNAME", help="trace this workqueue only")


class Queued(Event):
    """Work that waits: since when, in which queue, and what it is to call."""

    since: u64
    function: u64
    queue: Str.of(NAME)


WorkPtr = Kernel["struct work_struct"]
waiting = Hash[WorkPtr, Queued](32768)
total = log2_hist("usecs")
split = log2_hist("usecs", key=Str.of(NAME))


@first_of(tp_btf("workqueue_queue_work"), raw_tracepoint("workqueue_queue_work"))
def queue(cpu, pool, work):
    """Work cannot be queued again before it is begun."""
    if not only or kernel_str(pool.wq.name, NAME) == only:
        waiting[work] = Queued(since=ktime(), function=work.func, queue=pool.wq.name)


@first_of(tp_btf("workqueue_execute_start"), raw_tracepoint("workqueue_execute_start"))
def begin(work):
    one = waiting.get(work)
    if one is None:
        return
    took = (ktime() - one.since) // (1 if nanoseconds else 1000)
    if one.function == work.func:  # else that was cancelled, and its memory is used for other work
        if by_queue:
            split[one.queue].add(took)
        else:
            total.add(took)
    del waiting[work]


def prepare():
    if by_queue:
        tool.hist, tool.section, tool.label = split, "wqname", str


tool = histogram(
    total,
    unit=lambda: "nsecs" if nanoseconds else "usecs",
    banner="Tracing work queue request latency time... Hit Ctrl-C to end.",
    prepare=prepare,
)
