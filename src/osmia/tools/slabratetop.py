# SPDX-License-Identifier: Apache-2.0
"""Show which of the kernel's memory caches give out most memory, page by page."""

from __future__ import annotations

from osmia import Col, Event, PerCpuHash, Str, cast, count_table, first_of, kernel_str, raw_tracepoint, tp_btf
from osmia.lang.drift import cache_is_told
from osmia.lang.filters import cgroup, name, pid, uid, wanted  # noqa: F401 - options
from osmia.lang.types import u32, u64
from osmia.tools._top import maxrows, noclear

CACHE, KMALLOC = 0, 1


class Key(Event):
    """A cache by its name; where only a size is known, by that."""

    kind: u32
    size: u32
    name: Str[32]


allocations = PerCpuHash[Key, u64](4096)
sizes = PerCpuHash[Key, u64](4096)


def sized(kind, size):
    key = Key(kind=kind, size=size)
    allocations[key] += 1
    sizes[key] += size


@first_of(tp_btf("kmem_cache_alloc"), raw_tracepoint("kmem_cache_alloc"))
def cache_alloc(call_site, ptr, third, fourth):
    if not ptr or not wanted():
        return
    if cache_is_told():
        cache = cast(third, "struct kmem_cache")
        key = Key(name=kernel_str(cache.name, 32))
        allocations[key] += 1
        sizes[key] += cache.size
    else:
        sized(CACHE, fourth)


@raw_tracepoint("kmem_cache_alloc_node", optional=True)  # before 6.1
def cache_alloc_node(call_site, ptr, wants, gets):
    if ptr and wanted():
        sized(CACHE, gets)


@raw_tracepoint("kmalloc")
def kmalloc(call_site, ptr, wants, gets):
    if ptr and wanted():
        sized(KMALLOC, gets)


@raw_tracepoint("kmalloc_node", optional=True)  # before 6.1
def kmalloc_node(call_site, ptr, wants, gets):
    if ptr and wanted():
        sized(KMALLOC, gets)


def label(key):
    """The cache's name, those of kmalloc() as in /proc/slabinfo."""
    if key.kind == CACHE:
        return key.name or f"size-{key.size}"
    return f"kmalloc-{key.size // 1024}k" if key.size >= 1024 and not key.size % 1024 else f"kmalloc-{key.size}"


tool = count_table(
    allocations,
    [Col("cache", "CACHE", 32, row=lambda one: one.key), Col("count", "ALLOCS", 6), Col("bytes", "BYTES", 10)],
    more={"bytes": sizes},
    name=label,
    sort=lambda one: one.bytes,
    most=maxrows,
    screen=noclear,
    interval=1.0,
)
