# SPDX-License-Identifier: Apache-2.0
"""Kernel half, shared by the tools that time calls: when each call of a function began, also while it calls itself.

A thread's calls of one function have numbers, 0 for the outermost, and each
has its own place under thread, function and number.  So calls within calls are
timed each for itself, and a return that the kernel missed puts nothing but
that one call out of order.  Returns are attached before entries: a call that
was under way when tracing began returns without a probe.
"""

from __future__ import annotations

from osmia import Hash, current, ktime, option, u32, u64

#: Only so many calls of a function within each other are timed, from the outermost on; 0: all.
level = option("-l", "--level", type=int, metavar="LEVEL",
               help="time the outermost LEVEL calls of a function that calls itself (default: all)")  # fmt: skip
#: Set before the load: whether it is functions of the kernel, and whether each has a histogram of its own.
in_kernel = option("in-kernel")
apart = option("apart")

depths = Hash[tuple[u32, u32], u32](32768)  # thread, place -> its calls under way
starts = Hash[tuple[u32, u32, u32], u64](32768)  # thread, place, number of the call -> since when


def begin(place):
    """The current thread calls the function number ``place``."""
    thread = current.pid
    depth = depths[thread, place]
    if not level or depth < level:
        starts[thread, place, depth] = ktime()
    depths[thread, place] = depth + 1


def end(place):
    """It returns from there: the time of the call in ns; None where that is not known, or not wanted."""
    depth = leave(place)
    if depth is None:
        return None
    start = starts.pop((current.pid, place, depth))
    if start is None:
        return None
    return ktime() - start


def leave(place):
    """The number of the call that is over; None where none had begun."""
    thread = current.pid
    calls = depths.get((thread, place))
    if calls is None:
        return None
    if calls > 1:
        depths[thread, place] = calls - 1
    else:
        del depths[thread, place]
    return calls - 1
