# SPDX-License-Identifier: Apache-2.0
"""Sample what CPUs run: count stacks, in the kernel and in programs, many times a second."""

from __future__ import annotations

import os

from osmia import Comm, Event, Hash, Stacks, cpu, current, exists, option, perf_event, stack_table, u32, u64
from osmia.errors import OptionError
from osmia.kernel.named import thread_number
from osmia.lang.copies import copies, copy_stack, user_registers
from osmia.lang.filters import cgroup, pid, wanted  # noqa: F401 - options
from osmia.lang.images import executed, forked, image  # noqa: F401 - programs
from osmia.lang.pidns import current_is_thread, current_process_id
from osmia.tools._show import refused, whole

tid = option("-L", "--tid", type=int, parse=thread_number, metavar="TID", help="this thread only")
user_only = option("-U", "--user-stacks-only", help="user stacks only, without what the kernel does for them")
kernel_only = option("-K", "--kernel-stacks-only", help="kernel stacks only")
frequency = option("-F", "--frequency", type=int, default=49, parse=whole, metavar="HZ",
                   help="samples a second (default: 49)")  # fmt: skip
period = option("-c", "--count", type=int, parse=whole, metavar="N", help="a sample each N ns of a CPU's time instead")
delimited = option("-d", "--delimited", help="put a line (-f: a frame) between user and kernel frames")
annotated = option("-a", "--annotations", help="mark kernel frames with _[k]")
idle = option("-I", "--include-idle", help="count CPUs that have nothing to do, too")
folded = option("-f", "--folded", help="one line a stack, for flame graphs")
storage = option("--stack-storage-size", type=int, default=16384, parse=whole, metavar="N",
                 help="room for N different stacks (default: 16384)")  # fmt: skip
dwarf = option("--dwarf", help="whole user stacks of programs without frame pointers (with -p; x86-64)")
only_cpu = option("-C", "--cpu", type=int, default=-1, metavar="CPU", help="this CPU only")
cgroupmap = option("--cgroupmap", type=str, parse=refused("--cgroupmap", "use --cgroup PATH"),
                   help="not here: use --cgroup PATH")  # fmt: skip
mntnsmap = option("--mntnsmap", type=str, parse=refused("--mntnsmap", "use --cgroup PATH"),
                  help="not here: use --cgroup PATH")  # fmt: skip


class Key(Event):
    """Where samples were taken; ``user`` and ``kernel`` are numbers of stacks."""

    since: u64
    pid: u32
    user: u32
    kernel: u32
    comm: Comm


stacks = Stacks()
counts = Hash[Key, u64](storage.default)


@perf_event("cpu-clock", frequency=frequency, period=period)
def sample(ctx):
    if not idle and current.pid == 0:
        return
    if not wanted() or (tid and not current_is_thread(tid)) or (only_cpu >= 0 and cpu() != only_cpu):
        return
    if dwarf and exists("struct pt_regs"):
        regs = user_registers()
        if regs is not None:
            send(regs)
            return
    key = Key(pid=current_process_id(), comm=current.comm)
    if not kernel_only:
        key.user = stacks.user()
        if key.user:
            key.since = image()
    if not user_only:
        key.kernel = stacks.kernel()
    counts[key] += 1


def send(regs):
    """--dwarf: the stack itself, and what makes callers of it."""
    since, kernel = image(), 0
    if not user_only:
        kernel = stacks.kernel()
    with copies.reserve() as e:
        e.since, e.pid, e.kernel, e.comm = since, current_process_id(), kernel, current.comm
        copy_stack(e, regs)


def banner():
    kinds = "user" if user_only else "kernel" if kernel_only else "user + kernel"
    whose = f"PID {pid}" if pid else f"TID {tid}" if tid else "all threads"
    rate = f"at {frequency} Hertz" if frequency else f"every {period} ns"
    return f"Sampling {rate} of {whose} by {kinds} stack"


def prepare():
    if user_only and kernel_only:
        raise OptionError("-U and -K exclude each other", where="profile", fix="leave both out for both kinds")
    if period and frequency.given:
        raise OptionError("-F and -c exclude each other", where="profile", fix="give one of them")
    if dwarf:
        if kernel_only or not (pid or tid):
            raise OptionError("--dwarf is for user stacks of one process", where="profile", fix="give -p PID")
        if os.uname().machine != "x86_64":
            raise OptionError("--dwarf follows stacks of x86-64 only", where="profile", fix="leave it out")
        copies.max_entries = 4 << 20
    if period:
        frequency.value = 0
    stacks.max_entries = storage.value
    counts.max_entries = max(storage.value, storage.default)


tool = stack_table(counts, stacks, banner=banner, folded=folded, annotate=annotated, delimiter=delimited,
                   copies=copies, copied=dwarf, prepare=prepare)  # fmt: skip
