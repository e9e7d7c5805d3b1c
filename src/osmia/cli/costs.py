# SPDX-License-Identifier: Apache-2.0
"""``--stats`` and ``--max-overhead``: what the tracing itself costs, and ending it when that is too much.

Two things are measured: the run time of our programs, which the kernel counts
while it is asked to (BPF_ENABLE_STATS, 5.8), and the CPU time of this process.
What the kernel spends around a program (the probe's entry, a system call's
slow path) is in neither.
"""

from __future__ import annotations

import time

from osmia.errors import NotSupported, TooCostly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.cli.session import Session
    from osmia.load.program import ProgInfo

#: Seconds over which ``--max-overhead`` looks at the share of CPU time.
WINDOW = 1.0


class Sample:
    """Counters at a time: ``at`` in monotonic seconds, ``own`` CPU time of this process in ns, programs by name."""

    def __init__(self, at: float, own: int, programs: dict[str, tuple[int, int, int]]) -> None:
        self.at = at
        self.own = own
        self.programs = programs  # runs, ns, skipped

    def minus(self, before: Sample) -> Sample:
        """What came between."""
        zero = (0, 0, 0)
        programs = {}
        for name, (runs, ns, skipped) in self.programs.items():
            old = before.programs.get(name, zero)
            programs[name] = (runs - old[0], ns - old[1], skipped - old[2])
        return Sample(self.at - before.at, self.own - before.own, programs)

    def in_programs(self) -> int:
        """Run time of all programs, ns."""
        return sum(ns for _, ns, _ in self.programs.values())

    def percent(self, cpus: int) -> tuple[float, float]:
        """Shares of all CPUs' time, of the programs and of this process; of a difference."""
        whole = max(self.at, 1e-9) * cpus * 1e9 / 100
        return self.in_programs() / whole, self.own / whole


class Counters:
    """What a run's programs and this process have taken; ``uncounted`` says why the kernel does not count run times."""

    def __init__(self, session: Session, uncounted: str) -> None:
        from osmia.kernel import cpus

        self._session = session
        self._why_not = uncounted
        self.cpus = len(cpus.online())

    def sample(self) -> Sample:
        """The counters now."""
        live = self._session.live
        programs = {}
        if live is not None and not self._why_not:
            for name, prog in live.progs.items():
                programs[name] = _sum([one.info() for one in live.copies.get(name, [prog])])
        return Sample(time.monotonic(), time.process_time_ns(), programs)


class Meter(Counters):
    """The cost of one run from now on; ``limit`` in percent of all CPUs' time (0: none)."""

    def __init__(self, session: Session, uncounted: str, limit: float) -> None:
        super().__init__(session, uncounted)
        self.limit = limit
        self.peak = 0.0
        self.tripped: Sample | None = None
        self._start = self._last = self.sample()
        if limit:
            session.stop.tick = self.tick
            session.stop.tick_at = self._start.at + WINDOW

    def tick(self) -> None:
        """Once a window: end the run if the last one cost more than the limit."""
        now = self.sample()
        window = now.minus(self._last)
        self._last = now
        self._session.stop.tick_at = now.at + WINDOW
        share = sum(window.percent(self.cpus))
        self.peak = max(self.peak, share)
        if share > self.limit:
            self.tripped = window
            self._session.stop.asked = True

    def refusal(self) -> TooCostly | None:
        """Why the run was ended, if it was."""
        if self.tripped is None:
            return None
        programs, own = self.tripped.percent(self.cpus)
        seconds = self._last.at - self._start.at
        return TooCostly(
            f"detached after {seconds:.1f} s: tracing took {programs + own:.2g} % of the time of "
            f"{_cpus(self.cpus)} in the last {self.tripped.at:.1f} s (programs {programs:.2g} %, osmia itself "
            f"{own:.2g} %), more than --max-overhead {self.limit:g}",
            where=self._session.unit.name, fix="trace less (with a filter such as -p or --cgroup), or allow more",
        )  # fmt: skip

    def text(self) -> str:
        """A table for standard error: runs and time of each program, CPU of this process, kernel memory, losses."""
        session, live = self._session, self._session.live
        if live is None:
            return ""
        spent = self.sample().minus(self._start)
        lines = [f"cost of {spent.at:.3f} s of tracing:"]
        for name, (runs, ns, skipped) in spent.programs.items():
            missed = f", {skipped:,} skipped (recursion)" if skipped else ""
            lines.append(f"  {name}: {runs:,} runs, {ns / runs if runs else 0:.0f} ns each{missed}")
        for link in session.links:
            hits = link.missed() if hasattr(link, "missed") else None
            if hits:
                lines.append(f"  {link.name}: {hits:,} hits missed")
        programs, own = spent.percent(self.cpus)
        if self._why_not:
            lines.append(f"  all programs: not counted: {self._why_not}")
        else:
            lines.append(f"  all programs: {spent.in_programs() / 1e6:.3f} ms of CPU")
        lines.append(f"  this process: {spent.own / 1e6:.3f} ms of CPU, peak memory {_peak_memory():,} KB")
        most = f", at most {self.peak:.3g} % in a second" if self.limit else ""
        lines.append(f"  together: {programs + own:.3g} % of the time of {_cpus(self.cpus)}{most}")
        lines.append(f"  maps: {live.memory():,} bytes of kernel memory")
        lines.append(f"  lost: {self._lost():,}")
        return "\n".join(lines) + "\n"

    def record(self) -> dict[str, Any]:
        """The same for ``--json``."""
        live = self._session.live
        spent = self.sample().minus(self._start)
        programs, own = spent.percent(self.cpus)
        out: dict[str, Any] = {
            "seconds": round(spent.at, 6),
            "cpus": self.cpus,
            "programs": [
                {"name": name, "runs": runs, "ns": ns, "ns_per_run": round(ns / runs, 1) if runs else 0.0,
                 "skipped": skipped} for name, (runs, ns, skipped) in spent.programs.items()
            ],
            "programs_counted": not self._why_not,
            "own_cpu_ns": spent.own,
            "percent_of_all_cpus": round(programs + own, 4),
            "peak_memory_bytes": _peak_memory() * 1024,
            "map_bytes": live.memory() if live is not None else 0,
            "lost": self._lost(),
        }  # fmt: skip
        if self.limit:
            out |= {"max_overhead": self.limit, "most_percent": round(self.peak, 4),
                    "detached": self.tripped is not None}  # fmt: skip
        return {"cost": out}

    def _lost(self) -> int:
        return sum(count for _, count in self._session.losses.read())


def _sum(infos: list[ProgInfo]) -> tuple[int, int, int]:
    return (sum(one.run_cnt for one in infos), sum(one.run_time_ns for one in infos),
            sum(one.recursion_misses for one in infos))  # fmt: skip


def _cpus(count: int) -> str:
    return "one CPU" if count == 1 else f"{count} CPUs"


def switch_on(needed: str) -> tuple[int, str]:
    """Have the kernel count run times: an fd to keep open (-1: it counts anyway), and why it does not, if it does not.

    ``needed`` names the option that cannot do without, or is empty.  Raises
    NotPermitted, and NotSupported where the kernel cannot do it and it is needed.
    """
    from osmia.kernel import bpf, caps, features
    from osmia.kernel.proc import sysctl

    try:
        if features.off("stats"):
            raise OSError(22, "turned off")
        return bpf.enable_stats(), ""
    except PermissionError as err:
        raise caps.refused("count BPF run time", err, where=needed or "--stats") from None
    except OSError as err:
        if sysctl("kernel.bpf_stats_enabled") == "1" and not features.off("stats"):  # 5.1
            return -1, ""
        if needed:
            raise NotSupported(
                "this kernel counts the run time of programs only when told by a sysctl (before 5.8)", where=needed,
                fix="set sysctl kernel.bpf_stats_enabled=1",
            ) from None  # fmt: skip
        return -1, err.strerror or "the kernel cannot"


def _peak_memory() -> int:
    """VmHWM of this process in KB; 0 if it cannot be read."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0
