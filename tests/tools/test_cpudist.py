# SPDX-License-Identifier: Apache-2.0
"""cpudist against processes whose turns and times the scheduler itself has counted.

What a sandbox may hide is said in ``test_runqlat.py``: there are never more
turns than the scheduler's, and all of them are seen in one of some attempts.
Some workloads run as real-time threads, which nothing else interrupts, so
that the length of a turn is what the workload makes it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Tool, osmia
from patience import patient
from test_runqlat import ATTEMPTS, Sleeper, blocks, exactly, involuntary, rows

pytestmark = pytest.mark.kernel

ROUNDS = 53
PIECE = 1200  # microseconds of sleep, and of work
REAL_TIME = ["chrt", "-f", "50"]
EXTENSION = re.compile(r"^avg = (\d+) (usecs|msecs), total: (\d+) \2, count: (\d+)$", re.M)


def left(pid: int) -> int:
    """How often a thread has lost or given up its CPU."""
    found = re.search(r"^voluntary_ctxt_switches:\s*(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found
    return int(found[1]) + involuntary(pid)


def count(text: str) -> int:
    return sum(n for _, _, n in rows(text))


class Run:
    """A sleeper from one line to the next, traced: what the tool says, and what is true."""

    def __init__(self, *options: str, usecs: int = PIECE, spin: int = PIECE, rounds: int = ROUNDS) -> None:
        with Sleeper(rounds, usecs, spin, prefix=REAL_TIME) as sleeper:
            tool = Tool("cpudist", "-p", str(sleeper.pid), *options).start()
            turns, switches, began = sleeper.turns(), left(sleeper.pid), time.monotonic()
            sleeper.go()
            sleeper.done()
            self.usecs = (time.monotonic() - began) * 1e6
            self.turns, self.switches = sleeper.turns() - turns, left(sleeper.pid) - switches
            tool.stop()
        assert tool.status == 0 and tool.stderr == ""
        assert self.turns == self.switches
        self.slept = self.turns > rounds  # a CPU that stands still for longer than a sleep makes it none
        self.text = tool.stdout
        self.count = count(self.text)
        found = EXTENSION.search(self.text)
        self.total = int(found[3]) if found else 0
        if found:
            assert int(found[1]) == self.total // self.count and int(found[4]) == self.count


def whole(measure: Callable[[], Run], turns: Callable[[Run], int]) -> Run:
    """A run in which every sleep was one and of which every turn was seen; never are there more."""
    for _ in range(ATTEMPTS):
        run = measure()
        assert run.count <= turns(run)
        if run.slept and run.count == turns(run):
            return run
    raise AssertionError(f"{run.count} counted, {turns(run)} turns, also in {ATTEMPTS} attempts")


def share_within(text: str, low: int, high: int) -> float:
    """Of all that was counted what is in the buckets from ``low`` to ``high``."""
    return sum(n for first, last, n in rows(text) if first >= low and last <= high) / count(text)


def test_time_on_the_cpu() -> None:
    """Turns of 1.2 ms: as many as the scheduler counts, each in its bucket, and together the time worked."""
    run = whole(lambda: Run("-e"), lambda run: run.switches)
    assert run.text.startswith("Tracing on-CPU time... Hit Ctrl-C to end.\n\n     usecs               : count")
    assert share_within(run.text, 1024, 2047) > 0.8
    # The work takes its time by the clock; the sleeps, which are none, take at least theirs.
    assert 0.98 * ROUNDS * PIECE < run.total < run.usecs - ROUNDS * PIECE


def test_time_off_the_cpu() -> None:
    """-O: each sleep, from the first that began under observation."""
    run = whole(lambda: Run("-O", "-e"), lambda run: run.turns - 1)
    assert run.text.startswith("Tracing off-CPU time... Hit Ctrl-C to end.\n")
    assert share_within(run.text, 1024, 2047) > 0.8
    assert ROUNDS * (PIECE - 1) < run.total < run.usecs - 0.98 * ROUNDS * PIECE


def test_milliseconds() -> None:
    run = whole(lambda: Run("-m", "-e", rounds=23, usecs=5000, spin=5000), lambda run: run.switches)
    assert "     msecs               : count" in run.text
    assert share_within(run.text, 4, 7) > 0.8
    assert run.total > 23 * 5 - run.count  # each one is cut to whole milliseconds


def test_preemption_ends_a_turn() -> None:
    """A process that never sleeps has the turns that others leave it."""

    def measure() -> tuple[int, int]:
        with Sleeper(1, 0, 400_000) as victim, Sleeper(97, 1000, 1000) as other:
            tool = Tool("cpudist", "-p", str(victim.pid)).start()
            before, preempted = left(victim.pid), involuntary(victim.pid)
            victim.go()
            other.go()
            victim.done()
            switches = left(victim.pid) - before
            assert 10 < involuntary(victim.pid) - preempted < switches
            other.done()
            tool.stop()
        return count(tool.stdout), switches

    exactly(measure)


@pytest.mark.parametrize("option", ["-P", "--pids"])
def test_histogram_per_process(option: str) -> None:
    """One per process, under its number and name; the other filter still counts."""
    with Sleeper(61, 1000, name="cpudist-one") as one, Sleeper(31, 1000) as other:
        tool = Tool("cpudist", option, "-n", "sleeper").start()
        only = Tool("cpudist", option, "-p", str(one.pid)).start()
        before = left(one.pid), left(other.pid)
        one.go()
        other.go()
        one.done()
        other.done()
        switches = left(one.pid) - before[0], left(other.pid) - before[1]
        tool.stop()
        only.stop()
    found = blocks(tool.stdout, "pid")
    assert 10 <= found[f"{other.pid} sleeper"] <= switches[1]
    assert all(re.fullmatch(r"\d+ \S*sleeper\S*", key) for key in found)
    mine = blocks(only.stdout, "pid")
    assert list(mine) == [f"{one.pid} cpudist-one"] and 20 <= mine[f"{one.pid} cpudist-one"] <= switches[0]


THREADS = """
import os, sys, threading, time
ask, answer = os.pipe(), os.pipe()
def work():
    os.read(ask[0], 1)
    for _ in range(53):
        time.sleep(0.002)
    os.write(answer[1], b".")
    os.read(ask[0], 1)
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
print(*[thread.native_id for thread in threads], flush=True)
sys.stdin.readline()
os.write(ask[1], b"..")
os.read(answer[0], 1), os.read(answer[0], 1)
print("done", flush=True)
sys.stdin.readline()
os.write(ask[1], b"..")
"""


def test_histogram_per_thread() -> None:
    """-L: threads of one process apart; -P: under the process."""

    def measure() -> tuple[int, int]:
        process = subprocess.Popen(["taskset", "-c", "0", sys.executable, "-c", THREADS], text=True, bufsize=1,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
        assert process.stdin and process.stdout
        try:
            tids = process.stdout.readline().split()
            tools = [Tool("cpudist", option, "-p", str(process.pid)).start() for option in ("-L", "-P")]
            before = [left(int(tid)) for tid in tids]
            process.stdin.write("\n")
            assert process.stdout.readline() == "done\n"
            for tool in tools:
                tool.stop()
            switches = [left(int(tid)) - n for tid, n in zip(tids, before, strict=True)]
        finally:
            process.communicate("\n")
        by_thread, by_process = blocks(tools[0].stdout, "tid"), blocks(tools[1].stdout, "pid")
        found = {key.split()[0]: n for key, n in by_thread.items()}
        assert set(tids) <= set(found) and all(n >= 40 for n in switches)
        assert [key.split()[0] for key in by_process] == [str(process.pid)]
        # Those of the main thread are there as well.
        assert sum(by_process.values()) > sum(found[tid] for tid in tids) - 20
        return sum(found[tid] for tid in tids), sum(switches)

    exactly(measure)


def idle_ticks() -> int:
    """What the kernel has counted as idle time of all CPUs, in hundredths of a second."""
    return int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[4])


def test_idle_time() -> None:
    """Only with -I there is a process 0, and then it has the time that nobody used."""
    tools = [Tool("cpudist", "-P", "--json", *more).start() for more in ([], ["-I"])]
    before, began = idle_ticks(), time.monotonic()
    time.sleep(1)
    ticks, seconds = idle_ticks() - before, time.monotonic() - began
    for tool in tools:
        tool.stop()
    without, with_idle = ({one["key"]: one for one in tool.records()[0]["histograms"]} for tool in tools)
    assert without and 0 not in without
    if ticks > 10:  # else both CPUs were busy all the time
        assert with_idle[0]["label"] == "0"
        # The times of single stretches are cut to microseconds, and the kernel counts in whole ticks.
        assert 0 < with_idle[0]["sum"] < 1.5e6 * seconds * (os.cpu_count() or 1)


def test_intervals_and_timestamp() -> None:
    with Sleeper(400, 5000) as sleeper:
        tool = Tool("cpudist", "-T", "-p", str(sleeper.pid), "1", "2").start()
        before = left(sleeper.pid)
        sleeper.go()
        tool.wait(patient(10))
        switches = left(sleeper.pid) - before
        assert len(re.findall(r"^\d\d:\d\d:\d\d$", tool.stdout, re.M)) == 2
        assert tool.stdout.count("distribution") == 2
        assert 0 < count(tool.stdout) <= switches
        sleeper.done()


def test_json() -> None:
    """-j is bcc's letter for it."""
    done = osmia("cpudist", "-j", "-L", "--duration", "0.3")
    record: dict[str, Any] = json.loads(done.stdout)
    assert (record["unit"], record["section"]) == ("usecs", "tid")
    assert all(one["label"].startswith(f"{one['key']} ") for one in record["histograms"])
