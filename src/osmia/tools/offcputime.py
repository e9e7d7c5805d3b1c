# SPDX-License-Identifier: Apache-2.0
"""Sum up the time that threads spend off the CPU, by the stack that led there."""

from __future__ import annotations

from osmia import (
    Comm,
    Event,
    Hash,
    Stacks,
    current,
    exists,
    first_of,
    ktime,
    raw_tracepoint,
    stack_table,
    tp_btf,
    u32,
    u64,
)
from osmia.lang.copies import Copy, copies, keep_copy, send_copy, user_registers
from osmia.lang.filters import cgroup  # noqa: F401 - option
from osmia.lang.images import executed, forked, image  # noqa: F401 - programs
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.tools._chosen import pid
from osmia.tools._offcpu import check, kernel_threads, least, leaves, most, state, tid, user_threads, whose, within  # noqa: F401 - options
from osmia.tools._stacks import (  # noqa: F401 - options
    check_dwarf,
    delimited,
    dwarf,
    folded,
    kernel_only,
    kinds,
    size,
    storage,
    take_stacks,
    user_only,
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
kept = Hash[u32, Copy](1)  # --dwarf: by thread, its stack and since when


@first_of(tp_btf("sched_switch"), raw_tracepoint("sched_switch"))
def switch(preempt, prev, next):
    now = ktime()
    if leaves(prev):
        left_at(now, prev.pid)
    left = waiting.get(next.pid)
    if left is not None:
        away = now - left.at
        if within(away):
            times[left.key] += away
        del waiting[next.pid]
    if dwarf:
        copy = kept.get(next.pid)
        if copy is not None:
            away = now - copy.weight
            if within(away):
                send_copy(copy, away)
            del kept[next.pid]


def left_at(now, thread):
    """The current thread leaves the CPU."""
    if dwarf and exists("struct pt_regs"):
        regs = user_registers()
        if regs is not None:
            keep(now, thread, regs)
            return
    key = Key(pid=current_process_id(), tid=current_thread_id(), comm=current.comm)
    take_stacks(key, stacks)
    waiting[thread] = Left(at=now, key=key)


def keep(now, thread, regs):
    """--dwarf: the stack itself.  The thread's memory is not there any more when its time off the CPU is known."""
    since, kernel = image(), 0
    if not user_only:
        kernel = stacks.kernel()
    e = keep_copy(kept, thread, regs)
    if e is not None:
        e.since, e.weight, e.kernel = since, now, kernel
        e.pid, e.tid, e.comm = current_process_id(), current_thread_id(), current.comm


def banner():
    return f"Tracing off-CPU time (us) of {whose()} by {kinds()} stack"


def prepare():
    check("offcputime")
    check_dwarf("offcputime", pid or tid)
    kept.max_entries = 1024 if dwarf else 1
    size(stacks, times)


tool = stack_table(times, stacks, unit="us", divisor=1000, banner=banner, folded=folded, delimiter=delimited,
                   waiting=True, copies=copies, copied=dwarf, prepare=prepare)  # fmt: skip
