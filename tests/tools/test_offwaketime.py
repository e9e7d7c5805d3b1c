# SPDX-License-Identifier: Apache-2.0
"""offwaketime against a program that is woken by another one, both through known functions."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from harness import Tool, osmia, workload
from wakes import DOZE, KNOCK, Wakes, counted, involuntary

pytestmark = pytest.mark.kernel


def names(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["name"] for frame in frames]


def asleep(tool: Tool) -> list[dict[str, Any]]:
    """The rows of a sleep that the other program has ended."""
    return [row for row in tool.records() if row.get("wcomm") == "wakes" and "knock" in names(row["wuser"])]


def test_both_sides_of_ten_sleeps() -> None:
    with Wakes() as wakes:
        tool = Tool("offwaketime", "--json", "-p", wakes.sleeper).start()
        least, most = wakes.wake(10, 50_000)
        tool.stop()
    assert tool.status == 0, tool.stderr
    (row,) = asleep(tool)
    assert counted(least, row["count"], most, tool.stderr) and row["unit"] == "us"
    assert (row["comm"], row["pid"], row["tid"]) == ("sleepy", int(wakes.sleeper), int(wakes.sleeper))
    assert (row["wcomm"], row["wpid"], row["wtid"]) == ("wakes", int(wakes.waker), int(wakes.waker))
    assert names(row["user"])[:3] == DOZE and names(row["wuser"])[:3] == KNOCK
    assert names(row["kernel"])[0] == "__schedule" and any(name.endswith("pipe_read") for name in names(row["kernel"]))
    assert names(row["wkernel"])[0] == "try_to_wake_up"
    assert any(name.endswith("pipe_write") for name in names(row["wkernel"]))
    assert row["cut"] == []
    others = [other for other in tool.records() if "comm" in other and other is not row]
    assert all(other["pid"] == int(wakes.sleeper) for other in others)


def test_folded() -> None:
    """One line, from the root of the one that slept to the root of the one that woke it."""
    with Wakes() as wakes:
        tool = Tool("offwaketime", "-f", "-p", wakes.sleeper).start()
        least, most = wakes.wake(7, 30_000)
        tool.stop()
    lines = [line.rpartition(" ") for line in tool.stdout.splitlines() if ";knock;" in line]
    assert len(lines) == 1, tool.stdout
    stack, _, usecs = lines[0]
    assert counted(least, int(usecs), most, tool.stderr), tool.stdout + tool.stderr
    slept, _, woke = stack.partition(";--;")
    frames = slept.split(";")
    assert frames[0] == "sleepy" and ";main;rest;doze;" in slept and frames[-1] == "__schedule"
    frames = woke.split(";")
    assert frames[0] == "try_to_wake_up" and ";knock;reach;main;" in woke and frames[-1] == "wakes"


def test_text_and_one_kind_of_stacks() -> None:
    with Wakes() as wakes:
        text = Tool("offwaketime", "-p", wakes.sleeper, "-U").start()
        kernel = Tool("offwaketime", "--json", "-t", wakes.sleeper, "-K").start()
        least, most = wakes.wake(5, 20_000)
        text.stop()
        kernel.stop()
    banner, _, rest = text.stdout.partition("\n")
    assert banner == (
        f"Tracing blocked time (us) by user off-CPU and waker stack of PID {wakes.sleeper}... Hit Ctrl-C to end."
    )
    blocks = [block.split("\n") for block in rest.strip("\n").split("\n\n")]
    (block,) = [block for block in blocks if "    knock" in block]
    assert block[0] == f"    {'waker:':<16} wakes ({wakes.waker})"  # then its stack, root first
    at = block.index("    --               --")
    assert block[at - 3 : at] == ["    main", "    reach", "    knock"]
    assert block[at + 1 : at + 4] == ["    doze", "    rest", "    main"]
    assert block[-2] == f"    {'target:':<16} sleepy ({wakes.sleeper})"
    assert counted(least, int(block[-1]), most, text.stderr)
    rows = [row for row in kernel.records() if row.get("wcomm") == "wakes"]
    assert counted(least, sum(row["count"] for row in rows), most, kernel.stderr)
    assert all(row["user"] == [] == row["wuser"] and row["kernel"] and row["wkernel"] for row in rows)


def test_a_sleep_that_nobody_ends_early() -> None:
    """A timer wakes it, in an interrupt of whoever runs then: the kernel's stack says so."""
    process = subprocess.Popen([workload("naps")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    assert process.stdin and process.stdout
    tool = Tool("offwaketime", "--json", "-p", f"{process.pid},{os.getpid()}").start()  # the test waits for its answer
    preempted = involuntary(str(process.pid))
    process.stdin.write("3 20000\n")
    process.stdin.flush()
    assert process.stdout.readline()
    preempted = involuntary(str(process.pid)) - preempted
    tool.stop()
    process.communicate()
    rows = [row for row in tool.records() if any("nanosleep" in name for name in names(row.get("kernel", [])))
            and row["pid"] == process.pid]  # fmt: skip
    woken = [row for row in rows if "hrtimer_wakeup" in names(row["wkernel"])]
    assert sum(row["count"] for row in woken) >= 20_000 * (3 - preempted)
    assert all(names(row["user"])[:2] == ["inner", "middle"] for row in woken)
    assert {row["pid"] for row in tool.records() if "pid" in row} == {process.pid, os.getpid()}


def test_a_turn_that_was_lost_has_no_waker() -> None:
    """Two that compute on one CPU take turns, and nobody wakes them."""
    work = "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\ninput()\nwhile 1: pass"
    command = [sys.executable, "-S", "-E", "-c", work]
    pair = [subprocess.Popen(command, stdin=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        tool = Tool("offwaketime", "-f", "-p", str(pair[0].pid), "--state", "0").start()
        for process in pair:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        time.sleep(1)
        tool.stop()
    finally:
        for process in pair:
            process.kill()
            process.communicate()
    stacks = [line.rpartition(" ")[0] for line in tool.stdout.splitlines()]
    assert any(stack.endswith(";--;[not woken]") for stack in stacks), tool.stdout


def test_short_times_are_left_out() -> None:
    with Wakes() as wakes:
        tool = Tool("offwaketime", "--json", "-p", wakes.sleeper, "-m", "400000").start()
        wakes.wake(5, 1000)
        least, _ = wakes.wake(2, 500_000)
        tool.stop()
    assert sum(row["count"] for row in asleep(tool)) >= 0.98 * least


def test_a_picture(tmp_path: Path) -> None:
    svg = tmp_path / "wakes.svg"
    with Wakes() as wakes:
        tool = Tool("offwaketime", "-p", wakes.sleeper, "--svg", str(svg)).start()
        wakes.wake(3, 20_000)
        tool.stop()
    text = svg.read_text(encoding="utf-8")
    assert all(name in text for name in ("sleepy", "wakes", *DOZE, *KNOCK))


@pytest.mark.anywhere
def test_what_does_not_go_together() -> None:
    for words, says in ((["-U", "-K"], "-U and -K exclude"), (["-u", "-k"], "-u and -k exclude")):
        done = osmia("offwaketime", *words)
        assert done.returncode and says in done.stderr
