# SPDX-License-Identifier: Apache-2.0
"""Kernel half of deadlock: which mutexes each thread holds, and which were taken while others were held."""

from __future__ import annotations

from osmia import Hash, Stacks, current, exists, read_user
from osmia.lang.copies import user_registers
from osmia.lang.images import image
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.lang.types import Comm, Event, u32, u64

MOST_HELD = 16  # mutexes that a thread holds at a time


class Slot(Event):
    """One of the mutexes that a thread holds: the nth."""

    tid: u32
    number: u32


class Mutex(Event):
    """A mutex that is held: where it was taken (the stack, and what the stack lacks), how often it was taken again."""

    address: u64
    caller: u64
    stack: u32
    again: u32


class Edge(Event):
    """Two mutexes that were held at a time, in the order in which they were taken."""

    first: u64
    second: u64


class Order(Event):
    """Who took the second of two mutexes while holding the first, and where; the first time that it was seen."""

    since: u64
    first_caller: u64
    second_caller: u64
    pid: u32
    tid: u32
    thread: u32  # the kernel's number of it
    first_stack: u32
    second_stack: u32
    unused: u32
    comm: Comm


stacks = Stacks(16384)
held = Hash[Slot, Mutex](65536)
depths = Hash[u32, u32](65536)  # by thread: how many mutexes it holds
edges = Hash[Edge, Order](65536)


def caller():
    """The address that the function which begins here returns to; 0 where that is not known.

    The function has no frame yet, so the kernel takes its caller's caller for the next one (x86-64; from 6.10 on
    it knows better, but only where the function begins as compilers begin most of them).
    """
    if not exists("struct pt_regs"):
        return u64(0)
    regs = user_registers()
    if regs is None:
        return u64(0)
    return read_user(regs.sp, u64)


def place(address):
    """The number of the slot in which the current thread holds a mutex; MOST_HELD: it does not."""
    depth = depths[current.pid]
    for number in range(MOST_HELD):
        if number >= depth:
            break
        mutex = held.get(Slot(tid=current.pid, number=number))
        if mutex is not None and mutex.address == address:
            return number
    return MOST_HELD


def take(address, ordered):
    """The current thread takes a mutex; ``ordered``: it waits for it, whatever it holds already."""
    number = place(address)
    if number < MOST_HELD:
        mutex = held.get(Slot(tid=current.pid, number=number))
        if mutex is not None:
            mutex.again += 1
        return
    stack, back = stacks.user(), caller()
    depth = depths[current.pid]
    for other in range(MOST_HELD):
        if not ordered or other >= depth:
            break
        first = held.get(Slot(tid=current.pid, number=other))
        if first is None:
            continue
        edge = Edge(first=first.address, second=address)
        if edge not in edges:
            edges[edge] = Order(since=image(), pid=current_process_id(), tid=current_thread_id(), thread=current.pid,
                                comm=current.comm, first_stack=first.stack, second_stack=stack,
                                first_caller=first.caller, second_caller=back)  # fmt: skip
    if depth < MOST_HELD:
        held[Slot(tid=current.pid, number=depth)] = Mutex(address=address, stack=stack, caller=back)
        depths[current.pid] = depth + 1


def release(address):
    """The current thread gives a mutex back."""
    number = place(address)
    if number == MOST_HELD:
        return
    slot = Slot(tid=current.pid, number=number)
    mutex = held.get(slot)
    if mutex is None:
        return
    if mutex.again:
        mutex.again -= 1
        return
    depth = depths[current.pid]
    last = Slot(tid=current.pid, number=depth - 1)
    top = held.get(last)
    if top is not None and number + 1 < depth:  # order does not matter: the last fills the gap
        mutex.address = top.address
        mutex.caller = top.caller
        mutex.stack = top.stack
        mutex.again = top.again
    del held[last]
    depths[current.pid] = depth - 1
