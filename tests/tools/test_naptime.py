# SPDX-License-Identifier: Apache-2.0
"""naptime against programs whose naps are known."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Told, Tool, eventually, workload
from patience import patient

pytestmark = pytest.mark.kernel

ROW = re.compile(r"^(\d\d:\d\d:\d\d) +(\d+) +(.{16}) (\d+) +(.{16}) (\S+)$")
#: Sleeps as a line says: "CLOCK FLAGS NS", with flag 1 until NS after now; answers with the result and the time.
PROGRAM = """
import ctypes, signal, sys, time
libc = ctypes.CDLL(None)
signal.signal(signal.SIGUSR1, lambda *_: None)
class Time(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("ns", ctypes.c_long)]
for line in sys.stdin:
    clock, flags, ns = map(int, line.split())
    start = time.monotonic()
    until = ns + (time.clock_gettime_ns(clock) if flags else 0)
    result = libc.clock_nanosleep(clock, flags, ctypes.byref(Time(until // 10**9, until % 10**9)), None)
    print(result, time.monotonic() - start, flush=True)
"""
ME = str(os.getpid())


@pytest.fixture
def sleeper() -> Iterator[Told]:
    with Told(sys.executable, "-c", PROGRAM) as program:
        assert program.tell("1 0 0").startswith("0 ")  # it is ready
        yield program


def rows(tool: Tool) -> list[tuple[str, str, str, str, str]]:
    """PPID, PCOMM, PID, COMM and SECONDS of all rows."""
    assert tool.status == 0 and tool.stderr == ""
    assert tool.stdout.splitlines()[0] == "Tracing sleeps. Hit Ctrl-C to end."
    assert tool.rows()[0].split() == ["TIME", "PPID", "PCOMM", "PID", "COMM", "SECONDS"]
    found = [ROW.match(line) for line in tool.rows()[1:]]
    assert all(found), tool.stdout
    return [(row[2], row[3].rstrip(), row[4], row[5].rstrip(), row[6]) for row in found if row]


def test_every_nap_has_a_row_with_what_was_asked_for() -> None:
    """nanosleep() itself; in order, with who started the program."""
    comm = Path(f"/proc/{ME}/comm").read_text().strip()
    with Told(workload("naps")) as program:
        tool = Tool("naptime", "-p", program.pid).start()
        for line in ("7 1500", "5 250", "1 130000"):
            program.tell(line)
        found = rows(tool.stop())
    assert [row[4] for row in found] == ["0.002"] * 7 + ["0.000250"] * 5 + ["0.130"]
    assert {row[:4] for row in found} == {(ME, comm, program.pid, "naps")}


@pytest.mark.parametrize("clock", [time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME, time.CLOCK_TAI])
@pytest.mark.parametrize("absolute", [0, 1])
def test_clocks(sleeper: Told, clock: int, absolute: int) -> None:
    """A time at which to wake up is as good as a length; it was asked for before the kernel heard of it."""
    tool = Tool("naptime", "--json", "-p", sleeper.pid).start()
    result, lasted = sleeper.tell(f"{clock} {absolute} 70000000").split()
    (record,) = tool.stop().records()
    assert result == "0" and (record["ret"], record["clock"], record["flags"]) == (0, clock, absolute)
    if absolute:
        early = 0.070 - record["seconds"]
        assert -patient(0.02) < early < float(lasted)
    else:
        assert record["seconds"] == 0.07 and record["requested"] == 70_000_000
    assert record["seconds"] - 0.001 <= record["took"] <= float(lasted)


def test_a_time_that_is_over(sleeper: Told) -> None:
    tool = Tool("naptime", "-p", sleeper.pid).start()
    sleeper.tell("1 1 -5000000")
    assert [row[4] for row in rows(tool.stop())] == ["0.000"]


def test_zero(sleeper: Told) -> None:
    tool = Tool("naptime", "-p", sleeper.pid).start()
    sleeper.tell("1 0 0")
    assert [row[4] for row in rows(tool.stop())] == ["0.000"]


def test_sleeps_that_a_signal_ended_and_mistakes(sleeper: Told) -> None:
    """Only with -a, with what they returned."""
    every, usual = Tool("naptime", "-a", "-p", sleeper.pid).start(), Tool("naptime", "-p", sleeper.pid).start()
    assert sleeper.process.stdin
    sleeper.process.stdin.write("1 0 500000000000\n")
    sleeper.process.stdin.flush()
    assert eventually(lambda: "nanosleep" in Path(f"/proc/{sleeper.pid}/wchan").read_text())
    os.kill(int(sleeper.pid), signal.SIGUSR1)
    assert sleeper.process.stdout and sleeper.process.stdout.readline().startswith("4 ")  # EINTR
    sleeper.tell("1 0 13000000")
    sleeper.tell("77 0 17000000")  # no such clock
    assert [row[4] for row in rows(usual.stop())] == ["0.013"]
    every.stop()
    assert every.rows()[0].split()[-2:] == ["SECONDS", "RESULT"]
    found = [line.split()[-2:] for line in every.rows()[1:]]
    assert found == [["500.000", "-516"], ["0.013", "0"], ["0.017", "-22"]]


def test_how_long_it_took(sleeper: Told) -> None:
    tool = Tool("naptime", "--took", "-p", sleeper.pid).start()
    sleeper.tell("1 0 40000000")
    tool.stop()
    assert tool.rows()[0].split()[-2:] == ["SECONDS", "TOOK"]
    seconds, took = tool.rows()[1].split()[-2:]
    assert seconds == "0.040" and float(took) >= 0.04


@pytest.mark.parametrize(
    ("words", "count"),
    [(["-n", "naps"], 11), (["-n", "nobody"], 0), (["--uid", str(os.getuid())], 11), (["--uid", "54321"], 0),
     (["-p", ME], 0)],
)  # fmt: skip
def test_filters(words: list[str], count: int) -> None:
    with Told(workload("naps")) as program:
        tool = Tool("naptime", *words).start()
        program.tell("11 1000")
        found = rows(tool.stop())
    assert len([row for row in found if row[2] == program.pid]) == count
