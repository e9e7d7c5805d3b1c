# SPDX-License-Identifier: Apache-2.0
"""exitsnoop against processes whose end this process has waited for itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from harness import Tool, osmia
from test_runqlat import Sleeper

from osmia.tools import exitsnoop

pytestmark = pytest.mark.kernel

ROW = re.compile(r"^(.{16}) (\d+) +(\d+) +(\d+) +(\d+\.\d\d) +(.*)$")
MANY = "import os, threading, time\nfor _ in range(7): threading.Thread(target=time.sleep, args=(60,)).start()\n"
FIRST_ENDS_FIRST = """
import ctypes, os, threading, time
def work():
    time.sleep(0.3)
    os._exit(7)
threading.Thread(target=work).start()
ctypes.CDLL(None).pthread_exit(None)
"""


class Row:
    """A row of the table."""

    def __init__(self, line: str) -> None:
        found = ROW.match(line)
        assert found, line
        self.comm, self.age, self.outcome = found[1].rstrip(), float(found[5]), found[6]
        self.pid, self.ppid, self.tid = (int(found[n]) for n in (2, 3, 4))


def of(tool: Tool, pids: set[int]) -> list[Row]:
    """The rows about these processes."""
    assert tool.stdout.startswith("PCOMM            PID     PPID    TID     AGE(s)  EXIT_CODE\n")
    return [row for row in map(Row, tool.rows()) if row.pid in pids]


def end(code: int) -> int:
    """The number of a child that has ended with ``code``."""
    child = os.fork()
    if child == 0:
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
    return child


def killed(number: int) -> int:
    """The number of a child that has been killed by a signal."""
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    os.kill(child, number)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -number
    return child


def test_exit_codes() -> None:
    """29 processes end, each with a code of its own: one row each, in order."""
    tool = Tool("exitsnoop").start()
    codes = {end(code): code for code in range(29)}
    tool.stop()
    rows = of(tool, set(codes))
    assert [row.pid for row in rows] == list(codes)
    assert [row.outcome for row in rows] == ["0", *[f"code {n}" for n in range(1, 29)]]
    assert all(row.ppid == os.getpid() and row.tid == row.pid for row in rows)


def test_signals_and_failures() -> None:
    """-x leaves out what ended well."""
    tool, failures = Tool("exitsnoop").start(), Tool("exitsnoop", "-x").start()
    pids = [killed(signal.SIGKILL), end(0), killed(signal.SIGTERM), end(1), killed(signal.SIGRTMIN + 5)]
    tool.stop()
    failures.stop()
    expected = ["signal 9 (KILL)", "0", "signal 15 (TERM)", "code 1", f"signal {signal.SIGRTMIN + 5} (unknown)"]
    assert [row.outcome for row in of(tool, set(pids))] == expected
    assert [row.outcome for row in of(failures, set(pids))] == [one for one in expected if one != "0"]


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("code", "number", "core", "text"),
    [(0, 0, 0, "0"), (3, 0, 0, "code 3"), (0, 9, 0, "signal 9 (KILL)"), (0, 11, 1, "signal 11 (SEGV), core dumped")],
)
def test_outcome_in_words(code: int, number: int, core: int, text: str) -> None:
    event = exitsnoop.Exit(exit_code=code, signal=number, core_dumped=core)
    assert exitsnoop.outcome(event) == text


def test_age() -> None:
    """From its creation on, not from its exec."""
    tool = Tool("exitsnoop").start()
    began = time.monotonic()
    process = subprocess.Popen(["sh", "-c", "sleep 0.5; exec sh -c true"])
    process.wait()
    seconds = time.monotonic() - began
    tool.stop()
    (row,) = of(tool, {process.pid})
    assert row.comm == "sh" and 0.49 <= row.age <= seconds + 0.01


def test_many_threads_are_one_process() -> None:
    """Each of 11 processes with eight threads that end at once has one row, and with --per-thread eight."""
    tool, threads = Tool("exitsnoop").start(), Tool("exitsnoop", "--per-thread").start()
    pids = []
    for _ in range(11):
        process = subprocess.Popen([sys.executable, "-c", MANY + "os._exit(5)"])
        assert process.wait() == 5
        pids.append(process.pid)
    tool.stop()
    threads.stop()
    assert [(row.pid, row.outcome) for row in of(tool, set(pids))] == [(pid, "code 5") for pid in pids]
    rows = of(threads, set(pids))
    assert len(rows) == len({row.tid for row in rows}) == 8 * 11
    assert {row.outcome for row in rows} == {"code 5"} and {row.tid for row in rows} > set(pids)


@pytest.mark.anywhere
def test_what_two_threads_report_is_shown_once() -> None:
    """Threads that end at the same moment may both find that no other is left."""
    event = exitsnoop.Exit(pid=4_194_303, tid=4_194_303, start=1)
    assert [exitsnoop.keep(event) for _ in range(3)] == [True, False, False]
    assert exitsnoop.keep(exitsnoop.Exit(pid=4_194_303, tid=4_194_303, start=2))  # the number was taken again
    for number in range(2000):
        assert exitsnoop.keep(exitsnoop.Exit(pid=number, tid=number, start=3))
    assert len(exitsnoop.shown) <= 1001


def test_first_thread_ends_before_the_others() -> None:
    """The process is over when its last thread is, and it has the code of that."""
    tool = Tool("exitsnoop").start()
    process = subprocess.Popen([sys.executable, "-c", FIRST_ENDS_FIRST])
    assert process.wait() == 7
    tool.stop()
    (row,) = of(tool, {process.pid})
    assert row.outcome == "code 7" and row.age >= 0.3 and row.tid == process.pid


def test_one_process_or_name() -> None:
    with Sleeper(1, name="exitsnoop-one") as one, Sleeper(1, name="exitsnoop-two") as two:
        by_pid = Tool("exitsnoop", "-p", str(one.pid)).start()
        by_name = Tool("exitsnoop", "-n", "snoop-two", "--json").start()
        pids = one.pid, two.pid
    by_pid.stop()
    by_name.stop()
    assert [row.pid for row in map(Row, by_pid.rows())] == [pids[0]]
    (record,) = by_name.records()
    assert (record["pid"], record["comm"], record["exit_code"], record["signal"]) == (pids[1], "exitsnoop-two", 0, 0)
    assert record["age"] == pytest.approx((record["ts"] - record["start"]) / 1e9)


def test_command_and_its_children() -> None:
    done = osmia("exitsnoop", "-c", "sh -c 'sh -c \"exit 3\"; exit 4'")
    assert sorted(Row(line).outcome for line in done.stdout.splitlines()[1:]) == ["code 3", "code 4"]


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "heading", "row"),
    [
        (["-t"], rf"TIME-{time.strftime('%Z')} +PCOMM", r"\d\d:\d\d:\d\d\.\d{3} +\S"),
        (["--utc"], r"TIME-UTC +PCOMM", r"\d\d:\d\d:\d\d\.\d{3} +\S"),
        (["--label", "x"], r"LABEL PCOMM", r"x     \S"),
        (["--label="], r"LABEL PCOMM", r"exit  \S"),
        (["-t", "--utc", "--label=end"], r"TIME-UTC +LABEL PCOMM", r"\d\d:\d\d:\d\d\.\d{3} +end   \S"),
    ],
)
def test_what_is_in_front(words: list[str], heading: str, row: str) -> None:
    tool = Tool("exitsnoop", *words).start()
    end(0)
    tool.stop()
    assert re.match(heading, tool.stdout) and re.match(row, tool.stdout.splitlines()[1])
