# SPDX-License-Identifier: Apache-2.0
"""Count or draw the values that arguments, results and fields take: functions, tracepoints, static probes."""

from __future__ import annotations

from osmia.errors import OptionError
from osmia.kernel import named
from osmia.lang import filters
from osmia.lang.filters import cgroup, pid, uid  # noqa: F401 - options
from osmia.lang.options import option
from osmia.lang.traced import Distributions
from osmia.probespec.statements import distribution
from osmia.tools._dists import Dist, program
from osmia.tools._probes import Probe, check, parsed
from osmia.tools._show import seconds, whole

WHAT = "KIND:FILE:FUNCTION(SIGNATURE)[:TYPE[,TYPE...]:VALUE[,VALUE...][:FILTER]][#LABEL]"

thread = option("-t", "--tid", type=int, parse=named.thread_number, metavar="TID", help="this thread only")
string_size = option("-z", "--string-size", type=int, default=80, parse=whole, metavar="BYTES",
                     help="bytes to read of each string (default: 80)")  # fmt: skip
interval = option("-i", "--interval", type=float, parse=seconds, default=1.0, metavar="SECONDS",
                  help="seconds between outputs (default: 1)")  # fmt: skip
number = option("-n", "--number", type=int, parse=whole, metavar="N", help="end after this many outputs")
cumulative = option("-c", "--cumulative", help="show everything since the start each time, not what is new")
top = option("-T", "--top", type=int, parse=whole, metavar="N", help="show the N largest counts only")
counts = option("-C", "--count", type=list, metavar="SPECIFIER", help=f"count values: {WHAT}")
histograms = option("-H", "--histogram", type=list, metavar="SPECIFIER", help="draw values as a histogram")
headers = option("-I", "--include", type=list, metavar="HEADER",
                 help="taken for bcc's sake: types come from the kernel's own BTF, so no header is read")  # fmt: skip


def prepare():
    """Bring bcc's letters to the shared filters."""
    if thread.given:
        filters.tid.set(thread.value)
    if not counts.value and not histograms.value:
        raise OptionError("it is not said what to count", where="argdist",
                          fix="as in: osmia argdist -C 'p:c:malloc(size_t size):size_t:size'")  # fmt: skip


def declares():
    """The programs and maps of every specification: counts first, as bcc has them."""
    texts = [*(counts.value or []), *(histograms.value or [])]
    made = []
    for at, one in enumerate(parsed(distribution, texts, "specifier")):
        made.append(Dist(Probe(one, at, int(pid)), one, at >= len(counts.value or [])))
    check([dist.probe for dist in made])
    for dist in made:
        program(dist, string_size.value, {"__name__": __name__})
    tool.probes = made
    declared = {}
    for dist in made:
        declared.update(dist.probe.declared)
    files = [dist.probe.made_of() for dist in made]
    return declared, repr((texts, len(counts.value or []), string_size.value, files))


tool = Distributions(prepare, declares, globals())
