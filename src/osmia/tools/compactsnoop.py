# SPDX-License-Identifier: Apache-2.0
"""Trace compaction of memory: who had to wait until pages in a row were free."""

from __future__ import annotations

from osmia import Col, Comm, Event, Kernel, LruHash, Ring, Stacks, Str, cast, current, event_table, exists, first_of
from osmia.lang.builtins import enum_value, kernel_str, ktime, lost
from osmia.lang.drift import compaction_of
from osmia.lang.filters import cgroup, name, pid, wanted  # noqa: F401 - options
from osmia.lang.options import option
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.lang.probes import raw_tracepoint, tp_btf, tracepoint
from osmia.lang.types import s32, u8, u32, u64
from osmia.tools._show import elapsed

ZonePtr = Kernel["struct zone"]

timestamp = option("-T", "--timestamp", help="show the time in seconds since the first row")
kernel_stack = option("-K", "--kernel-stack", help="show the kernel's stack")
extended = option("-e", "--extended_fields", help="show the zone's watermarks and free pages, too")

#: enum compact_result, include/linux/compaction.h: the same since 4.7.
STATUS = ("not_suitable_zone", "skipped", "deferred", "no_suitable_page", "continue", "complete", "partial_skipped",
          "contended", "success")  # fmt: skip


class Compaction(Event):
    """One that is over; memory in pages."""

    ts: u64
    pid: u32
    tid: u32
    comm: Comm
    node: u32
    zone: Str[16]
    order: s32
    sync: u8
    min: u64
    low: u64
    high: u64
    free: u64
    delta: u64
    status: u32
    kernel: u32
    user: u32


zones = LruHash[u32, tuple[ZonePtr, s32]](4096)  # thread -> what it compacts, and for how many pages in a row
begun = LruHash[u32, tuple[u64, u32]](4096)  # thread -> since when, and whether it waits for others
stacks = Stacks(1024)
compactions = Ring(Compaction)


@first_of(tp_btf("mm_compaction_suitable"), raw_tracepoint("mm_compaction_suitable"))
def suitable(zone, order, ret):
    """The zone that is compacted next, where the begin does not tell it."""
    if ret == enum_value("compact_result", "COMPACT_CONTINUE") and wanted():
        zones[current.pid] = zone, order


@first_of(tp_btf("mm_compaction_begin"), raw_tracepoint("mm_compaction_begin"))
def zone_of(first):
    control = compaction_of(first)
    if control and wanted():
        told = cast(control, "struct compact_control")
        zones[current.pid] = told.zone, told.order


@tracepoint("compaction:mm_compaction_begin")
def begin(record):
    if wanted():
        begun[current.pid] = ktime(), record.sync


@tracepoint("compaction:mm_compaction_end")
def end(record):
    start = begun.pop(current.pid)
    compacted = zones.pop(current.pid)
    if start is None:
        return
    if compacted is None:
        lost("compactions of unknown zones")
        return
    since, sync = start
    zone, order = compacted
    with compactions.reserve() as e:
        e.ts, e.pid, e.tid, e.comm = ktime(), current_process_id(), current_thread_id(), current.comm
        e.order, e.sync, e.status, e.delta = order, sync, record.status, e.ts - since
        e.zone = kernel_str(zone.name, 16)
        if exists(zone.node):  # a kernel for one node has none
            e.node = zone.node
        boost = zone.watermark_boost
        e.min, e.low = zone._watermark[0] + boost, zone._watermark[1] + boost
        e.high, e.free = zone._watermark[2] + boost, zone.vm_stat[0].counter
        if kernel_stack:
            e.kernel = stacks.kernel()


def status(number):
    return STATUS[number] if number < len(STATUS) else str(number)


def prepare():
    tool.view = "osmia.cli.with_stacks:EventsWithStacks" if kernel_stack else ""


tool = event_table(
    compactions,
    [
        Col("ts", "TIME(s)", 14, show=elapsed(9, from_first=True), when=timestamp, align="<"),
        Col("comm", "COMM", 14),
        Col("pid", "PID", 6, align="<"),
        Col("node", "NODE", 4, align="<"),
        Col("zone", "ZONE", 12, show=lambda zone: f"ZONE_{zone.upper()}"),
        Col("order", "ORDER", 5, align="<"),
        Col("sync", "MODE", 7, show=lambda sync: "SYNC" if sync else "ASYNC", align="<"),
        Col("min", "MIN", 8, when=extended, align="<"),
        Col("low", "LOW", 8, when=extended, align="<"),
        Col("high", "HIGH", 8, when=extended, align="<"),
        Col("free", "FREE", 8, when=extended, align="<"),
        Col("delta", "LAT(ms)", 9, show=lambda ns: f"{ns / 1e6:.3f}"),
        Col("status", "STATUS", 16, show=status, align=">"),
    ],
    prepare=prepare,
    stacks=stacks,
)
