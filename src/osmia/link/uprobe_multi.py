# SPDX-License-Identifier: Apache-2.0
"""Any number of places in one file with one link: BPF_TRACE_UPROBE_MULTI, since 6.6.

Layout: ``link_create.uprobe_multi`` in ``include/uapi/linux/bpf.h``.
"""

from __future__ import annotations

import errno
import os
import struct

from osmia.errors import NotSupported
from osmia.kernel import bpf
from osmia.kernel.door import address
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from osmia.link.user_places import Place
    from osmia.load.program import LiveProg

_MOST = 1 << 20  # MAX_UPROBE_MULTI_CNT
_NOT_HERE = frozenset((errno.EOPNOTSUPP, bpf.ENOTSUPP, errno.EIO))


def links(prog: LiveProg, places: Sequence[Place], *, returns: bool, pid: int) -> tuple[list[int], list[str]]:
    """One link per file: ``(fds, names of places that cannot take a breakpoint)``.

    Cookies are positions in ``places``.  A function that begins with an
    instruction that the kernel cannot step over makes it refuse the whole
    set, if a process runs the file just then; such functions are found by
    halving, and left out.
    """
    by_file: dict[str, list[int]] = {}
    for at, place in enumerate(places):
        by_file.setdefault(place.path, []).append(at)
    fds: list[int] = []
    left_out: list[str] = []
    try:
        for numbers in by_file.values():
            for start in range(0, len(numbers), _MOST):
                _link(prog, places, numbers[start : start + _MOST], returns, pid, fds, left_out)
        if not fds:
            raise NotSupported("the kernel can put a breakpoint on none of these functions",
                               where=f"{places[0].file}:{places[0].name}")
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return fds, left_out


def _link(
    prog: LiveProg, places: Sequence[Place], numbers: Sequence[int], returns: bool, pid: int, fds: list[int],
    left_out: list[str],
) -> None:  # fmt: skip
    try:
        fds.append(create(prog.fd, [places[n] for n in numbers], numbers, returns, pid))
        return
    except OSError as e:
        if e.errno not in _NOT_HERE:
            from osmia.link.uprobe import explain

            raise explain(prog, places[numbers[0]], e, pid) from None
    if len(numbers) == 1:
        left_out.append(places[numbers[0]].name)
        return
    middle = len(numbers) // 2
    _link(prog, places, numbers[:middle], returns, pid, fds, left_out)
    _link(prog, places, numbers[middle:], returns, pid, fds, left_out)


def create(prog_fd: int, places: Sequence[Place], cookies: Sequence[int], returns: bool, pid: int) -> int:
    """One link for places of one file; its fd.  Raises OSError."""
    count = len(places)
    path = os.fsencode(places[0].path) + b"\0"
    offsets = struct.pack(f"<{count}Q", *[one.offset for one in places])
    numbers = struct.pack(f"<{count}Q", *cookies)
    counters = b""
    if any(one.semaphore for one in places):
        counters = struct.pack(f"<{count}Q", *[one.semaphore for one in places])
    flags = consts.BPF_F_UPROBE_MULTI_RETURN if returns else 0
    tail = struct.pack(
        "<QQQQIIII", address(path), address(offsets), address(counters), address(numbers), count, flags, pid, 0
    )
    return bpf.link_create(prog_fd, 0, consts.BPF_TRACE_UPROBE_MULTI, tail=tail)
