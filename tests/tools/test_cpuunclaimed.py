# SPDX-License-Identifier: Apache-2.0
"""cpuunclaimed against processes that all want one CPU: whatever the others do, what is idle there is unclaimed."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import Any

import pytest
from harness import Tool, osmia
from test_runqlen import CPU, SPINNERS, spinners

from osmia import machine
from osmia.cli.unclaimed import Sums
from osmia.kernel import cpus
from osmia.lang.unclaimed import QUEUED, RUNNING, SKEWED
from osmia.tools import cpuunclaimed

LINE = re.compile(r"^%CPU ([ \d.]{6})%, unclaimed idle ([\d.]+)%(?: \((\d+) of (\d+) rounds incomplete\))?$")

AS_THEY_COME = "samples are shown as they come, and not in intervals; leave the interval, or -j and -J, out"


@pytest.mark.kernel
def test_what_is_idle_is_unclaimed(record_property: Any) -> None:
    """Six processes or more wait for one CPU all the time, so that every other one could have one of them."""
    record_property("row", "tool:cpuunclaimed")
    with spinners():
        tool = Tool("cpuunclaimed", "1", "2").start().wait()
        records = Tool("cpuunclaimed", "--json", "1", "1").start().wait().records()
    assert tool.status == 0 and tool.stderr == ""
    banner, *lines = tool.stdout.splitlines()
    assert banner == "Sampling run queues... Output every 1 seconds. Hit Ctrl-C to end." and len(lines) == 2
    found = [LINE.match(line) for line in lines]
    assert all(found), tool.stdout
    shares = [(float(one[1]), float(one[2])) for one in found if one]
    shares += [(one["cpu"], one["unclaimed"]) for one in records]
    number = len(cpus.online())
    for running, unclaimed in shares:
        assert running >= 100 / number - 0.01
        if number < SPINNERS:
            assert running + unclaimed == pytest.approx(100, abs=0.02)
    assert all(one["rounds"] + one["skewed"] > 30 for one in records)


@pytest.mark.kernel
def test_samples_themselves() -> None:
    """-J: a line for each round, with the queues and how far apart their samples are."""
    online = cpus.online()
    with spinners():
        tool = Tool("cpuunclaimed", "-JT", "-d", "1.5").start().wait()
    head, *rows = csv.reader(tool.stdout.splitlines())
    assert head == ["TIME", "TIMESTAMP_ns", *[f"CPU{n}" for n in online], *[f"OFFSET_ns_CPU{n}" for n in online]]
    assert len(rows) > 60 and all(len(row) == len(head) for row in rows)
    records = [dict(zip(head, row, strict=True)) for row in rows]
    lengths = [int(one[f"CPU{CPU}"]) for one in records if one[f"CPU{CPU}"] != "-1"]
    assert len(lengths) > 30 and min(lengths) >= SPINNERS
    times = [int(one["TIMESTAMP_ns"]) for one in records]
    assert times == sorted(times)
    for one in records:
        offsets = [int(one[f"OFFSET_ns_CPU{n}"]) for n in online]
        assert 0 in offsets and max(offsets) < 1e9 / 99


@pytest.mark.kernel
def test_samples_as_csv_and_json() -> None:
    tool = Tool("cpuunclaimed", "-j", "-d", "0.6").start().wait()
    online = cpus.online()
    head, *rows = tool.stdout.splitlines()
    assert head == ",".join(["TIMESTAMP_ns", *[f"CPU{n}" for n in online]])
    assert len(rows) > 10 and all(re.fullmatch(rf"\d+(,-?\d+){{{len(online)}}}", row) for row in rows)


@pytest.mark.kernel
def test_time_of_summaries() -> None:
    done = osmia("cpuunclaimed", "-T", "0.5", "1")
    assert re.search(r"^\d\d:\d\d:\d\d %CPU ", done.stdout, re.M)


@pytest.mark.kernel
@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-j", "1"], AS_THEY_COME),
        (["-J", "-i", "1"], AS_THEY_COME),
        (["-p", "1"], "unknown option -p; see osmia cpuunclaimed --help"),
        (["x"], "interval: 'x' is not a number of seconds"),
    ],
)
def test_mistakes(words: list[str], text: str) -> None:
    done = osmia("cpuunclaimed", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"osmia: cpuunclaimed: {text}\n")


# --- the arithmetic -----------------------------------------------------------------------------------------------


def packed(*lengths: int, late: int = 0) -> int:
    """A round whose queues have these lengths."""
    return sum(1 + RUNNING + (n - 1) * QUEUED if n else 1 for n in lengths) + late * SKEWED


@pytest.mark.parametrize(
    ("rounds", "running", "unclaimed"),
    [
        ([(1, 1, 1, 1)], 100.0, 0.0),
        ([(0, 0, 0, 0)], 0.0, 0.0),
        ([(8, 0, 0, 0)], 25.0, 75.0),  # more wait than there are idle CPUs
        ([(2, 0, 0, 0)], 25.0, 25.0),  # and less
        ([(1, 0, 0, 0), (3, 0, 1, 0)], 37.5, 25.0),
    ],
)
def test_shares(rounds: list[tuple[int, ...]], running: float, unclaimed: float) -> None:
    sums = Sums([packed(*lengths) for lengths in rounds], 4)
    assert (sums.percent(sums.running), sums.percent(sums.unclaimed)) == (running, unclaimed)
    assert (sums.rounds, sums.skewed) == (len(rounds), 0)


def test_rounds_that_say_nothing_are_left_out() -> None:
    sums = Sums([packed(1, 0), packed(8), packed(8, 0, late=1), packed(1, 1, 0)], 2)
    assert (sums.rounds, sums.skewed, sums.percent(sums.running), sums.unclaimed) == (1, 3, 50.0, 0)
    assert Sums([], 2).percent(0) == 0.0


# --- the kernel half as plain Python ------------------------------------------------------------------------------

PERIOD = cpuunclaimed.PERIOD


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Take samples: at a time, of the queue's length."""
    length = 0
    monkeypatch.setattr(cpuunclaimed, "waiting_here", lambda: max(0, length - 1))

    def take(at: int, number: int, cpu: int = 0) -> None:
        nonlocal length
        machine.ktime, machine.cpu, length = 10**12 + at, cpu, number
        machine.pid = machine.tgid = 17 if number else 0
        cpuunclaimed.sample(None)

    cpuunclaimed.begin.value = 0
    yield take
    cpuunclaimed.begin.value = 0
    cpuunclaimed.csv.value = False
    for table in (cpuunclaimed.rounds, cpuunclaimed.samples):
        table.clear()
    machine.ktime = machine.cpu = machine.pid = machine.tgid = 0


def test_samples_of_a_period_are_a_round(take: Any) -> None:
    for number in range(3):
        for cpu, length in enumerate((0, 1, 1 + number)):
            take(number * PERIOD + cpu * 1_000_000, length, cpu)
    assert dict(cpuunclaimed.rounds.items()) == {n: packed(0, 1, 1 + n) for n in range(3)}


def test_rounds_begin_with_the_earliest_cpu(take: Any) -> None:
    """The first sample of all was late: some rounds later they are whole again."""
    take(3_000_000, 1, 0)
    for number in range(1, 6):
        for cpu in (0, 1):
            take(number * PERIOD + cpu * 20_000, 1, cpu)
    sums = Sums(list(dict(cpuunclaimed.rounds.items()).values()), 2)
    assert sums.rounds == 4 and sums.skewed <= 2


def test_one_late_sample_spoils_its_round_only(take: Any) -> None:
    for number in range(6):
        for cpu in (0, 1):
            take(number * PERIOD + cpu * 20_000 + (7_000_000 if (number, cpu) == (2, 1) else 0), 1, cpu)
    sums = Sums(list(dict(cpuunclaimed.rounds.items()).values()), 2)
    assert sums.rounds >= 4 and sums.rounds + sums.skewed <= 7


def test_cpus_that_are_always_far_apart(take: Any) -> None:
    """No round of them is used, whichever CPU is thought to be the first."""
    for number in range(20):
        for cpu in range(4):
            take(number * PERIOD + cpu * PERIOD // 4, 1, cpu)
    sums = Sums(list(dict(cpuunclaimed.rounds.items()).values()), 4)
    assert sums.rounds == 0 and sums.skewed > 10


def test_samples_are_kept_one_by_one(take: Any) -> None:
    cpuunclaimed.csv.value = True
    take(0, 3, 0)
    take(9000, 0, 1)
    kept = {key: (one.ts - 10**12, one.length) for key, one in cpuunclaimed.samples.items()}
    assert kept == {(0, 0): (0, 3), (0, 1): (9000, 0)} and len(cpuunclaimed.rounds) == 0
