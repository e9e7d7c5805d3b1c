# SPDX-License-Identifier: Apache-2.0
"""Summarize the time that soft interrupts take, by kind."""

from __future__ import annotations

from osmia import PerCpuArray, first_of, histogram, ktime, log2_hist, raw_tracepoint, tp_btf, u32, u64
from osmia.tools._irqs import KINDS, dist, events, here, nanoseconds, only, prepared, softirq_name, unit  # noqa: F401 - options
from osmia.tools._times import timestamp  # noqa: F401 - an option

starts = PerCpuArray[u64](KINDS)  # when the one of that kind began which runs on this CPU
took = log2_hist("nsecs", key=u32, max_entries=KINDS)


@first_of(tp_btf("softirq_entry"), raw_tracepoint("softirq_entry"))
def enter(vec):
    if vec < KINDS and here():
        starts[vec] = ktime()


@first_of(tp_btf("softirq_exit"), raw_tracepoint("softirq_exit"))
def leave(vec):
    if vec >= KINDS:
        return
    start = starts[vec]
    if start == 0:  # it began before the trace, or on a CPU that is not asked for
        return
    starts[vec] = 0
    took[vec].add((ktime() - start) // (1000 if dist and not nanoseconds else 1))


def prepare():
    prepared(tool, "soft irq", "SOFTIRQ", 16)


tool = histogram(took, section="softirq", label=softirq_name, prepare=prepare, unit=lambda: unit() if dist else "nsecs")
