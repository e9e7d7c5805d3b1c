# SPDX-License-Identifier: Apache-2.0
"""Kernel half: since when each thread that can run waits for a CPU, for the tools about that wait.

A tool imports the programs :data:`wakeup` and :data:`wakeup_new`, and calls
:func:`turn` in a handler of ``sched_switch``.
"""

from __future__ import annotations

from osmia.lang.builtins import ktime
from osmia.lang.filters import wanted_task
from osmia.lang.maps import Hash
from osmia.lang.probes import first_of, raw_tracepoint, tp_btf
from osmia.lang.types import u32, u64
from osmia.tools._sched import goes_on

__all__ = ["turn", "wakeup", "wakeup_new"]

starts = Hash[u32, u64](32768)  # thread on a run queue -> since when


def enqueue(task):
    """The task waits for its turn from now on; the idle task never does."""
    if task.pid and wanted_task(task):
        starts[task.pid] = ktime()


@first_of(tp_btf("sched_wakeup"), raw_tracepoint("sched_wakeup"))
def wakeup(task):
    """A thread that slept."""
    enqueue(task)


@first_of(tp_btf("sched_wakeup_new"), raw_tracepoint("sched_wakeup_new"))
def wakeup_new(task):
    """A new thread."""
    enqueue(task)


def turn(preempt, prev, next):
    """Of ``next``, whose turn it is, since when it has waited; None where that is not known.  ``prev`` may wait now."""
    if goes_on(preempt, prev):
        enqueue(prev)
    return starts.pop(next.pid)
