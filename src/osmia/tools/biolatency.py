# SPDX-License-Identifier: Apache-2.0
"""Summarize the latency of block device I/O as a histogram."""

from __future__ import annotations

from osmia import Hash, first_of, histogram, ktime, log2_hist, lost, option, raw_tracepoint, tp_btf, u32, u64
from osmia.errors import OptionError
from osmia.lang.drift import queue_comes_first, request_disk
from osmia.lang.types import Kernel

DISKSTATS, SYS_BLOCK = "/proc/diskstats", "/sys/class/block"


def disk_number(word):
    """What ``-d`` means: the number of the disk DISK, as the kernel half counts."""
    import os

    place = f"{SYS_BLOCK}/{os.path.basename(word)}"
    if not os.path.exists(place):
        number = word.replace(".", "", 1).isdigit()
        raise ValueError(f"there is no disk {word!r}" + (" (seconds are for --duration)" if number else ""))
    if os.path.exists(f"{place}/partition"):
        whole = os.path.basename(os.path.dirname(os.path.realpath(place)))
        raise ValueError(f"{word} is a partition; requests belong to its disk: -d {whole}")
    with open(f"{place}/dev") as dev:
        major, minor = dev.read().split(":")
    return int(major) << 20 | int(minor)


timestamp = option("-T", "--timestamp", help="show the time of each summary")
queued = option("-Q", "--queued", help="count the time in the system's queues too")
milliseconds = option("-m", "--milliseconds", help="milliseconds instead of microseconds")
disks = option("-D", "--disks", help="one histogram per disk")
flags = option("-F", "--flags", help="one histogram per set of I/O flags")
extension = option("-e", "--extension", help="show average and total after each summary")
json = option("-j", "--json", help="print JSON, one object per summary and line")
disk = option("-d", "--disk", type=u32, parse=disk_number, metavar="DISK", help="trace this disk only")

OPERATIONS = {0: "Read", 1: "Write", 2: "Flush", 3: "Discard", 5: "SecureErase", 7: "ZoneAppend", 9: "WriteZeros",
              11: "ZoneOpen", 13: "ZoneClose", 15: "ZoneFinish", 17: "ZoneReset", 19: "ZoneResetAll"}  # fmt: skip
# include/linux/blk_types.h, enum req_flag_bits: the same bits in every kernel since 4.14.
FLAGS = {11: "Sync", 12: "Metadata", 17: "ForcedUnitAccess", 13: "Priority", 14: "NoMerge", 15: "Idle",
         19: "ReadAhead", 20: "Background", 21: "NoWait"}  # fmt: skip
OPERATION = 0xFF
SHOWN = OPERATION | sum(1 << bit for bit in FLAGS)
PASSTHROUGH = 32  # from here on commands that are no I/O of a block device: REQ_OP_SCSI_IN, REQ_OP_DRV_IN, ...

RequestPtr = Kernel["struct request"]
starts = Hash[RequestPtr, u64]()  # request under way -> when it began
total = log2_hist("usecs")
split = log2_hist("usecs", key=u32)


def wanted(rq):
    """Whether the disk is asked for."""
    if queue_comes_first(rq):
        lost("requests, because this kernel's block tracepoints (before 5.11) have other arguments")
        return False
    return not disk or request_disk(rq) == disk


@first_of(tp_btf("block_io_start", optional=True), raw_tracepoint("block_io_start", optional=True))  # 6.5
def begin(rq):
    if wanted(rq):
        starts[rq] = ktime()


@first_of(tp_btf("block_rq_insert"), raw_tracepoint("block_rq_insert"))
def insert(rq):
    if rq not in starts and wanted(rq):
        starts[rq] = ktime()


@first_of(tp_btf("block_rq_issue"), raw_tracepoint("block_rq_issue"))
def issue(rq):
    """To the driver; once more after the driver had no room (requeue), and then the device's time begins anew."""
    if not (queued and rq in starts) and wanted(rq):
        starts[rq] = ktime()


@first_of(tp_btf("block_rq_merge"), raw_tracepoint("block_rq_merge"))
def merge(rq):
    """Merged into another request, which goes on for both."""
    del starts[rq]


@first_of(tp_btf("block_rq_complete"), raw_tracepoint("block_rq_complete"))
def complete(rq, error, n):
    """A part of the request is done; the last one, when nothing remains."""
    if n < rq.__data_len:
        return
    start = starts.pop(rq)
    operation = rq.cmd_flags & OPERATION
    if start is None or operation >= PASSTHROUGH:
        return
    latency = (ktime() - start) // (1_000_000 if milliseconds else 1000)
    if disks:
        split[request_disk(rq)].add(latency)
    elif flags:
        split[rq.cmd_flags & SHOWN].add(latency)
    else:
        total.add(latency)


def disk_name(number):
    """The disk's name, as /proc/diskstats has it."""
    major, minor = str(number >> 20), str(number & 0xFFFFF)
    with open(DISKSTATS) as stats:
        for line in stats:
            words = line.split(None, 3)
            if words[:2] == [major, minor]:
                return words[2]
    return f"{major}:{minor}"


def flags_name(bits):
    """The request's operation and flags in words, as bcc has them."""
    name = OPERATIONS.get(bits & OPERATION, "Unknown")
    for bit, word in FLAGS.items():
        if bits >> bit & 1:
            name = f"{word}-{name}"
    return name


def unit():
    return "msecs" if milliseconds else "usecs"


def summary(shot):
    """-e: a line after each summary."""
    if not extension or not shot.count:
        return ""
    return f"\navg = {shot.sum // shot.count} {unit()}, total: {shot.sum} {unit()}, count: {shot.count}\n"


def prepare():
    begin.enabled = insert.enabled = bool(queued)
    if disks and flags:
        raise OptionError("-D and -F exclude each other", where="biolatency", fix="give one of them")
    if disks:
        tool.hist, tool.section, tool.label = split, "disk", disk_name
    elif flags:
        tool.hist, tool.section, tool.label = split, "flags", flags_name


tool = histogram(
    total, unit=unit, footer=summary, prepare=prepare, banner="Tracing block device I/O... Hit Ctrl-C to end."
)
