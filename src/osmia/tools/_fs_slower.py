# SPDX-License-Identifier: Apache-2.0
"""ext4slower and those for other file systems: operations that take long, a row each."""

from __future__ import annotations

from osmia.lang.builtins import current, ktime
from osmia.lang.maps import Ring
from osmia.lang.options import option
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.lang.probes import tracepoint
from osmia.lang.templates import Col, EventTable, event_table
from osmia.lang.types import Comm, Event, Str, s64, u8, u32, u64
from osmia.tools._fd import OPENS, READS, SYNCS, WRITES, file_of, name_of
from osmia.tools._fs import (
    AT_POSITION,
    EBADF,
    FSYNC,
    GETATTR,
    LETTERS,
    OPEN,
    SYSTEMS,
    magic,
    opened,
    ops,
    positions,
    tracing,
)
from osmia.tools._fs_stat import is_on_it, stats
from osmia.tools._show import clock, ms


def milliseconds(word):
    """What the argument means: milliseconds, also with a decimal point; kept in nanoseconds."""
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise ValueError(f"{word!r} is not a time in milliseconds")
    return int(value * 1e6)


csv = option("-j", "-s", "--csv", help="just the fields, as comma-separated values")
min_ns = option("min_ms", type=u64, default=10_000_000, parse=milliseconds,
                help="show operations that take longer than this, in milliseconds (default: 10; 0: all)")  # fmt: skip


class Slow(Event):
    """One operation.  ``size``: bytes that were moved, or below 0 the error."""

    ts: u64
    ns: u64
    offset: s64
    size: s64
    pid: u32
    tid: u32
    kind: u8
    comm: Comm
    file: Str[256]


slow = Ring(Slow)


@tracepoint(*READS, *WRITES, *SYNCS)
def leave(call):
    op = ops.get(current.pid)
    if op is not None:
        if op.kind <= FSYNC:
            ended(op, call.ret)
        del ops[current.pid]


def ended(op, ret):
    """An operation of a file that was open before; without access, the file system was not asked."""
    now = ktime()
    if not long_enough(now - op.start) or ret == -EBADF:
        return
    file, offset = file_of(op.fd), op.offset
    here = file == op.file  # and not closed meanwhile
    if offset == AT_POSITION and here:
        offset = file.f_pos - max(ret, 0)
    with slow.reserve() as e:
        e.ts, e.ns, e.offset, e.size, e.kind = now, now - op.start, offset, ret, op.kind
        e.pid, e.tid, e.comm = current_process_id(), current_thread_id(), current.comm
        if here:
            e.file = name_of(file)


def long_enough(ns):
    return not min_ns or ns > min_ns


@tracepoint(*OPENS, "syscalls:sys_exit_open_by_handle_at")
def leave_open(call):
    op = ops.get(current.pid)
    if op is None:
        return
    now = ktime()
    if op.kind == OPEN and call.ret >= 0 and long_enough(now - op.start):
        file = opened(call.ret)
        if file is not None:
            with slow.reserve() as e:
                e.ts, e.ns, e.offset, e.size, e.kind = now, now - op.start, 0, 0, OPEN
                e.pid, e.tid, e.comm = current_process_id(), current_thread_id(), current.comm
                e.file = name_of(file)
    del ops[current.pid]


@tracepoint("syscalls:sys_exit_newfstat", "syscalls:sys_exit_newfstatat", "syscalls:sys_exit_statx",
            "syscalls:sys_exit_newstat", "syscalls:sys_exit_newlstat")  # fmt: skip
def leave_stat(call):
    op = ops.get(current.pid)
    if op is not None:
        if op.kind == GETATTR:
            ended(op, call.ret)
        del ops[current.pid]
    stat = stats.get(current.pid)
    if stat is None:
        return
    now = ktime()
    if call.ret == 0 and long_enough(now - stat.start) and is_on_it(stat):
        with slow.reserve() as e:
            e.ts, e.ns, e.offset, e.size, e.kind = now, now - stat.start, 0, 0, GETATTR
            e.pid, e.tid, e.comm = current_process_id(), current_thread_id(), current.comm
            e.file = stat.path
    del stats[current.pid]


def slower(system: str) -> EventTable:
    """The template of the tool for a file system of :data:`osmia.tools._fs.SYSTEMS`."""

    def prepare():
        magic.value, positions.value = SYSTEMS[system][0], True

    def banner():
        longer = f" slower than {min_ns / 1e6:g} ms" if min_ns else ""
        return tracing(system, f"Tracing {system} operations{longer}")

    def text():
        return not csv

    def letter(e):
        return LETTERS[e.kind]

    return event_table(
        slow,
        [
            Col("ts", "TIME", 8, show=clock, when=text, align="<"),
            Col("ts", "ENDTIME_us", show=lambda ns: str(ns // 1000), when=csv),
            Col("comm", "COMM", 14, when=text),
            Col("comm", "TASK", when=csv),
            Col("pid", "PID", 6, align="<"),
            Col("type", "T", 1, row=letter, when=text),
            Col("type", "TYPE", row=letter, when=csv),
            Col("size", "BYTES", 7, align="<"),
            Col("offset", "OFF_KB", 8, show=lambda at: str(at // 1024), when=text, align="<"),
            Col("offset", "OFFSET_b", when=csv),
            Col("ns", "LAT(ms)", 7, show=ms, when=text, align=">"),
            Col("ns", "LATENCY_us", show=lambda ns: str(ns // 1000), when=csv),
            Col("file", "FILENAME", show=lambda name: name or "[closed]", when=text),
            Col("file", "FILE", when=csv),
        ],
        prepare=prepare,
        banner=banner,
    )
