# SPDX-License-Identifier: Apache-2.0
"""ext4dist and those for other file systems: how long operations take, as histograms."""

from __future__ import annotations

from osmia.lang.builtins import current, ktime
from osmia.lang.hist import log2_hist
from osmia.lang.options import option
from osmia.lang.probes import tracepoint
from osmia.lang.templates import Histogram, histogram
from osmia.lang.types import u32
from osmia.tools._fd import OPENS, READS, SYNCS, WRITES
from osmia.tools._fs import EBADF, FSYNC, GETATTR, NAMES, OPEN, SYSTEMS, magic, opened, ops, positions, tracing
from osmia.tools._fs_stat import is_on_it, stats
from osmia.tools._show import seconds

notimestamp = option("-T", "--notimestamp", help="do not show the time of each summary")
timestamp = option("--timestamp", help="show the time of the summary, too, where there is only one")
every = option("-i", "--interval", type=float, parse=seconds, metavar="SECONDS",
               help="seconds between summaries, like the argument")  # fmt: skip
interval = option("interval", type=float, parse=seconds, help="seconds between summaries")
in_milliseconds = option("-m", "--milliseconds", help="milliseconds instead of microseconds")

took = log2_hist("usecs", key=u32, max_entries=len(NAMES))


def add(kind, start):
    took[kind].add((ktime() - start) // (1_000_000 if in_milliseconds else 1000))


@tracepoint(*READS, *WRITES, *SYNCS)
def leave(call):
    """An operation of a file that was open before; without access, the file system was not asked."""
    op = ops.get(current.pid)
    if op is not None:
        if op.kind <= FSYNC and call.ret != -EBADF:
            add(op.kind, op.start)
        del ops[current.pid]


@tracepoint(*OPENS, "syscalls:sys_exit_open_by_handle_at")
def leave_open(call):
    op = ops.get(current.pid)
    if op is not None:
        if op.kind == OPEN and call.ret >= 0 and opened(call.ret) is not None:
            add(OPEN, op.start)
        del ops[current.pid]


@tracepoint("syscalls:sys_exit_newfstat", "syscalls:sys_exit_newfstatat", "syscalls:sys_exit_statx",
            "syscalls:sys_exit_newstat", "syscalls:sys_exit_newlstat")  # fmt: skip
def leave_stat(call):
    op = ops.get(current.pid)
    if op is not None:
        if op.kind == GETATTR and call.ret != -EBADF:
            add(GETATTR, op.start)
        del ops[current.pid]
    stat = stats.get(current.pid)
    if stat is not None:
        if call.ret == 0 and is_on_it(stat):
            add(GETATTR, stat.start)
        del stats[current.pid]


def dist(system: str) -> Histogram:
    """The template of the tool for a file system of :data:`osmia.tools._fs.SYSTEMS`."""

    def prepare():
        magic.value, positions.value = SYSTEMS[system][0], False
        if (interval.given or every.given) and not notimestamp:
            timestamp.value = True

    return histogram(
        took,
        section="operation",
        label=NAMES.__getitem__,
        unit=lambda: "msecs" if in_milliseconds else "usecs",
        banner=lambda: tracing(system, f"Tracing {system} operation latency... Hit Ctrl-C to end."),
        prepare=prepare,
    )
