# SPDX-License-Identifier: Apache-2.0
"""Perf counters that programs read: opened on every CPU that is up, and put into their array."""

from __future__ import annotations

import errno
import os
import struct

from osmia.errors import NotSupported, UserError
from osmia.kernel import bpf, cpus, perf, perf_names


class CounterReader:
    """One counter on every CPU; counts from its opening on."""

    def __init__(self, map_fd: int, event: str) -> None:
        kind, config = perf_names.must_find(event)
        self.event = event
        self._fds: dict[int, int] = {}
        settings = perf.attr(kind, config)
        try:
            for cpu in cpus.online():
                self._open(map_fd, settings, cpu)
        except OSError as e:
            self.close()
            raise _refusal(event, kind, e) from None

    def _open(self, map_fd: int, settings: bytearray, cpu: int) -> None:
        fd = perf.event_open(settings, cpu=cpu)
        self._fds[cpu] = fd
        bpf.map_update(map_fd, struct.pack("<I", cpu), struct.pack("<I", fd))

    def read(self) -> dict[int, int]:
        """The value on each CPU."""
        return {cpu: struct.unpack("<Q", os.read(fd, 8))[0] for cpu, fd in self._fds.items()}

    def close(self) -> None:
        """Close the events."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds = {}


def _refusal(event: str, kind: int, cause: OSError) -> UserError:
    if cause.errno in (errno.EPERM, errno.EACCES):
        from osmia.kernel import caps

        return caps.refused("open a perf event", cause, where=f"counter {event}")
    if cause.errno in (errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV):
        return NotSupported(f"this machine has no such {perf_names.kind_of(kind)}", where=f"counter {event}",
                            fix="virtual machines often have none")
    return UserError(f"cannot be opened ({cause.strerror})", where=f"counter {event}")
