# SPDX-License-Identifier: Apache-2.0
"""Sampling and counters: a program runs every so many events, on every CPU that is up.

The events are opened disabled and started together once all are tied to the
program, so that CPUs are sampled over the same time.
"""

from __future__ import annotations

import errno
import os

from osmia.errors import NotSupported, UserError
from osmia.kernel import cpus, perf
from osmia.link.base import Link, failed, refused
from osmia.link.tracepoint import bind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.load.program import LiveProg

#: perf's own names -> (type, config); include/uapi/linux/perf_event.h
EVENTS = {
    "cpu-clock": (perf.PERF_TYPE_SOFTWARE, 0),
    "task-clock": (perf.PERF_TYPE_SOFTWARE, 1),
    "page-faults": (perf.PERF_TYPE_SOFTWARE, 2),
    "context-switches": (perf.PERF_TYPE_SOFTWARE, 3),
    "cpu-migrations": (perf.PERF_TYPE_SOFTWARE, 4),
    "minor-faults": (perf.PERF_TYPE_SOFTWARE, 5),
    "major-faults": (perf.PERF_TYPE_SOFTWARE, 6),
    "alignment-faults": (perf.PERF_TYPE_SOFTWARE, 7),
    "emulation-faults": (perf.PERF_TYPE_SOFTWARE, 8),
    "cycles": (perf.PERF_TYPE_HARDWARE, 0),
    "instructions": (perf.PERF_TYPE_HARDWARE, 1),
    "cache-references": (perf.PERF_TYPE_HARDWARE, 2),
    "cache-misses": (perf.PERF_TYPE_HARDWARE, 3),
    "branches": (perf.PERF_TYPE_HARDWARE, 4),
    "branch-misses": (perf.PERF_TYPE_HARDWARE, 5),
    "bus-cycles": (perf.PERF_TYPE_HARDWARE, 6),
    "ref-cycles": (perf.PERF_TYPE_HARDWARE, 9),
}
# LLC loads and load misses: cache id | op << 8 | result << 16
EVENTS["LLC-loads"] = (perf.PERF_TYPE_HW_CACHE, 2)
EVENTS["LLC-load-misses"] = (perf.PERF_TYPE_HW_CACHE, 2 | 1 << 16)


def attach(
    prog: LiveProg, target: str = "", *, event: str = "", frequency: int = 0, period: int = 0, pid: int = -1,
    cpu: int = -1,
) -> Link:  # fmt: skip
    """Attach to ``event`` (default: the target, then ``cpu-clock``): one perf event per online CPU.

    ``frequency`` in Hz, or ``period`` in events (ns for the clocks).  ``pid``
    limits to one process, ``cpu`` to one CPU.  NotSupported where the machine
    lacks the counter (virtual machines have no hardware counters).
    """
    name = event or target or "cpu-clock"
    if name not in EVENTS:
        raise UserError(f"unknown perf event {name!r}", where=prog.name, fix=f"one of {', '.join(EVENTS)}")
    if bool(frequency) == bool(period):
        raise UserError("give a frequency or a period", where=f"{prog.name} ({name})")
    kind, config = EVENTS[name]
    settings = perf.attr(kind, config, freq=frequency, period=period, disabled=True)
    events: list[int] = []
    links: list[int] = []
    how = ""
    try:
        events = _open(settings, [cpu] if cpu >= 0 else cpus.online(), pid)
        for fd in events:
            link_fd, how = bind(prog.fd, fd)
            if link_fd >= 0:
                links.append(link_fd)
        for fd in events:
            perf.enable(fd)
    except OSError as e:
        for fd in links + events:
            os.close(fd)
        raise _refusal(prog, name, frequency, e) from None
    return Link(name, how, links + events)


def _open(settings: bytearray, wanted: list[int], pid: int) -> list[int]:
    """One event per CPU; a CPU that has just gone down (ENODEV) is left out."""
    found: list[int] = []
    for cpu in wanted:
        fd, cause = _open_one(settings, cpu, pid)
        if cause is None:
            found.append(fd)
        elif cause.errno != errno.ENODEV or len(wanted) == 1:
            for opened in found:
                os.close(opened)
            raise cause
    if not found:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), "perf_event_open")
    return found


def _open_one(settings: bytearray, cpu: int, pid: int) -> tuple[int, OSError | None]:
    try:
        return perf.event_open(settings, pid=pid, cpu=cpu), None
    except OSError as e:
        return -1, e


def _refusal(prog: LiveProg, name: str, frequency: int, cause: OSError) -> UserError:
    where = f"{prog.name} ({name})"
    if cause.errno in (errno.EPERM, errno.EACCES):
        return refused("open a perf event", cause, where=where)
    if cause.errno == errno.ENOENT or cause.errno == errno.EOPNOTSUPP or cause.errno == errno.ENODEV:
        kind = "hardware counter" if EVENTS[name][0] != perf.PERF_TYPE_SOFTWARE else "event"
        return NotSupported(f"this machine has no such {kind}", where=where, fix="virtual machines often have none")
    if cause.errno == errno.EINVAL and frequency:
        return UserError(f"a frequency of {frequency} Hz is refused", where=where,
                         fix="see kernel.perf_event_max_sample_rate")  # fmt: skip
    return failed(prog, name, cause)
