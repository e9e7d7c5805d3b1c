# SPDX-License-Identifier: Apache-2.0
"""Shared by the tools about time off the CPU: the options that choose threads and times, and what they mean.

The option ``-t`` is a thread here, as in bcc, and not the time of day.
"""

from __future__ import annotations

from osmia import option
from osmia.errors import OptionError
from osmia.lang.drift import task_state
from osmia.lang.filters import wanted
from osmia.lang.templates import StackPart
from osmia.tools._chosen import chosen, pid, threads
from osmia.tools._show import whole
from osmia.tools._stacks import check_kinds

#: Two names of a row of stacks: who was asleep, and who woke it.
TARGET = StackPart("comm", pid="tid", label="target:")
WAKER = StackPart("wcomm", pid="wtid", label="waker:", missing="[not woken]")

PF_KTHREAD = 0x00200000  # include/linux/sched.h
LONGEST = (1 << 63) - 1

tid = threads("-t", "--tid")
user_threads = option("-u", "--user-threads-only", help="threads of programs only")
kernel_threads = option("-k", "--kernel-threads-only", help="threads of the kernel only")
least = option("-m", "--min-block-time", type=int, default=1, parse=whole, metavar="US",
               help="leave out shorter times, in microseconds (default: 1)")  # fmt: skip
most = option("-M", "--max-block-time", type=int, default=LONGEST // 1000, parse=whole, metavar="US",
              help="leave out longer times, in microseconds")  # fmt: skip
state = option("--state", type=int, default=-1, metavar="STATE",
               help="threads that leave the CPU in this state only: 0 runnable, 1 interruptible, 2 not")  # fmt: skip


def leaves(task):
    """Whether the current thread, which is about to leave the CPU, is asked for."""
    if not task.pid or not wanted() or not chosen():
        return False
    if (user_threads and task.flags & PF_KTHREAD) or (kernel_threads and not task.flags & PF_KTHREAD):
        return False
    if state == 0:
        return task_state(task) == 0
    return state < 0 or task_state(task) & state != 0


def within(away):
    """Whether so many ns off the CPU are to be counted."""
    return least * 1000 <= away <= most * 1000


def check(tool):
    """OptionError for what excludes each other."""
    check_kinds(tool)
    if user_threads and kernel_threads:
        raise OptionError("-u and -k exclude each other", where=tool, fix="leave both out for both kinds")


def whose():
    """The threads that were chosen, in words."""
    all_of = "user threads" if user_threads else "kernel threads" if kernel_threads else "all threads"
    return f"PID {pid}" if pid else f"TID {tid}" if tid else all_of
