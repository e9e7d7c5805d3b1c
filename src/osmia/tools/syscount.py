# SPDX-License-Identifier: Apache-2.0
"""Count system calls, and the time they take, by call or by process."""

from __future__ import annotations

import time

from osmia import Col, Hash, PerCpuHash, PerThread, count_table, current, exists, ktime, option, tracepoint
from osmia.kernel import syscall_names
from osmia.kernel.named import thread_number
from osmia.lang.filters import cgroup, name, pid, uid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_is_thread, current_process_id
from osmia.lang.types import Comm, u32, u64


def error_number(word):
    """What ``-e`` means: an errno by name (EPERM) or number."""
    import errno

    number = getattr(errno, word, None) if word.startswith("E") else int(word) if word.lstrip("-").isdecimal() else None
    if not number:
        raise ValueError(f"there is no error {word!r}: it is spelled as in errno(3), ENOENT for example")
    return abs(number)


tid = option("-t", "--tid", type=int, parse=thread_number, metavar="TID", help="trace this thread only")
top = option("-T", "--top", type=int, default=10, metavar="N", help="show the N largest only (default: 10; 0: all)")
failures = option("-x", "--failures", help="count failed calls only")
error = option("-e", "--errno", type=int, parse=error_number, metavar="ERRNO",
               help="count calls that fail with this error only (EPERM, or its number)")  # fmt: skip
latency = option("-L", "--latency", help="show the time that calls took, too")
milliseconds = option("-m", "--milliseconds", help="milliseconds instead of microseconds")
by_process = option("-P", "--process", help="count by process and not by call")
listing = option("-l", "--list", help="print the calls by name, and end")
only = option("--syscall", type=int, default=-1, parse=syscall_names.number, metavar="CALL", help="this call only")

COMPAT = 1 << 31  # added to the number of a call of a 32-bit program, which has numbers of its own
TS_COMPAT = 2  # arch/x86/include/asm/thread_info.h

since = PerThread[u64](32768)
calls = PerCpuHash[u32, u64](16384)
times = PerCpuHash[u32, u64](16384)
names = Hash[u32, Comm](16384)


def called(number):
    """The call's number; one apart for what 32-bit programs call."""
    if not exists("struct task_struct") or not exists(current.task.thread_info.status):
        return number
    return number | COMPAT if current.task.thread_info.status & TS_COMPAT else number


def counted(number):
    """Whether the options ask for this call of the current thread."""
    return (only < 0 or number == only) and (not tid or current_is_thread(tid)) and wanted()


@tracepoint("raw_syscalls:sys_enter")
def enter(call):
    if counted(called(call.id)):
        since.value = ktime()


@tracepoint("raw_syscalls:sys_exit")
def leave(call):
    number = called(call.id)
    if call.id < 0 or not counted(number):
        return
    start = since.take() if latency else 0
    if start is None or (failures and call.ret >= 0) or (error and call.ret != -error):
        return
    key = number
    if by_process:
        key = current_process_id()
        if exists("struct task_struct"):
            names[key] = current.task.group_leader.comm
        else:
            names[key] = current.comm
    if latency:
        times[key] += ktime() - start
    calls[key] += 1


def label(key):
    """A call by its name, or a process by number and name."""
    if by_process:
        return f"{key:<6} {names.get(key, '')}"
    return f"32-bit call {key ^ COMPAT}" if key & COMPAT else syscall_names.name(key)


def spent(ns):
    return f"{ns / 1e6:.6f}" if milliseconds else f"{ns / 1e3:.3f}"


def order(entry):
    return entry.ns if latency else entry.count


def table(entries, _):
    """As bcc prints it."""
    head = f"{'PID    COMM' if by_process else 'SYSCALL':<22} {'COUNT':>8}"
    if latency:
        head += f" {'TIME (ms)' if milliseconds else 'TIME (us)':>16}"
    rows = [f"{printable(label(one.key)):<22} {one.count:>8}" + (f" {spent(one.ns):>16}" if latency else "")
            for one in entries]  # fmt: skip
    return "\n".join([f"[{time.strftime('%H:%M:%S')}]", head, *rows, "", ""])


def printable(text):
    from osmia.views.escape import escape

    return escape(text)


def prepare():
    enter.enabled = bool(latency)
    if listing:
        found = sorted(syscall_names.table().values())
        print("\n".join("   ".join(f"{one:<22}" for one in found[at : at + 4]) for at in range(0, len(found), 4)))
        raise SystemExit(0)
    what = "failed " if failures else ""
    shown = f"syscall '{syscall_names.name(int(only))}'" if only >= 0 else f"syscalls, printing top {top}"
    tool.banner = f"Tracing {what}{shown}... Ctrl+C to quit."


tool = count_table(
    calls,
    [
        Col("syscall", "SYSCALL", row=lambda one: label(one.key), when=lambda: not by_process),
        Col("pid", "PID", row=lambda one: one.key, when=by_process),
        Col("name", "COMM", row=lambda one: names.get(one.key, ""), when=by_process),
        Col("count", "COUNT"),
        Col("ns", "TIME", when=latency, show=spent),
    ],
    more={"ns": times},
    sort=order,
    most=top,
    text=table,
    prepare=prepare,
)
