# SPDX-License-Identifier: Apache-2.0
"""Summarize the latency of block device I/O as a histogram."""

from __future__ import annotations

from osmia import first_of, histogram, log2_hist, option, raw_tracepoint, tp_btf, u32
from osmia.errors import OptionError
from osmia.lang.drift import request_disk
from osmia.tools._bio import OPERATION, OPERATIONS, disk, disk_name  # noqa: F401 - an option
from osmia.tools._latencies import begin, choose, insert, issue, latency_of, merge, queued  # noqa: F401
from osmia.tools._times import extension, in_unit, json, milliseconds, summary, timestamp, unit  # noqa: F401 - options

disks = option("-D", "--disks", help="one histogram per disk")
flags = option("-F", "--flags", help="one histogram per set of I/O flags")

# include/linux/blk_types.h, enum req_flag_bits: the same bits in every kernel since 4.14.
FLAGS = {11: "Sync", 12: "Metadata", 17: "ForcedUnitAccess", 13: "Priority", 14: "NoMerge", 15: "Idle",
         19: "ReadAhead", 20: "Background", 21: "NoWait"}  # fmt: skip
SHOWN = OPERATION | sum(1 << bit for bit in FLAGS)

total = log2_hist("usecs")
split = log2_hist("usecs", key=u32)


@first_of(tp_btf("block_rq_complete"), raw_tracepoint("block_rq_complete"))
def complete(rq, error, n):
    """A part of the request is done; the last one, when nothing remains."""
    spent = latency_of(rq, n)
    if spent is None:
        return
    latency = in_unit(spent)
    if disks:
        split[request_disk(rq)].add(latency)
    elif flags:
        split[rq.cmd_flags & SHOWN].add(latency)
    else:
        total.add(latency)


def flags_name(bits):
    """The request's operation and flags in words, as bcc has them."""
    name = OPERATIONS.get(bits & OPERATION, "Unknown")
    for bit, word in FLAGS.items():
        if bits >> bit & 1:
            name = f"{word}-{name}"
    return name


def prepare():
    choose()
    if disks and flags:
        raise OptionError("-D and -F exclude each other", where="biolatency", fix="give one of them")
    if disks:
        tool.hist, tool.section, tool.label = split, "disk", disk_name
    elif flags:
        tool.hist, tool.section, tool.label = split, "flags", flags_name


tool = histogram(
    total, unit=unit, footer=summary, prepare=prepare, banner="Tracing block device I/O... Hit Ctrl-C to end."
)
