# SPDX-License-Identifier: Apache-2.0
"""Kernel half: the tracepoints of the kernel's own allocators: kmalloc, slab caches, pages, memory for each CPU."""

from __future__ import annotations

from osmia.lang.options import option
from osmia.lang.probes import tracepoint
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


@tracepoint("kmem:kmalloc")
def kmalloc(record):
    took(KMALLOC, record.ptr, record.bytes_alloc)


@tracepoint("kmem:kmalloc_node", optional=True)  # before 6.1
def kmalloc_node(record):
    took(KMALLOC, record.ptr, record.bytes_alloc)


@tracepoint("kmem:kmem_cache_alloc")
def kmem_cache_alloc(record):
    took(SLAB, record.ptr, record.bytes_alloc)


@tracepoint("kmem:kmem_cache_alloc_node", optional=True)  # before 6.1
def kmem_cache_alloc_node(record):
    took(SLAB, record.ptr, record.bytes_alloc)


@tracepoint("kmem:mm_page_alloc")
def page_alloc(record):
    took(PAGES, record.pfn, 4096 << record.order)


@tracepoint("percpu:percpu_alloc_percpu", optional=True)
def percpu_alloc(record):
    took(PER_CPU, record.ptr, record.size)


@tracepoint("kmem:kfree")
def kfree(record):
    gave(KMALLOC, record.ptr)


@tracepoint("kmem:kmem_cache_free")
def kmem_cache_free(record):
    gave(SLAB, record.ptr)


@tracepoint("kmem:mm_page_free")
def page_free(record):
    gave(PAGES, record.pfn)


@tracepoint("percpu:percpu_free_percpu", optional=True)
def percpu_free(record):
    gave(PER_CPU, record.ptr)
