# SPDX-License-Identifier: Apache-2.0
"""Show the latency of block device I/O as a histogram each second, or as a heat map."""

from __future__ import annotations

from osmia import Array, before_attach, first_of, histogram, log2_hist, option, raw_tracepoint, tp_btf, u8
from osmia.tools._bio import DISCARD, FLUSH, OPERATION, READ, WRITE, disk  # noqa: F401 - an option
from osmia.tools._latencies import begin, choose, insert, issue, latency_of, merge, queued  # noqa: F401
from osmia.tools._times import timestamp  # noqa: F401 - an option

microseconds = option("-u", "--microseconds", help="microseconds instead of milliseconds")
iotype = option("-i", "--iotype", type=str, metavar="TYPE",
                help="I/O of this type only, as blktrace(8) has it: '*R*' for all reads, 'W', 'WS', 'F*'")  # fmt: skip

#: The letters of a type are made of the operation and, in their order, of these flags (blk_fill_rwbs of the kernel).
LETTERS = {READ: "R", WRITE: "W", FLUSH: "F", DISCARD: "D"}
PREFLUSH, FUA, AHEAD, SYNC, META = 18, 17, 19, 11, 12  # bits: include/linux/blk_types.h, the same since 4.14
KINDS = 4 << 5

latencies = log2_hist("msecs")
chosen = Array[u8](KINDS + 1)


def kind_of(flags):
    """The number of a type among all that there are; operations of zoned disks and such are none: KINDS."""
    operation = flags & OPERATION
    if operation > DISCARD:
        return KINDS
    return (operation << 5 | (flags >> PREFLUSH & 1) << 4 | (flags >> FUA & 1) << 3 | (flags >> AHEAD & 1) << 2
            | (flags >> SYNC & 1) << 1 | (flags >> META & 1))  # fmt: skip


@first_of(tp_btf("block_rq_complete"), raw_tracepoint("block_rq_complete"))
def complete(rq, error, n):
    """A part of the request is done; the last one, when nothing remains."""
    spent = latency_of(rq, n)
    if spent is None:
        return
    if chosen[kind_of(rq.cmd_flags)]:
        latencies.add(spent // (1000 if microseconds else 1_000_000))


@before_attach
def fill():
    """Which types the pattern means."""
    from fnmatch import fnmatchcase

    chosen[KINDS] = not iotype.given
    for kind in range(KINDS):
        flags = [letter if kind >> bit & 1 else "" for bit, letter in enumerate("MSAF")]
        word = ("F" if kind >> 4 & 1 else "") + LETTERS[kind >> 5] + "".join(reversed(flags))
        chosen[kind] = not iotype.given or fnmatchcase(word, str(iotype))


tool = histogram(
    latencies,
    unit=lambda: "usecs" if microseconds else "msecs",
    interval=1.0,
    prepare=choose,
    banner="Tracing block I/O... Hit Ctrl-C to end.",
)
