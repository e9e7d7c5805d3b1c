# SPDX-License-Identifier: Apache-2.0
"""Lines of the trace pipe that this kernel would refuse to print.

It checks their formats only when it is to print them: such a program loads,
runs, and writes nothing.  So the compiler notes what each line needs, and
this says it before the load.
"""

from __future__ import annotations

from osmia.errors import NotSupported
from osmia.kernel import features
from osmia.obj import meta

#: Feature -> what kernels without it can do, and since when they can more.
_WITHOUT = {
    "trace_vprintk": ("three values at most", "Linux 5.16"),
    "trace_printk_more": ("one text at most, no percent signs and no capital digits", "Linux 5.13"),
}


def check(data: bytes, prog: str) -> None:
    """NotSupported if program ``prog`` of the object with these records prints what this kernel cannot."""
    for record in meta.load(data):
        if record[0] == "printk" and len(record) > 4 and record[1] == prog and features.has(record[2]) is False:
            can, since = _WITHOUT[record[2]]
            what = f"trace_printk() at {record[3]} has {record[4]}; this kernel prints {can} (more since {since})"
            raise NotSupported(what, where=prog, fix="use print()")
