# SPDX-License-Identifier: Apache-2.0
"""Sampling and counters: a program runs every so many events, on every CPU that is up.

The events are opened disabled and started together once all are tied to the
program, so that CPUs are sampled over the same time.
"""

from __future__ import annotations

import errno
import os
import struct
import time

from osmia.errors import NotSupported, UserError
from osmia.kernel import cpus, perf, perf_names
from osmia.link.base import Link, failed, refused
from osmia.link.tracepoint import bind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.load.program import LiveProg


_ENABLED = 1 << 0  # PERF_FORMAT_TOTAL_TIME_ENABLED
_READ_FORMAT_AT = 32  # in struct perf_event_attr
#: Seconds: less is the time that opening and reading take.
_UNNOTICED = 0.05


class SampleLink(Link):
    """Events of every CPU.  ``events`` are their fds by CPU, ``began`` when they were started.

    The kernel stops the event of a CPU that goes offline for good; how long
    each has been counting is what it tells.
    """

    __slots__ = ("began", "events")

    def __init__(self, name: str, how: str, fds: list[int], events: dict[int, int]) -> None:
        super().__init__(name, how, fds)
        self.events = events
        self.began = time.monotonic()

    def away(self) -> list[tuple[int, int]]:
        """``(CPU, milliseconds)`` of the time that was not sampled, because the CPU had gone or came later."""
        if not self.fds or not self.events:
            return []
        passed = time.monotonic() - self.began
        counted = {}
        for cpu, fd in self.events.items():
            words = os.read(fd, 16)
            counted[cpu] = struct.unpack("<QQ", words)[1] / 1e9 if len(words) == 16 else 0.0
        for cpu in cpus.online():
            counted.setdefault(cpu, 0.0)
        return [(cpu, round(1000 * (passed - done))) for cpu, done in counted.items() if passed - done > _UNNOTICED]


def attach(
    prog: LiveProg, target: str = "", *, event: str = "", frequency: int = 0, period: int = 0, pid: int = -1,
    cpu: int = -1,
) -> Link:  # fmt: skip
    """Attach to ``event`` (default: the target, then ``cpu-clock``): one perf event per online CPU.

    ``event`` as ``perf list`` spells it (:mod:`osmia.kernel.perf_names`).
    ``frequency`` in Hz, or ``period`` in events (ns for the clocks).  ``pid``
    limits to one process, ``cpu`` to one CPU.  NotSupported where the machine
    lacks the counter (virtual machines have no hardware counters).
    """
    name = event or target or "cpu-clock"
    kind, config = perf_names.must_find(name, prog.name)
    if bool(frequency) == bool(period):
        raise UserError("give a frequency or a period", where=f"{prog.name} ({name})")
    settings = perf.attr(kind, config, freq=frequency, period=period, disabled=True)
    struct.pack_into("<Q", settings, _READ_FORMAT_AT, _ENABLED)
    events: dict[int, int] = {}
    links: list[int] = []
    how = ""
    try:
        events = _open(settings, [cpu] if cpu >= 0 else cpus.online(), pid)
        for fd in events.values():
            link_fd, how = bind(prog.fd, fd)
            if link_fd >= 0:
                links.append(link_fd)
        for fd in events.values():
            perf.enable(fd)
    except OSError as e:
        for fd in [*links, *events.values()]:
            os.close(fd)
        raise _refusal(prog, name, kind, frequency, e) from None
    # One process's events count while it runs, one CPU's were asked for: nothing is missing there.
    every = events if pid == -1 and cpu == -1 else {}
    return SampleLink(name, how, [*links, *events.values()], every)


def _open(settings: bytearray, wanted: list[int], pid: int) -> dict[int, int]:
    """One event per CPU, by CPU; a CPU that has just gone down (ENODEV) is left out."""
    found: dict[int, int] = {}
    for cpu in wanted:
        fd, cause = _open_one(settings, cpu, pid)
        if cause is None:
            found[cpu] = fd
        elif cause.errno != errno.ENODEV or len(wanted) == 1:
            for opened in found.values():
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


def _refusal(prog: LiveProg, name: str, kind: int, frequency: int, cause: OSError) -> UserError:
    where = f"{prog.name} ({name})"
    if cause.errno in (errno.EPERM, errno.EACCES):
        return refused("open a perf event", cause, where=where)
    if cause.errno == errno.ENOENT or cause.errno == errno.EOPNOTSUPP or cause.errno == errno.ENODEV:
        fix = "virtual machines often have none" + ("; cpu-clock works everywhere" if frequency else "")
        return NotSupported(f"this machine has no such {perf_names.kind_of(kind)}", where=where, fix=fix)
    if cause.errno == errno.EINVAL and frequency:
        return UserError(f"a frequency of {frequency} Hz is refused", where=where,
                         fix="see kernel.perf_event_max_sample_rate")  # fmt: skip
    return failed(prog, name, cause)
