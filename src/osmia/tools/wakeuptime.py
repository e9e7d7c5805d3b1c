# SPDX-License-Identifier: Apache-2.0
"""Sum up the time that threads are blocked, by who woke them and the kernel stack with which it did so."""

from __future__ import annotations

from osmia import Hash, Stacks, current, first_of, ktime, option, raw_tracepoint, stack_table, tp_btf
from osmia.errors import OptionError
from osmia.lang.drift import task_state
from osmia.lang.filters import cgroup, pid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id, current_thread_id, process_id, thread_id
from osmia.lang.templates import StackPart
from osmia.lang.types import Comm, Event, u32, u64
from osmia.tools._offcpu import PF_KTHREAD, TARGET, WAKER, least, most, within  # noqa: F401 - options
from osmia.tools._stacks import folded, size, storage

user_threads = option("-u", "--useronly", help="threads of programs only, not those of the kernel")


class Key(Event):
    """Who was woken, and by whom (fields with a ``w``); ``kernel`` is the number of the waker's stack."""

    pid: u32
    tid: u32
    wpid: u32
    wtid: u32
    comm: Comm
    wcomm: Comm
    kernel: u32


stacks = Stacks()
asleep = Hash[u32, u64](10240)  # thread -> since when
times = Hash[Key, u64](storage.default)  # ns


@first_of(tp_btf("sched_switch"), raw_tracepoint("sched_switch"))
def switch(preempt, prev, next):
    # What was preempted, perhaps on its way to sleep, is not blocked: nobody has to wake it.
    blocked = prev.pid != 0 and not preempt and task_state(prev) != 0
    if blocked and wanted() and not (user_threads and prev.flags & PF_KTHREAD):
        asleep[prev.pid] = ktime()
    del asleep[next.pid]


@first_of(tp_btf("sched_waking"), raw_tracepoint("sched_waking"))
def waking(task):
    """The waker is the current thread."""
    since = asleep.pop(task.pid)
    if since is None:
        return
    blocked = ktime() - since
    if within(blocked):
        key = Key(pid=process_id(task), tid=thread_id(task), comm=task.comm, wpid=current_process_id(),
                  wtid=current_thread_id(), wcomm=current.comm, kernel=stacks.kernel())  # fmt: skip
        times[key] += blocked


def banner():
    whose = f"PID {pid}" if pid else "user threads" if user_threads else "all threads"
    return f"Tracing blocked time (us) of {whose} by kernel stack of the waker"


def prepare():
    if pid and user_threads:
        raise OptionError("-p and -u exclude each other", where="wakeuptime", fix="-p is about a program anyway")
    size(stacks, times)


tool = stack_table(times, stacks, unit="us", divisor=1000, parts=[WAKER, StackPart("kernel"), TARGET], banner=banner,
                   folded=folded, waiting=True, prepare=prepare)  # fmt: skip
