# SPDX-License-Identifier: Apache-2.0
"""Show whether pages that are read ahead are used, and how soon."""

from __future__ import annotations

from osmia import Hash, current, exists, first_of, histogram, ktime, log2_hist, tracepoint
from osmia.kernel import tracefs
from osmia.lang.drift import page_index
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.lang.function_probes import fentry, fexit, kprobe, kretprobe
from osmia.lang.types import Event, u32, u64

READ, USED, DROPPED = range(3)
NAMES = ("read ahead", "used", "dropped unused")
ALL = 1 << 60
FAR = 32  # so many pages in a row of which nothing is known: what is behind them is not looked at
MOST = 1 << 18


class Page(Event):
    """A page of a file."""

    ino: u64
    index: u64
    dev: u32


class Range(Event):
    """What a thread reads ahead at the moment."""

    ino: u64
    start: u64
    end: u64
    dev: u32


ranges = Hash[u32, Range](16384)  # by thread
needed = Hash[u32, Page](16384)  # by thread: the page that it touched, in memory that is mapped
#: Read ahead and not used yet -> since when, and how many pages came as one.
pages = Hash[Page, tuple[u64, u64]](MOST)
ages = log2_hist("msecs", key=u32, max_entries=len(NAMES))


def reads(dev, ino, start, end):
    if wanted():
        ranges[current.pid] = Range(dev=dev, ino=ino, start=start, end=end)


@tracepoint("readahead:page_cache_ra_unbounded", optional=True)
def ra_unbounded(record):
    reads(record.s_dev, record.i_ino, record.index, record.index + record.nr_to_read)


@tracepoint("readahead:page_cache_ra_order", optional=True)
def ra_order(record):
    reads(record.s_dev, record.i_ino, record.index, record.index + record.size)


def reads_now(control):
    host = control.mapping.host
    reads(host.i_sb.s_dev, host.i_ino, 0, ALL)


@first_of(fexit("page_cache_ra_unbounded"), kretprobe("page_cache_ra_unbounded"))
def end():
    del ranges[current.pid]


@first_of(fexit("page_cache_ra_order", optional=True), kretprobe("page_cache_ra_order", optional=True))
def end_order():
    del ranges[current.pid]


@first_of(fentry("page_cache_ra_unbounded"), kprobe("page_cache_ra_unbounded"))
def begin(control):
    reads_now(control)


@first_of(fentry("page_cache_ra_order", optional=True), kprobe("page_cache_ra_order", optional=True))  # 5.18
def begin_order(control):
    reads_now(control)


def together(record):
    """How many pages come, or go, as one."""
    return 1 << record.order if exists(record.order) else 1


@tracepoint("filemap:mm_filemap_add_to_page_cache")
def added(record):
    asked = ranges.get(current.pid)
    if asked is None or record.i_ino != asked.ino or record.s_dev != asked.dev:
        return
    if not asked.start <= record.index < asked.end:
        return
    now, n = ktime(), together(record)
    ages[READ].add(0, n)
    touched = needed.get(current.pid)
    for i in range(MOST):
        if i >= n:
            break
        index = record.index + i
        if touched is not None and touched.ino == asked.ino and touched.dev == asked.dev and touched.index == index:
            ages[USED].add(0)
        else:
            pages[Page(dev=asked.dev, ino=asked.ino, index=index)] = now, n


@tracepoint("filemap:mm_filemap_delete_from_page_cache")
def deleted(record):
    n = together(record)
    for i in range(MOST):
        if i >= n:
            break
        take(DROPPED, record.s_dev, record.i_ino, record.index + i)


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
        if i + 1 >= n:
            break
        take(USED, dev, ino, index + 1 + i)


BY_FUNCTION = (begin, begin_order, end, end_order)
unused = 0


def prepare():
    told = tracefs.exists("readahead", "page_cache_ra_unbounded")
    for prog in BY_FUNCTION:
        prog.enabled = not told
    accessed.enabled = not tracefs.exists("filemap", "mm_filemap_get_pages")


def text(new):
    """As bcc prints it."""
    global unused
    counts = {kind: new[kind].count if kind in new else 0 for kind in range(len(NAMES))}
    unused += counts[READ] - counts[USED]
    shown = new[USED].text("age (ms)") if USED in new else ""
    return (f"Read-ahead unused pages: {unused}\nHistogram of read-ahead used page age (ms):\n\n{shown}")


tool = histogram(
    ages, section="pages", label=NAMES.__getitem__, text=text, prepare=prepare, banner="Tracing... Hit Ctrl-C to end."
)
