# SPDX-License-Identifier: Apache-2.0
"""Kernel half: probes of a program's allocator, malloc() and its family, and of mmap().

What an allocation is for is known at entry, where it is at return; a call
within such a call (realloc() calls malloc(), malloc() calls mmap()) is not one
of the program's.  Stacks are taken at return, when the caller is innermost:
at entry, a function has no frame yet, and kernels before 6.10 leave its
caller out.  Functions that return are attached first, so that no entry waits
for a return that is not seen.
"""

from __future__ import annotations

from osmia.lang.builtins import current, exists, ktime, read_user
from osmia.lang.filters import wanted
from osmia.lang.images import image
from osmia.lang.maps import Hash, LruHash
from osmia.lang.options import Computed, option
from osmia.lang.pidns import current_process_id
from osmia.lang.probes import tracepoint
from osmia.lang.types import Event, s32, u32, u64
from osmia.lang.user_probes import uprobe, uretprobe
from osmia.tools._held import ALLOCATED, FREED, Alloc, added, allocs, dropped, gave, keep, tell, wants

obj = option("-O", "--obj", type=str, default="c", metavar="FILE",
             help="the program or library that has the allocator (default: c, the C library)")  # fmt: skip
prefix = option("--symbols-prefix", type=str, metavar="PREFIX",
                help="what the names of the allocator's functions begin with, such as je_")  # fmt: skip

#: Names of the functions, by number; -t shows them.
NAMES = ("", "malloc", "calloc", "realloc", "memalign", "aligned_alloc", "posix_memalign", "valloc", "pvalloc", "mmap",
         "mremap", "free", "munmap")  # fmt: skip
(MALLOC, CALLOC, REALLOC, MEMALIGN, ALIGNED_ALLOC, POSIX_MEMALIGN, VALLOC, PVALLOC, MMAP, MREMAP, FREE, MUNMAP) = range(
    1, 13
)
FAILED = 0xFFFF_FFFF_FFFF_FFFF  # MAP_FAILED
PAGE = 4095


def where(function: str, plain: bool = False) -> Computed:
    """``FILE:FUNCTION`` with the file of ``-O`` and, for functions of the allocator, ``--symbols-prefix``."""
    return Computed("-O", lambda: f"{obj.value}:{'' if plain else prefix.value}{function}", type=str)


class Begun(Event):
    """A call that has not returned: what it is to give, and what realloc() was given, which is free meanwhile."""

    size: u64
    place: u64  # where posix_memalign() writes the address; what realloc() was given
    kind: u32
    record: u32
    old_size: u64
    old_at: u64
    old_since: u64
    old_pid: u32
    old_stack: u32


begun = Hash[u32, Begun](10240)  # by thread
over = LruHash[u32, u64](1024)  # processes that have ended: when
replaced = LruHash[u32, u64](1024)  # processes that run another program: since when


def enter(kind, size, place):
    """An allocation begins."""
    if not wanted():
        return
    outer = begun.get(current.pid)
    if outer is None or outer.kind == kind:  # the same one cannot be its own caller: that one never returned
        begun[current.pid] = Begun(size=size, kind=kind, place=place, record=wants(size))


def reenter(kind, size, old):
    """realloc() begins: the old piece is free from now on, unless it fails; another thread may get that address."""
    if not wanted():
        return
    outer = begun.get(current.pid)
    if outer is not None and outer.kind != kind:
        return
    call = Begun(size=size, kind=kind, place=old, record=wants(size))
    alloc = allocs.get(old)
    if alloc is not None:
        call.old_size, call.old_at, call.old_since = alloc.size, alloc.at, alloc.since
        call.old_pid, call.old_stack = alloc.pid, alloc.stack
        dropped(alloc)
        del allocs[old]
    begun[current.pid] = call


def leave(kind, address):
    """An allocation is there; 0: it failed."""
    call = begun.get(current.pid)
    if call is not None and call.kind == kind:
        if address and call.record:
            keep(address, call.size, image(), current_process_id())
            tell(ALLOCATED, kind, address, call.size)
        del begun[current.pid]


def releave(kind, address, failed):
    """realloc() is over; where it failed, the old piece is still there."""
    call = begun.get(current.pid)
    if call is not None and call.kind == kind:
        if failed:
            if call.old_size:
                again(call)
        else:
            if call.old_size:
                tell(FREED, kind, call.place, call.old_size)
            if address and call.record:
                keep(address, call.size, image(), current_process_id())
                tell(ALLOCATED, kind, address, call.size)
        del begun[current.pid]


def again(call):
    """Put back what was taken out."""
    alloc = Alloc(size=call.old_size, at=call.old_at, since=call.old_since, pid=call.old_pid, stack=call.old_stack)
    allocs[call.place] = alloc
    added(call.old_since, call.old_pid, call.old_stack, call.old_size)


@uretprobe(where("malloc"))
def malloc_done(ret: u64):
    leave(MALLOC, ret)


@uretprobe(where("calloc"), optional=True)
def calloc_done(ret: u64):
    leave(CALLOC, ret)


@uretprobe(where("memalign"), optional=True)
def memalign_done(ret: u64):
    leave(MEMALIGN, ret)


@uretprobe(where("aligned_alloc"), optional=True)
def aligned_alloc_done(ret: u64):
    leave(ALIGNED_ALLOC, ret)


@uretprobe(where("valloc"), optional=True)
def valloc_done(ret: u64):
    leave(VALLOC, ret)


@uretprobe(where("pvalloc"), optional=True)
def pvalloc_done(ret: u64):
    leave(PVALLOC, ret)


@uretprobe(where("posix_memalign"), optional=True)
def posix_memalign_done(ret: s32):
    call = begun.get(current.pid)
    if call is not None and call.kind == POSIX_MEMALIGN:
        leave(POSIX_MEMALIGN, read_user(call.place, u64) if ret == 0 else 0)


@uretprobe(where("realloc"), optional=True)
def realloc_done(ret: u64):
    call = begun.get(current.pid)
    if call is not None:
        releave(REALLOC, ret, ret == 0 and call.size != 0)


@uretprobe(where("mmap", plain=True), optional=True)
def mmap_done(ret: u64):
    leave(MMAP, 0 if ret == FAILED else ret)


@uretprobe(where("mremap", plain=True), optional=True)
def mremap_done(ret: u64):
    releave(MREMAP, ret, ret == FAILED)


@uprobe(where("malloc"))
def malloc(size: u64):
    enter(MALLOC, size, 0)


@uprobe(where("calloc"), optional=True)
def calloc(number: u64, size: u64):
    enter(CALLOC, number * size, 0)


@uprobe(where("memalign"), optional=True)
def memalign(alignment: u64, size: u64):
    enter(MEMALIGN, size, 0)


@uprobe(where("aligned_alloc"), optional=True)
def aligned_alloc(alignment: u64, size: u64):
    enter(ALIGNED_ALLOC, size, 0)


@uprobe(where("valloc"), optional=True)
def valloc(size: u64):
    enter(VALLOC, size, 0)


@uprobe(where("pvalloc"), optional=True)
def pvalloc(size: u64):
    enter(PVALLOC, size, 0)


@uprobe(where("posix_memalign"), optional=True)
def posix_memalign(place: u64, alignment: u64, size: u64):
    enter(POSIX_MEMALIGN, size, place)


@uprobe(where("realloc"), optional=True)
def realloc(old: u64, size: u64):
    reenter(REALLOC, size, old)


@uprobe(where("mmap", plain=True), optional=True)
def mmap(address: u64, size: u64):
    enter(MMAP, size, 0)


@uprobe(where("mremap", plain=True), optional=True)
def mremap(old: u64, old_size: u64, size: u64):
    reenter(MREMAP, size, old)


@uprobe(where("free"))
def free(address: u64):
    if wanted():
        gave(FREE, address)


@uprobe(where("munmap", plain=True), optional=True)
def munmap(address: u64, size: u64):
    """The whole of what was mapped, or its beginning; the rest is then held from a later address on."""
    if not wanted():
        return
    alloc = allocs.get(address)
    if alloc is None:
        return
    unmapped = (size + PAGE) & ~PAGE
    size = alloc.size
    rest = Alloc(size=size - unmapped, at=alloc.at, since=alloc.since, pid=alloc.pid, stack=alloc.stack)
    gave(MUNMAP, address)
    if size > unmapped:
        allocs[address + unmapped] = rest
        added(rest.since, rest.pid, rest.stack, rest.size)


@tracepoint("sched:sched_process_exit")
def ended(record):
    """A thread that is killed does not return; and what a process leaves when it ends is as old as it will be."""
    del begun[current.pid]
    if wanted() and not (exists("struct task_struct") and current.task.signal.live.counter):
        over[current_process_id()] = ktime()


@tracepoint("sched:sched_process_exec")
def started(record):
    """Another program in the same process: what the one before had allocated is gone."""
    if wanted():
        replaced[current_process_id()] = ktime()
