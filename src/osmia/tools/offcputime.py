# SPDX-License-Identifier: Apache-2.0
"""Sum up the time that threads spend off the CPU, by the stack that led there."""

from __future__ import annotations

from osmia import (
    Comm,
    Event,
    Hash,
    Stacks,
    current,
    first_of,
    ktime,
    option,
    raw_tracepoint,
    stack_table,
    tp_btf,
    u32,
    u64,
)
from osmia.errors import OptionError
from osmia.kernel.named import thread_number
from osmia.lang.drift import task_state
from osmia.lang.filters import cgroup, pid, wanted  # noqa: F401 - options
from osmia.lang.images import executed, forked, image  # noqa: F401 - programs
from osmia.lang.pidns import current_is_thread, current_process_id, current_thread_id
from osmia.tools._show import whole

PF_KTHREAD = 0x00200000  # include/linux/sched.h
LONGEST = (1 << 63) - 1

tid = option("-t", "--tid", type=int, parse=thread_number, metavar="TID", help="this thread only")
user_threads = option("-u", "--user-threads-only", help="threads of programs only")
kernel_threads = option("-k", "--kernel-threads-only", help="threads of the kernel only")
user_only = option("-U", "--user-stacks-only", help="user stacks only, without what the kernel does for them")
kernel_only = option("-K", "--kernel-stacks-only", help="kernel stacks only")
delimited = option("-d", "--delimited", help="put a line (-f: a frame) between user and kernel frames")
folded = option("-f", "--folded", help="one line a stack, for flame graphs")
storage = option("--stack-storage-size", type=int, default=16384, parse=whole, metavar="N",
                 help="room for N different stacks (default: 16384)")  # fmt: skip
least = option("-m", "--min-block-time", type=int, default=1, parse=whole, metavar="US",
               help="leave out shorter times, in microseconds (default: 1)")  # fmt: skip
most = option("-M", "--max-block-time", type=int, default=LONGEST // 1000, parse=whole, metavar="US",
              help="leave out longer times, in microseconds")  # fmt: skip
state = option("--state", type=int, default=-1, metavar="STATE",
               help="threads that leave the CPU in this state only: 0 runnable, 1 interruptible, 2 not")  # fmt: skip


class Key(Event):
    """Who left the CPU, and where; ``user`` and ``kernel`` are numbers of stacks."""

    since: u64
    pid: u32
    tid: u32
    user: u32
    kernel: u32
    comm: Comm


class Left(Event):
    """A thread that is off the CPU: since when, and what for."""

    at: u64
    key: Key


stacks = Stacks()
waiting = Hash[u32, Left](10240)  # by thread
times = Hash[Key, u64](storage.default)  # ns


def leaves(task):
    """Whether the current thread, which is about to leave the CPU, is asked for."""
    if not task.pid or not wanted() or (tid and not current_is_thread(tid)):
        return False
    if (user_threads and task.flags & PF_KTHREAD) or (kernel_threads and not task.flags & PF_KTHREAD):
        return False
    if state == 0:
        return task_state(task) == 0
    return state < 0 or task_state(task) & state != 0


@first_of(tp_btf("sched_switch"), raw_tracepoint("sched_switch"))
def switch(preempt, prev, next):
    now = ktime()
    if leaves(prev):
        key = Key(pid=current_process_id(), tid=current_thread_id(), comm=current.comm)
        if not kernel_only:
            key.user = stacks.user()
            if key.user:
                key.since = image()
        if not user_only:
            key.kernel = stacks.kernel()
        waiting[prev.pid] = Left(at=now, key=key)
    left = waiting.get(next.pid)
    if left is not None:
        away = now - left.at
        if least * 1000 <= away <= most * 1000:
            times[left.key] += away
        del waiting[next.pid]


def banner():
    kinds = "user" if user_only else "kernel" if kernel_only else "user + kernel"
    whose = "user threads" if user_threads else "kernel threads" if kernel_threads else "all threads"
    whose = f"PID {pid}" if pid else f"TID {tid}" if tid else whose
    return f"Tracing off-CPU time (us) of {whose} by {kinds} stack"


def prepare():
    for one, other, names in ((user_only, kernel_only, "-U and -K"), (user_threads, kernel_threads, "-u and -k")):
        if one and other:
            raise OptionError(f"{names} exclude each other", where="offcputime", fix="leave both out for both kinds")
    stacks.max_entries = storage.value
    times.max_entries = max(storage.value, storage.default)


tool = stack_table(times, stacks, unit="us", divisor=1000, banner=banner, folded=folded, delimiter=delimited,
                   waiting=True, prepare=prepare)  # fmt: skip
