# SPDX-License-Identifier: Apache-2.0
"""Sample what CPUs run: count stacks, in the kernel and in programs, many times a second."""

from __future__ import annotations

from osmia import Hash, Ring, Stacks, cpu, current, exists, ktime, option, perf_event, stack_table
from osmia.errors import OptionError
from osmia.lang.copies import copies, copy_stack, user_registers
from osmia.lang.filters import cgroup, wanted  # noqa: F401 - options
from osmia.lang.images import executed, forked, image  # noqa: F401 - programs
from osmia.lang.pidns import current_process_id
from osmia.lang.types import Comm, Event, u32, u64
from osmia.tools import _stacks
from osmia.tools._chosen import chosen, pid, threads
from osmia.tools._pinned import cgroupmap, mntnsmap  # noqa: F401 - options
from osmia.tools._show import whole
from osmia.tools._stacks import (  # noqa: F401 - options
    check_dwarf,
    check_kinds,
    delimited,
    dwarf,
    folded,
    is_recorded,
    kernel_only,
    kinds,
    size,
    storage,
    take_stacks,
    user_only,
)

tid = threads("-L", "--tid")
frequency = option("-F", "--frequency", type=int, default=49, parse=whole, metavar="HZ",
                   help="samples a second (default: 49)")  # fmt: skip
period = option("-c", "--count", type=int, parse=whole, metavar="N", help="a sample each N ns of a CPU's time instead")
annotated = option("-a", "--annotations", help="mark kernel frames with _[k]")
idle = option("-I", "--include-idle", help="count CPUs that have nothing to do, too")
only_cpu = option("-C", "--cpu", type=int, default=-1, metavar="CPU", help="this CPU only")


class Key(Event):
    """Where samples were taken; ``user`` and ``kernel`` are numbers of stacks."""

    since: u64
    pid: u32
    user: u32
    kernel: u32
    comm: Comm


class One(Event):
    """A sample by itself, for a recording: when, and what a key has."""

    at: u64
    since: u64
    pid: u32
    user: u32
    kernel: u32
    comm: Comm


stacks = Stacks()
samples = Ring(One, 4096)  # larger where they are wanted
counts = Hash[Key, u64](storage.default)


@perf_event("cpu-clock", frequency=frequency, period=period)
def sample(ctx):
    if not idle and current.pid == 0:
        return
    if not wanted() or not chosen() or (only_cpu >= 0 and cpu() != only_cpu):
        return
    if dwarf and exists("struct pt_regs"):
        regs = user_registers()
        if regs is not None:
            send(regs)
            return
    key = Key(pid=current_process_id(), comm=current.comm)
    take_stacks(key, stacks)
    if is_recorded():
        with samples.reserve() as e:
            e.at, e.since, e.pid, e.user, e.kernel, e.comm = ktime(), key.since, key.pid, key.user, key.kernel, key.comm
        return
    counts[key] += 1


def send(regs):
    """--dwarf: the stack itself, and what makes callers of it."""
    since, kernel = image(), 0
    if not user_only:
        kernel = stacks.kernel()
    with copies.reserve() as e:
        e.since, e.at, e.weight, e.kernel = since, ktime(), 1, kernel
        e.pid, e.comm = current_process_id(), current.comm
        copy_stack(e, regs)


def banner():
    whose = f"PID {pid}" if pid else f"TID {tid}" if tid else "all threads"
    rate = f"at {frequency} Hertz" if frequency else f"every {period} ns"
    return f"Sampling {rate} of {whose} by {kinds()} stack"


def prepare():
    check_kinds("profile")
    if period and frequency.given:
        raise OptionError("-F and -c exclude each other", where="profile", fix="give one of them")
    check_dwarf("profile", pid or tid)
    if is_recorded():
        samples.max_entries = 1 << 20
    if period:
        frequency.value = 0
    size(stacks, counts)


tool = stack_table(counts, stacks, banner=banner, folded=folded, annotate=annotated, delimiter=delimited,
                   copies=copies, copied=dwarf, one_by_one=samples, recorded=_stacks.recorded,
                   prepare=prepare)  # fmt: skip
