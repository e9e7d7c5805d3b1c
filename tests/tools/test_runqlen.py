# SPDX-License-Identifier: Apache-2.0
"""runqlen against a CPU on which a known number of processes want to run all the time.

Others may want that CPU, too, so a queue can be longer than the test makes
it, never shorter; on an otherwise quiet machine it is exactly as long.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import Tool, eventually, osmia, workload
from test_filters import cgroup
from test_runqlat import involuntary

pytestmark = pytest.mark.kernel

SPINNERS = 7
CPU = max(os.sched_getaffinity(0))


@contextmanager
def spinners(number: int = SPINNERS) -> Iterator[list[int]]:
    """Processes that compute without a pause, all of them on one CPU."""
    found = [
        subprocess.Popen(["taskset", "-c", str(CPU), workload("sleeper"), "1", "0", "60000000"], stdin=subprocess.PIPE)
        for _ in range(number)
    ]
    try:
        for one in found:
            assert one.stdin
            one.stdin.write(b"\n")
            one.stdin.flush()
        # Who was preempted computes: it will not sleep before the minute is over.
        assert eventually(lambda: all(involuntary(one.pid) > 2 for one in found), 20)
        yield [one.pid for one in found]
    finally:
        for one in found:
            one.kill()
            one.communicate()


def lengths(text: str) -> dict[int, dict[int, int]]:
    """By CPU (-1 where the CPUs are together): how many samples found a queue of which length."""
    out: dict[int, dict[int, int]] = {}
    for part in re.split(r"^cpu = ", "-1\n" + text, flags=re.M):
        cpu = int(part.split("\n", 1)[0])
        found = {int(length): int(n) for length, n in re.findall(r"^\s*(\d+)\s+: (\d+)\s*\|", part, re.M)}
        if found:
            out[cpu] = {length: n for length, n in found.items() if n}
    return out


def running() -> int:
    """How many threads the kernel counts on the run queues of all CPUs."""
    return int(Path("/proc/loadavg").read_text().split()[3].split("/")[0])


def exact(*words: str) -> dict[int, dict[int, int]]:
    """What ``runqlen -C`` says of a second of SPINNERS on one CPU: exactly that many, if others let it."""
    for _ in range(3):
        tool = Tool("runqlen", "-C", *words, "1", "1").start()
        most = 0
        while tool.process is not None and tool.process.poll() is None:
            most = max(most, running())
            time.sleep(0.02)
        tool.wait()
        assert tool.status == 0 and tool.stderr == ""
        found = lengths(tool.stdout)
        # One of them runs, the others wait; the queues of all CPUs together are the kernel's own count.
        shortest = min(found[CPU])
        assert SPINNERS - 1 <= shortest < most, found
        if shortest == SPINNERS - 1:
            break
    return found


def test_queue_of_one_cpu() -> None:
    """99 samples a second on each CPU, and none of them finds less than is there."""
    with spinners():
        found = exact()
    assert sorted(found) == sorted(os.sched_getaffinity(0)) or os.cpu_count() != len(os.sched_getaffinity(0))
    assert 50 < sum(found[CPU].values()) < 150


def test_frequency() -> None:
    with spinners():
        found = exact("-f", "499")
    assert sum(found[CPU].values()) > 200


def test_cgroups_share_a_queue() -> None:
    """Each half of the processes in a cgroup of its own: the CPU's queue holds all of them."""
    names = [f"osmia-runqlen-{half}-{os.getpid()}" for half in "ab"]
    with cgroup(names[0]) as one, cgroup(names[1]) as other, spinners() as pids:
        for number, pid in enumerate(pids):
            ((one, other)[number % 2] / "cgroup.procs").write_text(str(pid))
        exact()


def test_all_cpus_together() -> None:
    """Without -C the samples of all CPUs are in one histogram."""
    with spinners():
        tool = Tool("runqlen", "-T", "1", "2").start().wait()
    assert tool.stdout.startswith("Sampling run queue length... Hit Ctrl-C to end.\n\n")
    assert len(re.findall(r"^\d\d:\d\d:\d\d\n     runqlen       : count     distribution$", tool.stdout, re.M)) == 2
    for text in tool.stdout.split("distribution")[1:]:
        found = lengths(text)[-1]
        assert sum(n for length, n in found.items() if length >= SPINNERS - 1) >= 50
        assert sum(found.values()) >= 50 * len(os.sched_getaffinity(0))


def test_occupancy() -> None:
    """-O: a CPU on which something always waits is occupied all the time; together they are as their mean."""
    with spinners():
        by_cpu = Tool("runqlen", "-OC", "1", "1").start().wait().stdout
        together = Tool("runqlen", "-O", "1", "1").start().wait().stdout
    found = {int(cpu): float(n) for cpu, n in re.findall(r"^runqocc, CPU (\d+) +([\d.]+)%$", by_cpu, re.M)}
    assert found[CPU] == 100.0 and all(0 <= n <= 100 for n in found.values())
    assert re.search(rf"^runqocc, CPU {CPU:<3} 100\.00%$", by_cpu, re.M)
    whole = re.search(r"^runqocc: (\d+\.\d\d)%$", together, re.M)
    assert whole and 90 / len(found) <= float(whole[1]) <= 100


def test_json_has_the_cpus() -> None:
    tool = Tool("runqlen", "-OC", "--json", "0.5", "1").start().wait()
    (record,) = tool.records()
    assert (record["unit"], record["section"]) == ("runqlen", "cpu")
    assert {one["key"] for one in record["histograms"]} <= set(range(os.cpu_count() or 1))
    assert all(one["count"] == sum(bucket["count"] for bucket in one["buckets"]) for one in record["histograms"])


@pytest.mark.anywhere
@pytest.mark.parametrize("word", ["0", "x", "10001", "-1"])
def test_impossible_frequencies(word: str) -> None:
    done = osmia("runqlen", "-f", word)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (f"osmia: runqlen: option -f: {word!r} is not a frequency: 1 to 10000 samples a second\n")


@pytest.mark.anywhere
def test_it_traces_nobody_in_particular() -> None:
    done = osmia("runqlen", "-p", "1")
    assert (done.returncode, done.stderr) == (2, "osmia: runqlen: unknown option -p; see osmia runqlen --help\n")
