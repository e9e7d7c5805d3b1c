# SPDX-License-Identifier: Apache-2.0
"""Kernel half of funcslower: a call's arguments and stacks are kept at its entry, and sent if it took long."""

from __future__ import annotations

from osmia import Event, Hash, Ring, Stacks, attach_cookie, current, ktime, option, u32, u64, uprobe, uretprobe
from osmia.lang.filters import wanted
from osmia.lang.function_probes import kprobe_multi, kretprobe_multi
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.lang.types import Comm
from osmia.probespec import FUNCTION, USER
from osmia.tools._calls import depths, leave

user_stack = option("-U", "--user-stack", help="show the user stack")
kernel_stack = option("-K", "--kernel-stack", help="show the kernel stack")
#: The shortest call to show, in ns; set before the load.
shortest = option("shortest", type=u64, default=1_000_000)
#: Where the two programs that are needed attach, by kind of place; the others are not loaded.
AT = {kind: option(kind, type=str) for kind in (FUNCTION, USER)}


class Call(Event):
    """A call under way."""

    start: u64
    arg1: u64
    arg2: u64
    arg3: u64
    arg4: u64
    arg5: u64
    arg6: u64
    user: u32
    kernel: u32


class Slow(Event):
    """A call that took long: which function (kernel or not, number of its place), by whom, from where."""

    start: u64
    ns: u64
    retval: u64
    arg1: u64
    arg2: u64
    arg3: u64
    arg4: u64
    arg5: u64
    arg6: u64
    place: u32
    in_kernel: u32
    pid: u32
    tid: u32
    user: u32
    kernel: u32
    comm: Comm


calls = Hash[tuple[u32, u32, u32], Call](32768)  # thread, place, number of the call (see _calls)
slow = Ring(Slow)
stacks = Stacks()


def begin(place, a, b, c, d, e, f):
    thread = current.pid
    depth = depths[thread, place]
    call = Call(start=0, arg1=a, arg2=b, arg3=c, arg4=d, arg5=e, arg6=f)
    if user_stack:
        call.user = stacks.user()
    if kernel_stack:
        call.kernel = stacks.kernel()
    call.start = ktime()
    calls[thread, place, depth] = call
    depths[thread, place] = depth + 1


def end(place, retval, in_kernel):
    now = ktime()
    depth = leave(place)
    if depth is None:
        return
    key = (current.pid, place, depth)
    call = calls.get(key)
    if call is None:
        return
    if now - call.start >= shortest:
        with slow.reserve() as e:
            e.start, e.ns, e.retval, e.place, e.in_kernel = call.start, now - call.start, retval, place, in_kernel
            e.arg1, e.arg2, e.arg3, e.arg4, e.arg5, e.arg6 = (
                call.arg1, call.arg2, call.arg3, call.arg4, call.arg5, call.arg6)  # fmt: skip
            e.pid, e.tid, e.comm = current_process_id(), current_thread_id(), current.comm
            e.user, e.kernel = call.user, call.kernel
    del calls[key]


@kretprobe_multi(AT[FUNCTION], optional=True)
def kernel_return(ret: u64):
    end(attach_cookie(), ret, 1)


@kprobe_multi(AT[FUNCTION], optional=True)
def kernel_entry(a, b, c, d, e, f):
    if wanted():
        begin(attach_cookie(), a, b, c, d, e, f)


@uretprobe(AT[USER], optional=True)
def user_return(ret: u64):
    end(attach_cookie(), ret, 0)


@uprobe(AT[USER], optional=True)
def user_entry(a, b, c, d, e, f):
    if wanted():
        begin(attach_cookie(), a, b, c, d, e, f)


PROGRAMS = {FUNCTION: (kernel_return, kernel_entry), USER: (user_return, user_entry)}
