# SPDX-License-Identifier: Apache-2.0
"""Time functions, as histograms."""

from __future__ import annotations

from osmia import (
    PerCpuArray,
    attach_cookie,
    histogram,
    kprobe_multi,
    kretprobe_multi,
    log2_hist,
    option,
    uprobe,
    uretprobe,
)
from osmia.errors import OptionError
from osmia.lang.filters import cgroup, pid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id
from osmia.lang.types import u32, u64
from osmia.probespec import FUNCTION, USER, parse
from osmia.tools import _calls
from osmia.tools._calls import begin, end, level  # noqa: F401 - options
from osmia.tools._places import aim, refuse_other

pattern = option("pattern", type=str, parse=parse, help="what to time: FUNCTION or FILE:FUNCTION; shell patterns")
microseconds = option("-u", "--microseconds", help="microseconds instead of nanoseconds")
milliseconds = option("-m", "--milliseconds", help="milliseconds instead of nanoseconds")
by_function = option("-F", "--function", help="a histogram for each function")
regular = option("-r", "--regexp", help="the pattern is a regular expression, not a shell pattern")
#: Where the two programs that are needed attach, by kind of place; the others are not loaded.
AT = {kind: option(kind, type=str) for kind in (FUNCTION, USER)}

took = log2_hist("nsecs")
took_apart = log2_hist("nsecs", key=tuple[u32, u32])  # by place and process
spent = PerCpuArray[u64](1)  # ns of all calls


def returned(place):
    delta = end(place)
    if delta is None:
        return
    spent[0] += delta
    if milliseconds:
        delta //= 1_000_000
    elif microseconds:
        delta //= 1_000
    if _calls.in_kernel and _calls.apart:
        took_apart[place, 0].add(delta)
    elif _calls.apart:
        took_apart[place, current_process_id()].add(delta)
    else:
        took.add(delta)


@kretprobe_multi(AT[FUNCTION], optional=True)
def kernel_return():
    returned(attach_cookie())


@kprobe_multi(AT[FUNCTION], optional=True)
def kernel_entry():
    if wanted():
        begin(attach_cookie())


@uretprobe(AT[USER], optional=True)
def user_return():
    returned(attach_cookie())


@uprobe(AT[USER], optional=True)
def user_entry():
    if wanted():
        begin(attach_cookie())


PROGRAMS = {FUNCTION: (kernel_return, kernel_entry), USER: (user_return, user_entry)}


def names():
    return PROGRAMS[pattern.value.kind][0].names


def label(key):
    """A function, and in programs the process."""
    place, process = key
    return f"{names()[place]} [{process}]" if process else names()[place]


def banner():
    places = len(names())
    return f'Tracing {places} function{"s" * (places != 1)} for "{pattern.value.text}"... Hit Ctrl-C to end.'


def unit():
    return "msecs" if milliseconds else "usecs" if microseconds else "nsecs"


def averages(whole):
    """As bcc has it: of all calls of an interval, whole units."""
    global told
    ns, told = spent[0] - told, spent[0]
    if not whole.count:
        return ""
    total = ns // (1_000_000 if milliseconds else 1_000 if microseconds else 1)
    return f"\navg = {total // whole.count} {unit()}, total: {total} {unit()}, count: {whole.count}"


told = 0  # ns, in the intervals up to now


def prepare():
    if not pattern.given:
        raise OptionError("it is not said what to time", where="funclatency", fix="as in: osmia funclatency c:read")
    refuse_other([pattern.value], AT, "funclatency")
    aim([pattern.value], AT, PROGRAMS, regular=bool(regular), pid=int(pid))
    kind = pattern.value.kind
    _calls.in_kernel.value = kind == FUNCTION
    _calls.apart.value = bool(by_function) or (kind == USER and not pid)
    tool.hist = took_apart if _calls.apart else took


def placed():
    took_apart.max_entries = max(1024, 4 * len(names()))


tool = histogram(took, section="Function", label=label, unit=unit, banner=banner, footer=averages, prepare=prepare,
                 placed=placed, careful=True)  # fmt: skip
