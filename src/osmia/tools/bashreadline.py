# SPDX-License-Identifier: Apache-2.0
"""Trace command lines as people enter them, in every bash."""

from __future__ import annotations

from osmia import Col, Event, Hash, Ring, Str, User, current, event_table, ktime, u32, u64, uretprobe
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.tools._bash import FUNCTION, aim, chosen, shared, where  # noqa: F401 - an option
from osmia.tools._show import clock

Line = User["char"]


class Entered(Event):
    """A line as it was entered."""

    ts: u64
    pid: u32
    tid: u32
    uid: u32
    command: Str[4096]


told = Hash[u32, Line](1024)  # by thread: the line that is on its way through the outer function
lines = Ring(Entered)


def send(line):
    with lines.reserve() as e:
        e.ts, e.uid = ktime(), current.uid
        e.pid, e.tid = current_process_id(), current_thread_id()
        e.command = line


@uretprobe(where("readline_internal_teardown"), optional=True)
def inner(ret: Line):
    """Entered when the line is there: it also returns in a bash that has waited since before the trace."""
    if ret and chosen() and wanted():
        told[current.pid] = ret
        send(ret)


@uretprobe(where(FUNCTION))
def outer(ret: Line):
    """Where the other one has become a part of its caller."""
    if not ret or not chosen() or not wanted():
        return
    before = told.pop(current.pid)
    if before is None or u64(before) != u64(ret):
        send(ret)


tool = event_table(
    lines,
    [
        Col("ts", "TIME", 9, show=clock, align="<"),
        Col("pid", "PID", 7, align="<"),
        Col("command", "COMMAND"),
    ],
    descendants=True,
    prepare=aim,
)
