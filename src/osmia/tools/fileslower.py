# SPDX-License-Identifier: Apache-2.0
"""Trace reads and writes of files that take long."""

from __future__ import annotations

from osmia import Col, Ring, current, event_table, ktime, option
from osmia.lang.filters import cgroup, name, pid, tid, uid  # noqa: F401 - options
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.lang.types import Comm, Event, Str, s64, u32, u64
from osmia.tools import _files
from osmia.tools._files import ENTRIES, calls, leaving, shown_name  # noqa: F401 - programs
from osmia.tools._show import elapsed, ms


def milliseconds(word):
    """What the argument means, in nanoseconds."""
    try:
        value = float(word)
    except ValueError:
        value = -1
    if not 0 <= value < 1e9:
        raise ValueError(f"{word!r} is no number of milliseconds")
    return round(value * 1e6)


all_files = option("-a", "--all-files", help="show sockets, pipes, devices and the like, too")
shortest = option("min_ms", type=u64, default=10_000_000, parse=milliseconds,
                  help="shortest call to show, in milliseconds (default: 10; 0: all)")  # fmt: skip


class Slow(Event):
    """A call that took ``delta_ns``.  ``ret``: the bytes that were moved, or the negative number of the error."""

    ts: u64
    delta_ns: u64
    ret: s64
    ino: u64
    dev: u32
    mode: u32
    write: u32
    pid: u32
    tid: u32
    comm: Comm
    name: Str[256]


slow = Ring(Slow)


def leave(kind, ret):
    call = calls.pop(current.pid)
    if call is None:
        return
    file, start = call
    now = ktime()
    if now - start < shortest:
        return
    inode = file.f_inode
    with slow.reserve() as e:
        e.ts, e.delta_ns, e.ret, e.write = now, now - start, ret, kind
        e.ino, e.dev, e.mode = inode.i_ino, inode.i_sb.s_dev, inode.i_mode
        e.pid, e.tid, e.comm = current_process_id(), current_thread_id(), current.comm
        e.name = file.f_path.dentry.d_name.name


ENDS = leaving(leave)


def prepare():
    _files.every.value, _files.timed.value = bool(all_files), True


def banner():
    return f"Tracing sync read/writes slower than {shortest.value / 1e6:g} ms"


tool = event_table(
    slow,
    [
        Col("ts", "TIME(s)", 8, show=elapsed(3), align="<"),
        Col("comm", "COMM", 14),
        Col("tid", "TID", 6, align="<"),
        Col("write", "D", 1, show=lambda write: "RW"[write]),
        Col("ret", "BYTES", 7, align="<"),
        Col("delta_ns", "LAT(ms)", 7, show=ms),
        Col("name", "FILENAME", row=lambda e: shown_name(e.name, e.mode, e.ino)),
    ],
    prepare=prepare,
    banner=banner,
)
