# SPDX-License-Identifier: Apache-2.0
"""Show how long threads wait for locks of the kernel, by the function that takes the lock."""

from __future__ import annotations

from osmia import (
    Event,
    Hash,
    PerCpuHash,
    Stacks,
    cpu,
    current,
    first_of,
    ktime,
    option,
    raw_tracepoint,
    tp_btf,
    u32,
    u64,
)
from osmia.errors import OptionError
from osmia.kernel.named import thread_number
from osmia.lang.callers import CallerTable, Times
from osmia.lang.filters import cgroup, pid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_is_thread
from osmia.tools._show import whole

#: include/trace/events/lock.h, since 5.19: what is waited for, and how.
SPIN, READ, WRITE, RT, PERCPU, MUTEX = 1, 2, 4, 8, 16, 32
#: Functions of locking itself: the caller is the first that is none of them.
LOCKING = (
    "mutex_", "__mutex_", "ww_mutex_", "__ww_mutex_", "rt_mutex_", "__rt_mutex_", "rwsem_", "down_", "__down_",
    "_raw_", "__raw_", "raw_spin_rq_lock", "native_queued_", "queued_", "__pv_queued_", "osq_", "rwbase_", "rt_spin_",
    "rt_read_", "rt_write_", "percpu_down_", "__percpu_down_", "percpu_rwsem_", "resilient_", "rqspinlock",
)  # fmt: skip

tid = option("-t", "--tid", type=int, parse=thread_number, metavar="TID", help="this thread only")
most = option("-n", "--locks", type=int, default=99999999, parse=whole, metavar="N", help="show N callers only")
frames = option("-s", "--stacks", type=int, default=1, parse=whole, metavar="N",
                help="show N functions of each stack (default: 1, the caller)")  # fmt: skip
caller = option("-c", "--caller", type=str, default="", metavar="NAME",
                help="only callers whose name begins with NAME")  # fmt: skip
sort = option("-S", "--sort", type=str, default="acq_max", metavar="FIELD",
              help="longest first by acq_max (default), acq_total or acq_count")  # fmt: skip
storage = option("--stack-storage-size", type=int, default=16384, parse=whole, metavar="N",
                 help="room for N different stacks (default: 16384)")  # fmt: skip


class Place(Event):
    """A stack, and the kind of lock that it waits for."""

    stack: u32
    flags: u32


class Sum(Event):
    """The waits of one place on one CPU."""

    count: u64
    total: u64
    longest: u64


class Lock(Event):
    """A lock, and who waits for it: a thread, or a CPU that has none (with the high bit)."""

    address: u64
    who: u64


class Wait(Event):
    """A wait: since when and where."""

    at: u64
    stack: u32
    flags: u32


stacks = Stacks()
waits = Hash[Lock, Wait](16384)
sums = PerCpuHash[Place, Sum](16384)


def waiter():
    """Idle threads all have the number 0."""
    return current.pid if current.pid else (1 << 32) + cpu()


@first_of(tp_btf("contention_end"), raw_tracepoint("contention_end"))
def got(lock, ret):
    key = Lock(address=lock, who=waiter())
    wait = waits.get(key)
    if wait is None:
        return
    took = ktime() - wait.at
    place = Place(stack=wait.stack, flags=wait.flags)
    del waits[key]
    one = sums.get(place)
    if one is None:
        sums[place] = Sum(count=1, total=took, longest=took)
    else:
        one.count += 1
        one.total += took
        if took > one.longest:
            one.longest = took


@first_of(tp_btf("contention_begin"), raw_tracepoint("contention_begin"))
def wants(lock, flags):
    if not wanted() or (tid and not current_is_thread(tid)):
        return
    key = Lock(address=lock, who=waiter())
    wait = waits.get(key)
    if wait is None:
        waits[key] = Wait(at=ktime(), stack=stacks.kernel(), flags=flags)
    else:
        wait.flags = flags  # a mutex: from spinning to sleeping, in one wait


def kind(flags):
    """The name of a kind of lock."""
    if flags & MUTEX:
        return "mutex"
    if flags & RT:
        return "rt-mutex" if not flags & (READ | WRITE) else "rt-rwlock:" + ("R" if flags & READ else "W")
    how = ":R" if flags & READ else ":W" if flags & WRITE else ""
    if flags & PERCPU:
        return "percpu-rwsem" + how
    if flags & SPIN:
        return "rwlock" + how if how else "spinlock"
    return "rwsem" + how if how else "semaphore"


def times():
    """What was measured since the last time."""
    found: dict[tuple[int, str], Times] = {}
    for place, by_cpu in sums.take():
        what = kind(place.flags)
        one = found.setdefault((place.stack, what), Times(place, what))
        for each in by_cpu:
            one.add(each.count, each.longest, each.total)
    return [one for one in found.values() if one.count]


def prepare():
    if sort.value.startswith("hld_"):
        raise OptionError("times that locks are held are not measured", where="option -S",
                          fix="sort by acq_max, acq_total or acq_count")  # fmt: skip
    if sort.value not in ("acq_max", "acq_total", "acq_count"):
        raise OptionError(f"there is no field {sort.value!r}", where="option -S",
                          fix="sort by acq_max, acq_total or acq_count")  # fmt: skip
    stacks.max_entries = storage.value


def inner(name):
    """Whether a function is one of locking."""
    return name.startswith(LOCKING) or name in ("down", "__down")


tool = CallerTable(times, stacks, inner=inner, word="Wait", sort=sort, most=most, frames=frames, caller=caller,
                   banner="Tracing lock events... Hit Ctrl-C to end.", prepare=prepare)  # fmt: skip
