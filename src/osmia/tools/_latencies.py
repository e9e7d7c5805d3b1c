# SPDX-License-Identifier: Apache-2.0
"""Kernel half: how long each request to a disk takes, for the tools that show the times as histograms.

A tool imports the programs and calls :func:`latency_of` in a handler of ``block_rq_complete``.
"""

from __future__ import annotations

from osmia.lang.builtins import ktime
from osmia.lang.maps import Hash
from osmia.lang.options import option
from osmia.lang.probes import first_of, raw_tracepoint, tp_btf
from osmia.lang.types import u64
from osmia.tools._bio import OPERATION, PASSTHROUGH, RequestPtr, on_disk

__all__ = ["begin", "choose", "insert", "issue", "latency_of", "merge", "queued"]

queued = option("-Q", "--queued", help="count the time in the system's queues too")
starts = Hash[RequestPtr, u64](32768)  # request under way -> when it began


@first_of(tp_btf("block_io_start", optional=True), raw_tracepoint("block_io_start", optional=True))  # 6.5
def begin(rq):
    if on_disk(rq):
        starts[rq] = ktime()


@first_of(tp_btf("block_rq_insert"), raw_tracepoint("block_rq_insert"))
def insert(rq):
    if rq not in starts and on_disk(rq):
        starts[rq] = ktime()


@first_of(tp_btf("block_rq_issue"), raw_tracepoint("block_rq_issue"))
def issue(rq):
    """To the driver; once more after the driver had no room (requeue), and then the device's time begins anew."""
    if not (queued and rq in starts) and on_disk(rq):
        starts[rq] = ktime()


@first_of(tp_btf("block_rq_merge"), raw_tracepoint("block_rq_merge"))
def merge(rq):
    """Merged into another request, which goes on for both."""
    del starts[rq]


def choose():
    """Leave out what has nothing to do; for the tool's ``prepare``."""
    begin.enabled = insert.enabled = bool(queued)


def latency_of(rq, n):
    """How many ns the request took, if the ``n`` bytes that are done now are its last ones; else None."""
    if n < rq.__data_len:
        return None
    start = starts.pop(rq)
    if start is None or rq.cmd_flags & OPERATION >= PASSTHROUGH:
        return None
    return ktime() - start
