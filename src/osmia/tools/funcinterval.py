# SPDX-License-Identifier: Apache-2.0
"""Time between one call of a function, or hit of a tracepoint, and the next, as a histogram."""

from __future__ import annotations

from osmia import Array, histogram, ktime, log2_hist, option, u64
from osmia.errors import OptionError
from osmia.lang.filters import cgroup, pid, wanted  # noqa: F401 - options
from osmia.probespec import FUNCTION, STATIC, TRACEPOINT, USER, parse
from osmia.tools._places import PLACES, aim, everywhere

pattern = option("pattern", type=str, parse=parse, help=f"whose calls: {PLACES}")
microseconds = option("-u", "--microseconds", help="microseconds instead of nanoseconds")
milliseconds = option("-m", "--milliseconds", help="milliseconds instead of nanoseconds")
KINDS = {FUNCTION: "kprobe function", USER: "uprobe function", TRACEPOINT: "tracepoint", STATIC: "static probe"}

last = Array[u64](1)  # when the last call was
between = log2_hist("nsecs")


def called():
    if not wanted():
        return
    now = ktime()
    before = last[0]
    last[0] = now
    if not before:
        return
    gap = now - before if now > before else 0  # calls on two CPUs may come in another order than their times
    if milliseconds:
        gap //= 1_000_000
    elif microseconds:
        gap //= 1_000
    between.add(gap)


AT, PROGRAMS = everywhere(called)


def banner():
    spec = pattern.value
    name = f"{spec.file}:{spec.name}" if spec.kind == TRACEPOINT else spec.name
    return f'Tracing {KINDS[spec.kind]} for "{name}"... Hit Ctrl-C to end.'


def unit():
    return "msecs" if milliseconds else "usecs" if microseconds else "nsecs"


def prepare():
    if not pattern.given:
        raise OptionError("it is not said whose calls", where="funcinterval", fix="as in: osmia funcinterval c:malloc")
    aim([pattern.value], AT, PROGRAMS, pid=int(pid))


tool = histogram(between, unit=unit, banner=banner, prepare=prepare, careful=True)
