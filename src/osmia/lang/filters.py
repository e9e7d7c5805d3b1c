# SPDX-License-Identifier: Apache-2.0
"""The filters that all tools share, in the kernel and before any cost: process, thread, user, name, cgroup.

A tool imports the options that it offers and calls ``wanted()`` first, or
``wanted_task(task)`` where the probe is about another task than the current
one; what is not given is pruned by the verifier.  Numbers of processes and
threads are those of osmia's own PID namespace.  ``-c CMD`` and ``--container
ID`` come with these functions and need nothing of the tool.
"""

from __future__ import annotations

from osmia.lang.builtins import current, subprogram
from osmia.lang.drift import in_cgroup
from osmia.lang.membership import ancestor, current_descends, descends, task_in_cgroup
from osmia.lang.options import Computed, option
from osmia.lang.pidns import TaskPtr, current_is_process, current_is_thread, is_process, is_thread
from osmia.lang.types import Str, u64

__all__ = ["cgroup", "name", "pid", "tid", "uid", "wanted", "wanted_task"]

pid = option("-p", "--pid", type=int, metavar="PID", help="this process only (PID as seen from here)")
tid = option("--tid", type=int, metavar="TID", help="this thread only (TID as seen from here)")
uid = option("--uid", type=int, default=-1, metavar="USER", help="this user only (name or id)")
name = option("-n", "--name", type=Str.of(16), metavar="NAME", help="only processes whose name contains NAME")
cgroup = option("--cgroup", type=u64, metavar="PATH", help="only processes in this cgroup (v2) or below it")


#: Whether any filter is given: a run without one pays for this question and not for one per filter.
limited = Computed("limited", lambda: any(one.value != one.default for one in (pid, tid, uid, name, cgroup, ancestor)))


def wanted() -> bool:
    """Whether the current task passes every filter that was given."""
    return not limited or passes()


def wanted_task(task):
    """Whether ``task``, which need not be the current one, passes every filter that was given."""
    return not limited or passes_task(task)


@subprogram(when=limited)  # once in the object, whatever the number of probes that ask
def passes() -> bool:
    """:func:`wanted` where there are filters."""
    if pid and not current_is_process(pid):
        return False
    if tid and not current_is_thread(tid):
        return False
    if uid >= 0 and current.uid != uid:
        return False
    if name and name not in current.comm:
        return False
    if ancestor and not current_descends():
        return False
    return not (cgroup and not in_cgroup(cgroup))


@subprogram(when=limited)
def passes_task(task: TaskPtr) -> bool:
    """:func:`wanted_task` where there are filters."""
    if pid and not is_process(task, pid):
        return False
    if tid and not is_thread(task, tid):
        return False
    if uid >= 0 and task.cred.uid.val != uid:
        return False
    if name and name not in task.comm:
        return False
    if ancestor and not descends(task):
        return False
    return not (cgroup and not task_in_cgroup(task, cgroup))
