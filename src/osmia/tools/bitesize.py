# SPDX-License-Identifier: Apache-2.0
"""Summarize the sizes of block device I/O as a histogram per program."""

from __future__ import annotations

from osmia import Comm, first_of, histogram, log2_hist, raw_tracepoint, tp_btf
from osmia.lang.filters import cgroup, name, pid, uid, wanted  # noqa: F401 - options
from osmia.tools._bio import disk  # noqa: F401 - an option
from osmia.tools._requests import begin, finished, insert, issue, merge, requests, requeue  # noqa: F401
from osmia.tools._times import timestamp  # noqa: F401 - an option

sizes = log2_hist("Kbytes", key=Comm, max_entries=4096)


@first_of(tp_btf("block_rq_complete"), raw_tracepoint("block_rq_complete"))
def complete(rq, error, n):
    """A part of the request is done; the last one, when nothing remains."""
    one = finished(rq, n)
    if one is None:
        return
    if one.bytes:
        sizes[one.comm].add(one.bytes // 1024)
    del requests[rq]


tool = histogram(sizes, section="Process Name", unit="Kbytes", banner="Tracing block I/O... Hit Ctrl-C to end.")
