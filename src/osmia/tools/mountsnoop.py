# SPDX-License-Identifier: Apache-2.0
"""Trace mount(), umount() and the newer calls that mount something."""

from __future__ import annotations

from osmia import Col, Ring, cast, current, event_table, ktime, option, read_user, tracepoint
from osmia.lang.filters import cgroup, name, pid, tid, uid  # noqa: F401 - options
from osmia.lang.pidns import current_process_id, current_thread_id, process_id
from osmia.lang.types import Comm, Event, Strs, s64, u32, u64
from osmia.tools._mounting import (  # noqa: F401 - programs
    MOUNT_SETATTR,
    NAMES,
    calls,
    enter_fsconfig,
    enter_fsmount,
    enter_fsopen,
    enter_fspick,
    enter_mount,
    enter_mount_setattr,
    enter_move_mount,
    enter_open_tree,
    enter_umount,
)
from osmia.tools._mounts import written
from osmia.tools._show import refused

parent = option("-P", "--parent_process", help="show the parent process, too")
cgroupmap = option("--cgroupmap", type=str, parse=refused("--cgroupmap", "use --cgroup PATH"),
                   help="not here: use --cgroup PATH")  # fmt: skip
mntnsmap = option("--mntnsmap", type=str, parse=refused("--mntnsmap", "use --cgroup PATH"),
                  help="not here: use --cgroup PATH")  # fmt: skip


class Mount(Event):
    """One call.  ``words``: those of its arguments that are texts, ``arg1`` and so on the others."""

    ts: u64
    ret: s64
    arg1: u64
    arg2: u64
    arg3: u64
    arg4: u64
    arg5: u64
    pid: u32
    tid: u32
    ppid: u32
    mnt_ns: u32
    call: u32
    comm: Comm
    pcomm: Comm
    words: Strs[16384, 4096]


mounts = Ring(Mount)


@tracepoint(*[f"syscalls:sys_exit_{one}" for one in NAMES])
def leave(exit):
    """Only now has the kernel itself touched the texts, so they can be read."""
    call = calls.get(current.pid)
    if call is not None:
        send(call, exit.ret)
        del calls[current.pid]


def send(call, ret):
    task = current.task
    with mounts.reserve() as e:
        e.ts, e.ret, e.call, e.comm = ktime(), ret, call.call, current.comm
        e.pid, e.tid, e.ppid = current_process_id(), current_thread_id(), process_id(task.real_parent)
        e.pcomm, e.mnt_ns = task.real_parent.comm, task.nsproxy.mnt_ns.ns.inum
        e.arg1, e.arg2, e.arg3, e.arg4, e.arg5 = call.arg1, call.arg2, call.arg3, 0, 0
        if call.call == MOUNT_SETATTR:  # struct mount_attr: what is set, what is cleared, propagation
            e.arg3, e.arg4, e.arg5 = (
                read_user(call.arg3, u64), read_user(call.arg3, u64, 1), read_user(call.arg3, u64, 2))  # fmt: skip
        if call.texts > 0:
            e.words.add(cast(call.text1, "char", user=True))
        if call.texts > 1:
            e.words.add(cast(call.text2, "char", user=True))
        if call.texts > 2:
            e.words.add(cast(call.text3, "char", user=True))
            e.words.add(cast(call.text4, "char", user=True))


tool = event_table(
    mounts,
    [
        Col("comm", "COMM", 16),
        Col("pid", "PID", 7, align="<"),
        Col("tid", "TID", 7, align="<"),
        Col("pcomm", "PCOMM", 16, when=parent),
        Col("ppid", "PPID", 7, when=parent, align="<"),
        Col("mnt_ns", "MNT_NS", 11, align="<"),
        Col("written", "CALL", row=written),
    ],
)
