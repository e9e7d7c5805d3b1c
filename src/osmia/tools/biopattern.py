# SPDX-License-Identifier: Apache-2.0
"""Show how much of each disk's I/O is sequential and how much is random."""

from __future__ import annotations

import time

from osmia import Col, Hash, count_table, first_of, raw_tracepoint, tp_btf, u8, u32, u64
from osmia.lang.drift import request_disk
from osmia.tools._bio import OPERATION, READ, WRITE, RequestPtr, disk, disk_name, on_disk  # noqa: F401 - an option

ends = Hash[u32, u64](1024)  # disk -> the sector after what was done last
parts = Hash[RequestPtr, u8]()  # requests of which a part is done
counts = Hash[u32, u64](1024)
sequential = Hash[u32, u64](1024)
sizes = Hash[u32, u64](1024)


@first_of(tp_btf("block_rq_complete"), raw_tracepoint("block_rq_complete"))
def complete(rq, error, n):
    """A request is done, or a part of it; where it lies is said by the first part."""
    operation = rq.cmd_flags & OPERATION
    if not n or (operation != READ and operation != WRITE) or not on_disk(rq):
        return
    number = request_disk(rq)
    end = ends.get(number)
    start = rq.__sector
    ends[number] = start + n // 512
    first = rq not in parts
    if n < rq.__data_len:
        parts[rq] = 1
    elif not first:
        del parts[rq]
    if end is None:  # the first one of a disk is neither
        return
    sizes[number] += n
    if first:
        counts[number] += 1
        if end == start:
            sequential[number] += 1


def random(one):
    """Percent of what is not sequential."""
    return round(100 * (one.count - one.sequential) / one.count)


def lines(entries, _seconds):
    """As bcc has them: the heading is there once, and each line has the time."""
    now = time.strftime("%H:%M:%S")
    rows = [f"{now:<9} {disk_name(one.key):<7} {random(one):>5} {100 - random(one):>5} {one.count:>8} "
            f"{one.bytes // 1024:>10}" for one in entries]  # fmt: skip
    return "\n".join(rows)


tool = count_table(
    counts,
    [
        Col("disk", "DISK", row=lambda one: disk_name(one.key)),
        Col("random", "%RND", row=random),
        Col("sequential", "%SEQ", row=lambda one: 100 - random(one)),
        Col("count", "COUNT"),
        Col("bytes", "KBYTES", show=lambda size: str(size // 1024)),
    ],
    more={"sequential": sequential, "bytes": sizes},
    text=lines,
    banner=f"{'TIME':<9} {'DISK':<7} {'%RND':>5} {'%SEQ':>5} {'COUNT':>8} {'KBYTES':>10}",
)
