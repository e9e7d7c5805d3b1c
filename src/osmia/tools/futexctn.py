# SPDX-License-Identifier: Apache-2.0
"""Show how long threads wait for locks of their programs (futexes), by lock and by the stack that waits."""

from __future__ import annotations

from osmia import Comm, Event, Hash, Stacks, current, ktime, log2_hist, option, tracepoint, u32, u64
from osmia.lang.filters import cgroup, name, pid, uid, wanted  # noqa: F401 - options
from osmia.lang.images import executed, forked, image  # noqa: F401 - programs
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.lang.waits import Waits
from osmia.tools._show import whole
from osmia.tools._thread import one_thread, tid  # noqa: F401 - an option
from osmia.tools._times import in_unit, milliseconds, unit  # noqa: F401 - an option


def address(word):
    """A lock's address, in hexadecimal; ValueError."""
    try:
        number = int(word, 16)
    except ValueError:
        number = 0
    if not 0 < number < 1 << 64:
        raise ValueError(f"{word!r} is not an address: it is written as in 0x8187bb8")
    return number


lock = option("-l", "--lock", type=u64, parse=address, metavar="LOCK", help="trace the lock at this address only (hex)")
summary = option("-s", "--summary", help="by process and lock only, without threads and stacks")
every = option("-a", "--all", help="count all waits, also of condition variables and with a time limit")
depth = option("--perf-max-stack-depth", type=int, default=127, parse=whole, metavar="N",
               help="accepted for bcc's sake: stacks are as deep as kernel.perf_event_max_stack allows")  # fmt: skip
storage = option("--stack-storage-size", type=int, default=1024, parse=whole, metavar="N",
                 help="room for N stacks, and N sums by thread, lock and stack (default: 1024)")  # fmt: skip

#: include/uapi/linux/futex.h
WAIT, LOCK_PI, WAIT_BITSET, WAIT_REQUEUE_PI, LOCK_PI2 = 0, 6, 9, 11, 13
FLAGS = 128 | 256  # FUTEX_PRIVATE_FLAG, FUTEX_CLOCK_REALTIME


class Key(Event):
    """Who waited, for which lock, and where; ``tid`` and ``user`` are 0 in a summary."""

    since: u64
    lock: u64
    pid: u32
    tid: u32
    user: u32
    comm: Comm


stacks = Stacks(storage.default)
starts = Hash[u32, tuple[u64, u64]](32768)  # thread -> since when, and for which lock
waits = log2_hist("usecs", key=Key, max_entries=storage.default)


def begin(where):
    if (not lock or where == lock) and wanted():
        starts[current.pid] = ktime(), where


@tracepoint("syscalls:sys_enter_futex")
def enter(call):
    operation = call.op & ~FLAGS
    if operation in (WAIT, LOCK_PI, LOCK_PI2) or (every and operation in (WAIT_BITSET, WAIT_REQUEUE_PI)):
        begin(call.uaddr)


@tracepoint("syscalls:sys_enter_futex_wait", optional=True)  # 6.7
def enter_wait(call):
    begin(call.uaddr)


@tracepoint("syscalls:sys_exit_futex", "syscalls:sys_exit_futex_wait")
def leave(exit):
    start = starts.pop(current.pid)
    if start is None or exit.ret < 0:  # the lock was free, or a signal or a time limit ended the wait
        return
    since, where = start
    key = Key(lock=where, pid=current_process_id())
    if summary:
        key.comm = current.task.group_leader.comm
    else:
        key.tid, key.comm, key.user = current_thread_id(), current.comm, stacks.user()
        key.since = image()
    waits[key].add(in_unit(ktime() - since))


def prepare():
    one_thread()
    enter_wait.enabled = bool(every)
    stacks.max_entries = waits.max_entries = storage.value


tool = Waits(waits, stacks, unit=unit, prepare=prepare,
             banner="Summarize futex contention latency, hit ctrl-c to exit")  # fmt: skip
