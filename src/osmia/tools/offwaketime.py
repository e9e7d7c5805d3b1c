# SPDX-License-Identifier: Apache-2.0
"""Sum up the time that threads spend off the CPU, by their stack and the stack of who woke them."""

from __future__ import annotations

from osmia import Comm, Event, Hash, Stacks, current, first_of, ktime, raw_tracepoint, stack_table, tp_btf, u32, u64
from osmia.lang.filters import cgroup  # noqa: F401 - option
from osmia.lang.images import executed, forked, image  # noqa: F401 - programs
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.lang.templates import StackPart
from osmia.tools._chosen import pid  # noqa: F401 - option
from osmia.tools._offcpu import (  # noqa: F401 - options
    TARGET,
    WAKER,
    check,
    kernel_threads,
    least,
    leaves,
    most,
    state,
    tid,
    user_threads,
    whose,
    within,
)
from osmia.tools._stacks import delimited, folded, kernel_only, kinds, size, storage, take_stacks, user_only


class Key(Event):
    """Who left the CPU and where, and who woke it and where (fields with a ``w``); stacks by their numbers."""

    since: u64
    wsince: u64
    pid: u32
    tid: u32
    user: u32
    kernel: u32
    wpid: u32
    wtid: u32
    wuser: u32
    wkernel: u32
    comm: Comm
    wcomm: Comm


class Left(Event):
    """A thread that is off the CPU: since when, and what is known of it by now."""

    at: u64
    key: Key


stacks = Stacks()
waiting = Hash[u32, Left](10240)  # by thread
times = Hash[Key, u64](storage.default)  # ns


@first_of(tp_btf("sched_waking"), raw_tracepoint("sched_waking"))
def waking(task):
    """The waker is the current thread: sched_wakeup may come later, from an interrupt of the other CPU."""
    left = waiting.get(task.pid)
    if left is None:
        return
    left.key.wpid = current_process_id()
    left.key.wtid = current_thread_id()
    left.key.wcomm = current.comm
    if not kernel_only:
        left.key.wuser = stacks.user()
        if left.key.wuser:
            left.key.wsince = image()
    if not user_only:
        left.key.wkernel = stacks.kernel()


@first_of(tp_btf("sched_switch"), raw_tracepoint("sched_switch"))
def switch(preempt, prev, next):
    now = ktime()
    if leaves(prev):
        left = Left(at=now)
        left.key.pid = current_process_id()
        left.key.tid = current_thread_id()
        left.key.comm = current.comm
        take_stacks(left.key, stacks)
        waiting[prev.pid] = left
    left = waiting.get(next.pid)
    if left is not None:
        if within(now - left.at):
            times[left.key] += now - left.at
        del waiting[next.pid]


def banner():
    return f"Tracing blocked time (us) by {kinds()} off-CPU and waker stack of {whose()}"


def prepare():
    check("offwaketime")
    size(stacks, times)


parts = [TARGET, StackPart("user"), StackPart("kernel"), StackPart(text="--"), StackPart("wkernel", upward=True),
         StackPart("wuser", pid="wpid", since="wsince", upward=True), WAKER]  # fmt: skip
tool = stack_table(times, stacks, unit="us", divisor=1000, parts=parts, banner=banner, folded=folded,
                   delimiter=delimited, waiting=True, prepare=prepare)  # fmt: skip
