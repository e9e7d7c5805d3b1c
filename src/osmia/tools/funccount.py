# SPDX-License-Identifier: Apache-2.0
"""Count calls of functions, and hits of tracepoints and static probes."""

from __future__ import annotations

from osmia import Col, PerCpuArray, count_table, cpu, option, u64
from osmia.errors import OptionError
from osmia.lang.filters import cgroup, pid  # noqa: F401 - options
from osmia.probespec import STATIC, parse
from osmia.tools._places import PLACES, aim, everywhere

pattern = option("pattern", type=str, parse=parse, help=f"what to count: {PLACES}")
regular = option("-r", "--regexp", help="the pattern is a regular expression, not a shell pattern")
only_cpu = option("-c", "--cpu", type=int, default=-1, metavar="CPU", help="this CPU only")
debug = option("-D", "--debug", "-v", "--verbose", help="show what is loaded and attached, and details of errors")

counts = PerCpuArray[u64](1)  # by attach cookie: the place's number


def called(place):
    if only_cpu < 0 or cpu() == only_cpu:
        counts[place] += 1


AT, PROGRAMS = everywhere(called, numbered=True)


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
