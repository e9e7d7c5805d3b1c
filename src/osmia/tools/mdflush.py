# SPDX-License-Identifier: Apache-2.0
"""Trace flushes that software RAID (md) devices are asked for, and by whom."""

from __future__ import annotations

from osmia import Col, Comm, Event, Ring, current, event_table, ktime, option, tracepoint
from osmia.lang.filters import cgroup, name, pid, uid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id
from osmia.lang.types import u32, u64
from osmia.tools._bio import disk_name
from osmia.tools._show import clock

every = option("-a", "--all", help="flushes of all devices, not only of md's")


class Flush(Event):
    """One bio that is to flush before it writes; ``bytes``: what it writes."""

    ts: u64
    pid: u32
    dev: u32
    bytes: u32
    comm: Comm


flushes = Ring(Flush)


@tracepoint("block:block_bio_queue")
def queued(bio):
    """Before the device splits it up; its letters begin with F for REQ_PREFLUSH (blk_fill_rwbs of the kernel)."""
    if bio.rwbs[0] == ord("F") and wanted():
        with flushes.reserve() as e:
            e.ts, e.pid, e.comm = ktime(), current_process_id(), current.comm
            e.dev, e.bytes = bio.dev, bio.nr_sector * 512


def device(flush):
    return disk_name(flush.dev)


def asked_for(flush):
    return bool(every) or device(flush).startswith("md")


def banner():
    return f"Tracing {'' if every else 'md '}flush requests... Hit Ctrl-C to end."


tool = event_table(
    flushes,
    [
        Col("ts", "TIME", 8, show=clock, align="<"),
        Col("pid", "PID", 7, align="<"),
        Col("comm", "COMM", 16),
        Col("device", "DEVICE", row=device),
    ],
    keep=asked_for,
    banner=banner,
)
