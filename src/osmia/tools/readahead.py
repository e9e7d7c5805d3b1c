# SPDX-License-Identifier: Apache-2.0
"""Show whether pages that are read ahead are used, and how soon."""

from __future__ import annotations

from osmia import Hash, current, first_of, histogram, ktime, tracepoint
from osmia.kernel import tracefs
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.lang.function_probes import fentry, fexit, kprobe, kretprobe
from osmia.lang.types import Event, u32, u64
from osmia.tools._pages import (  # noqa: F401 - programs
    FATES,
    MOST,
    NAMES,
    READ,
    USED,
    Page,
    accessed,
    ages,
    behind,
    needed,
    pages,
    together,
)  # fmt: skip

ALL = 1 << 60


class Range(Event):
    """What a thread reads ahead at the moment."""

    ino: u64
    start: u64
    end: u64
    dev: u32


ranges = Hash[u32, Range](16384)  # by thread


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
        if behind(i, n):
            break
        index = record.index + i
        if touched is not None and touched.ino == asked.ino and touched.dev == asked.dev and touched.index == index:
            ages[USED].add(0)
        else:
            pages[Page(dev=asked.dev, ino=asked.ino, index=index)] = now, n


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
