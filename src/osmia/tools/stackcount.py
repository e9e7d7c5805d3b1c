# SPDX-License-Identifier: Apache-2.0
"""Count what leads to a function, tracepoint or static probe: calls by stack."""

from __future__ import annotations

from osmia import Hash, Stacks, cpu, current, option, stack_table
from osmia.errors import OptionError
from osmia.lang.filters import cgroup, pid, wanted  # noqa: F401 - options
from osmia.lang.images import executed, forked  # noqa: F401 - programs
from osmia.lang.pidns import current_process_id
from osmia.lang.templates import StackPart
from osmia.lang.types import Comm, Event, u32, u64
from osmia.probespec import parse
from osmia.tools._places import PLACES, aim, everywhere
from osmia.tools._show import whole
from osmia.tools._stacks import check_kinds, delimited, folded, kernel_only, size, storage, take_stacks, user_only  # noqa: F401 - options

probe = option("probe", type=str, parse=parse, help=f"where to count calls: {PLACES}")
regular = option("-r", "--regexp", help="the pattern is a regular expression, not a shell pattern")
per_process = option("-P", "--perpid", help="show the stacks of each process by themselves")
only_cpu = option("-c", "--cpu", type=int, default=-1, metavar="CPU", help="this CPU only")
offsets = option("-s", "--offset", help="show how far into its function each frame is")
duration = option("-D", "--duration", type=float, parse=whole, metavar="SECONDS", help="end after this many seconds")


class Key(Event):
    """Whose call, and from where; ``user`` and ``kernel`` are numbers of stacks."""

    since: u64
    pid: u32
    user: u32
    kernel: u32
    comm: Comm


stacks = Stacks()
counts = Hash[Key, u64](storage.default)


def called():
    if not wanted() or (only_cpu >= 0 and cpu() != only_cpu):
        return
    key = Key()
    if per_process or not kernel_only:
        key.pid = current_process_id()
        key.comm = current.comm
    take_stacks(key, stacks)
    counts[key] += 1


AT, PROGRAMS = everywhere(called)


def banner():
    return f"Tracing {probe.value.text}"


def prepare():
    if not probe.given:
        raise OptionError("it is not said what to trace", where="stackcount", fix="as in: osmia stackcount c:malloc")
    check_kinds("stackcount")
    aim([probe.value], AT, PROGRAMS, regular=bool(regular), pid=int(pid))
    size(stacks, counts)
    tool.parts = [StackPart("comm")] * bool(per_process) + [StackPart("user"), StackPart("kernel")]
    tool.who = None if per_process else lambda key: ""


tool = stack_table(counts, stacks, unit="calls", banner=banner, folded=folded, offsets=offsets, delimiter=delimited,
                   intervals=True, careful=True, prepare=prepare)  # fmt: skip
