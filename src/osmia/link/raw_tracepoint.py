# SPDX-License-Identifier: Apache-2.0
"""Raw tracepoints: the kernel function call itself, without a formatted record.

Cheapest of all hooks, and quick to detach.  Named without category; since 4.17.
"""

from __future__ import annotations

import errno

from osmia.errors import NotFound
from osmia.kernel import bpf, tracefs
from osmia.link.base import Link, failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.load.program import LiveProg


def attach(prog: LiveProg, target: str) -> Link:
    """Attach to the tracepoint ``name`` (a category before a colon is dropped).  NotFound names similar ones."""
    name = target.rpartition(":")[2]
    try:
        return Link(name, "raw tracepoint", [bpf.raw_tracepoint_open(prog.fd, name)])
    except OSError as e:
        if e.errno != errno.ENOENT:
            raise failed(prog, name, e) from None
    raise NotFound(f"no raw tracepoint {name} in this kernel", where=prog.name, fix=_suggest(name))


def _suggest(name: str) -> str:
    import difflib

    names = [found for category in tracefs.categories() for found in tracefs.tracepoints(category)]
    near = difflib.get_close_matches(name, names, 3, 0.6)
    return f"did you mean {' or '.join(near)}?" if near else ""
