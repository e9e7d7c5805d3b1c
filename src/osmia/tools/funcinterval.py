# SPDX-License-Identifier: Apache-2.0
"""Time between one call of a function, or hit of a tracepoint, and the next, as a histogram."""

from __future__ import annotations

from osmia import Array, histogram, kprobe_multi, ktime, log2_hist, option, tracepoint, u64, uprobe, usdt
from osmia.errors import OptionError
from osmia.lang.filters import cgroup, pid, wanted  # noqa: F401 - options
from osmia.probespec import FUNCTION, STATIC, TRACEPOINT, USER, parse
from osmia.tools._places import aim

WHERE = "whose calls: FUNCTION, FILE:FUNCTION, t:CATEGORY:EVENT or u:FILE:PROBE; patterns as in the shell"

pattern = option("pattern", type=str, parse=parse, help=WHERE)
microseconds = option("-u", "--microseconds", help="microseconds instead of nanoseconds")
milliseconds = option("-m", "--milliseconds", help="milliseconds instead of nanoseconds")
#: Where the one program that is needed attaches, by kind of place; the others are not loaded.
AT = {kind: option(kind, type=str) for kind in (FUNCTION, USER, TRACEPOINT, STATIC)}
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


@kprobe_multi(AT[FUNCTION], optional=True)
def kernel_function():
    called()


@uprobe(AT[USER], optional=True)
def user_function():
    called()


@tracepoint(AT[TRACEPOINT], optional=True)
def static_tracepoint():
    called()


@usdt(AT[STATIC], optional=True)
def static_probe():
    called()


PROGRAMS = {FUNCTION: kernel_function, USER: user_function, TRACEPOINT: static_tracepoint, STATIC: static_probe}


def banner():
    spec = pattern.value
    name = f"{spec.file}:{spec.name}" if spec.kind == TRACEPOINT else spec.name
    return f'Tracing {KINDS[spec.kind]} for "{name}"... Hit Ctrl-C to end.'


def unit():
    return "msecs" if milliseconds else "usecs" if microseconds else "nsecs"


def prepare():
    if not pattern.given:
        raise OptionError("it is not said whose calls", where="funcinterval", fix="as in: osmia funcinterval c:malloc")
    for one in PROGRAMS.values():
        one.optional = True
    PROGRAMS[pattern.value.kind].optional = False  # what was asked for has to be there
    aim([pattern.value], AT, pid=int(pid))


tool = histogram(between, unit=unit, banner=banner, prepare=prepare, careful=True)
