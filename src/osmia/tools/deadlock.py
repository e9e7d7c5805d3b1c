# SPDX-License-Identifier: Apache-2.0
"""Find mutexes that a program takes in different orders, so that its threads may wait for each other for ever."""

from __future__ import annotations

from osmia import Hash, LruHash, current, option, tracepoint, uprobe, uretprobe
from osmia.errors import OptionError
from osmia.kernel.named import process_number
from osmia.lang.filters import pid, wanted
from osmia.lang.images import executed, forked, image  # noqa: F401 - programs
from osmia.lang.lockorder import LockOrder
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.lang.types import Comm, Event, u32, u64
from osmia.tools._libc import within
from osmia.tools._mutexes import Mutex, caller, depths, edges, held, release, stacks, take
from osmia.tools._show import whole

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


class Maker(Event):
    """Who made a thread, and where."""

    since: u64
    caller: u64
    pid: u32
    tid: u32
    stack: u32
    comm: Comm


making = Hash[u32, Mutex](1024)  # threads within pthread_create(): the stack
makers = LruHash[u32, Maker](65536)  # by the thread that was made


@uprobe(within(binary, unlock_symbols))
def unlock(address: u64):
    if wanted():
        release(address)


@uprobe(within(binary, lock_symbols))
def lock(address: u64):
    if wanted():
        take(address, True)


@uretprobe(within(binary, "pthread_create"), optional=True)
def created(ret: u64):
    del making[current.pid]


@uprobe(within(binary, "pthread_create"), optional=True)
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
