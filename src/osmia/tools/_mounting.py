# SPDX-License-Identifier: Apache-2.0
"""Kernel half of mountsnoop: what threads ask for, until the calls return, and what is told of them then."""

from __future__ import annotations

from osmia.lang.builtins import cast, current, ktime, read_user
from osmia.lang.filters import wanted
from osmia.lang.maps import Hash, Ring
from osmia.lang.pidns import current_process_id, current_thread_id, process_id
from osmia.lang.probes import tracepoint
from osmia.lang.types import Comm, Event, Strs, s64, u32, u64

MOUNT, UMOUNT, FSOPEN, FSCONFIG, FSMOUNT, MOVE_MOUNT, OPEN_TREE, FSPICK, MOUNT_SETATTR = range(9)
NAMES = ("mount", "umount", "fsopen", "fsconfig", "fsmount", "move_mount", "open_tree", "fspick", "mount_setattr")
SET_BINARY = 2  # FSCONFIG_SET_BINARY, include/uapi/linux/mount.h: its value is no text


class Call(Event):
    """What a thread asked for, until the call returns: addresses of texts, and numbers."""

    text1: u64
    text2: u64
    text3: u64
    text4: u64
    arg1: u64
    arg2: u64
    arg3: u64
    call: u32
    texts: u32


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


calls = Hash[u32, Call]()  # by thread
mounts = Ring(Mount)


def enter(call, texts, text1, text2, text3, text4, arg1, arg2, arg3):
    if wanted():
        calls[current.pid] = Call(call=call, texts=texts, text1=text1, text2=text2, text3=text3, text4=text4,
                                  arg1=arg1, arg2=arg2, arg3=arg3)  # fmt: skip


@tracepoint("syscalls:sys_enter_mount")
def enter_mount(call):
    enter(MOUNT, 4, call.dev_name, call.dir_name, call.type, call.data, call.flags, 0, 0)


@tracepoint("syscalls:sys_enter_umount")
def enter_umount(call):
    enter(UMOUNT, 1, call.name, 0, 0, 0, call.flags, 0, 0)


@tracepoint("syscalls:sys_enter_fsopen")
def enter_fsopen(call):
    enter(FSOPEN, 1, call._fs_name, 0, 0, 0, call.flags, 0, 0)


@tracepoint("syscalls:sys_enter_fsconfig")
def enter_fsconfig(call):
    texts = 1 if call.cmd == SET_BINARY else 2
    enter(FSCONFIG, texts, call._key, call._value, 0, 0, call.fd, call.cmd, call.aux)


@tracepoint("syscalls:sys_enter_fsmount")
def enter_fsmount(call):
    enter(FSMOUNT, 0, 0, 0, 0, 0, call.fs_fd, call.flags, call.attr_flags)


@tracepoint("syscalls:sys_enter_move_mount")
def enter_move_mount(call):
    enter(MOVE_MOUNT, 2, call.from_pathname, call.to_pathname, 0, 0, call.from_dfd, call.to_dfd, call.flags)


@tracepoint("syscalls:sys_enter_open_tree")
def enter_open_tree(call):
    enter(OPEN_TREE, 1, call.filename, 0, 0, 0, call.dfd, call.flags, 0)


@tracepoint("syscalls:sys_enter_fspick")
def enter_fspick(call):
    enter(FSPICK, 1, call.path, 0, 0, 0, call.dfd, call.flags, 0)


@tracepoint("syscalls:sys_enter_mount_setattr", optional=True)  # 5.12
def enter_mount_setattr(call):
    enter(MOUNT_SETATTR, 1, call.path, 0, 0, 0, call.dfd, call.flags, call.uattr)


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


PROGRAMS = (
    enter_mount, enter_umount, enter_fsopen, enter_fsconfig, enter_fsmount, enter_move_mount, enter_open_tree,
    enter_fspick, enter_mount_setattr, leave,
)  # fmt: skip
