# SPDX-License-Identifier: Apache-2.0
"""Kernel half: the numbers of processes and threads as osmia's own PID namespace has them.

The kernel's own numbers, ``task.tgid`` and ``current.pid``, are those of the
initial namespace.  In a container people see others: what they give to ``-p``
and what they want to read in a row is a number of *their* namespace.  A
number is therefore compared and shown through the functions here, and only
there; keys of maps stay the kernel's numbers, which every task has.

bpf_get_ns_current_pid_tgid (5.7) answers only for the current task, and only
where its innermost namespace is the one that is asked about; so the task's
own list of numbers is read, which holds one per namespace from the initial
one down to its own.  In the initial namespace none of that is loaded.
"""

from __future__ import annotations

from osmia.lang.builtins import current, exists, subprogram
from osmia.lang.options import option
from osmia.lang.types import Kernel, u32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Inode number of osmia's PID namespace; 0 where that is the initial one (or unknown).  Set before every load.
namespace = option("pid-namespace", type=u32)

LEVELS = 32  # MAX_PID_NS_LEVEL, include/linux/pid_namespace.h
PidPtr: Any = Kernel["struct pid"]
TaskPtr: Any = Kernel["struct task_struct"]


@subprogram(when=namespace)
def number_here(pid: PidPtr):
    """The number of a ``struct pid`` in osmia's namespace; 0 where it has none there.

    A namespace has its own kind of numbers at one level only, that of its depth.
    """
    for level in range(1, LEVELS + 1):
        if level > pid.level:
            break
        if pid.numbers[level].ns.ns.inum == namespace:
            return pid.numbers[level].nr
    return 0


@subprogram(when=namespace)
def process_here(task: TaskPtr):
    """The number of the process of ``task`` in osmia's namespace; 0 where it has none there."""
    return number_here(task.group_leader.thread_pid)


@subprogram(when=namespace)
def thread_here(task: TaskPtr):
    """The number of the thread ``task`` in osmia's namespace; 0 where it has none there."""
    return number_here(task.thread_pid)


def is_process(task, number):
    """Whether people know the process of ``task`` by ``number``."""
    if namespace:
        return process_here(task) == number
    return task.tgid == number


def is_thread(task, number):
    """Whether people know the thread ``task`` by ``number``."""
    if namespace:
        return thread_here(task) == number
    return task.pid == number


def current_is_process(number):
    """:func:`is_process` of the current task; also where the kernel has no types."""
    if namespace and exists("struct task_struct"):
        return is_process(current.task, number)
    return current.tgid == number


def current_is_thread(number):
    """:func:`is_thread` of the current task."""
    if namespace and exists("struct task_struct"):
        return is_thread(current.task, number)
    return current.pid == number


def process_id(task):
    """The number of the process of ``task`` for people; the kernel's own where it is outside osmia's namespace."""
    if namespace:
        number = process_here(task)
        if number:
            return number
    return task.tgid


def thread_id(task):
    """The number of the thread ``task`` for people; the kernel's own where it is outside osmia's namespace."""
    if namespace:
        number = thread_here(task)
        if number:
            return number
    return task.pid


def current_process_id():
    """:func:`process_id` of the current task."""
    if namespace and exists("struct task_struct"):
        return process_id(current.task)
    return current.tgid


def current_thread_id():
    """:func:`thread_id` of the current task."""
    if namespace and exists("struct task_struct"):
        return thread_id(current.task)
    return current.pid
