# SPDX-License-Identifier: Apache-2.0
"""Show memory that was allocated and not freed, by the calls that allocated it: of a program, or of the kernel."""

from __future__ import annotations

import time

from osmia import option
from osmia.errors import OptionError
from osmia.lang.filters import pid
from osmia.lang.images import executed, forked
from osmia.lang.leaks import Held, HeldTable
from osmia.tools import _heap, _held, _kmem
from osmia.tools._heap import (
    aligned_alloc,
    aligned_alloc_done,
    calloc,
    calloc_done,
    ended,
    free,
    malloc,
    malloc_done,
    memalign,
    memalign_done,
    mmap,
    mmap_done,
    mremap,
    mremap_done,
    munmap,
    obj,
    posix_memalign,
    posix_memalign_done,
    prefix,
    pvalloc,
    pvalloc_done,
    realloc,
    realloc_done,
    started,
    valloc,
    valloc_done,
)
from osmia.tools._held import allocs, calls, combined_only, held_bytes, held_count, max_size, min_size, stacks, trace
from osmia.tools._held import sample_rate as sample_rate
from osmia.tools._kmem import (
    kfree,
    kmalloc,
    kmalloc_node,
    kmem_cache_alloc,
    kmem_cache_alloc_node,
    kmem_cache_free,
    missing_free,
    page_alloc,
    page_free,
    percpu,
    percpu_alloc,
    percpu_free,
)
from osmia.tools._show import clock, whole

command = option("-c", "--command", "--cmd", type=str, metavar="CMD", help="run this command and trace it")
show_allocs = option("-a", "--show-allocs", help="show the address and size of each allocation, too")
older = option("-o", "--older", type=int, default=500, metavar="MS",
               help="leave out what is younger than this, in milliseconds (default: 500)")  # fmt: skip
top = option("-T", "--top", type=int, default=10, parse=whole, metavar="N", help="this many stacks (default: 10)")
order = option("--sort", type=str, default="size", choices=("size", "count"), help="by size (default) or by count")
most = option("--max-allocs", type=int, default=allocs.max_entries, parse=whole, metavar="N",
              help="room for N allocations that are held at a time (default: 1000000)")  # fmt: skip

OF_PROGRAMS = (
    aligned_alloc, aligned_alloc_done, calloc, calloc_done, ended, executed, forked, free, malloc, malloc_done,
    memalign, memalign_done, mmap, mmap_done, mremap, mremap_done, munmap, posix_memalign, posix_memalign_done,
    pvalloc, pvalloc_done, realloc, realloc_done, started, valloc,
    valloc_done,
)  # fmt: skip
OF_THE_KERNEL = (kfree, kmalloc, kmalloc_node, kmem_cache_alloc, kmem_cache_alloc_node, kmem_cache_free, page_alloc,
                 page_free)  # fmt: skip
PER_CPU = (percpu_alloc, percpu_free)


def held():
    """What each place holds, as far as it is old enough; of a process that has ended, all of it."""
    begun = {} if _held.in_kernel else dict(_heap.replaced.items())
    if combined_only:
        counts = held_count.snapshot()
        found = {site: Held(site, size, counts[site]) for site, size in held_bytes.items() if counts.get(site)}
    else:
        found = {}
        now, age = time.monotonic_ns(), older * 1_000_000
        over = {} if _held.in_kernel else dict(_heap.over.items())
        for address, alloc in allocs.items():
            if now - alloc.at < age and alloc.pid not in over:
                continue
            site = _held.Site(since=alloc.since, pid=alloc.pid, stack=alloc.stack)
            one = found.setdefault(site, Held(site))
            one.amount += alloc.size
            one.count += 1
            if show_allocs:
                one.pieces.append((address, alloc.size))
    return [one for one in found.values() if one.key.since >= begun.get(one.key.pid, 0)]


def banner():
    whose = "kernel allocators" if _held.in_kernel else f"pid {pid}" if pid else f"'{command}'"
    return f"Attaching to {whose}, Ctrl+C to quit."


def call(one):
    """A line of ``-t``, in bcc's words."""
    name = (_kmem.NAMES if _held.in_kernel else _heap.NAMES)[one.name]
    what = (f"alloc exited, size = {one.size}, result = {one.address:#x}" if one.kind == _held.ALLOCATED
            else f"free entered, address = {one.address:#x}, size = {one.size}")  # fmt: skip
    return f"({one.comm} {one.pid} {one.tid} {clock(one.at)} {name}) {what}"


def prepare():
    if min_size > max_size:
        raise OptionError("-z is greater than -Z", where="memleak", fix="give the smaller size with -z")
    if pid.given and command.given:
        raise OptionError("-p and -c exclude each other", where="memleak", fix="give one of them")
    kernel = not pid.given and not command.given
    for option_, name in ((percpu, "--percpu"), (missing_free, "--wa-missing-free")):
        if option_ and not kernel:
            raise OptionError(f"{name} is about the kernel's memory", where="memleak", fix="leave -p and -c out")
    if kernel and (obj.given or prefix.given):
        raise OptionError("-O and --symbols-prefix are about a program", where="memleak", fix="give -p or -c, too")
    _held.in_kernel.value = kernel
    for progs, on in ((OF_PROGRAMS, not kernel), (OF_THE_KERNEL, kernel and not percpu), (PER_CPU, kernel and percpu)):
        for prog in progs:
            prog.enabled = bool(on)
    allocs.max_entries = most.value
    _ = trace, sample_rate


tool = HeldTable(held, stacks, top=top, order=order, banner=banner, calls=calls, call=call, prepare=prepare)
