# SPDX-License-Identifier: Apache-2.0
"""Trace functions, tracepoints and static probes, and print what you ask of their arguments."""

from __future__ import annotations

import os

from osmia.errors import OptionError
from osmia.kernel import cpus, named
from osmia.lang import filters, itself
from osmia.lang.filters import cgroup, pid, tid, uid  # noqa: F401 - options
from osmia.lang.images import executed, forked, image
from osmia.lang.options import option
from osmia.lang.stacks import Stacks
from osmia.lang.traced import Messages
from osmia.probespec.formats import USER_SYMBOL
from osmia.probespec.statements import statement
from osmia.tools._messages import Message, program, ring_of
from osmia.tools._probes import Probe, check, parsed
from osmia.tools._show import whole

WHAT = 'where to look and what to show: PLACE[(SIGNATURE)] [(FILTER)] ["FORMAT"[, VALUE...]]'

thread = option("-L", type=int, parse=named.thread_number, metavar="TID", help="this thread only, like --tid")
name = option("-n", "--name", type=str, metavar="NAME", help="only processes whose name contains NAME")
message = option("-f", "--msg-filter", type=str, metavar="TEXT", help="only messages that contain TEXT")
group = option("-c", "--cgroup-path", type=int, parse=named.cgroup_number, metavar="PATH",
               help="only processes in this cgroup (v2) or below it, like --cgroup")  # fmt: skip
string_size = option("-Z", "--string-size", type=int, default=80, parse=whole, metavar="BYTES",
                     help="bytes to read of each string (default: 80)")  # fmt: skip
most = option("-M", "--max-events", type=int, parse=whole, metavar="N", help="end after this many events")
timestamp = option("-t", "--timestamp", help="show the time since the start, in seconds")
unix = option("-u", "--unix-timestamp", help="with -t: show the time since 1970 instead")
clock = option("-T", "--time", help="show the time of day")
print_cpu = option("-C", "--print-cpu", "--print_cpu", help="show the number of the CPU")
kernel_stack = option("-K", "--kernel-stack", help="show the kernel stack")
user_stack = option("-U", "--user-stack", help="show the user stack")
address = option("-a", "--address", help="show addresses in stacks")
aggregate = option("-A", "--aggregate", help="with -M: show each different line once, with how often it came")
include_self = option("-S", "--include-self", help="trace osmia's own process, too")
binary = option("-B", "--bin-cmp", "--bin_cmp", help='STRCMP compares bytes: STRCMP("{0x6C, 0x00}", arg1)')
pages = option("-b", "--buffer-pages", type=int, parse=whole, metavar="PAGES",
               help="size of the event buffer, in pages for each CPU (default: 4 MB altogether)")  # fmt: skip
headers = option("-I", "--include", type=list, metavar="HEADER",
                 help="taken for bcc's sake: types come from the kernel's own BTF, so no header is read")  # fmt: skip
symbol_files = option("-s", "--sym-file-list", "--sym_file_list", type=str, metavar="FILES",
               help="taken for bcc's sake: names in stacks come from the files that are mapped")  # fmt: skip
probes = option("probe", type=list, metavar="PROBE...", help=WHAT)

stacks = Stacks()


def prepare():
    """Bring bcc's letters to the shared filters, and see which programs this run needs."""
    for own, shared in ((thread, filters.tid), (group, filters.cgroup)):
        if own.given:
            shared.set(own.value)
    if name.given:
        filters.name.set(name.value[:15])
    if thread.given and pid.given:
        raise OptionError("-p and -L exclude each other", where="trace", fix="-L alone says it: a thread has a process")
    if unix and not timestamp:
        raise OptionError("-u says how -t shows the time", where="trace", fix="give -t, too")
    if aggregate and not most.given:
        raise OptionError("-A shows sums at the end of a number of events", where="trace", fix="give -M N, too")
    if not probes.value:
        raise OptionError("it is not said what to trace", where="trace", fix="as in: osmia trace c:malloc")
    itself.itself.value = 0 if include_self else os.getpid()


def declares():
    """The programs, and the ring of their events."""
    made = [Message(Probe(one, number, int(pid), bool(binary)))
            for number, one in enumerate(parsed(statement, probes.value, "probe"))]  # fmt: skip
    check([one.probe for one in made])
    size = 4 << 20
    if pages.given:
        size = 1 << max(12, (pages.value * 4096 * len(cpus.possible()) - 1).bit_length())
    events = ring_of(made, string_size.value, size)
    space = {"events": events, "stacks": stacks, "image": image, "kernel_stack": kernel_stack, "user_stack": user_stack,
             "__name__": __name__}  # fmt: skip
    which = 0
    for one in made:
        which = program(one, which, space)
    symbols = any(value.what == USER_SYMBOL for one in made for value in one.conversions)
    for prog in (executed, forked):
        prog.enabled = bool(user_stack) or symbols
    tool.ring, tool.probes = events, made
    declared = {"events": events}
    for one in made:
        declared.update(one.probe.declared)
    files = [one.probe.made_of() for one in made]
    return declared, repr((probes.value, string_size.value, bool(binary), files))


tool = Messages(prepare, declares, globals(), stacks)
