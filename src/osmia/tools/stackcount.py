# SPDX-License-Identifier: Apache-2.0
"""Count what leads to a function, tracepoint or static probe: calls by stack."""

from __future__ import annotations

from osmia import (
    Comm,
    Event,
    Hash,
    Stacks,
    cpu,
    current,
    kprobe_multi,
    option,
    stack_table,
    tracepoint,
    u32,
    u64,
    uprobe,
    usdt,
)
from osmia.errors import OptionError
from osmia.lang.filters import cgroup, pid, wanted  # noqa: F401 - options
from osmia.lang.images import executed, forked, image  # noqa: F401 - programs
from osmia.lang.pidns import current_process_id
from osmia.lang.templates import StackPart
from osmia.probespec import FUNCTION, STATIC, TRACEPOINT, USER, parse
from osmia.tools._places import places
from osmia.tools._show import whole

WHERE = "where to count calls: FUNCTION, FILE:FUNCTION, t:CATEGORY:EVENT or u:FILE:PROBE; patterns as in the shell"

probe = option("probe", type=str, parse=parse, help=WHERE)
regular = option("-r", "--regexp", help="the pattern is a regular expression, not a shell pattern")
per_process = option("-P", "--perpid", help="show the stacks of each process by themselves")
kernel_only = option("-K", "--kernel-stacks-only", help="kernel stacks only")
user_only = option("-U", "--user-stacks-only", help="user stacks only")
only_cpu = option("-c", "--cpu", type=int, default=-1, metavar="CPU", help="this CPU only")
offsets = option("-s", "--offset", help="show how far into its function each frame is")
delimited = option("-d", "--delimited", help="put a line (-f: a frame) between user and kernel frames")
folded = option("-f", "--folded", help="one line a stack, for flame graphs")
duration = option("-D", "--duration", type=float, parse=whole, metavar="SECONDS", help="end after this many seconds")
storage = option("--stack-storage-size", type=int, default=16384, parse=whole, metavar="N",
                 help="room for N different stacks (default: 16384)")  # fmt: skip
#: Where the one program that is needed attaches, by kind of place; the others are not loaded.
AT = {kind: option(kind, type=str) for kind in (FUNCTION, USER, TRACEPOINT, STATIC)}


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
    if not kernel_only:
        key.user = stacks.user()
        if key.user:
            key.since = image()
    if not user_only:
        key.kernel = stacks.kernel()
    counts[key] += 1


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
    return f"Tracing {probe.value.text}"


def prepare():
    if not probe.given:
        raise OptionError("it is not said what to trace", where="stackcount", fix="as in: osmia stackcount c:malloc")
    if user_only and kernel_only:
        raise OptionError("-U and -K exclude each other", where="stackcount", fix="leave both out for both kinds")
    spec = probe.value
    for kind, where in AT.items():
        where.value = ""
        if kind == spec.kind:
            where.value = ",".join(places(spec, regular=bool(regular), pid=int(pid)))
            PROGRAMS[kind].optional = False  # what was asked for has to be there
    stacks.max_entries = storage.value
    counts.max_entries = max(storage.value, storage.default)
    tool.parts = [StackPart("comm")] * bool(per_process) + [StackPart("user"), StackPart("kernel")]
    tool.who = None if per_process else lambda key: ""


tool = stack_table(counts, stacks, unit="calls", banner=banner, folded=folded, offsets=offsets, delimiter=delimited,
                   intervals=True, prepare=prepare)  # fmt: skip
