# SPDX-License-Identifier: Apache-2.0
"""Kernel half: what the tools about threads and CPUs share: who takes turns, and what the queue of a CPU holds."""

from __future__ import annotations

from osmia.lang.builtins import container_of, cpu, current, exists
from osmia.lang.drift import asleep_but_queued, task_state

TASK_DEAD = 0x80  # include/linux/sched.h; since 4.14
IDLE = 1 << 32  # and the CPU: each has an idle thread of its own, all of them with the number 0


def goes_on(preempt, prev):
    """Whether ``prev``, which loses its CPU, waits for another turn: preempted (perhaps on its way to sleep), yielding.

    For a handler of ``sched_switch`` and its arguments.
    """
    return preempt != 0 or task_state(prev) == 0


def has_ended(task):
    """Whether ``task``, which loses its CPU, never runs again."""
    return task_state(task) == TASK_DEAD


def thread_key(task):
    """What a thread can be kept under, also an idle one."""
    return task.pid if task.pid else IDLE + cpu()


def waiting_here():
    """How many threads wait for their turn on the current CPU: of all scheduling classes, and of all cgroups.

    The queue that a thread's ``se.cfs_rq`` points to is that of its cgroup
    alone; the CPU's own is one step further.
    """
    task = current.task
    queue = task.se.cfs_rq
    if exists(queue.rq):  # CONFIG_FAIR_GROUP_SCHED
        return without_current(task, queue.rq)
    return without_current(task, container_of(queue, "struct rq", "cfs"))


def without_current(task, rq):
    """What waits on the run queue ``rq``, whose CPU runs ``task``."""
    waiting = rq.nr_running - asleep_but_queued(rq)
    return waiting - 1 if task.pid else waiting  # the idle task is no member of its queue
