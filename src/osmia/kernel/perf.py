# SPDX-License-Identifier: Apache-2.0
"""perf_event_open(2): the older way in, still the only one for tracepoints, sampling and counters.

Layout: ``struct perf_event_attr`` in ``include/uapi/linux/perf_event.h``, size
112 (PERF_ATTR_SIZE_VER5, Linux 4.1).
"""

from __future__ import annotations

import errno
import os
import struct

from osmia.kernel.door import NR_PERF_EVENT_OPEN, address, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PERF_TYPE_HARDWARE, PERF_TYPE_SOFTWARE, PERF_TYPE_TRACEPOINT, PERF_TYPE_HW_CACHE, PERF_TYPE_RAW = range(5)
PERF_COUNT_SW_CPU_CLOCK, PERF_COUNT_SW_TASK_CLOCK = 0, 1

_SIZE = 112
_DISABLED, _FREQ = 1 << 0, 1 << 10
_FLAG_FD_CLOEXEC = 8
_IOC_ENABLE, _IOC_DISABLE, _IOC_SET_BPF = 0x2400, 0x2401, 0x40042408


def _kernel(attr: bytearray, pid: int, cpu: int, group: int, flags: int) -> int:
    if not NR_PERF_EVENT_OPEN:
        return -errno.ENOSYS
    return syscall(NR_PERF_EVENT_OPEN, address(attr), pid, cpu, group, flags)


_door: Callable[[bytearray, int, int, int, int], int] = _kernel


class override:
    """Replaces perf_event_open within a ``with`` block (tests): ``fake(attr, pid, cpu, group, flags)``."""

    def __init__(self, fake: Callable[[bytearray, int, int, int, int], int]) -> None:
        self._fake = fake

    def __enter__(self) -> None:
        global _door
        self._before = _door
        _door = self._fake

    def __exit__(self, *exc: object) -> None:
        global _door
        _door = self._before


def attr(
    type: int, config: int, *, period: int = 0, freq: int = 0, disabled: bool = False, config1: int = 0,
    config2: int = 0, sample_type: int = 0, wakeup: int = 0,
) -> bytearray:  # fmt: skip
    """A ``perf_event_attr``.  One of ``period`` (events, or ns for clocks) and ``freq`` (Hz) may be set."""
    bits = (_DISABLED if disabled else 0) | (_FREQ if freq else 0)
    return bytearray(struct.pack(
        "<IIQQQQQIIQQ", type, _SIZE, config, freq or period, sample_type, 0, bits, wakeup, 0, config1, config2,
    ).ljust(_SIZE, b"\0"))  # fmt: skip


def event_open(event: bytearray, *, pid: int = -1, cpu: int = -1) -> int:
    """Open an event; the fd.  ``pid`` -1: every process; ``cpu`` -1: every CPU (then ``pid`` must be given)."""
    result = -errno.EINTR
    while result == -errno.EINTR:
        result = _door(event, pid, cpu, -1, _FLAG_FD_CLOEXEC)
    if result < 0:
        raise OSError(-result, os.strerror(-result), "perf_event_open")
    return result


def _ioctl(fd: int, request: int, argument: int, name: str) -> None:
    import fcntl  # 0.3 ms, not needed where the kernel has perf links

    try:
        fcntl.ioctl(fd, request, argument)
    except OSError as e:
        raise OSError(e.errno, e.strerror, name) from None


def enable(fd: int) -> None:
    """Start an event that was opened disabled."""
    _ioctl(fd, _IOC_ENABLE, 0, "PERF_EVENT_IOC_ENABLE")


def disable(fd: int) -> None:
    """Stop an event."""
    _ioctl(fd, _IOC_DISABLE, 0, "PERF_EVENT_IOC_DISABLE")


def set_bpf(fd: int, prog_fd: int) -> None:
    """Attach a program the old way (before BPF_LINK_CREATE for perf events, 5.15)."""
    _ioctl(fd, _IOC_SET_BPF, prog_fd, "PERF_EVENT_IOC_SET_BPF")
