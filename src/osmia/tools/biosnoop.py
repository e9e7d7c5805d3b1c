# SPDX-License-Identifier: Apache-2.0
"""Trace block device I/O: each request, who made it, and how long it took."""

from __future__ import annotations

from osmia import Col, Comm, Event, Ring, Str, event_table, first_of, ktime, option, raw_tracepoint, tp_btf
from osmia.lang.drift import disk_of
from osmia.lang.filters import cgroup, name, pid, uid, wanted  # noqa: F401 - options
from osmia.lang.types import u8, u32, u64
from osmia.tools._bio import disk, letters  # noqa: F401 - an option
from osmia.tools._pattern import PATTERNS, pattern, pattern_of
from osmia.tools._requests import begin, finished, insert, issue, merge, requests, requeue  # noqa: F401
from osmia.tools._show import elapsed, ms

queue = option("-Q", "--queue", "--queued", help="show the time in the system's queues")
least = option("-m", "--min", type=int, default=0, metavar="MS", help="show requests of this time and longer only")


class Io(Event):
    """A request that is done; times in ns."""

    ts: u64
    pid: u32
    flags: u32
    comm: Comm
    disk: Str[32]
    sector: u64
    bytes: u32
    pattern: u8
    queued: u64
    latency: u64
    cgroup: u64


ios = Ring(Io)


@first_of(tp_btf("block_rq_complete"), raw_tracepoint("block_rq_complete"))
def complete(rq, error, n):
    """A part of the request is done; the last one, when nothing remains."""
    one = finished(rq, n)
    if one is None:
        return
    now = ktime()
    kind = pattern_of(rq, one)
    issued = one.issued if one.issued else one.at  # what asks for a flush only is never issued itself
    if now - issued >= least * 1_000_000:
        with ios.reserve() as e:
            e.ts, e.pid, e.comm, e.cgroup = now, one.pid, one.comm, one.cgroup
            e.flags, e.disk, e.sector, e.bytes = rq.cmd_flags, disk_of(rq).disk_name, one.sector, one.bytes
            e.pattern, e.queued, e.latency = kind, issued - one.at, now - issued
    del requests[rq]


tool = event_table(
    ios,
    [
        Col("ts", "TIME(s)", 11, show=elapsed(6, from_first=True), align="<"),
        Col("comm", "COMM", 14),
        Col("pid", "PID", 7, align="<"),
        Col("disk", "DISK", 9),
        Col("type", "T", 1, row=lambda e: letters(e.flags, e.bytes)),
        Col("sector", "SECTOR", 10, align="<"),
        Col("bytes", "BYTES", 7, align="<"),
        Col("pattern", "P", 1, show=PATTERNS.__getitem__, when=pattern, align="<"),
        Col("queued", "QUE(ms)", 7, show=ms, when=queue),
        Col("latency", "LAT(ms)", 7, show=ms),
    ],
)
