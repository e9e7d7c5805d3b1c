# SPDX-License-Identifier: Apache-2.0
"""Show kernel functions: their prototypes, and calls with arguments and results as the structures that they are."""

from __future__ import annotations

from osmia.errors import OptionError
from osmia.lang.filters import cgroup, pid, wanted  # noqa: F401 - options
from osmia.lang.maps import Hash
from osmia.lang.options import option
from osmia.lang.templates import Declared
from osmia.lang.types import u32, u64
from osmia.obj.btf_text import declare
from osmia.tools._show import whole
from osmia.tools._snoop import Snooped, function_id, program, ring_of

WHAT = "trace FUNC... or info FUNC...; FUNC is NAME or NAME(ARG, ...), as in 'vfs_read(count > 4096, return)'"

words = option("command", type=list, metavar="[trace|info] FUNC...", help=WHAT)
pages = option("-P", "--pages", type=int, default=8, parse=whole, metavar="PAGES",
               help="size of the event buffer, in pages for each CPU (default: 8)")  # fmt: skip
in_order = option("-s", "--stack", help="show the functions behind the first only within each other, in this order")
debug = option("-D", "--debug", "-v", "--verbose", help="show what is loaded and attached, and details of errors")

reached = Hash[u32, u64](10240)  # thread -> how many functions of the list it is in
chosen = Hash[tuple[u32, u32], u32](10240)  # thread, function: its entry has been shown


def prepare():
    given = list(words.value or [])
    tool.command = given.pop(0) if given and given[0] in ("trace", "info") else "trace"
    if not given:
        raise OptionError("it is not said which function", where="ksnoop", fix="as in: osmia ksnoop info vfs_read")
    if in_order and len(given) < 2:
        raise OptionError("-s needs functions that are called within each other", where="ksnoop", fix="name more")
    tool.functions = [] if tool.command == "info" else [Snooped(text) for text in given]
    if tool.command == "info":
        for text in given:
            btf, id = function_id(text)
            print(declare(btf, id, "") + ";")
        raise SystemExit(0)


def declares():
    """The programs, and the ring of their events."""
    from osmia.kernel import cpus

    size = 1 << max(14, (pages.value * 4096 * max(1, len(cpus.possible())) - 1).bit_length())
    tool.ring = ring_of(tool.functions, size)
    declared = {"events": tool.ring}
    space = {"events": tool.ring, "reached": reached, "chosen": chosen, "__name__": __name__}
    for number, one in enumerate(tool.functions):
        declared |= program(one, number, space, bool(in_order))
    return declared, repr((words.value, bool(in_order)))


tool = Declared(prepare, declares, view="osmia.cli.snooped:SnoopView", careful=True, rings=True)
