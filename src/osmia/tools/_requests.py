# SPDX-License-Identifier: Apache-2.0
"""Kernel half: each request to a disk from its making to its end, and whose it is.

A request is known by its address from the moment it is made until its last part is
done; then the address is another request's.  A tool imports the programs :data:`begin`,
:data:`insert`, :data:`issue`, :data:`requeue` and :data:`merge`, and calls :func:`finished` in a
handler of ``block_rq_complete``.
"""

from __future__ import annotations

from osmia.lang.builtins import current, kernel_str, ktime, lost
from osmia.lang.drift import current_work
from osmia.lang.filters import wanted
from osmia.lang.maps import Hash
from osmia.lang.pidns import current_process_id
from osmia.lang.probes import first_of, raw_tracepoint, tp_btf
from osmia.lang.types import Comm, Event, u8, u32, u64
from osmia.tools._bio import OPERATION, PASSTHROUGH, RequestPtr, on_disk, sector_of

__all__ = ["begin", "finished", "insert", "issue", "merge", "requests", "requeue"]

PF_WQ_WORKER = 0x20  # include/linux/sched.h


class Request(Event):
    """A request under way: since when there is it, and in the driver (0: not yet); whose, and how much."""

    at: u64
    issued: u64
    sector: u64
    cgroup: u64
    bytes: u32
    pid: u32
    comm: Comm
    other: u8  # of one whom the filters leave out: known, so that who issues it is not taken for who made it


requests = Hash[RequestPtr, Request](32768)


def made(rq):
    """The request is seen for the first time, in its maker's context."""
    one = Request(at=ktime(), sector=sector_of(rq), bytes=rq.__data_len)
    if wanted():
        one.pid, one.cgroup = current_process_id(), current.cgroup_id
        if current.task.flags & PF_WQ_WORKER:
            one.comm = kernel_str(current_work(), 16)
        else:
            one.comm = current.comm
    else:
        one.other = u8(1)
    requests[rq] = one


def seen(rq):
    """The request as it is known; None where it is a new one, whatever was at its address before."""
    one = requests.get(rq)
    if one is not None and one.issued:
        lost("ends of requests, which the kernel did not show")
        return None
    return one


@first_of(tp_btf("block_io_start", optional=True), raw_tracepoint("block_io_start", optional=True))  # 6.5
def begin(rq):
    if on_disk(rq):
        seen(rq)
        made(rq)


@first_of(tp_btf("block_rq_insert"), raw_tracepoint("block_rq_insert"))
def insert(rq):
    if on_disk(rq) and seen(rq) is None:
        made(rq)


@first_of(tp_btf("block_rq_issue"), raw_tracepoint("block_rq_issue"))
def issue(rq):
    """To the driver."""
    if not on_disk(rq):
        return
    if seen(rq) is None:
        made(rq)
    one = requests.get(rq)
    if one is not None:
        one.issued, one.bytes, one.sector = ktime(), rq.__data_len, sector_of(rq)


@first_of(tp_btf("block_rq_requeue"), raw_tracepoint("block_rq_requeue"))
def requeue(rq):
    """The driver had no room: the request will be issued once more, and then the device's time begins anew."""
    one = requests.get(rq)
    if one is not None:
        one.issued = u64(0)


@first_of(tp_btf("block_rq_merge"), raw_tracepoint("block_rq_merge"))
def merge(rq):
    """Merged into another request, which goes on for both."""
    del requests[rq]


def finished(rq, n):
    """The request, if the ``n`` bytes that are done now are its last ones and it is asked for; else None.

    The caller removes it from :data:`requests` when it has read it.
    """
    if n < rq.__data_len:
        return None
    one = requests.get(rq)
    if one is None:
        return None
    if one.other or rq.cmd_flags & OPERATION >= PASSTHROUGH:
        del requests[rq]
        return None
    return one
