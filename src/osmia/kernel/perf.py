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

#: perf's own names -> (type, config); include/uapi/linux/perf_event.h
EVENTS = {
    "cpu-clock": (PERF_TYPE_SOFTWARE, 0),
    "task-clock": (PERF_TYPE_SOFTWARE, 1),
    "page-faults": (PERF_TYPE_SOFTWARE, 2),
    "context-switches": (PERF_TYPE_SOFTWARE, 3),
    "cpu-migrations": (PERF_TYPE_SOFTWARE, 4),
    "minor-faults": (PERF_TYPE_SOFTWARE, 5),
    "major-faults": (PERF_TYPE_SOFTWARE, 6),
    "alignment-faults": (PERF_TYPE_SOFTWARE, 7),
    "emulation-faults": (PERF_TYPE_SOFTWARE, 8),
    "cycles": (PERF_TYPE_HARDWARE, 0),
    "instructions": (PERF_TYPE_HARDWARE, 1),
    "cache-references": (PERF_TYPE_HARDWARE, 2),
    "cache-misses": (PERF_TYPE_HARDWARE, 3),
    "branches": (PERF_TYPE_HARDWARE, 4),
    "branch-misses": (PERF_TYPE_HARDWARE, 5),
    "bus-cycles": (PERF_TYPE_HARDWARE, 6),
    "ref-cycles": (PERF_TYPE_HARDWARE, 9),
}
# LLC loads and load misses: cache id | op << 8 | result << 16
EVENTS["LLC-loads"] = (PERF_TYPE_HW_CACHE, 2)
EVENTS["LLC-load-misses"] = (PERF_TYPE_HW_CACHE, 2 | 1 << 16)

PERF_COUNT_SW_BPF_OUTPUT = 10
PERF_SAMPLE_TIME, PERF_SAMPLE_RAW = 1 << 2, 1 << 10

_SIZE = 112
_DISABLED, _FREQ, _WATERMARK, _USE_CLOCK, _WRITE_BACKWARD = 1 << 0, 1 << 10, 1 << 14, 1 << 25, 1 << 27
_CLOCKID_AT, _CLOCK_MONOTONIC = 92, 1
_FLAG_FD_CLOEXEC = 8
_IOC_ENABLE, _IOC_DISABLE, _IOC_SET_BPF, _IOC_PAUSE_OUTPUT = 0x2400, 0x2401, 0x40042408, 0x40042409


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


def output_attr(*, wakeup: int = 1, backward: bool = False) -> bytearray:
    """The event that bpf_perf_event_output() writes to: records with CLOCK_MONOTONIC time (4.4, use_clockid 4.1).

    ``wakeup``: bytes after which the reader is woken.  ``backward``: the
    newest record is at the head and the oldest are overwritten (4.7).
    """
    made = attr(
        PERF_TYPE_SOFTWARE, PERF_COUNT_SW_BPF_OUTPUT, period=1, sample_type=PERF_SAMPLE_TIME | PERF_SAMPLE_RAW,
        wakeup=wakeup,
    )  # fmt: skip
    bits = _USE_CLOCK | _WATERMARK | (_WRITE_BACKWARD if backward else 0)
    struct.pack_into("<Q", made, 40, struct.unpack_from("<Q", made, 40)[0] | bits)
    struct.pack_into("<i", made, _CLOCKID_AT, _CLOCK_MONOTONIC)
    return made


def pause(fd: int, paused: bool) -> None:
    """Stop writing to an event's buffer, or go on; what comes meanwhile is refused with an error (4.7)."""
    _ioctl(fd, _IOC_PAUSE_OUTPUT, int(paused), "PERF_EVENT_IOC_PAUSE_OUTPUT")


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
