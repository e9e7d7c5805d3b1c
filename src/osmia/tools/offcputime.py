# SPDX-License-Identifier: Apache-2.0
"""Sum up the time that threads spend off the CPU, by the stack that led there."""

from __future__ import annotations

from osmia import Comm, Event, Hash, Stacks, current, first_of, ktime, raw_tracepoint, stack_table, tp_btf, u32, u64
from osmia.lang.filters import cgroup, pid  # noqa: F401 - options
from osmia.lang.images import executed, forked, image  # noqa: F401 - programs
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.tools._offcpu import (  # noqa: F401 - options
    check,
    delimited,
    folded,
    kernel_only,
    kernel_threads,
    kinds,
    least,
    leaves,
    most,
    state,
    storage,
    tid,
    user_only,
    user_threads,
    whose,
    within,
)


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
        if within(away):
            times[left.key] += away
        del waiting[next.pid]


def banner():
    return f"Tracing off-CPU time (us) of {whose()} by {kinds()} stack"


def prepare():
    check("offcputime")
    stacks.max_entries = storage.value
    times.max_entries = max(storage.value, storage.default)


tool = stack_table(times, stacks, unit="us", divisor=1000, banner=banner, folded=folded, delimiter=delimited,
                   waiting=True, prepare=prepare)  # fmt: skip
