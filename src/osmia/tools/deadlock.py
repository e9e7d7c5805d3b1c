# SPDX-License-Identifier: Apache-2.0
"""Find mutexes that a program takes in different orders, so that its threads may wait for each other for ever."""

from __future__ import annotations

from osmia import (
    Comm,
    Event,
    Hash,
    LruHash,
    Stacks,
    current,
    exists,
    option,
    read_user,
    tracepoint,
    u32,
    u64,
    uprobe,
    uretprobe,
)
from osmia.errors import OptionError
from osmia.kernel.named import process_number
from osmia.lang.copies import user_registers
from osmia.lang.filters import pid, wanted
from osmia.lang.images import executed, forked, image  # noqa: F401 - programs
from osmia.lang.lockorder import LockOrder
from osmia.lang.options import Option
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.tools._show import whole

MOST_HELD = 16  # mutexes that a thread holds at a time
LIBRARIES = ("c", "pthread")  # of the C library, the second before glibc 2.34

command = option("-c", "--cmd", type=str, metavar="CMD", help="run this command and trace it")
process = option("pid", type=int, parse=process_number, help="the process to trace, like -p")
binary = option("--binary", type=str, metavar="FILE",
                help="the program or library that has the functions (default: the C library)")  # fmt: skip
lock_symbols = option("--lock-symbols", type=str, default="pthread_mutex_lock", metavar="NAMES",
                      help="functions that lock, separated by commas (default: pthread_mutex_lock)")  # fmt: skip
unlock_symbols = option("--unlock-symbols", type=str, default="pthread_mutex_unlock", metavar="NAMES",
                        help="functions that unlock (default: pthread_mutex_unlock)")  # fmt: skip
dump_graph = option("--dump-graph", type=str, metavar="FILE", help="write the graph to this file as JSON, each second")
threads = option("-t", "--threads", type=int, default=65536, parse=whole, metavar="N",
                 help="room for N threads (default: 65536)")  # fmt: skip
most_edges = option("-e", "--edges", type=int, default=65536, parse=whole, metavar="N",
                    help="room for N pairs of mutexes that are held together (default: 65536)")  # fmt: skip


class Where(Option):
    """``FILE:FUNCTION`` of each function that an option names (or a constant), in each library that may have it."""

    def __init__(self, names):
        self._names = names
        super().__init__("--binary", type=str)

    @property
    def value(self):
        files = (binary.value,) if binary.value else LIBRARIES
        return ",".join([f"{file}:{name}" for name in str(self._names).split(",") for file in files])

    @value.setter
    def value(self, value):
        pass


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


class Maker(Event):
    """Who made a thread, and where."""

    since: u64
    caller: u64
    pid: u32
    tid: u32
    stack: u32
    comm: Comm


stacks = Stacks(16384)
held = Hash[Slot, Mutex](65536)
depths = Hash[u32, u32](65536)  # by thread: how many mutexes it holds
edges = Hash[Edge, Order](65536)
making = Hash[u32, Mutex](1024)  # threads within pthread_create(): the stack
makers = LruHash[u32, Maker](65536)  # by the thread that was made


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


@uprobe(Where(unlock_symbols))
def unlock(address: u64):
    if not wanted():
        return
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


@uprobe(Where(lock_symbols))
def lock(address: u64):
    if wanted():
        take(address, True)


@uretprobe(Where("pthread_create"), optional=True)
def created(ret: u64):
    del making[current.pid]


@uprobe(Where("pthread_create"), optional=True)
def create():
    if wanted():
        making[current.pid] = Mutex(stack=stacks.user(), caller=caller())


@tracepoint("sched:sched_process_fork")
def made(record):
    maker = making.get(current.pid)
    if maker is not None:
        makers[record.child_pid] = Maker(since=image(), pid=current_process_id(), tid=current_thread_id(),
                                         stack=maker.stack, caller=maker.caller, comm=current.comm)  # fmt: skip


@tracepoint("sched:sched_process_exit")
def ended(record):
    """A number may come again, for a thread that holds nothing."""
    del depths[current.pid]


def prepare():
    if process.given:
        if pid.given:
            raise OptionError("the process is there twice", where="deadlock", fix="leave -p out")
        pid.set(process.value)
    if pid.given == command.given:
        raise OptionError("it is not said which process to trace" if not pid.given else "-p and -c exclude each other",
                          where="deadlock", fix="give a PID, or a command with -c")  # fmt: skip
    held.max_entries = depths.max_entries = makers.max_entries = threads.value
    edges.max_entries = most_edges.value


tool = LockOrder(edges, makers, stacks, dump=dump_graph, banner="Tracing... Hit Ctrl-C to end.", prepare=prepare)
