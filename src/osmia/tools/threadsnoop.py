# SPDX-License-Identifier: Apache-2.0
"""Trace threads that programs make with pthread_create(), and the function that each begins with."""

from __future__ import annotations

from osmia import Col, Comm, Event, Ring, current, event_table, ktime, option, u32, u64, uprobe
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.tools import _show
from osmia.tools._libc import within

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

library = option("--library", type=str, metavar="FILE",
                 help="the C library, or a static program, that has the function (default: this system's)")  # fmt: skip


class Create(Event):
    """One call; ``start`` is the address of the function that the thread begins with."""

    ts: u64
    start: u64
    pid: u32
    tid: u32
    comm: Comm


creates = Ring(Create)


@uprobe(within(library, "pthread_create"))
def create(thread: u64, attributes: u64, start: u64):
    if not wanted():
        return
    with creates.reserve() as e:
        e.ts, e.start, e.comm = ktime(), start, current.comm
        e.pid, e.tid = current_process_id(), current_thread_id()


names: list[Any] = []  # what names addresses, once it is needed


def function(e):
    """The function at ``start``, as far as the process, which still lives, says; else the address."""
    if _show.REPLAYED:  # another process may have that number by now
        return f"{e.start:#x}"
    if not names:
        from osmia.symbols.symbolizer import Symbolizer

        names.append(Symbolizer())
    return names[0].user(e.pid, e.start).label


tool = event_table(
    creates,
    [
        Col("ts", "TIME(ms)", 10, show=_show.elapsed(0, from_first=True, unit=1_000_000), align="<"),
        Col("pid", "PID", 7, align="<"),
        Col("comm", "COMM", 16),
        Col("func", "FUNC", row=function),
    ],
    descendants=True,
)
