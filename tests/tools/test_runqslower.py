# SPDX-License-Identifier: Apache-2.0
"""runqslower against pinned processes whose waits the scheduler itself has counted and timed.

What a sandbox may hide is said in ``test_runqlat.py``: there are never more
waits than the scheduler's, and all of them are seen in one of some attempts.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from harness import Tool, osmia
from patience import patient
from test_runqlat import ATTEMPTS, Sleeper

pytestmark = pytest.mark.kernel

ROW = re.compile(r"^(\d\d:\d\d:\d\d) (.{16}) (\d+) +(\d+)$")
WITH_PREVIOUS = re.compile(r"^\d\d:\d\d:\d\d (.{16}) (\d+) +(\d+) (.{16}) (\d+)$")
ROUNDS = 97


def waited(pid: int) -> int:
    """Microseconds that a process has waited for a CPU, as the scheduler has it."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) // 1000


def latencies(tool: Tool) -> list[int]:
    """Those of all rows, which have the form that they should have."""
    found = [ROW.match(line) for line in tool.rows()]
    assert all(found), tool.stdout
    return [int(row[4]) for row in found if row]


class Contest:
    """A victim that sleeps often, and one that spins on the same CPU: what tools said of the victim, and the truth.

    ``rival`` is another process than the one that spins.
    """

    def __init__(self, *runs: list[str], rival: Sleeper | None = None) -> None:
        with Sleeper(ROUNDS, 500, 300) as victim, rival or Sleeper(1, 0, 400_000) as spinner:
            self.victim, self.spinner = victim.pid, spinner.pid
            self.tools = [Tool("runqslower", *words, "-p", str(victim.pid)).start() for words in runs]
            turns, usecs = victim.turns(), waited(victim.pid)
            spinner.go()
            victim.go()
            victim.done()
            self.turns, self.usecs = victim.turns() - turns, waited(victim.pid) - usecs
            spinner.done()
            for tool in self.tools:
                tool.stop()
                assert tool.status == 0 and tool.stderr == ""


def test_waits_are_the_schedulers_own() -> None:
    """0 shows all of them: as many as there were turns, and together as long as the scheduler says."""
    for _ in range(ATTEMPTS):
        contest = Contest(["0"])
        found = latencies(contest.tools[0])
        # A wait begins some instructions before the tracepoint, and is cut to microseconds.
        assert len(found) <= contest.turns
        assert sum(found) <= contest.usecs * 1.1 + patient(10) * contest.turns
        if len(found) == contest.turns:
            break
    assert len(found) == contest.turns >= ROUNDS, f"{len(found)} of {contest.turns}, also in {ATTEMPTS} attempts"
    assert sum(found) >= 0.9 * contest.usecs - 50 * contest.turns
    assert re.match(r"TIME     COMM             TID           LAT\(us\)\n", contest.tools[0].stdout)


def test_only_waits_above_the_limit() -> None:
    """Two runs at the same time, one with a limit: it has those of the other that are longer."""
    real_time = Sleeper(40, 3000, 2000, prefix=["chrt", "-f", "50"])  # 2 ms at a time that nobody can interrupt
    all_of_them, long_ones = Contest(["0"], ["300"], rival=real_time).tools
    every, some = latencies(all_of_them), latencies(long_ones)
    assert some and all(n > 300 for n in some)
    # Each has its own clock reading, some microseconds apart.
    assert sum(n > 400 for n in every) <= len(some) + 2 and len(some) <= sum(n > 200 for n in every) + 2


def test_ten_milliseconds_by_default() -> None:
    """A real-time process has the CPU for 25 ms at a time, and a normal one waits as long."""
    with Sleeper(1, 0, 300_000) as victim, Sleeper(11, 5000, 25_000, prefix=["chrt", "-f", "50"]) as other:
        tool = Tool("runqslower", "-p", str(victim.pid)).start()
        other.go()
        victim.go()
        victim.done()
        other.done()
        tool.stop()
    found = latencies(tool)
    assert all(n > 10_000 for n in found) and any(n > 20_000 for n in found)


def test_who_had_the_cpu_before() -> None:
    """-P: it is the spinner that was waited for."""
    contest = Contest(["0", "-P"])
    (tool,) = contest.tools
    rows = [WITH_PREVIOUS.match(line) for line in tool.rows()]
    assert rows and all(rows)
    assert tool.stdout.startswith("TIME     COMM             TID           LAT(us) PREV COMM        PREV TID\n")
    before = [int(row[5]) for row in rows if row]
    assert contest.victim not in before and contest.spinner in before
    assert {row[4].strip() for row in rows if row and int(row[5]) == contest.spinner} == {"sleeper"}


@pytest.mark.parametrize("option", ["-t", "--tid", "-p"])
def test_one_thread_or_process(option: str) -> None:
    with Sleeper(31) as one, Sleeper(31) as other:
        tool = Tool("runqslower", "0", option, str(one.pid)).start()
        before = one.turns()
        one.go()
        other.go()
        one.done()
        other.done()
        turns = one.turns() - before
        tool.stop()
    tids = [row[3] for row in map(ROW.match, tool.rows()) if row]
    assert set(tids) == {str(one.pid)} and 10 <= len(tids) <= turns


def test_name_and_json() -> None:
    with Sleeper(31, name="runqslower-one") as one, Sleeper(31) as other:
        tool = Tool("runqslower", "0", "-n", "slower-one", "--json").start()
        one.go()
        other.go()
        one.done()
        other.done()
        tool.stop()
    records = tool.records()
    assert len(records) >= 10
    whose = {(record["pid"], record["tid"], record["comm"]) for record in records}
    assert whose == {(one.pid, one.pid, "runqslower-one")}
    assert all(record["prev_tid"] != one.pid for record in records)


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["x"], "runqslower: min_us: 'x' is not a whole number of microseconds"),
        (["1.5"], "runqslower: min_us: '1.5' is not a whole number of microseconds"),
        (["1", "2"], "runqslower: unexpected argument '2'; see osmia runqslower --help"),
        (["-t", "0"], "runqslower: option -t: '0' is no thread id"),
    ],
)
def test_mistakes(words: list[str], text: str) -> None:
    done = osmia("runqslower", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"osmia: {text}\n")
