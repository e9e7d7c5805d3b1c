# SPDX-License-Identifier: Apache-2.0
"""Summarize the time that interrupts of devices take, by handler."""

from __future__ import annotations

from osmia import PerCpuArray, first_of, histogram, kernel_str, ktime, log2_hist, raw_tracepoint, tp_btf, u64
from osmia.lang.types import Str
from osmia.tools._irqs import dist, events, here, nanoseconds, only, prepared, unit  # noqa: F401 - options
from osmia.tools._times import timestamp  # noqa: F401 - an option

starts = PerCpuArray[u64](1)  # when the handler began that runs on this CPU: handlers are not interrupted
took = log2_hist("nsecs", key=Str.of(32), max_entries=1024)


@first_of(tp_btf("irq_handler_entry"), raw_tracepoint("irq_handler_entry"))
def enter(irq, action):
    if here():
        starts[0] = ktime()


@first_of(tp_btf("irq_handler_exit"), raw_tracepoint("irq_handler_exit"))
def leave(irq, action, handled):
    start = starts[0]
    starts[0] = 0
    if start == 0 or handled == 0:  # IRQ_NONE: of several handlers of this interrupt it is another one's
        return
    took[kernel_str(action.name, 32)].add((ktime() - start) // (1000 if dist and not nanoseconds else 1))


def prepare():
    prepared(tool, "hard irq", "HARDIRQ", 26)


tool = histogram(took, section="hardirq", label=str, prepare=prepare, unit=lambda: unit() if dist else "nsecs")
