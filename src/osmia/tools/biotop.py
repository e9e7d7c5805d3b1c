# SPDX-License-Identifier: Apache-2.0
"""Show which processes do most block device I/O, page by page."""

from __future__ import annotations

from osmia import Col, Comm, Event, PerCpuHash, count_table, first_of, ktime, raw_tracepoint, tp_btf, u32, u64
from osmia.lang.drift import request_disk
from osmia.lang.filters import cgroup, name, pid, uid, wanted  # noqa: F401 - options
from osmia.tools._bio import OPERATION, disk, disk_name, letters  # noqa: F401 - an option
from osmia.tools._requests import begin, finished, insert, issue, merge, requests, requeue  # noqa: F401
from osmia.tools._top import maxrows, noclear


class Key(Event):
    """Who did what to which disk; ``empty`` is a request without data."""

    pid: u32
    operation: u32
    dev: u32
    empty: u32
    comm: Comm


counts = PerCpuHash[Key, u64](16384)
sizes = PerCpuHash[Key, u64](16384)
times = PerCpuHash[Key, u64](16384)


@first_of(tp_btf("block_rq_complete"), raw_tracepoint("block_rq_complete"))
def complete(rq, error, n):
    """A part of the request is done; the last one, when nothing remains."""
    one = finished(rq, n)
    if one is None:
        return
    key = Key(pid=one.pid, operation=rq.cmd_flags & OPERATION, dev=request_disk(rq), empty=not one.bytes, comm=one.comm)
    counts[key] += 1
    sizes[key] += one.bytes
    times[key] += ktime() - (one.issued if one.issued else one.at)
    del requests[rq]


def average(one):
    return one.ns / one.count / 1e6


tool = count_table(
    counts,
    [
        Col("pid", "PID", 7, align="<"),
        Col("comm", "COMM", 16),
        Col("type", "D", 1, row=lambda one: letters(one.key.operation, not one.key.empty)),
        Col("major", "MAJ", 3, row=lambda one: one.key.dev >> 20, align="<"),
        Col("minor", "MIN", 3, row=lambda one: one.key.dev & 0xFFFFF, align="<"),
        Col("disk", "DISK", 8, row=lambda one: disk_name(one.key.dev)),
        Col("count", "I/O", 5),
        Col("bytes", "Kbytes", 7, show=lambda size: f"{size / 1024:.0f}"),
        Col("ms", "AVGms", 6, row=average, show="{:.2f}".format),
    ],
    more={"bytes": sizes, "ns": times},
    sort=lambda one: one.bytes,
    most=maxrows,
    screen=noclear,
    interval=1.0,
    banner="Tracing... Hit Ctrl-C to end",
)
