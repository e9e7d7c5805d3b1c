# SPDX-License-Identifier: Apache-2.0
"""Functions of user programs: a breakpoint in a file, for every process that maps it, now or later.

Linux 6.6 and later attach one program to any number of places with one link
(:mod:`osmia.link.uprobe_multi`), which comes and goes in milliseconds.
Before that each place is a perf event, and closing one takes the kernel some
100 ms.
"""

from __future__ import annotations

import errno
import os

from osmia.errors import NotFound, NotSupported, UserError
from osmia.kernel import features, perf
from osmia.kernel.files import make_room
from osmia.link import user_places
from osmia.link.base import Link, failed, refused
from osmia.link.tracepoint import bind
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from osmia.link.user_places import Found, Place
    from osmia.load.program import LiveProg

_PMU = "/sys/bus/event_source/devices/uprobe"
#: ``format/ref_ctr_offset`` of the uprobe PMU: config:32-63 (4.20).
_REF_CTR_SHIFT = 32
#: From this many single probes on, users are told what they cost.
_MANY = 50


class UserLink(Link):
    """A program on places in user programs.  ``names[i]`` is the place whose attach cookie is ``i``."""

    __slots__ = ("left_out", "names", "places")

    def __init__(self, name: str, how: str, fds: list[int], places: Sequence[Place]) -> None:
        super().__init__(name, how, fds, slow_close=True)
        self.places = places
        self.names = [one.name for one in places]
        self.left_out: list[str] = []

    def notices(self) -> list[str]:
        """What went wrong since it was attached, in sentences."""
        return [f"{path} was replaced while it was traced: processes that started since then were not seen"
                for path in user_places.replaced(self.places)]  # fmt: skip


def multi(pid: int = 0) -> bool:
    """Whether one link can serve all places; with ``pid``, whether it then keeps to that process's threads.

    Kernels from 6.6 to 6.9 took the process id for that of a thread
    (46ba0e49b642 "bpf: fix multi-uprobe PID filtering logic").
    """
    return bool(features.has("uprobe_multi")) and (not pid or bool(features.has("uprobe_multi_pid")))


def attach(
    prog: LiveProg, target: str = "", *, pid: int = 0, found: Found | None = None, copies: Sequence[LiveProg] = (),
) -> UserLink:  # fmt: skip
    """Attach to ``FILE:FUNCTION``, or to the places already ``found``.

    ``pid`` limits it to one process.  ``copies`` are further loadings of the
    program, one per place, for kernels without attach cookies.  Raises
    NotFound (with near names), NotSupported, NotPermitted.
    """
    kind = prog.spec.hook.removesuffix("_multi")
    if found is None:
        found = user_places.find(kind, [target], pid=pid)
    returns = kind == "uretprobe"
    if prog.spec.attach_type == consts.BPF_TRACE_UPROBE_MULTI:
        from osmia.link import uprobe_multi

        fds, left_out = uprobe_multi.links(prog, found.places, returns=returns, pid=pid)
        link = UserLink(target or found.places[0].name, "uprobe multi link", fds, found.places)
        link.left_out = left_out
        return link
    return _singly(prog, target, found.places, returns, pid, copies)


def _singly(
    prog: LiveProg, target: str, places: Sequence[Place], returns: bool, pid: int, copies: Sequence[LiveProg]
) -> UserLink:
    kind = _pmu_type(prog)
    retprobe = 1 << _retprobe_bit() if returns else 0
    if len(places) > 1:
        make_room(2 * len(places))
    fds: list[int] = []
    how = ""
    link = UserLink(target or places[0].name, how, fds, places)
    use_copies = bool(copies) and not features.attach_cookies()
    for cookie, place in enumerate(places):
        chosen = copies[cookie] if use_copies else prog
        try:
            made, how = _one(chosen, kind, retprobe, place, pid, cookie)
        except OSError as e:
            if e.errno in _NOT_HERE and len(places) > 1:
                link.left_out.append(place.name)
                continue
            link.close()
            raise explain(prog, place, e, pid) from None
        fds.extend(made)
    if not fds:
        raise NotSupported("the kernel can put a breakpoint on none of these functions", where=link.name)
    link.how = f"{len(fds)} uprobes, {how}" if len(places) > 1 else f"uprobe, {how}"
    return link


#: The kernel's answer where a place holds an instruction that it cannot step over.
_NOT_HERE = frozenset((errno.EOPNOTSUPP, 524, errno.EINVAL, errno.EIO))


def _one(prog: LiveProg, kind: int, retprobe: int, place: Place, pid: int, cookie: int) -> tuple[list[int], str]:
    from osmia.kernel.door import address

    path = os.fsencode(place.path) + b"\0"
    event = perf.attr(kind, retprobe | place.semaphore << _REF_CTR_SHIFT, config1=address(path), config2=place.offset)
    fd = perf.event_open(event, pid=pid, cpu=-1) if pid else perf.event_open(event, cpu=0)
    try:
        link_fd, how = bind(prog.fd, fd, cookie)
    except OSError:
        os.close(fd)
        raise
    if link_fd < 0:
        return [fd], how
    os.close(fd)  # the link holds the event
    return [link_fd], how


def _pmu_type(prog: LiveProg) -> int:
    try:
        with open(f"{_PMU}/type", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        raise NotSupported("this kernel has no uprobes", where=prog.name,
                           fix="it needs CONFIG_UPROBE_EVENTS (Linux 4.17)") from None  # fmt: skip


def _retprobe_bit() -> int:
    try:
        with open(f"{_PMU}/format/retprobe", encoding="ascii") as file:
            return int(file.read().strip().rpartition(":")[2])
    except (OSError, ValueError):
        return 0


def cost_note(n: int) -> str:
    """What ``n`` single probes cost; empty where it is not worth telling."""
    if n <= _MANY:
        return ""
    return (f"{n} probes one by one, since this kernel has no link for many (Linux 6.6): "
            f"detaching them takes about {n // 10 + 1} s")  # fmt: skip


def explain(prog: LiveProg, place: Place, cause: OSError, pid: int) -> UserError:
    """The error for a refusal to attach at ``place``."""
    where = f"{place.file}:{place.name}"
    if cause.errno in (errno.EPERM, errno.EACCES):
        return refused("open a perf event", cause, where=where)
    if cause.errno == errno.ESRCH:
        return NotFound(f"there is no process {pid}", where=where)
    if cause.errno == errno.ENOENT:
        return NotFound("the file is gone", where=where)
    if cause.errno in _NOT_HERE and cause.filename != "BPF_LINK_CREATE":
        return NotSupported("the kernel cannot put a breakpoint there", where=where,
                            fix="the place must be an instruction that may be single-stepped, in a file on disk")
    return failed(prog, where, cause)
