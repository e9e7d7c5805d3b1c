# SPDX-License-Identifier: Apache-2.0
"""Kernel half of readahead: the pages that were read ahead, until they are used or dropped."""

from __future__ import annotations

from osmia import Hash, current, exists, first_of, ktime, log2_hist, tracepoint
from osmia.lang.drift import loops_are_long, page_index
from osmia.lang.function_probes import fentry, kprobe
from osmia.lang.types import Event, u32, u64

READ, USED, DROPPED = range(3)
NAMES = ("read ahead", "used", "dropped unused")
FAR = 32  # so many pages in a row of which nothing is known: what is behind them is not looked at
MOST = 1 << 18


class Page(Event):
    """A page of a file."""

    ino: u64
    index: u64
    dev: u32


needed = Hash[u32, Page](16384)  # by thread: the page that it touched, in memory that is mapped
#: Read ahead and not used yet -> since when, and how many pages came as one.
pages = Hash[Page, tuple[u64, u64]](MOST)
ages = log2_hist("msecs", key=u32, max_entries=len(NAMES))


def together(record):
    """How many pages come, or go, as one."""
    return 1 << record.order if exists(record.order) else 1


def behind(i, n):
    """Whether ``i`` is behind the last of ``n`` pages; kernels without long loops have them one by one."""
    return i >= n or (i >= 1 and not loops_are_long())


def take(kind, dev, ino, index):
    """Something has happened to a page; how many had come together with it, 0 where it waits no more."""
    found = pages.pop(Page(dev=dev, ino=ino, index=index))
    if found is None:
        return 0
    since, n = found
    ages[kind].add((ktime() - since) // 1_000_000)
    return n


def use(dev, ino, first, last):
    """A program has got these pages, as far as they are there."""
    missing = 0
    for i in range(MOST):
        if first + i > last or missing >= FAR:
            break
        missing = 0 if take(USED, dev, ino, first + i) else missing + 1


@tracepoint("filemap:mm_filemap_delete_from_page_cache")
def deleted(record):
    n = together(record)
    for i in range(MOST):
        if behind(i, n):
            break
        take(DROPPED, record.s_dev, record.i_ino, record.index + i)


@tracepoint("filemap:mm_filemap_get_pages", optional=True)
def got(record):
    use(record.s_dev, record.i_ino, record.index, record.last_index)


@tracepoint("filemap:mm_filemap_map_pages", optional=True)
def mapped(record):
    use(record.s_dev, record.i_ino, record.index, record.last_index)


@tracepoint("filemap:mm_filemap_fault", optional=True)
def fault(record):
    if not take(USED, record.s_dev, record.i_ino, record.index):
        needed[current.pid] = Page(dev=record.s_dev, ino=record.i_ino, index=record.index)


@first_of(
    fentry("folio_mark_accessed", optional=True), kprobe("folio_mark_accessed", optional=True),
    fentry("mark_page_accessed"), kprobe("mark_page_accessed"),
)  # fmt: skip
def accessed(page):
    """Where no tracepoint tells: each page once, or all that came together."""
    host = page.mapping.host
    dev, ino, index = host.i_sb.s_dev, host.i_ino, page_index(page)
    n = take(USED, dev, ino, index)
    for i in range(MOST):
        if behind(i + 1, n):
            break
        take(USED, dev, ino, index + 1 + i)


#: The programs that see what becomes of them.
FATES = (deleted, got, mapped, fault, accessed)
