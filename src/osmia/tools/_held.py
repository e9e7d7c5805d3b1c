# SPDX-License-Identifier: Apache-2.0
"""Kernel half: memory that is held, and by which calls it was taken.

The allocators' own probes (:mod:`osmia.tools._heap` for programs,
:mod:`osmia.tools._kmem` for the kernel) call :func:`wants`, :func:`took` and
:func:`gave`.
"""

from __future__ import annotations

from osmia.lang.builtins import current, ktime, random, subprogram
from osmia.lang.maps import Hash, Ring
from osmia.lang.options import Option, option
from osmia.lang.stacks import Stacks
from osmia.lang.types import Comm, Event, u32, u64
from osmia.tools._show import whole

LARGEST = (1 << 63) - 1

trace = option("-t", "--trace", help="show each allocation and each time that one is freed, too")
combined_only = option("--combined-only", help="add up in the kernel: cheaper to show, but -a and -o have no effect")
sample_rate = option("-s", "--sample-rate", type=int, default=1, parse=whole, metavar="N",
                     help="look at one in N allocations only, chosen by chance")  # fmt: skip
min_size = option("-z", "--min-size", type=int, metavar="BYTES", help="allocations of this size or larger only")
max_size = option("-Z", "--max-size", type=int, default=LARGEST, metavar="BYTES",
                  help="allocations of this size or smaller only")  # fmt: skip
in_kernel = Option("in kernel")  # nobody gives it: it follows from -p and -c

#: What ``Call.kind`` may be.
ALLOCATED, FREED = 1, 2


class Alloc(Event):
    """One piece of memory: when and where it was taken (``since``: see :mod:`osmia.lang.images`)."""

    size: u64
    at: u64
    since: u64
    pid: u32
    stack: u32


class Site(Event):
    """Calls that lead to an allocation, of one program."""

    since: u64
    pid: u32
    stack: u32


class Call(Event):
    """One call, as ``-t`` shows it."""

    at: u64
    address: u64
    size: u64
    pid: u32
    tid: u32
    kind: u32
    name: u32
    comm: Comm


stacks = Stacks(16384)
allocs = Hash[u64, Alloc](1_000_000)  # by address
held_bytes = Hash[Site, u64](16384)
held_count = Hash[Site, u64](16384)
calls = Ring(Call)


def wants(size):
    """Whether an allocation of ``size`` bytes is asked for."""
    return min_size <= size <= max_size and (sample_rate == 1 or random() % sample_rate == 0)


def tell(kind, name, address, size):
    """One line of ``-t``."""
    if trace:
        with calls.reserve() as e:
            e.at, e.address, e.size, e.kind, e.name = ktime(), address, size, kind, name
            e.pid, e.tid, e.comm = current.tgid, current.pid, current.comm


@subprogram
def keep(address: u64, size: u64, since: u64, pid: u32) -> u32:
    """Remember an allocation that the current stack led to."""
    stack = stacks.kernel() if in_kernel else stacks.user()
    allocs[address] = Alloc(size=size, at=ktime(), since=since, pid=pid, stack=stack)
    added(since, pid, stack, size)
    return stack


def added(since, pid, stack, size):
    """Take an allocation into the sums."""
    if combined_only:
        site = Site(since=since, pid=pid, stack=stack)
        held_bytes[site] += size
        held_count[site] += 1


def dropped(alloc):
    """Take an allocation out of the sums."""
    if combined_only:
        site = Site(since=alloc.since, pid=alloc.pid, stack=alloc.stack)
        held_bytes[site] -= alloc.size
        held_count[site] -= 1


def gave(name, address):
    """``address`` is freed."""
    alloc = allocs.get(address)
    if alloc is not None:
        dropped(alloc)
        tell(FREED, name, address, alloc.size)
        del allocs[address]
