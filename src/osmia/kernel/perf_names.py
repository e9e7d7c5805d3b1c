# SPDX-License-Identifier: Apache-2.0
"""Names of perf events, spelled as ``perf list`` does: software, hardware, cache and raw ones.

Numbers: ``include/uapi/linux/perf_event.h``.  A cache event is put together
of a cache, an operation and whether it missed: ``L1-dcache-load-misses``.
A raw event is what the processor's manual says: ``r01c2``.
"""

from __future__ import annotations

from osmia.errors import UserError
from osmia.kernel.perf import (
    EVENTS,
    PERF_TYPE_HARDWARE,
    PERF_TYPE_HW_CACHE,
    PERF_TYPE_RAW,
    PERF_TYPE_SOFTWARE,
)

#: Names that :data:`osmia.kernel.perf.EVENTS` has under another spelling, or not at all.
_MORE = {
    "faults": (PERF_TYPE_SOFTWARE, 2),
    "cs": (PERF_TYPE_SOFTWARE, 3),
    "migrations": (PERF_TYPE_SOFTWARE, 4),
    "dummy": (PERF_TYPE_SOFTWARE, 9),
    "bpf-output": (PERF_TYPE_SOFTWARE, 10),
    "cgroup-switches": (PERF_TYPE_SOFTWARE, 11),  # 5.13
    "cpu-cycles": (PERF_TYPE_HARDWARE, 0),
    "branch-instructions": (PERF_TYPE_HARDWARE, 4),
    "stalled-cycles-frontend": (PERF_TYPE_HARDWARE, 7),
    "idle-cycles-frontend": (PERF_TYPE_HARDWARE, 7),
    "stalled-cycles-backend": (PERF_TYPE_HARDWARE, 8),
    "idle-cycles-backend": (PERF_TYPE_HARDWARE, 8),
}
_CACHES = {"L1-dcache": 0, "L1-icache": 1, "LLC": 2, "dTLB": 3, "iTLB": 4, "branch": 5, "node": 6}
#: operation -> (its number, name of its accesses, name of its misses)
_OPERATIONS = (
    (0, "loads", "load-misses"), (1, "stores", "store-misses"), (2, "prefetches", "prefetch-misses"),
)  # fmt: skip
_KINDS = {PERF_TYPE_HARDWARE: "hardware counter", PERF_TYPE_HW_CACHE: "cache counter", PERF_TYPE_RAW: "raw counter"}


def find(name: str) -> tuple[int, int] | None:
    """``(type, config)`` of the event ``name``; None for a name that is no event's."""
    known = EVENTS.get(name) or _MORE.get(name)
    if known is not None:
        return known
    for cache, number in _CACHES.items():
        if name.startswith(cache + "-"):
            return _of_cache(number, name[len(cache) + 1 :])
    if name[:1] == "r" and 1 < len(name) <= 17 and not name[1:].strip("0123456789abcdefABCDEF"):
        return PERF_TYPE_RAW, int(name[1:], 16)
    return None


def _of_cache(cache: int, what: str) -> tuple[int, int] | None:
    for number, accesses, misses in _OPERATIONS:
        if what in (accesses, misses):
            return PERF_TYPE_HW_CACHE, cache | number << 8 | int(what == misses) << 16
    return None


def names() -> list[str]:
    """Every name, without the raw ones (which are numbers)."""
    caches = [f"{cache}-{what}" for cache in _CACHES for _, *both in _OPERATIONS for what in both]
    return list(dict.fromkeys([*EVENTS, *_MORE, *caches]))


def must_find(name: str, where: str = "") -> tuple[int, int]:
    """As :func:`find`; UserError with near names for one that does not exist."""
    found = find(name)
    if found is not None:
        return found
    import difflib

    near = difflib.get_close_matches(name, names(), 3, 0.6)
    fix = f"did you mean {' or '.join(near)}?" if near else "names are those of `perf list`, or a number such as r01c2"
    raise UserError(f"unknown perf event {name!r}", where=where, fix=fix)


def kind_of(type: int) -> str:
    """What an event of this type is in words."""
    return _KINDS.get(type, "event")
