# SPDX-License-Identifier: Apache-2.0
"""Trace long sections of the kernel with interrupts, or preemption, switched off."""

from __future__ import annotations

from osmia import Col, Event, PerCpuArray, Ring, Stacks, cpu, current, event_table, ktime, option, raw_tracepoint
from osmia.errors import NotSupported
from osmia.kernel import tracefs
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.lang.types import Comm, u32, u64
from osmia.tools._show import microseconds

preempt = option("-p", "--preemptoff", help="sections with preemption switched off")
irq = option("-i", "--irqoff", help="sections with interrupts switched off (the default)")
shortest = option("-d", "--duration", type=u64, default=100, parse=microseconds, metavar="USEC",
                  help="show sections that take at least this long, in microseconds (default: 100)")  # fmt: skip

IDLE_EXIT = 0xFFFFFFFF  # PWR_EVENT_EXIT, include/trace/events/power.h


class Section(Event):
    """One section: where it began and ended (an address in the function, one in its caller), and the stack there."""

    ns: u64
    begin: u64
    begin_parent: u64
    end: u64
    end_parent: u64
    pid: u32
    tid: u32
    cpu: u32
    user: u32
    kernel: u32
    comm: Comm


sections = Ring(Section)
stacks = Stacks()
idle = PerCpuArray[u64](1)  # whether this CPU is idle
starts = PerCpuArray[u64](1)  # since when the section is that this CPU is in; 0: in none that counts
begins = PerCpuArray[u64](2)  # where it began


def enter(ip, parent):
    if idle[0] == 0:
        begins[0], begins[1] = ip, parent
        starts[0] = ktime()


def leave(ip, parent):
    start = starts[0]
    starts[0] = 0
    if start == 0 or idle[0] != 0:
        return
    took = ktime() - start
    if took < shortest * 1000:
        return
    with sections.reserve() as e:
        e.ns, e.begin, e.begin_parent, e.end, e.end_parent = took, begins[0], begins[1], ip, parent
        e.pid, e.tid, e.cpu, e.comm = current_process_id(), current_thread_id(), cpu(), current.comm
        e.kernel = stacks.kernel()


@raw_tracepoint("irq_disable", optional=True)
def irqs_off(ip, parent):
    enter(ip, parent)


@raw_tracepoint("irq_enable", optional=True)
def irqs_on(ip, parent):
    leave(ip, parent)


@raw_tracepoint("preempt_disable", optional=True)
def preemption_off(ip, parent):
    enter(ip, parent)


@raw_tracepoint("preempt_enable", optional=True)
def preemption_on(ip, parent):
    leave(ip, parent)


@raw_tracepoint("cpu_idle")
def idling(state, number):
    """What an idle CPU waits for is no section: neither those within, nor one that it goes to sleep or wakes up in."""
    idle[0] = 0 if state == IDLE_EXIT else 1
    starts[0] = 0


def what():
    return "preempt" if preempt and not irq else "irq"


def prepare():
    event = f"{what()}_disable"
    if not tracefs.exists("preemptirq", event):
        more = "CONFIG_TRACE_PREEMPT_TOGGLE" if what() == "preempt" else "CONFIG_TRACE_IRQFLAGS"
        raise NotSupported(f"this kernel has no tracepoint preemptirq:{event}", where="criticalstat",
                           fix=f"it needs one that is built with CONFIG_PREEMPTIRQ_TRACEPOINTS and {more}")  # fmt: skip
    irqs_off.enabled = irqs_on.enabled = what() == "irq"
    preemption_off.enabled = preemption_on.enabled = what() == "preempt"


def banner():
    return f"Finding critical section with {'preempt' if what() == 'preempt' else 'IRQ'} disabled for > {shortest}us"


tool = event_table(sections, [Col("comm", "TASK")], stacks=stacks, banner=banner, prepare=prepare)
tool.view = "osmia.cli.sections:SectionsView"
