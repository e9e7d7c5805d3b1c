# SPDX-License-Identifier: Apache-2.0
"""Events in the context of process 1, where the kernel may run no program.

A sandbox may keep its own process out of what is traced: nothing that BPF attaches runs
while that process is current, which is so for a soft interrupt, too, that happens to come
then, a completed disk request, say.  The kernel's own trace has these
events.  A count is exact if it is the number of events, or that without them.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

INSTANCES = Path("/sys/kernel/tracing/instances")


class Beyond:
    """``with Beyond("block:block_rq_complete", "dev == 7340032") as beyond``: how many there were in process 1."""

    def __init__(self, event: str, only: str = "") -> None:
        self.folder = INSTANCES / f"beyond-{os.getpid()}"
        self.event = self.folder / "events" / event.replace(":", "/")
        self.only = only

    def __enter__(self) -> Beyond:
        self.folder.mkdir()
        if self.only:
            (self.event / "filter").write_text(self.only)
        (self.event / "enable").write_text("1")
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            (self.event / "enable").write_text("0")
        self.folder.rmdir()

    def count(self) -> int:
        """Up to now."""
        threads = set(os.listdir("/proc/1/task"))
        lines = (self.folder / "trace").read_text().splitlines()
        return sum(found is not None and found[1] in threads for found in map(_THREAD.match, lines))

    def leaves(self, events: int) -> tuple[int, int]:
        """What a program may have counted of so many."""
        return events, events - self.count()


_THREAD = re.compile(r"\s*.{1,16}-(\d+)\s+\[")
