# SPDX-License-Identifier: Apache-2.0
"""Count references to the last level cache, and misses, by process and CPU."""

from __future__ import annotations

from osmia import Col, Hash, count_table, cpu, current, option, perf_event
from osmia.lang.filters import cgroup, name, pid, uid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.lang.types import Comm, Event, u32, u64
from osmia.tools._show import whole

period = option("-c", "--sample_period", type=int, default=100, parse=whole, metavar="N",
                help="a sample each N references, and each N misses, of a CPU (default: 100)")  # fmt: skip
threads = option("-t", "--tid", help="count by thread")


class Key(Event):
    """Whose they are, and where; ``tid`` is 0 where threads are not counted apart."""

    pid: u32
    tid: u32
    cpu: u32
    comm: Comm


class Counts(Event):
    """References and misses."""

    ref: u64
    miss: u64


counts = Hash[Key, Counts](16384)


def count(missed):
    key = Key(pid=current_process_id(), tid=current_thread_id() if threads else 0, cpu=cpu(), comm=current.comm)
    if missed:
        counts[key].miss += period
    else:
        counts[key].ref += period


# include/uapi/linux/perf_event.h: on most processors these two are about the last level cache
@perf_event("cache-references", period=period)
def reference(_):
    if wanted():
        count(False)


@perf_event("cache-misses", period=period)
def miss(_):
    if wanted():
        count(True)


def rate(ref, miss):
    """Of references those that hit, in percent.  Both are samples, so there may be more misses than references."""
    return 100 * max(ref - miss, 0) / ref if ref else 0.0


def table(entries, _):
    """As bcc prints it, with a line for all."""
    from osmia.views.escape import escape

    out = [f"PID      {'TID      ' if threads else ''}NAME             CPU     REFERENCE         MISS    HIT%"]
    for one in entries:
        tid = f"{one.tid:<8} " if threads else ""
        out.append(f"{one.pid:<8} {tid}{escape(one.comm):<16} {one.cpu:<4} {one.ref:>12} {one.miss:>12} "
                   f"{rate(one.ref, one.miss):>6.2f}%")  # fmt: skip
    ref, missed = sum(one.ref for one in entries), sum(one.miss for one in entries)
    out.append(f"Total References: {ref} Total Misses: {missed} Hit Rate: {rate(ref, missed):.2f}%")
    return "\n".join(out)


tool = count_table(
    counts,
    [
        Col("pid", "PID", 8, align="<"),
        Col("tid", "TID", 8, align="<", when=threads),
        Col("comm", "NAME", 16),
        Col("cpu", "CPU", 4, align="<"),
        Col("ref", "REFERENCE", 12),
        Col("miss", "MISS", 12),
        Col("hit", "HIT%", 7, row=lambda one: round(rate(one.ref, one.miss), 2)),
    ],
    banner=lambda: "Counting cache references and misses... Hit Ctrl-C to end.",
    text=table,
    sort=lambda one: one.ref,
    duration=10.0,
)
