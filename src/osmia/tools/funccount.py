# SPDX-License-Identifier: Apache-2.0
"""Count calls of functions, and hits of tracepoints and static probes."""

from __future__ import annotations

from osmia import Col, PerCpuArray, attach_cookie, count_table, cpu, kprobe_multi, option, tracepoint, u64, uprobe, usdt
from osmia.errors import OptionError
from osmia.lang.filters import cgroup, pid, wanted  # noqa: F401 - options
from osmia.probespec import FUNCTION, STATIC, TRACEPOINT, USER, parse
from osmia.tools._places import aim

WHERE = "what to count: FUNCTION, FILE:FUNCTION, t:CATEGORY:EVENT or u:FILE:PROBE; patterns as in the shell"

pattern = option("pattern", type=str, parse=parse, help=WHERE)
regular = option("-r", "--regexp", help="the pattern is a regular expression, not a shell pattern")
only_cpu = option("-c", "--cpu", type=int, default=-1, metavar="CPU", help="this CPU only")
debug = option("-D", "--debug", "-v", "--verbose", help="show what is loaded and attached, and details of errors")
#: Where the one program that is needed attaches, by kind of place; the others are not loaded.
AT = {kind: option(kind, type=str) for kind in (FUNCTION, USER, TRACEPOINT, STATIC)}

counts = PerCpuArray[u64](1)  # by attach cookie: the place's number


def counted():
    return (only_cpu < 0 or cpu() == only_cpu) and wanted()


@kprobe_multi(AT[FUNCTION], optional=True)
def kernel_function():
    if counted():
        counts[attach_cookie()] += 1


@uprobe(AT[USER], optional=True)
def user_function():
    if counted():
        counts[attach_cookie()] += 1


@tracepoint(AT[TRACEPOINT], optional=True)
def static_tracepoint():
    if counted():
        counts[attach_cookie()] += 1


@usdt(AT[STATIC], optional=True)
def static_probe():
    if counted():
        counts[attach_cookie()] += 1


PROGRAMS = {FUNCTION: kernel_function, USER: user_function, TRACEPOINT: static_tracepoint, STATIC: static_probe}


def names():
    """The names of the places, in the order of their numbers."""
    return PROGRAMS[pattern.value.kind].names


def name(number):
    """What place ``number`` is called; a static probe without its provider, as bcc has it."""
    full = names()[number]
    return full.partition(":")[2] if pattern.value.kind == STATIC else full


def banner():
    places = len(names())
    return f'Tracing {places} function{"s" * (places != 1)} for "{pattern.value.text}"... Hit Ctrl-C to end.'


def prepare():
    if not pattern.given:
        raise OptionError("it is not said what to count", where="funccount", fix="as in: osmia funccount 'vfs_*'")
    aim([pattern.value], AT, PROGRAMS, regular=bool(regular), pid=int(pid))


def placed():
    counts.max_entries = max(1, len(names()))


tool = count_table(counts, [Col("key", "FUNC", 36, align="<"), Col("count", "COUNT", 8)], name=name, banner=banner,
                   prepare=prepare, placed=placed, careful=True)  # fmt: skip
