# SPDX-License-Identifier: Apache-2.0
"""Kernel half: the tracepoints of the kernel's own allocators: kmalloc, slab caches, pages, memory for each CPU.

Those of slabs are taken raw: 11e9734bcb6a (6.1) gave their records other names, their arguments have stayed.
"""

from __future__ import annotations

from osmia.lang.builtins import cast
from osmia.lang.drift import cache_is_told
from osmia.lang.options import option
from osmia.lang.probes import raw_tracepoint, tracepoint
from osmia.tools._held import ALLOCATED, gave, keep, tell, wants

percpu = option("--percpu", help="memory that the kernel has for each CPU, instead of its other allocations")
missing_free = option("--wa-missing-free", help="when an address is given out again, take it as freed before")

#: Numbers of the allocators, as :data:`osmia.tools._heap.NAMES` for programs.
KMALLOC, SLAB, PAGES, PER_CPU = 1, 2, 3, 4
NAMES = ("", "kmalloc", "kmem_cache", "pages", "percpu")


def took(name, address, size):
    """Memory is given out."""
    if missing_free:
        gave(name, address)
    if address and wants(size):
        keep(address, size, 0, 0)
        tell(ALLOCATED, name, address, size)


@raw_tracepoint("kmalloc")
def kmalloc(call_site, ptr, asked, given):
    took(KMALLOC, ptr, given)


@raw_tracepoint("kmalloc_node", optional=True)  # before 6.1
def kmalloc_node(call_site, ptr, asked, given):
    took(KMALLOC, ptr, given)


@raw_tracepoint("kmem_cache_alloc")
def kmem_cache_alloc(call_site, ptr, third, fourth):
    took(SLAB, ptr, cast(third, "struct kmem_cache").size if cache_is_told() else fourth)


@raw_tracepoint("kmem_cache_alloc_node", optional=True)  # before 6.1
def kmem_cache_alloc_node(call_site, ptr, asked, given):
    took(SLAB, ptr, given)


@tracepoint("kmem:mm_page_alloc")
def page_alloc(record):
    took(PAGES, record.pfn, 4096 << record.order)


@tracepoint("percpu:percpu_alloc_percpu", optional=True)
def percpu_alloc(record):
    took(PER_CPU, record.ptr, record.size)


@raw_tracepoint("kfree")
def kfree(call_site, ptr):
    gave(KMALLOC, ptr)


@raw_tracepoint("kmem_cache_free")
def kmem_cache_free(call_site, ptr):
    gave(SLAB, ptr)


@tracepoint("kmem:mm_page_free")
def page_free(record):
    gave(PAGES, record.pfn)


@tracepoint("percpu:percpu_free_percpu", optional=True)
def percpu_free(record):
    gave(PER_CPU, record.ptr)
