# SPDX-License-Identifier: Apache-2.0
"""kretprobes: the return of a kernel function.

The kernel keeps a limited number of calls in flight per probe (twice the
CPUs, at least 10); what exceeds it is missed, and counted since 6.7.
"""

from __future__ import annotations

from osmia.link.kprobe import probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.link.base import Link
    from osmia.load.program import LiveProg


def attach(prog: LiveProg, target: str, *, function: str = "", cookie: int = 0) -> Link:
    """Attach to the return of ``function`` or ``module:function``; errors as for kprobes."""
    return probe(prog, function or target, "kretprobe", cookie)
