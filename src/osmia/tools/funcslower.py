# SPDX-License-Identifier: Apache-2.0
"""Trace slow calls of functions, with what they returned, their arguments and stacks."""

from __future__ import annotations

from osmia import Col, event_table, option
from osmia.errors import OptionError
from osmia.lang.filters import cgroup, pid  # noqa: F401 - options
from osmia.probespec import FUNCTION, USER, parse
from osmia.tools import _slow
from osmia.tools._places import aim, refuse_other, shown
from osmia.tools._show import clock, elapsed
from osmia.tools._slow import AT, PROGRAMS, kernel_stack, slow, stacks, user_stack

functions = option("function", type=list, parse=parse, metavar="FUNCTION...", help="FUNCTION or FILE:FUNCTION")
min_ms = option("-m", "--min-ms", type=float, metavar="MS", help="calls that took MS milliseconds or more (default: 1)")
min_us = option("-u", "--min-us", type=float, metavar="US", help="calls that took US microseconds or more")
arguments = option("-a", "--arguments", type=int, metavar="N", help="show the first N arguments (up to 6), as hex")
time_of_day = option("-T", "--time", help="show the time of day")
seconds = option("-t", "--timestamp", help="show seconds since the first call shown, to a microsecond")
folded = option("-f", "--folded", help="show stacks only, one a line, for flame graphs")


def called(one):
    """The function as it is spelled on the command line, and the arguments that are to be shown."""
    words = [shown(PROGRAMS[FUNCTION if one.in_kernel else USER][0], one.place)]
    return " ".join(words + [f"{getattr(one, f'arg{n}'):#x}" for n in range(1, int(arguments) + 1)])


def latency(one):
    return f"{one.ns / (1e3 if min_us else 1e6):.2f}"


def banner():
    limit = f"{min_us} us" if min_us else f"{min_ms or 1} ms"
    return f"Tracing function calls slower than {limit.replace('.0 ', ' ')}... Ctrl+C to quit."


def prepare():
    if not functions.given:
        raise OptionError("it is not said what to trace", where="funcslower", fix="as in: osmia funcslower c:open")
    if not 0 <= arguments <= 6:
        raise OptionError(f"there are no {arguments} arguments to show", where="funcslower", fix="from 1 to 6")
    if folded and not (user_stack or kernel_stack):
        raise OptionError("-f is about stacks", where="funcslower", fix="say which ones: -U, -K or -UK")
    refuse_other(functions.value, AT, "funcslower")
    aim(functions.value, AT, PROGRAMS, pid=int(pid))
    _slow.shortest.value = round(min_us.value * 1_000) if min_us else round((min_ms.value or 1) * 1_000_000)
    tool.view = "osmia.cli.with_stacks:EventsWithStacks" if user_stack or kernel_stack else ""
    tool.columns = [
        Col("start", "TIME", 10, show=elapsed(6, from_first=True), align="<", when=lambda: seconds and not time_of_day),
        Col("start", "TIME", 10, show=clock, align="<", when=time_of_day),
        Col("comm", "COMM", 14, show=lambda comm: comm[:14]),
        Col("pid", "PID", 6, align="<"),
        Col("lat", "LAT(us)" if min_us else "LAT(ms)", 7, row=latency, align=">"),
        Col("retval", "RVAL", 16, show=lambda value: f"{value:x}"),
        Col("func", "FUNC ARGS" if arguments else "FUNC", row=called),
    ]


tool = event_table(slow, [], stacks=stacks, folded=folded, banner=banner, prepare=prepare, careful=True)
