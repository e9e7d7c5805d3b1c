# SPDX-License-Identifier: Apache-2.0
"""Summarize the length of the run queues as a histogram."""

from __future__ import annotations

from osmia import histogram, linear_hist, option, perf_event
from osmia.tools._sched import waiting_here
from osmia.tools._show import hertz
from osmia.tools._times import timestamp  # noqa: F401 - an option

occupancy = option("-O", "--runqocc", help="show how much of the time anything waited")
cpus = option("-C", "--cpus", help="show each CPU by itself")
frequency = option("-f", "--frequency", type=int, default=99, parse=hertz, metavar="HZ",
                   help="sample so often (default: 99 times a second)")  # fmt: skip

lengths = linear_hist("runqlen", low=0, high=512, step=1)


@perf_event("cpu-clock", frequency=frequency)
def sample(_):
    lengths.add(waiting_here())


def share(lengths):
    """Of all samples those that found anything waiting, in percent."""
    return 100 * (1 - lengths.counts.get(1, 0) / lengths.count)  # the first slot is for what is below 0


def occupied(new):
    """-O: a line, or with -C one for each CPU."""
    if cpus:
        return "".join([f"runqocc, CPU {cpu:<3} {share(new[cpu]):6.2f}%\n" for cpu in sorted(new)])
    return "".join([f"runqocc: {share(one):.2f}%\n" for one in new.values()])


def prepare():
    if occupancy:
        tool.text = occupied
    if cpus:
        tool.hist, tool.section = lengths.by_cpu(), "cpu"


tool = histogram(lengths, prepare=prepare, banner="Sampling run queue length... Hit Ctrl-C to end.")
