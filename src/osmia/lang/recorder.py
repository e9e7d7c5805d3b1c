# SPDX-License-Identifier: Apache-2.0
"""The flight recorder: the newest events, kept in memory and read only when asked for.

A ring buffer that nobody reads fills up and refuses what comes later; this
one overwrites the oldest.  So recording costs no reader, runs for days, and
when something has gone wrong the last seconds before it are there.
"""

from __future__ import annotations

from osmia.lang.maps import Ring
from osmia.lang.maps_special import PERF_EVENT_ARRAY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.lang.types import Event


class FlightRecorder(Ring):
    """``FlightRecorder(Event, size=1 MiB, seconds=0)``: overwrites the oldest events (perf write_backward, 4.7).

    ``size`` is that of each CPU's memory in bytes, a power of two;
    ``seconds`` leaves out of a dump what is older.  In kernel functions it
    is a ring: ``with rec.reserve() as e: …``.  On the user side
    ``rec.dump()`` gives the events it holds, oldest first, all CPUs merged
    by the kernel's time; recording pauses for the milliseconds that this
    takes, and what is not recorded meanwhile counts as lost.  As a tool's
    ring it shows what it holds at the end, and whenever it gets SIGUSR1.

    Example::

        class Switch(Event):
            ts: u64
            pid: u32

        last = FlightRecorder(Switch, 1 << 16)

        @tracepoint("sched:sched_switch")
        def switch(record):
            with last.reserve() as e:
                e.ts, e.pid = ktime(), record.next_pid
    """

    map_type = PERF_EVENT_ARRAY

    def __init__(self, event: type[Event], size: int = 1 << 20, *, seconds: float = 0.0) -> None:
        super().__init__(event, size)
        self.size = size
        self.seconds = seconds
        self.max_entries = 0  # of the map: one slot for each possible CPU
        self.reader: Any = None

    def dump(self, seconds: float | None = None) -> list[Event]:
        """The recorded events, oldest first; only those of the last ``seconds``, where given."""
        if self.reader is None:
            return list(self.sent)
        events: list[Event] = self.reader.events(self.event, self.seconds if seconds is None else seconds)
        return events
