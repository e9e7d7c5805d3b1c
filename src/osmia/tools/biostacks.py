# SPDX-License-Identifier: Apache-2.0
"""Summarize the latency of block device I/O by the kernel stack that made each request."""

from __future__ import annotations

from osmia import Hash, Stacks, current, first_of, histogram, ktime, log2_hist, option, raw_tracepoint, tp_btf
from osmia.lang.filters import cgroup, pid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id
from osmia.lang.types import Comm, Event, u32, u64
from osmia.tools._bio import OPERATION, PASSTHROUGH, RequestPtr, disk, on_disk  # noqa: F401 - option
from osmia.tools._show import whole
from osmia.tools._times import in_unit, milliseconds, unit  # noqa: F401 - an option

storage = option("--stack-storage-size", type=int, default=2048, parse=whole, metavar="N",
                 help="room for N different stacks (default: 2048)")  # fmt: skip


class Key(Event):
    """Who made a request, and where; ``kernel`` is the number of a stack."""

    pid: u32
    kernel: u32
    comm: Comm


class Start(Event):
    """A request under way: since when, and whose."""

    at: u64
    key: Key


stacks = Stacks(storage.default)
starts = Hash[RequestPtr, Start]()
latencies = log2_hist("usecs", key=Key, max_entries=2048)


def made(rq):
    """The request is seen for the first time, in its maker's context; or it is seen again on its way."""
    if rq not in starts and wanted() and on_disk(rq):
        starts[rq] = Start(at=ktime(), key=Key(pid=current_process_id(), kernel=stacks.kernel(), comm=current.comm))


@first_of(tp_btf("block_io_start", optional=True), raw_tracepoint("block_io_start", optional=True))  # 6.5
def begin(rq):
    made(rq)


@first_of(tp_btf("block_rq_insert"), raw_tracepoint("block_rq_insert"))
def insert(rq):
    made(rq)


@first_of(tp_btf("block_rq_issue"), raw_tracepoint("block_rq_issue"))
def issue(rq):
    made(rq)


@first_of(tp_btf("block_rq_merge"), raw_tracepoint("block_rq_merge"))
def merge(rq):
    """Merged into another request, which goes on for both."""
    del starts[rq]


@first_of(tp_btf("block_rq_complete"), raw_tracepoint("block_rq_complete"))
def complete(rq, error, n):
    """A part of the request is done; the last one, when nothing remains."""
    if n < rq.__data_len:
        return
    start = starts.get(rq)
    if start is None:
        return
    if rq.cmd_flags & OPERATION < PASSTHROUGH:
        latencies[start.key].add(in_unit(ktime() - start.at))
    del starts[rq]


def prepare():
    stacks.max_entries = storage.value


tool = histogram(latencies, stacks=stacks, unit=unit, prepare=prepare,
                 banner="Tracing block device I/O by the stack that made it... Hit Ctrl-C to end.")  # fmt: skip
