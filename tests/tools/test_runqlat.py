# SPDX-License-Identifier: Apache-2.0
"""runqlat against pinned processes whose waits the scheduler itself has counted.

Some sandboxes hide what happens while a thread of their supervisor (PID 1)
runs: a switch from such a thread reaches no tracer at all, ftrace included.
So a count may lack a few turns there, never have more; what is to be exact
is so in one of some attempts.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from harness import Tool, eventually, workload
from patience import patient

pytestmark = pytest.mark.kernel

ROUNDS = 211


class Sleeper:
    """The workload ``sleeper.c``, pinned to CPU 0; ``prefix`` is a command that executes it."""

    def __init__(
        self, rounds: int, usecs: int = 500, spin: int = 0, *, prefix: Sequence[str] = (), name: str = "sleeper"
    ) -> None:
        program = workload("sleeper")
        if name != "sleeper":  # a command name of its own
            folder = tempfile.mkdtemp(prefix="osmia-workload-")
            os.chmod(folder, 0o755)
            program = shutil.copy(program, f"{folder}/{name}")
        self.name = name
        self.process = subprocess.Popen(
            [*prefix, "taskset", "-c", "0", program, str(rounds), str(usecs), str(spin)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        self.pid = self.process.pid
        assert eventually(self.blocked)

    def blocked(self) -> bool:
        """Whether it waits for its next line."""
        stat = Path(f"/proc/{self.pid}/stat").read_text()
        return f"({self.name}) S " in stat

    def go(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def done(self) -> None:
        assert self.process.stdout and self.process.stdout.readline() == "done\n"
        assert eventually(self.blocked)

    def turns(self) -> int:
        """How often the scheduler has given it a CPU after it had waited for one."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[2])

    def __enter__(self) -> Sleeper:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(patient(10))


def rows(text: str) -> list[tuple[int, int, int]]:
    """``(low, high, count)`` of all histogram rows."""
    return [tuple(map(int, m)) for m in re.findall(r"^\s*(\d+) -> (\d+)\s*: (\d+)\s*\|", text, re.M)]  # type: ignore[misc]


def blocks(text: str, section: str) -> dict[str, int]:
    """Counts by key."""
    out: dict[str, int] = {}
    for part in re.split(rf"^{section} = ", text, flags=re.M)[1:]:
        key = part.split("\n", 1)[0].strip()
        out[key] = out.get(key, 0) + sum(n for _, _, n in rows(part))
    return out


ATTEMPTS = 8


def exactly(measure: Callable[[], tuple[int, int]]) -> None:
    """Whether what ``measure`` counted and the truth agree: never above, in one of the attempts equal."""
    for _ in range(ATTEMPTS):
        counted, turns = measure()
        assert 0.8 * turns - 2 <= counted <= turns
        if counted == turns:
            return
    raise AssertionError(f"{counted} counted, {turns} turns, also in {ATTEMPTS} attempts")


@pytest.mark.feature("B13 tools")
def test_count_is_the_schedulers_own() -> None:
    """-p: one entry for each turn that the process got after waiting."""

    def measure() -> tuple[int, int]:
        with Sleeper(ROUNDS) as sleeper:
            tool = Tool("runqlat", "-p", str(sleeper.pid)).start()
            before = sleeper.turns()
            sleeper.go()
            sleeper.done()
            turns = sleeper.turns() - before
            tool.stop()
        assert turns >= ROUNDS and tool.status == 0 and tool.stderr == ""
        assert tool.stdout.startswith("Tracing run queue latency... Hit Ctrl-C to end.\n")
        assert "     usecs               : count     distribution\n" in tool.stdout
        return sum(n for _, _, n in rows(tool.stdout)), turns

    exactly(measure)


def test_contention_is_seen_as_waiting() -> None:
    """Two spinning processes on one CPU: each waits for the other's time slice, some milliseconds."""
    with Sleeper(1, 0, 600_000) as one, Sleeper(1, 0, 600_000) as two:
        tool = Tool("runqlat", "-m", "-p", str(one.pid)).start()
        before = one.turns()
        one.go()
        two.go()
        one.done()
        two.done()
        turns = one.turns() - before
        tool.stop()
    counts = rows(tool.stdout)
    assert 0.8 * turns <= sum(n for _, _, n in counts) <= turns, tool.stderr
    # A slice is sysctl_sched_base_slice (0.7 to 4 ms) up to a few ticks: most waits are of that order.
    waits = sum(n for low, high, n in counts if high >= 1 and low < 64)
    assert waits >= 10 and waits >= 0.8 * turns, counts
    assert sum(n for low, _, n in counts if low >= 128) <= 0.1 * turns, counts


def test_preemption_counts_as_waiting() -> None:
    """A process that never sleeps waits only because it is preempted."""

    def measure() -> tuple[int, int]:
        with Sleeper(1, 0, 400_000) as victim, Sleeper(97, 1000, 1000) as other:
            tool = Tool("runqlat", "-p", str(victim.pid)).start()
            before = victim.turns()
            switches = involuntary(victim.pid)
            victim.go()
            other.go()
            victim.done()
            turns, preempted = victim.turns() - before, involuntary(victim.pid) - switches
            other.done()
            tool.stop()
        assert 10 < preempted <= turns
        return sum(n for _, _, n in rows(tool.stdout)), turns

    exactly(measure)


def involuntary(pid: int) -> int:
    found = re.search(r"nonvoluntary_ctxt_switches:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


@pytest.mark.feature("B6 histograms printed: by key")
@pytest.mark.parametrize(("option", "section"), [("-P", "pid"), ("-L", "tid")])
def test_histogram_per_process_and_thread(option: str, section: str) -> None:
    def measure() -> tuple[int, int]:
        with Sleeper(ROUNDS) as one, Sleeper(101) as two:
            tool = Tool("runqlat", option).start()
            before = one.turns() + two.turns()
            one.go()
            two.go()
            one.done()
            two.done()
            turns = one.turns() + two.turns() - before
            tool.stop()
        found = blocks(tool.stdout, section)
        assert found[str(one.pid)] > 1.5 * found[str(two.pid)] > 100
        return found[str(one.pid)] + found[str(two.pid)], turns

    exactly(measure)


def test_histogram_per_pid_namespace() -> None:
    def measure() -> tuple[int, int]:
        with Sleeper(ROUNDS) as sleeper:
            tool = Tool("runqlat", "--pidnss", "-p", str(sleeper.pid)).start()
            before = sleeper.turns()
            sleeper.go()
            sleeper.done()
            turns = sleeper.turns() - before
            tool.stop()
        found = blocks(tool.stdout, "pidns")
        assert list(found) == [str(os.stat("/proc/self/ns/pid").st_ino)]
        return sum(found.values()), turns

    exactly(measure)


def test_intervals_and_timestamp() -> None:
    with Sleeper(400, 5000) as sleeper:
        tool = Tool("runqlat", "-T", "-p", str(sleeper.pid), "1", "2").start()
        before = sleeper.turns()
        sleeper.go()
        tool.wait(patient(10))
        turns = sleeper.turns() - before
        assert len(re.findall(r"^\d\d:\d\d:\d\d\s*$", tool.stdout, re.M)) == 2
        assert tool.stdout.count("distribution") == 2
        counted = sum(n for _, _, n in rows(tool.stdout))
        assert 0 < counted <= turns and counted > 0.7 * turns
        sleeper.done()


