# SPDX-License-Identifier: Apache-2.0
"""Make allocations or block I/O of the kernel fail, within a chain of calls and under conditions."""

from __future__ import annotations

from osmia.errors import OptionError
from osmia.lang.filters import cgroup, pid  # noqa: F401 - options
from osmia.lang.options import option
from osmia.lang.templates import Declared
from osmia.tools import _chain
from osmia.tools._chain import check_injectable, failed, frames, programs, share

#: What fails: the function that asks whether to, and what it answers then.
MODES = {
    "kmalloc": ("should_failslab", -12),  # ENOMEM
    "bio": ("should_fail_bio", -5),  # EIO
    "alloc_page": ("should_fail_alloc_page", 1),
}


mode = option("mode", type=str, choices=tuple(MODES), help="what fails")
spec = option("spec", type=str, help="'FUNCTION(SIGNATURE)[(PREDICATE)] [=> …]', innermost first; see the page")
probability = option("-P", "--probability", type=float, default=1.0, parse=share, metavar="P",
                     help="how likely a chain that was met fails (default: 1)")  # fmt: skip
count = option("-c", "--count", type=int, default=-1, metavar="N", help="fail N times at most")
include = option("-I", "--include", type=list, metavar="HEADER",
                 help="taken for bcc's sake: types come from the kernel's own BTF, so no header is read")  # fmt: skip


def prepare():
    if not spec.given:
        raise OptionError("it is not said what is to fail, and where", where="inject",
                          fix="as in: osmia inject kmalloc 'd_alloc_parallel()'")  # fmt: skip
    found = frames(spec.value)
    bottom = MODES[mode.value][0]
    own = [one for one in found if one.name in ("", bottom)]
    if len(own) > 1 or (own and own[0] is not found[0]):
        raise OptionError("the function that is to fail is innermost, so it comes first", where="inject",
                          fix="as in '(PREDICATE) => CALLER()'")  # fmt: skip
    tool.functions = [one for one in reversed(found) if one not in own]
    tool.command = own[0].predicate if own else ""
    if not tool.functions and not own:
        raise OptionError("no function is named", where="inject", fix="as in 'd_alloc_parallel()'")
    _chain.length.value = len(tool.functions)
    _chain.asks.value = bool(tool.command)
    _chain.most.value = max(0, int(count)) if count.given else 0
    _chain.chances.value = round(probability.value * (1 << 32))
    check_injectable(bottom)


def declares():
    bottom, code = MODES[mode.value]
    declared, _ = programs(tool.functions, bottom, code, tool.command)
    return declared, repr((mode.value, spec.value))


def told():
    return f"failed {failed[0]:,} time{'s' * (failed[0] != 1)}\n"


def banner():
    return f"Failing {mode.value} in {spec.value}... Hit Ctrl-C to end.\n"


tool = Declared(prepare, declares, view="osmia.cli.told:ToldView", careful=True)
tool.banner, tool.told = banner, told
