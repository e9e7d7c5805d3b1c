# SPDX-License-Identifier: Apache-2.0
"""Kernel half: how long mutexes and semaphores of readers and writers are held, and by whom they were taken.

No tracepoint tells when a lock is given back (``lock:lock_release`` is there
only in kernels that debug their locks), so the functions themselves are
traced: :data:`HOLDING`.  ``fexit`` sees that a lock was taken when it was.
Where there are only kprobes, the call is seen instead, and if the thread has
to wait, the end of that wait moves the beginning (:func:`waited`).
"""

from __future__ import annotations

from osmia.kernel.named import thread_number
from osmia.lang.builtins import current, ktime, subprogram
from osmia.lang.filters import wanted
from osmia.lang.function_probes import fentry, fexit, kprobe
from osmia.lang.maps import Hash, PerCpuHash
from osmia.lang.options import option
from osmia.lang.pidns import current_is_thread
from osmia.lang.probes import first_of
from osmia.lang.stacks import Stacks
from osmia.lang.types import Event, u32, u64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.lang.probes import Plan

#: include/trace/events/lock.h, since 5.19: what is waited for, and how.
READ, WRITE, MUTEX = 2, 4, 32

tid = option("-t", "--tid", type=int, parse=thread_number, metavar="TID", help="this thread only")


class Place(Event):
    """A stack, and the kind of lock that it wants or has."""

    stack: u32
    flags: u32


class Sum(Event):
    """The times of one place on one CPU."""

    count: u64
    total: u64
    longest: u64


class Lock(Event):
    """A lock, and who wants or has it: a thread, or a CPU that has none (with the high bit)."""

    address: u64
    who: u64


class Since(Event):
    """A wait, or a hold: since when and where."""

    at: u64
    stack: u32
    flags: u32


stacks = Stacks()
held = Hash[Lock, Since](16384)
hold_sums = PerCpuHash[Place, Sum](16384)


def asked_for():
    """Whether the current thread passes the filters."""
    return wanted() and not (tid and not current_is_thread(tid))


@subprogram
def taken(lock: u64, flags: u32) -> bool:
    """The current thread has got ``lock``; whether that is of interest."""
    if not asked_for():
        return False
    stack = stacks.kernel()
    held[Lock(address=lock, who=current.pid)] = Since(at=ktime(), stack=stack, flags=flags)
    return True


def waited(key, failed):
    """The end of a wait: if the thread was seen to call for the lock, it has got it only now, or not at all."""
    since = held.get(key)
    if since is not None:
        if failed:
            del held[key]
        else:
            since.at = ktime()


@subprogram
def given_back(lock: u64) -> bool:
    """The current thread lets go of ``lock``; whether it is known since when it has had it."""
    key = Lock(address=lock, who=current.pid)
    since = held.get(key)
    if since is None:
        return False
    took = ktime() - since.at
    place = Place(stack=since.stack, flags=since.flags)
    del held[key]
    add_to(hold_sums, place, took)
    return True


def add_to(sums, place, took):
    """One more time of ``place``."""
    one = sums.get(place)
    if one is None:
        sums[place] = Sum(count=1, total=took, longest=took)
    else:
        one.count += 1
        one.total += took
        if took > one.longest:
            one.longest = took


def takes(function: str) -> Plan:
    """A function that returns nothing, and only with the lock."""
    return first_of(fexit(function, optional=True), kprobe(function, optional=True))


def gives(function: str) -> Plan:
    """A function that gives the lock back."""
    return first_of(fentry(function, optional=True), kprobe(function, optional=True))


@takes("mutex_lock")
def mutex_lock(lock):
    taken(u64(lock), MUTEX)


@takes("mutex_lock_io")
def mutex_lock_io(lock):
    taken(u64(lock), MUTEX)


@fexit("mutex_lock_interruptible", optional=True)
def mutex_lock_interruptible(lock, ret):
    if ret == 0:
        taken(u64(lock), MUTEX)


@fexit("mutex_lock_killable", optional=True)
def mutex_lock_killable(lock, ret):
    if ret == 0:
        taken(u64(lock), MUTEX)


@fexit("mutex_trylock", optional=True)
def mutex_trylock(lock, ret):
    if ret:
        taken(u64(lock), MUTEX)


@gives("mutex_unlock")
def mutex_unlock(lock):
    given_back(u64(lock))


@takes("down_read")
def down_read(lock):
    taken(u64(lock), READ)


@fexit("down_read_interruptible", optional=True)
def down_read_interruptible(lock, ret):
    if ret == 0:
        taken(u64(lock), READ)


@fexit("down_read_killable", optional=True)
def down_read_killable(lock, ret):
    if ret == 0:
        taken(u64(lock), READ)


@fexit("down_read_trylock", optional=True)
def down_read_trylock(lock, ret):
    if ret:
        taken(u64(lock), READ)


@gives("up_read")
def up_read(lock):
    given_back(u64(lock))


@takes("down_write")
def down_write(lock):
    taken(u64(lock), WRITE)


@fexit("down_write_killable", optional=True)
def down_write_killable(lock, ret):
    if ret == 0:
        taken(u64(lock), WRITE)


@fexit("down_write_trylock", optional=True)
def down_write_trylock(lock, ret):
    if ret:
        taken(u64(lock), WRITE)


@gives("up_write")
def up_write(lock):
    given_back(u64(lock))


#: All of them.
HOLDING = (mutex_lock, mutex_lock_io, mutex_lock_interruptible, mutex_lock_killable, mutex_trylock, mutex_unlock,
           down_read, down_read_interruptible, down_read_killable, down_read_trylock, up_read, down_write,
           down_write_killable, down_write_trylock, up_write)  # fmt: skip
