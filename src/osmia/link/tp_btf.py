# SPDX-License-Identifier: Apache-2.0
"""Raw tracepoints with typed arguments: the program may follow kernel pointers directly.

What it attaches to was fixed when it was loaded (by type id), so the target
is only for messages.  Since 5.5.
"""

from __future__ import annotations

from osmia.kernel import bpf
from osmia.link.base import Link, failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.load.program import LiveProg


def attach(prog: LiveProg, target: str) -> Link:
    """Attach to what the program was loaded for."""
    try:
        return Link(target, "raw tracepoint, typed", [bpf.raw_tracepoint_open(prog.fd)])
    except OSError as e:
        raise failed(prog, target, e) from None
