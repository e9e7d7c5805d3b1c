# SPDX-License-Identifier: Apache-2.0
"""Trace garbage collections of Python programs: how long they take, and how much they find."""

from __future__ import annotations

from osmia import Col, Event, Hash, Ring, current, event_table, ktime, option, s32, s64, u32, u64, usdt
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.tools._python import At, choose, interpreter, process, traced  # noqa: F401 - options
from osmia.tools._show import elapsed

milliseconds = option("-m", "--milliseconds", help="milliseconds instead of microseconds")
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


@usdt(At("gc__done"))
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


@usdt(At("gc__start"))
def start(generation: s32):
    if wanted():
        begun[current.pid] = ktime(), generation


def description(e):
    return f"gen {e.generation} GC collected {e.collected} objects"


def keep(e):
    return text.value in description(e)


def prepare():
    choose("pythongc")
    tool.columns = [
        Col("start", "START", 8, show=elapsed(3), align="<"),
        Col("pid", "PID", 7, align="<", when=not pid.given),
        Col("ns", "TIME (ms)" if milliseconds else "TIME (us)", 9, align="<",
            show=lambda ns: f"{ns / (1e6 if milliseconds else 1e3):.2f}"),
        Col("description", "DESCRIPTION", row=description),
    ]  # fmt: skip


def banner():
    return f"Tracing garbage collections in Python, {traced()}... Ctrl-C to quit."


tool = event_table(collections, [], banner=banner, keep=keep, prepare=prepare)
tool.descendants = True
