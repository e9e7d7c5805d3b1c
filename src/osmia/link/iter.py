# SPDX-License-Identifier: Apache-2.0
"""Iterators: the program runs for each object of a kind while user space reads what it writes.

Since 5.8; tasks can be narrowed to one process since 6.1.
"""

from __future__ import annotations

import os
import struct

from osmia.kernel import bpf
from osmia.link.base import Link, failed
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.load.program import LiveProg


class IterLink(Link):
    """An iterator; each :meth:`read` is one pass."""

    __slots__ = ()

    def read(self) -> bytes:
        """Run it over all objects and return everything that it wrote."""
        fd = bpf.iter_create(self.fds[0])
        parts = []
        try:
            while part := os.read(fd, 1 << 16):
                parts.append(part)
        finally:
            os.close(fd)
        return b"".join(parts)


def attach(prog: LiveProg, target: str, *, map_fd: int = 0, pid: int = 0, tid: int = 0) -> IterLink:
    """Attach; ``map_fd`` for the kinds that walk one map, ``pid`` or ``tid`` for one process's tasks."""
    tail = b""
    info = b""
    if map_fd:
        info = struct.pack("<I12x", map_fd)
    elif pid or tid:
        info = struct.pack("<III4x", tid, pid, 0)  # union bpf_iter_link_info.task: tid, pid, pid_fd
    if info:
        from osmia.kernel.door import address

        tail = struct.pack("<QI", address(info), len(info))
    try:
        return IterLink(target, "iterator", [bpf.link_create(prog.fd, 0, consts.BPF_TRACE_ITER, tail=tail)])
    except OSError as e:
        raise failed(prog, target, e) from None
