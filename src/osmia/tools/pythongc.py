# SPDX-License-Identifier: Apache-2.0
"""Trace garbage collections of Python programs: how long they take, and how much they find."""

from __future__ import annotations

from osmia import Col, Event, Hash, Ring, current, event_table, ktime, option, s32, s64, u32, u64, usdt
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.tools._python import at, choose, interpreter, process, traced  # noqa: F401 - options
from osmia.tools._show import elapsed, ms, us
from osmia.tools._times import milliseconds

minimum = option("-M", "--minimum", type=int, metavar="MS", help="only collections of MS milliseconds or more")
text = option("-F", "--filter", type=str, default="", metavar="TEXT", help="only those with TEXT in their description")


class Collection(Event):
    """One collection: begun at ``start``; ``collected`` objects of this generation and younger ones were freed."""

    start: u64
    ns: u64
    collected: s64
    pid: u32
    tid: u32
    generation: s32


begun = Hash[u32, tuple[u64, s32]]()  # by thread
collections = Ring(Collection)


@usdt(at("gc__done"))
def done(collected: s64):
    since = begun.pop(current.pid)
    if since is None:
        return
    start, generation = since
    ns = ktime() - start
    if ns < minimum * 1_000_000:
        return
    with collections.reserve() as e:
        e.start, e.ns, e.collected, e.generation = start, ns, collected, generation
        e.pid, e.tid = current_process_id(), current_thread_id()


@usdt(at("gc__start"))
def start(generation: s32):
    if wanted():
        begun[current.pid] = ktime(), generation


def description(e):
    return f"gen {e.generation} GC collected {e.collected} objects"


tool = event_table(
    collections,
    [
        Col("start", "START", 8, show=elapsed(3), align="<"),
        Col("pid", "PID", 7, align="<", when=lambda: not pid.given),
        Col("ns", "TIME (us)", 9, align="<", show=us, when=lambda: not milliseconds),
        Col("ns", "TIME (ms)", 9, align="<", show=ms, when=milliseconds),
        Col("description", "DESCRIPTION", row=description),
    ],
    banner=lambda: f"Tracing garbage collections in Python, {traced()}... Ctrl-C to quit.",
    keep=lambda e: text.value in description(e),
    prepare=lambda: choose("pythongc"),
    descendants=True,
)
