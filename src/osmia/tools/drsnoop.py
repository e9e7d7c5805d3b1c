# SPDX-License-Identifier: Apache-2.0
"""Trace direct reclaim: processes that had to make room before they got memory."""

from __future__ import annotations

from osmia import Col, Comm, Event, Hash, Ring, current, event_table, ktime, option, tracepoint
from osmia.kernel.named import thread_number, user_number
from osmia.lang.filters import cgroup, name, pid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_is_thread, current_process_id, current_thread_id
from osmia.lang.types import u8, u32, u64
from osmia.tools._show import elapsed, ms

timestamp = option("-T", "--timestamp", help="show the time in seconds since the first row")
print_uid = option("-U", "--print-uid", help="show the user's id")
tid = option("-t", "--tid", type=int, parse=thread_number, metavar="TID", help="trace this thread only")
uid = option("-u", "--uid", type=int, default=-1, parse=user_number, metavar="USER", help="this user only (name or id)")
free = option("-v", "--free", help="show the system's free memory, too")
groups = option("-m", "--memcg", help="trace reclaim for the limit of a memory cgroup, too")


class Reclaim(Event):
    """A reclaim that is over; ``memcg``: for the limit of a cgroup."""

    ts: u64
    uid: u32
    pid: u32
    tid: u32
    order: u32
    delta: u64
    pages: u64
    memcg: u8
    comm: Comm


begun = Hash[u32, tuple[u64, u32]]()  # thread -> since when, and for how many pages in a row (as a power of two)
reclaims = Ring(Reclaim)


def begin(order):
    if uid >= 0 and current.uid != uid:
        return
    if tid and not current_is_thread(tid):
        return
    if wanted():
        begun[current.pid] = ktime(), order


def end(pages, memcg):
    start = begun.pop(current.pid)
    if start is None:
        return
    since, order = start
    with reclaims.reserve() as e:
        e.ts = ktime()
        e.uid, e.pid, e.tid, e.comm = current.uid, current_process_id(), current_thread_id(), current.comm
        e.order, e.pages, e.memcg, e.delta = order, pages, memcg, e.ts - since


@tracepoint("vmscan:mm_vmscan_direct_reclaim_begin")
def enter(record):
    begin(record.order)


@tracepoint("vmscan:mm_vmscan_direct_reclaim_end")
def leave(record):
    end(record.nr_reclaimed, 0)


@tracepoint("vmscan:mm_vmscan_memcg_reclaim_begin", optional=True)
def enter_group(record):
    begin(record.order)


@tracepoint("vmscan:mm_vmscan_memcg_reclaim_end", optional=True)
def leave_group(record):
    end(record.nr_reclaimed, 1)


def free_kilobytes(_):
    """As the system has it when the row is shown."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("MemFree:")).split()[1])


def prepare():
    enter_group.enabled = leave_group.enabled = bool(groups)


tool = event_table(
    reclaims,
    [
        Col("ts", "TIME(s)", 14, show=elapsed(9, from_first=True), when=timestamp, align="<"),
        Col("uid", "UID", 6, when=print_uid, align="<"),
        Col("comm", "COMM", 14),
        Col("pid", "PID", 6, when=lambda: not tid, align="<"),
        Col("tid", "TID", 6, when=tid, align="<"),
        Col("delta", "LAT(ms)", 8, show=ms),
        Col("pages", "PAGES", 5),
        Col("memcg", "FOR", 6, show=lambda memcg: "cgroup" if memcg else "system", when=groups),
        Col("free", "FREE(KB)", 10, row=free_kilobytes, when=free),
    ],
    prepare=prepare,
)
