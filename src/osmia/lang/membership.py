# SPDX-License-Identifier: Apache-2.0
"""Kernel half: what a task belongs to: the processes that it descends from, and cgroups (v2).

For ``-c CMD`` the ancestor is osmia itself, which makes itself the reaper of
what the command leaves behind (PR_SET_CHILD_SUBREAPER): so a process whose
parent has ended stays a descendant, and no list of processes has to be kept.
"""

from __future__ import annotations

from osmia.lang.builtins import container_of, current, exists
from osmia.lang.options import option
from osmia.lang.types import u32

#: The process (by the kernel's own number) whose descendants alone are traced; 0: no such limit.  Set before a load.
ancestor = option("ancestor", type=u32)

GENERATIONS = 128  # looked at; chains of processes are rarely longer than a dozen


def descends(task):
    """Whether the process of ``task`` is a descendant of ``ancestor``, which itself is none."""
    one = task
    for _ in range(GENERATIONS):
        one = one.real_parent
        if one.tgid == ancestor:
            return True
        if one.pid <= 1:
            return False
    return False


def current_descends():
    """The same for the current task; nothing does where the kernel has no types."""
    if exists("struct task_struct"):
        return descends(current.task)
    return False


LEVELS = 32  # of cgroups, one below the other


def task_in_cgroup(task, id):
    """Whether ``task`` is in the cgroup with this id, or in one below it; ids are in kernfs nodes (5.5)."""
    group = container_of(task.cgroups.dfl_cgrp.self, "struct cgroup", "self")
    for _ in range(LEVELS):
        if group.kn.id == id:
            return True
        parent = group.self.parent
        if not parent:
            return False
        group = container_of(parent, "struct cgroup", "self")
    return False
