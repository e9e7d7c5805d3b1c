# SPDX-License-Identifier: Apache-2.0
"""Trace files that live short: how old a file was when it was deleted."""

from __future__ import annotations

import os

from osmia import Col, Ring, current, event_table, ktime, option, tracepoint
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.lang.types import Comm, Event, Strs, u32, u64
from osmia.tools._fd import OPENS, created, file_of
from osmia.tools._gone import DELETE, ENDS, ENTRIES, EXCHANGE, RENAME, RMDIR, absolute, add_paths, asked  # noqa: F401 - programs
from osmia.tools._paths import add_names
from osmia.tools._show import clock

CREATE = 9  # beside the actions of _gone
MOST = 1 << 18  # files whose birth is remembered

full = option("-F", "--full-path", help="show whole paths and not only the last name of each")


class Life(Event):
    """A file's beginning or end, or a new name.

    ``root`` tells the root directories of processes apart, from which paths count.
    """

    ts: u64
    root: u64
    pid: u32
    tid: u32
    action: u32
    comm: Comm
    names: Strs[16384, 4096]


lives = Ring(Life)


@tracepoint(*OPENS)
def opened(call):
    if call.ret >= 0 and wanted() and created(call.ret):
        with lives.reserve() as e:
            describe(e, CREATE)
            add_names(e.names, file_of(call.ret).f_path)


@tracepoint(*ENDS)
def leave(call):
    one = asked.pop(current.pid)
    if one is None or call.ret != 0:
        return
    action, path, directory, new_path, new_directory = one
    if action != RMDIR:
        with lives.reserve() as e:
            describe(e, action)
            add_paths(e.names, action, directory, path, new_directory, new_path)


def describe(e, action):
    root = current.task.fs.root.dentry
    e.ts, e.action, e.comm, e.root = ktime(), action, current.comm, root.d_sb.s_dev << 32 | root.d_inode.i_ino
    e.pid, e.tid = current_process_id(), current_thread_id()


births: dict[tuple[int, str], int] = {}  # root and path -> when


def known(root, path):
    """The key of a file whose birth was seen; its directory may be spelled otherwise, by symbolic links for example."""
    key = (root, os.path.normpath(path))
    if key in births:
        return key
    return root, os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def keep(e):
    """Whether it is the end of a file whose beginning was seen."""
    old, new = absolute(e.names)
    if e.action == CREATE:
        births[e.root, old] = e.ts
        if len(births) > MOST:
            del births[next(iter(births))]
        return False
    key = known(e.root, old)
    born = births.pop(key, None)
    if e.action != DELETE:
        other = known(e.root, new)
        if e.action == EXCHANGE and other in births:
            births[key] = births.pop(other)
        births.pop(other, None)
        if born is not None:
            births[other] = born
        return False
    e.age_ns = e.ts - born if born is not None else 0
    return born is not None


def shown(e):
    path, _ = absolute(e.names)
    return path if full else os.path.basename(path)


tool = event_table(
    lives,
    [
        Col("ts", "TIME", 8, show=clock, align="<"),
        Col("pid", "PID", 7, align="<"),
        Col("comm", "COMM", 16),
        Col("age", "AGE(s)", 7, row=lambda e: e.age_ns / 1e9, show="{:.2f}".format, align="<"),
        Col("file", "FILE", row=shown),
    ],
    keep=keep,
)
