# SPDX-License-Identifier: Apache-2.0
"""Shared by the tools about block I/O: which disk, and what operation."""

from __future__ import annotations

from osmia.lang.builtins import lost
from osmia.lang.drift import queue_comes_first, request_disk
from osmia.lang.options import option
from osmia.lang.types import Kernel, u32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SYS_BLOCK, SYS_NUMBERS = "/sys/class/block", "/sys/dev/block"

OPERATIONS = {0: "Read", 1: "Write", 2: "Flush", 3: "Discard", 5: "SecureErase", 7: "ZoneAppend", 9: "WriteZeros",
              11: "ZoneOpen", 13: "ZoneClose", 15: "ZoneFinish", 17: "ZoneReset", 19: "ZoneResetAll"}  # fmt: skip
LETTERS = {0: "R", 1: "W", 2: "F", 3: "D", 5: "DE", 7: "ZA", 9: "WZ", 11: "ZO", 13: "ZC", 15: "ZF", 17: "ZR", 19: "ZRA"}
# include/linux/blk_types.h: the same in every kernel since 4.14.
OPERATION, READ, WRITE, FLUSH, DISCARD = 0xFF, 0, 1, 2, 3
PASSTHROUGH = 32  # from here on commands that are no I/O of a block device: REQ_OP_SCSI_IN, REQ_OP_DRV_IN, ...
NOWHERE = (1 << 64) - 1

RequestPtr: Any = Kernel["struct request"]


def disk_number(word):
    """What ``-d`` means: the number of the disk DISK (its name, path or MAJOR:MINOR), as the kernel half counts."""
    import os

    numbered = f"{SYS_NUMBERS}/{word.replace(',', ':')}"
    place = numbered if "/" not in word and os.path.exists(numbered) else f"{SYS_BLOCK}/{os.path.basename(word)}"
    if not os.path.exists(place):
        number = word.replace(".", "", 1).isdigit()
        raise ValueError(f"there is no disk {word!r}" + (" (seconds are for --duration)" if number else ""))
    if os.path.exists(f"{place}/partition"):
        whole = os.path.basename(os.path.dirname(os.path.realpath(place)))
        raise ValueError(f"{word} is a partition; requests belong to its disk: -d {whole}")
    with open(f"{place}/dev") as dev:
        major, minor = dev.read().split(":")
    return int(major) << 20 | int(minor)


def disk_name(number):
    """The disk's name, as the kernel has it now; its numbers where there is no such disk any more."""
    import os

    word = f"{number >> 20}:{number & 0xFFFFF}"
    try:
        return os.path.basename(os.readlink(f"{SYS_NUMBERS}/{word}"))
    except OSError:
        return word


def letters(flags, size):
    """The request's operation as blktrace(8) has it; a write of nothing is there for its flush."""
    if not size and flags & OPERATION == WRITE:
        return "F"
    return LETTERS.get(flags & OPERATION, "?")


disk = option("-d", "--disk", type=u32, parse=disk_number, metavar="DISK", help="trace this disk only")


def on_disk(rq):
    """Whether the disk is asked for."""
    if queue_comes_first(rq):
        lost("requests, because this kernel's block tracepoints (before 5.11) have other arguments")
        return False
    return not disk or request_disk(rq) == disk


def sector_of(rq):
    """Where on the disk; 0 for what is nowhere, a flush for example (as in blk_rq_trace_sector of the kernel)."""
    return rq.__sector if rq.__sector != NOWHERE else 0
