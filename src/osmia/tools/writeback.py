# SPDX-License-Identifier: Apache-2.0
"""Trace writeback: when the kernel writes changed pages of files to disk, how many, why, and for how long."""

from __future__ import annotations

from osmia import Col, Hash, Ring, current, event_table, ktime, tracepoint
from osmia.lang.types import Event, Str, s32, s64, u32, u64
from osmia.tools._show import clock

#: include/linux/backing-dev-defs.h, enum wb_reason, with the names of include/trace/events/writeback.h: the same since
#: 5.4, which added the last one.
REASONS = ("background", "vmscan", "sync", "periodic", "laptop_timer", "fs_free_space", "forker_thread",
           "foreign_flush")  # fmt: skip


class Pass(Event):
    """One pass over a device's changed files.  ``wanted`` is how many pages it was to write at most."""

    ts: u64
    ns: u64
    pages: s64
    wanted: s64
    cgroup: u64
    reason: s32
    dev: u32
    device: Str[32]


passes = Ring(Pass)
starts = Hash[u32, tuple[u64, s64]]()  # worker thread -> when its pass began, and how many pages were wanted


@tracepoint("writeback:writeback_start")
def start(work):
    starts[current.pid] = ktime(), work.nr_pages


@tracepoint("writeback:writeback_written")
def written(work):
    begun = starts.pop(current.pid)
    if begun is None:  # it began before the trace
        return
    since, wanted = begun
    now = ktime()
    with passes.reserve() as e:
        e.ts, e.ns, e.wanted, e.pages = now, now - since, wanted, wanted - work.nr_pages
        e.cgroup, e.reason, e.dev, e.device = work.cgroup_ino, work.reason, work.sb_dev, work.name


def reason(number):
    return REASONS[number] if 0 <= number < len(REASONS) else str(number)


tool = event_table(
    passes,
    [
        Col("ts", "TIME", 9, show=clock, align="<"),
        Col("device", "DEVICE", 8),
        Col("pages", "PAGES", 8, align="<"),
        Col("reason", "REASON", 16, show=reason, align="<"),
        Col("ns", "ms", show=lambda ns: f"{ns / 1e6:.3f}"),
    ],
    banner="Tracing writeback... Hit Ctrl-C to end.",
)
