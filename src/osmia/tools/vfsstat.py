# SPDX-License-Identifier: Apache-2.0
"""Count reads, writes, opens and other calls on files, each second."""

from __future__ import annotations

import time

from osmia import Col, PerCpuArray, PerThread, count_table, tracepoint
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.lang.types import u32, u64
from osmia.tools._fd import OPENS, READS, SYNCS, WRITES, created

READ, WRITE, FSYNC, OPEN, CREATE, UNLINK, MKDIR, RMDIR = range(8)
WHAT = ("READ", "WRITE", "FSYNC", "OPEN", "CREATE", "UNLINK", "MKDIR", "RMDIR")
EBADF = 9  # include/uapi/asm-generic/errno-base.h
AT_REMOVEDIR = 0x200  # include/uapi/linux/fcntl.h

calls = PerCpuArray[u64](8)
removing = PerThread[u32]()  # the flags of unlinkat(), until it returns


@tracepoint(*READS)
def read(call):
    if call.ret != -EBADF and wanted():
        calls[READ] += 1


@tracepoint(*WRITES)
def write(call):
    if call.ret != -EBADF and wanted():
        calls[WRITE] += 1


@tracepoint(*SYNCS)
def fsync(call):
    if call.ret != -EBADF and wanted():
        calls[FSYNC] += 1


@tracepoint(*OPENS)
def opened(call):
    if call.ret >= 0 and wanted():
        calls[OPEN] += 1
        if created(call.ret):
            calls[CREATE] += 1


@tracepoint("syscalls:sys_exit_mkdirat", "syscalls:sys_exit_mkdir")
def mkdir(call):
    if call.ret == 0 and wanted():
        calls[MKDIR] += 1


@tracepoint("syscalls:sys_exit_unlink", optional=True)  # arm64 has unlinkat() only
def unlink(call):
    if call.ret == 0 and wanted():
        calls[UNLINK] += 1


@tracepoint("syscalls:sys_exit_rmdir", optional=True)
def rmdir(call):
    if call.ret == 0 and wanted():
        calls[RMDIR] += 1


@tracepoint("syscalls:sys_enter_unlinkat")
def unlinkat(call):
    if wanted():
        removing.value = call.flag


@tracepoint("syscalls:sys_exit_unlinkat")
def removed(call):
    flag = removing.take()
    if flag is not None and call.ret == 0:
        calls[RMDIR if flag & AT_REMOVEDIR else UNLINK] += 1


def line(entries, seconds):
    """As bcc prints it; the counts themselves where the interval was a second, which it never is exactly."""
    counts = {one.key: one.count for one in entries}
    over = 1 if 0.9 < seconds < 1.1 else seconds
    return f"{time.strftime('%H:%M:%S')}: " + "".join(f" {round(counts.get(n, 0) / over):>8}" for n in range(len(WHAT)))


tool = count_table(
    calls,
    [Col("what", "WHAT", row=lambda one: WHAT[one.key]), Col("count", "COUNT")],
    text=line,
    interval=1.0,
    banner=f"{'TIME':<10}" + "".join(f" {what + '/s':>8}" for what in WHAT),
)
