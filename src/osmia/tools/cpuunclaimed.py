# SPDX-License-Identifier: Apache-2.0
"""Sample how much of the CPUs is idle although threads wait for others."""

from __future__ import annotations

from osmia import Global, Hash, cpu, current, ktime, option, perf_event, u32, u64
from osmia.lang.types import Event
from osmia.lang.unclaimed import QUEUED, RUNNING, SKEWED, Unclaimed
from osmia.tools._sched import waiting_here
from osmia.tools._times import timestamp  # noqa: F401 - an option

csv = option("-j", "--csv", help="show what each sample found, as comma-separated values")
full = option("-J", "--fullcsv", help="as -j, with how much later than the first each CPU was sampled")

HERTZ = 99
PERIOD = 1_000_000_000 // HERTZ  # ns, as perf_swevent_init_hrtimer() in kernel/events/core.c has it
MARGIN = PERIOD // 10  # from the beginning of a round to the first sample in it


class Sample(Event):
    """One sample: how many threads want that CPU, the one that has it among them."""

    ts: u64
    length: u32


begin = Global[u64]()  # of round 0, ktime(); set by the first sample
rounds = Hash[u64, u64](65536)  # see Unclaimed
samples = Hash[tuple[u64, u32], Sample](1)  # round and CPU


@perf_event("cpu-clock", frequency=HERTZ)
def sample(_):
    """Each CPU is sampled once in a period; these samples are a round if all come in the first half of it."""
    now = ktime()
    if begin.value == 0:
        begin.value = now - MARGIN
    since = now - begin.value
    number = since // PERIOD
    place = since % PERIOD
    skewed = 0
    if place >= PERIOD // 2:  # early or late: rounds begin anew with it
        begin.value -= PERIOD - place + MARGIN
        number += 1
        skewed = SKEWED
    length = waiting_here() + (1 if current.pid else 0)
    if csv or full:
        samples[number, cpu()] = Sample(ts=now, length=length)
    elif length > 0:
        rounds[number] += 1 + RUNNING + skewed + (length - 1) * QUEUED
    else:
        rounds[number] += 1 + skewed


def prepare():
    from osmia.kernel import cpus

    if csv or full:
        samples.max_entries, rounds.max_entries = 8 * HERTZ * len(cpus.online()), 1


tool = Unclaimed(rounds, samples, raw=csv, full=full, prepare=prepare)
