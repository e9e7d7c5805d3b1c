# SPDX-License-Identifier: Apache-2.0
"""Show how long threads wait for locks of the kernel, and hold them, by the function that takes the lock."""

from __future__ import annotations

from osmia import Hash, PerCpuHash, cpu, current, first_of, ktime, option, raw_tracepoint, tp_btf
from osmia.errors import OptionError
from osmia.lang.callers import CallerTable, Times
from osmia.lang.filters import cgroup, pid  # noqa: F401 - options
from osmia.tools._locks import (  # noqa: F401 - options and programs
    HOLDING,
    MUTEX,
    READ,
    WRITE,
    Lock,
    Place,
    Since,
    Sum,
    add_to,
    asked_for,
    hold_sums,
    stacks,
    tid,
    waited,
)
from osmia.tools._show import whole

#: include/trace/events/lock.h, since 5.19: the other kinds of what is waited for.
SPIN, RT, PERCPU = 1, 8, 16
#: Functions of locking itself: the caller is the first that is none of them.
LOCKING = (
    "mutex_", "__mutex_", "ww_mutex_", "__ww_mutex_", "rt_mutex_", "__rt_mutex_", "rwsem_", "down_", "__down_",
    "_raw_", "__raw_", "raw_spin_rq_lock", "native_queued_", "queued_", "__pv_queued_", "osq_", "rwbase_", "rt_spin_",
    "rt_read_", "rt_write_", "percpu_down_", "__percpu_down_", "percpu_rwsem_", "resilient_", "rqspinlock",
)  # fmt: skip
#: What -S sorts by: ``acq_`` the waits, ``hld_`` the times of holding.
FIELDS = tuple([f"{of}_{what}" for of in ("acq", "hld") for what in ("max", "total", "count")])

most = option("-n", "--locks", type=int, default=99999999, parse=whole, metavar="N", help="show N callers only")
frames = option("-s", "--stacks", type=int, default=1, parse=whole, metavar="N",
                help="show N functions of each stack (default: 1, the caller)")  # fmt: skip
caller = option("-c", "--caller", type=str, default="", metavar="NAME",
                help="only callers whose name begins with NAME")  # fmt: skip
sort = option("-S", "--sort", type=str, default="acq_max,hld_max", metavar="FIELDS",
              help="longest first by acq_max (default), acq_total or acq_count, hld_max (default), hld_total or "
                   "hld_count; one of each kind with a comma")  # fmt: skip
storage = option("--stack-storage-size", type=int, default=16384, parse=whole, metavar="N",
                 help="room for N different stacks (default: 16384)")  # fmt: skip
waits_only = option("--waits-only", help="do not trace locks that are free: cheaper, and without times of holding")

waits = Hash[Lock, Since](16384)
sums = PerCpuHash[Place, Sum](16384)


def waiter():
    """Idle threads all have the number 0."""
    return current.pid if current.pid else (1 << 32) + cpu()


@first_of(tp_btf("contention_end"), raw_tracepoint("contention_end"))
def got(lock, ret):
    key = Lock(address=lock, who=waiter())
    if not waits_only:
        waited(key, ret)
    wait = waits.get(key)
    if wait is None:
        return
    took = ktime() - wait.at
    place = Place(stack=wait.stack, flags=wait.flags)
    del waits[key]
    add_to(sums, place, took)


@first_of(tp_btf("contention_begin"), raw_tracepoint("contention_begin"))
def wants(lock, flags):
    if not asked_for():
        return
    key = Lock(address=lock, who=waiter())
    wait = waits.get(key)
    if wait is None:
        waits[key] = Since(at=ktime(), stack=stacks.kernel(), flags=flags)
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


def times(table):
    """What was measured since the last time."""
    found: dict[tuple[int, str], Times] = {}
    for place, by_cpu in table.take():
        what = kind(place.flags)
        one = found.setdefault((place.stack, what), Times(place, what))
        for each in by_cpu:
            one.add(each.count, each.longest, each.total)
    return [one for one in found.values() if one.count]


def prepare():
    for field in sort.value.split(","):
        if field not in FIELDS:
            raise OptionError(f"there is no field {field!r}", where="option -S", fix=f"sort by {', '.join(FIELDS)}")
        if waits_only and field.startswith("hld_") and sort.given:
            raise OptionError(f"--waits-only leaves nothing to sort by {field}", where="klockstat",
                              fix="leave one of them out")  # fmt: skip
    for prog in HOLDING:
        prog.enabled = not waits_only
    stacks.max_entries = storage.value


def inner(name):
    """Whether a function is one of locking."""
    return name.startswith(LOCKING) or name in ("down", "__down")


tool = CallerTable(lambda: times(sums), stacks, inner=inner, sort=sort, most=most, frames=frames, caller=caller,
                   held=lambda: times(hold_sums), holding=HOLDING, prepare=prepare,
                   banner="Tracing lock events... Hit Ctrl-C to end.")  # fmt: skip
