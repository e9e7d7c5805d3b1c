# SPDX-License-Identifier: Apache-2.0
"""Tracepoints: ``category:name``.

A tracepoint is a perf event.  Opened on one CPU for every process it sees all
CPUs, because its BPF programs run before the event asks which CPU it is for.
"""

from __future__ import annotations

import errno
import os

from osmia.errors import UserError
from osmia.kernel import bpf, cpus, features, perf, tracefs
from osmia.link.base import Link, failed, refused
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.load.program import LiveProg


def attach(prog: LiveProg, target: str, *, cookie: int = 0) -> Link:
    """Attach to ``category:name``; ``cookie`` as in :func:`bind`.  NotFound names similar tracepoints."""
    category, colon, name = target.partition(":")
    if not colon:
        raise UserError(f"a tracepoint is given as category:name, not {target!r}", where=prog.name)
    event = perf.attr(perf.PERF_TYPE_TRACEPOINT, tracefs.tracepoint_id(category, name), period=1)
    try:
        fd = perf.event_open(event, cpu=cpus.online()[0])
    except OSError as e:
        if e.errno in (errno.EPERM, errno.EACCES):
            raise refused("open a perf event", e, where=target) from None
        raise failed(prog, target, e) from None
    return _bind(prog, target, fd, cookie)


def _bind(prog: LiveProg, target: str, fd: int, cookie: int) -> Link:
    try:
        link_fd, how = bind(prog.fd, fd, cookie)
    except OSError as e:
        os.close(fd)
        if e.errno == errno.EACCES:  # the kernel compares the program's highest offset with the record's size
            raise UserError("the program reads beyond this tracepoint's record", where=f"{prog.name} ({target})",
                            fix="its fields differ in this kernel") from None  # fmt: skip
        if e.errno == errno.E2BIG:
            full = "64 programs are attached there, and the kernel takes no more (BPF_TRACE_MAX_PROGS)"
            fix = "use raw_tracepoint() or tp_btf()"
            raise UserError(full, where=f"{prog.name} ({target})", fix=fix) from None
        raise failed(prog, target, e) from None
    return Link(target, how, [link_fd, fd] if link_fd >= 0 else [fd], slow_close=True)


def bind(prog_fd: int, event_fd: int, cookie: int = 0) -> tuple[int, str]:
    """Tie a program to a perf event: ``(link fd, how)``; the fd is -1 for the way before 5.15, by ioctl.

    ``cookie`` is what the program reads with ``attach_cookie()``; the ioctl has none.
    """
    if not features.off("bpf_link"):
        tail = cookie.to_bytes(8, "little") if cookie else b""
        try:
            return bpf.link_create(prog_fd, event_fd, consts.BPF_PERF_EVENT, tail=tail), "perf link"
        except OSError as e:
            if e.errno != errno.EINVAL:
                raise
    perf.set_bpf(event_fd, prog_fd)
    perf.enable(event_fd)
    return -1, "perf ioctl"
