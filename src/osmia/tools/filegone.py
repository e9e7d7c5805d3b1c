# SPDX-License-Identifier: Apache-2.0
"""Trace why files are gone: who deletes or renames them."""

from __future__ import annotations

import os

from osmia import Col, Ring, current, event_table, ktime, option, tracepoint
from osmia.lang.filters import cgroup, name, pid, tid, uid  # noqa: F401 - options
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.lang.types import Comm, Event, Strs, u32, u64
from osmia.tools._gone import DELETE, ENDS, ENTRIES, EXCHANGE, RENAME, RMDIR, absolute, add_paths, asked, enter_rmdir  # noqa: F401 - programs
from osmia.tools._show import clock

ACTIONS = {DELETE: "DELETE", RMDIR: "DELETE", RENAME: "RENAME", EXCHANGE: "RENAME"}

full = option("-F", "--full-path", help="show whole paths and not only the last name of each")


class Gone(Event):
    """A name that has gone; ``names`` are the parts of its path, and of the new one."""

    ts: u64
    pid: u32
    tid: u32
    action: u32
    comm: Comm
    names: Strs[16384, 4096]


gone = Ring(Gone)


@tracepoint(*ENDS, "syscalls:sys_exit_rmdir")
def leave(call):
    """Only now has the kernel itself touched the names, so they can be read."""
    one = asked.pop(current.pid)
    if one is None or call.ret != 0:
        return
    action, path, directory, new_path, new_directory = one
    with gone.reserve() as e:
        e.ts, e.action, e.comm = ktime(), action, current.comm
        e.pid, e.tid = current_process_id(), current_thread_id()
        add_paths(e.names, action, directory, path, new_directory, new_path)


def shown(e):
    """As bcc has it: the name, and in a rename the new one."""
    old, new = [path if full else os.path.basename(path.rstrip("/")) for path in absolute(e.names)]
    return f"{old} {'<>' if e.action == EXCHANGE else '>'} {new}" if new else old


tool = event_table(
    gone,
    [
        Col("ts", "TIME", 8, show=clock, align="<"),
        Col("pid", "PID", 7, align="<"),
        Col("comm", "COMM", 16),
        Col("what", "ACTION", 6, row=lambda e: ACTIONS[e.action], align=">"),
        Col("file", "FILE", row=shown),
    ],
)
