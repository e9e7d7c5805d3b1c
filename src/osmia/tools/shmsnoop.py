# SPDX-License-Identifier: Apache-2.0
"""Trace shmget() and the other calls for System V shared memory."""

from __future__ import annotations

from osmia import Col, Hash, Ring, current, event_table, ktime, option, tracepoint
from osmia.kernel.named import thread_number
from osmia.lang.filters import cgroup, name, pid, uid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_is_thread, current_process_id, current_thread_id
from osmia.lang.types import Comm, Event, s64, u32, u64
from osmia.tools._show import elapsed

SHMGET, SHMAT, SHMDT, SHMCTL = range(4)
NAMES = ("SHMGET", "SHMAT", "SHMDT", "SHMCTL")
# include/uapi/linux/{ipc,shm}.h; from bit 26 on, the size of huge pages as a power of two
GET_FLAGS = {0o1000: "IPC_CREAT", 0o2000: "IPC_EXCL", 0o4000: "SHM_HUGETLB", 0o10000: "SHM_NORESERVE"}
AT_FLAGS = {0o10000: "SHM_RDONLY", 0o20000: "SHM_RND", 0o40000: "SHM_REMAP", 0o100000: "SHM_EXEC"}
SIZES = {21 << 26: "SHM_HUGE_2MB", 30 << 26: "SHM_HUGE_1GB"}
HUGE = 0x3F << 26
COMMANDS = {0: "IPC_RMID", 1: "IPC_SET", 2: "IPC_STAT", 3: "IPC_INFO", 11: "SHM_LOCK", 12: "SHM_UNLOCK",
            13: "SHM_STAT", 14: "SHM_INFO", 15: "SHM_STAT_ANY"}  # fmt: skip

timestamp = option("-T", "--timestamp", help="show the time in seconds since the first row")
tid = option("-t", "--tid", type=int, parse=thread_number, metavar="TID", help="trace this thread only")


class Shm(Event):
    """One call; ``arg1`` to ``arg3`` are its arguments, as in its manual page."""

    ts: u64
    ret: s64
    arg1: u64
    arg2: u64
    arg3: u64
    pid: u32
    tid: u32
    call: u32
    comm: Comm


calls = Hash[u32, tuple[u32, u64, u64, u64]](32768)  # thread -> which call, and its arguments, until it returns
shms = Ring(Shm)


def enter(call, arg1, arg2, arg3):
    if wanted() and (not tid or current_is_thread(tid)):
        calls[current.pid] = call, arg1, arg2, arg3


@tracepoint("syscalls:sys_enter_shmget")
def enter_shmget(call):
    enter(SHMGET, call.key & 0xFFFFFFFF, call.size, call.shmflg & 0xFFFFFFFF)


@tracepoint("syscalls:sys_enter_shmat")
def enter_shmat(call):
    enter(SHMAT, call.shmid & 0xFFFFFFFF, call.shmaddr, call.shmflg & 0xFFFFFFFF)


@tracepoint("syscalls:sys_enter_shmdt")
def enter_shmdt(call):
    enter(SHMDT, call.shmaddr, 0, 0)


@tracepoint("syscalls:sys_enter_shmctl")
def enter_shmctl(call):
    enter(SHMCTL, call.shmid & 0xFFFFFFFF, call.cmd & 0xFFFFFFFF, call.buf)


@tracepoint(*[f"syscalls:sys_exit_{one.lower()}" for one in NAMES])
def leave(exit):
    one = calls.pop(current.pid)
    if one is None:
        return
    call, arg1, arg2, arg3 = one
    with shms.reserve() as e:
        e.ts, e.call, e.ret, e.comm = ktime(), call, exit.ret, current.comm
        e.arg1, e.arg2, e.arg3 = arg1, arg2, arg3
        e.pid, e.tid = current_process_id(), current_thread_id()


def spelled(flags, known):
    """Flags in words; what has none, as permissions are, in octal."""
    if not flags:
        return "0x0"
    words = [word for bit, word in known.items() if flags & bit]
    rest = flags & ~sum(bit for bit in known if flags & bit)
    if known is GET_FLAGS and rest & HUGE in SIZES:
        words.append(SIZES[rest & HUGE])
        rest &= ~HUGE
    return f"{flags:#x} ({'|'.join([*words, *([f'0{rest:o}'] if rest else [])])})"


def arguments(e):
    if e.call == SHMGET:
        return f"key: {e.arg1:#x}, size: {e.arg2}, shmflg: {spelled(e.arg3, GET_FLAGS)}"
    if e.call == SHMAT:
        return f"shmid: {e.arg1:#x}, shmaddr: {e.arg2:#x}, shmflg: {spelled(e.arg3, AT_FLAGS)}"
    if e.call == SHMDT:
        return f"shmaddr: {e.arg1:#x}"
    return f"shmid: {e.arg1:#x}, cmd: {e.arg2} ({COMMANDS.get(e.arg2, hex(e.arg2))}), buf: {e.arg3:#x}"


tool = event_table(
    shms,
    [
        Col("ts", "TIME(s)", 14, show=elapsed(9, from_first=True), when=timestamp, align="<"),
        Col("pid", "PID", 6, when=lambda: not tid, align="<"),
        Col("tid", "TID", 6, when=tid, align="<"),
        Col("comm", "COMM", 16),
        Col("sys", "SYS", 6, row=lambda e: NAMES[e.call], align=">"),
        Col("ret", "RET", 16, show=lambda ret: f"{ret:x}" if not -4096 < ret < 0 else str(ret), align=">"),
        Col("args", "ARGs", row=arguments),
    ],
)
