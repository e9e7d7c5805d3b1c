# SPDX-License-Identifier: Apache-2.0
"""wakeuptime against a program that is woken by another one."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from harness import Tool, osmia, workload
from wakes import Wakes, counted, involuntary

pytestmark = pytest.mark.kernel

PF_KTHREAD = 0x00200000


def names(row: dict[str, Any]) -> list[str]:
    return [frame["name"] for frame in row.get("kernel", [])]


def of_the_kernel(row: dict[str, Any]) -> bool | None:
    """Whether the thread that was woken is one of the kernel; None if it is gone."""
    with suppress(OSError):
        words = Path(f"/proc/{row['pid']}/task/{row['tid']}/stat").read_text().rpartition(")")[2].split()
        return bool(int(words[6]) & PF_KTHREAD)
    return None


def test_ten_sleeps_and_their_end() -> None:
    with Wakes() as wakes:
        tool = Tool("wakeuptime", "--json", "-p", wakes.sleeper).start()
        least, most = wakes.wake(10, 50_000)
        tool.stop()
    assert tool.status == 0, tool.stderr
    rows = [row for row in tool.records() if "comm" in row]
    (row,) = [row for row in rows if any(name.endswith("pipe_write") for name in names(row))]
    assert counted(least, row["count"], most, tool.stderr) and row["unit"] == "us"
    assert (row["comm"], row["pid"], row["tid"]) == ("sleepy", int(wakes.sleeper), int(wakes.sleeper))
    assert (row["wcomm"], row["wpid"], row["wtid"]) == ("wakes", int(wakes.waker), int(wakes.waker))
    assert names(row)[0] == "try_to_wake_up" and "ksys_write" in names(row) and row["cut"] == []
    assert {other["pid"] for other in rows} == {int(wakes.sleeper)}


def test_text_and_folded() -> None:
    with Wakes() as wakes:
        text = Tool("wakeuptime", "-p", wakes.sleeper).start()
        folded = Tool("wakeuptime", "-f", "-p", wakes.sleeper).start()
        least, most = wakes.wake(5, 20_000)
        text.stop()
        folded.stop()
    banner, _, rest = text.stdout.partition("\n")
    assert banner == (
        f"Tracing blocked time (us) of PID {wakes.sleeper} by kernel stack of the waker... Hit Ctrl-C to end."
    )
    blocks = [block.split("\n") for block in rest.strip("\n").split("\n\n")]
    (block,) = [block for block in blocks if "    ksys_write" in block]
    assert block[0] == f"    {'target:':<16} sleepy ({wakes.sleeper})" and block[1] == "    try_to_wake_up"
    assert block[-2] == f"    {'waker:':<16} wakes ({wakes.waker})"
    assert counted(least, int(block[-1]), most, text.stderr)
    lines = [line.rpartition(" ") for line in folded.stdout.splitlines() if ";ksys_write;" in line]
    ((stack, _, usecs),) = lines
    frames = stack.split(";")
    assert frames[0] == "wakes" and frames[-2:] == ["try_to_wake_up", "sleepy"]
    assert counted(least, int(usecs), most, folded.stderr)


def test_a_timer_wakes() -> None:
    process = subprocess.Popen([workload("naps")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    tool = Tool("wakeuptime", "--json", "-p", str(process.pid)).start()
    assert process.stdin and process.stdout
    before, preempted = time.monotonic_ns(), involuntary(str(process.pid))
    process.stdin.write("7 30000\n")
    process.stdin.flush()
    assert process.stdout.readline()
    took, preempted = (time.monotonic_ns() - before) // 1000, involuntary(str(process.pid)) - preempted
    tool.stop()
    process.communicate()
    rows = [row for row in tool.records() if "hrtimer_wakeup" in names(row)]
    assert 30_000 * (7 - preempted) <= sum(row["count"] for row in rows) <= took
    assert {row["comm"] for row in rows} == {"naps"}


def test_long_and_short_times() -> None:
    with Wakes() as wakes:
        long = Tool("wakeuptime", "--json", "-p", wakes.sleeper, "-m", "400000").start()
        short = Tool("wakeuptime", "--json", "-p", wakes.sleeper, "-M", "400000").start()
        wakes.wake(5, 1000)
        least, _ = wakes.wake(2, 500_000)
        long.stop()
        short.stop()
    assert sum(row["count"] for row in long.records() if "wcomm" in row) >= 0.98 * least
    assert 0 < sum(row["count"] for row in short.records() if row.get("wcomm") == "wakes") < least


def test_threads_of_programs_only() -> None:
    """A second is enough for threads of the kernel to be woken some times."""
    tools = [Tool("wakeuptime", "--json", *words).start() for words in ((), ("-u",))]
    with Wakes() as wakes:
        wakes.wake(10, 100_000)
        rows = [[row for row in tool.stop().records() if "comm" in row] for tool in tools]
        found = [{of_the_kernel(row) for row in some} for some in rows]
        assert all(int(wakes.sleeper) in {row["pid"] for row in some} for some in rows)
    assert True in found[0] and True not in found[1] and False in found[1]


@pytest.mark.anywhere
def test_what_does_not_go_together() -> None:
    process = subprocess.Popen([workload("naps")], stdin=subprocess.PIPE)
    done = osmia("wakeuptime", "-u", "-p", str(process.pid))
    process.communicate()
    assert done.returncode and "-p and -u exclude" in done.stderr
