# SPDX-License-Identifier: Apache-2.0
"""Trace sync(), fsync() and the other calls that write back what is in memory."""

from __future__ import annotations

from osmia import Col, Hash, Ring, cast, current, event_table, exists, ktime, option, tracepoint
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.lang.types import Comm, Event, Kernel, Path, s32, u32, u64
from osmia.tools._fd import file_of
from osmia.tools._paths import add_names

SYNC, FSYNC, FDATASYNC, MSYNC, SYNC_FILE_RANGE, SYNCFS = range(6)
NAMES = ("sync", "fsync", "fdatasync", "msync", "sync_file_range", "syncfs")

extended = option("-e", "--extended", help="show the process, how long the call took, its error and the file, too")

FilePtr = Kernel["struct file"]


class Sync(Event):
    """One call: ``ts`` is its beginning."""

    ts: u64
    delta_ns: u64
    pid: u32
    tid: u32
    call: u32
    ret: s32
    comm: Comm
    path: Path[8192, 256]


calls = Hash[u32, tuple[u64, FilePtr, u32]](32768)  # thread -> beginning, file and which call, until it returns
syncs = Ring(Sync)


def enter(call, file):
    if wanted():
        calls[current.pid] = ktime(), file, call


def enter_file(call, fd):
    """The call itself holds the file until it is over."""
    enter(call, file_of(fd) if exists("struct task_struct") else cast(0, "struct file"))


@tracepoint("syscalls:sys_enter_sync")
def enter_sync():
    enter(SYNC, cast(0, "struct file"))


@tracepoint("syscalls:sys_enter_fsync")
def enter_fsync(call):
    enter_file(FSYNC, call.fd)


@tracepoint("syscalls:sys_enter_fdatasync")
def enter_fdatasync(call):
    enter_file(FDATASYNC, call.fd)


@tracepoint("syscalls:sys_enter_msync")
def enter_msync():
    enter(MSYNC, cast(0, "struct file"))


@tracepoint("syscalls:sys_enter_sync_file_range", optional=True)
def enter_sync_file_range(call):
    enter_file(SYNC_FILE_RANGE, call.fd)


@tracepoint("syscalls:sys_enter_syncfs")
def enter_syncfs(call):
    enter_file(SYNCFS, call.fd)


@tracepoint(*[f"syscalls:sys_exit_{one}" for one in NAMES])
def leave(call):
    one = calls.pop(current.pid)
    if one is None:
        return
    start, file, which = one
    with syncs.reserve() as e:
        e.ts, e.delta_ns, e.call, e.ret = start, ktime() - start, which, call.ret
        e.pid, e.tid, e.comm = current_process_id(), current_thread_id(), current.comm
        if file:
            add_names(e.path, file.f_path)


tool = event_table(
    syncs,
    [
        Col("ts", "TIME(s)", 18, show=lambda ns: f"{ns / 1e9:.9f}", align="<"),
        Col("pid", "PID", 7, when=extended, align="<"),
        Col("comm", "COMM", 16),
        Col("what", "CALL", 16, row=lambda e: NAMES[e.call]),
        Col("delta_ns", "LAT(ms)", 9, show=lambda ns: f"{ns / 1e6:.3f}", when=extended),
        Col("err", "ERR", 3, row=lambda e: -min(e.ret, 0), align=">", when=extended),
        Col("path", "FILE", when=extended),
    ],
)
