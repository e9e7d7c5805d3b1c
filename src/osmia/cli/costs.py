# SPDX-License-Identifier: Apache-2.0
"""``--stats``: what the tracing itself cost."""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.cli.session import Session


def report(session: Session) -> str:
    """A table for standard error: runs and time of each program, CPU of this process, kernel memory, losses."""
    live = session.live
    if live is None:
        return ""
    seconds = max(time.monotonic() - session.started, 1e-9)
    lines = [f"cost of {seconds:.3f} s of tracing:"]
    total = 0
    for name, info in live.stats().items():
        average = info.run_time_ns / info.run_cnt if info.run_cnt else 0.0
        total += info.run_time_ns
        missed = f", {info.recursion_misses:,} skipped (recursion)" if info.recursion_misses else ""
        lines.append(f"  {name}: {info.run_cnt:,} runs, {average:.0f} ns each{missed}")
    for link in session.links:
        hits = link.missed() if hasattr(link, "missed") else None
        if hits:
            lines.append(f"  {link.name}: {hits:,} hits missed")
    lines.append(f"  all programs: {total / 1e6:.3f} ms of CPU, {100 * total / 1e9 / seconds:.3f} % of one CPU")
    times = os.times()
    lines.append(f"  this process: {times.user + times.system:.3f} s of CPU, peak memory {_peak()} KB")
    lines.append(f"  maps: {live.memory():,} bytes of kernel memory")
    lost = session.losses.read()
    lines.append(f"  lost: {sum(count for _, count in lost):,}")
    return "\n".join(lines) + "\n"


def _peak() -> int:
    """VmHWM of this process in KB; 0 if it cannot be read."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0
