# SPDX-License-Identifier: Apache-2.0
"""Trace soft interrupts that begin late or take long."""

from __future__ import annotations

from osmia import Col, PerCpuArray, Ring, current, event_table, first_of, ktime, option, raw_tracepoint, tp_btf
from osmia.lang.builtins import cpu
from osmia.lang.types import Comm, Event, u32, u64
from osmia.tools._irqs import KINDS, here, only, softirq_name  # noqa: F401 - an option
from osmia.tools._show import clock, microseconds

min_us = option("min_us", type=u64, default=10_000, parse=microseconds,
                help="shortest time to show, in microseconds (default: 10000; 0: all)")  # fmt: skip

LATE, LONG = 1, 2  # as bcc numbers the stages
STAGES = {LATE: "irq(hard) to softirq", LONG: "softirq runtime"}


class Slow(Event):
    """One soft interrupt that began late or took long; ``comm`` is the thread that it interrupted."""

    ts: u64
    delta_us: u64
    stage_number: u32
    vec: u32
    cpu: u32
    comm: Comm


raised = PerCpuArray[u64](KINDS)  # since when one of that kind is due on this CPU
starts = PerCpuArray[u64](KINDS)  # when the one of that kind began which runs on this CPU
slow = Ring(Slow)


def show(stage, vec, start, now):
    delta = (now - start) // 1000
    if delta < min_us:
        return
    with slow.reserve() as e:
        e.ts, e.delta_us, e.stage_number, e.vec = now, delta, stage, vec
        e.cpu, e.comm = cpu(), current.comm


@first_of(tp_btf("softirq_raise"), raw_tracepoint("softirq_raise"))
def due(vec):
    """Asked for, always on the CPU that is to do it; once more while it waits makes it no later."""
    if vec < KINDS and here() and raised[vec] == 0:
        raised[vec] = ktime()


@first_of(tp_btf("softirq_entry"), raw_tracepoint("softirq_entry"))
def enter(vec):
    if vec >= KINDS or not here():
        return
    now = ktime()
    since = raised[vec]
    raised[vec] = 0
    starts[vec] = now
    if since != 0:  # else it was asked for before the trace
        show(LATE, vec, since, now)


@first_of(tp_btf("softirq_exit"), raw_tracepoint("softirq_exit"))
def leave(vec):
    if vec >= KINDS:
        return
    start = starts[vec]
    starts[vec] = 0
    if start != 0:
        show(LONG, vec, start, ktime())


def banner():
    return f"Tracing softirq latency higher than {min_us} us... Hit Ctrl-C to end."


tool = event_table(
    slow,
    [
        Col("ts", "TIME", 8, show=clock, align="<"),
        Col("stage", "STAGE", 20, row=lambda e: STAGES[e.stage_number]),
        Col("softirq", "SOFTIRQ", 8, row=lambda e: softirq_name(e.vec)),
        Col("delta_us", "LAT(us)", 14, align="<"),
        Col("cpu", "CPU", 6, align="<"),
        Col("comm", "COMM", 16),
    ],
    banner=banner,
)
