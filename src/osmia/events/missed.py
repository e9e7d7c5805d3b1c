# SPDX-License-Identifier: Apache-2.0
"""Hits of probes that never reached their program, as losses.

The kernel skips a probe that fires while its program (for kprobes and
tracepoints: any program of that kind) is running on that CPU already, and a
kretprobe beyond the calls in flight that it has room for.  It counts both:
per link since 6.7, per program since 5.12 (fentry), 6.1 (raw tracepoints)
and 6.7 (kprobes, tracepoints).

A kernel that may switch tasks inside a program (syscall tracepoints since
6.13, if it is built to be preemptible) skips all hits of the tasks that run
until the first one comes back: with many threads that is no rare event.
"""

from __future__ import annotations

from osmia.events.loss import Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

#: Hooks whose skipped runs are events that somebody waits for.
HOOKS = frozenset({
    "kprobe", "kretprobe", "kprobe_multi", "kretprobe_multi", "fentry", "fexit", "fmod_ret",
    "tracepoint", "raw_tracepoint", "tp_btf",
})  # fmt: skip


def read(links: Iterable[Any], progs: Mapping[str, Any]) -> list[tuple[Slot, int]]:
    """What was missed so far: of each link, then of each program."""
    found = []
    for link in links:
        count = link.missed() if hasattr(link, "missed") else None
        if count:
            found.append((Slot(-1, "missed", link.name), count))
        gone = link.gone() if hasattr(link, "gone") else ""
        if gone:
            found.append((Slot(-1, "gone", f"{link.name}: module {gone}"), 1))
        for cpu, milliseconds in link.away() if hasattr(link, "away") else ():
            found.append((Slot(-1, "away", f"{link.name} on CPU {cpu}"), milliseconds))
    for name, prog in progs.items():
        if prog.spec.hook in HOOKS:
            skipped = prog.info().recursion_misses
            if skipped:
                found.append((Slot(-1, "skipped", name), skipped))
    return found
