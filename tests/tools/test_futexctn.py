# SPDX-License-Identifier: Apache-2.0
"""futexctn against a program whose threads wait for words as often, and as long, as they are told."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Told, Tool, osmia, user_program
from needs import needs_tracepoint

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the program that waits has instructions of x86-64"),
]

PRIVATE, REALTIME = 128, 256
WAIT, LOCK_PI, WAIT_BITSET = 0, 6, 9
HEAD = re.compile(r"^(.*)\[(\d+)\] lock (0x[0-9a-f]+) contended (\d+) times, (\d+) avg (\w+) "
                  r"\[max: (<= )?(\d+) \w+, min (\d+) \w+\]$")  # fmt: skip


@pytest.fixture
def program() -> Iterator[Told]:
    with Told(user_program("futexes")) as one:
        assert one.tell("refused 0 0 1 0")  # it is ready
        yield one


def wait(program: Told, side: str, which: int, operation: int, times: int, usecs: int) -> tuple[int, int]:
    """The address of the word, and the number of the thread."""
    address, thread = program.tell(f"{side} {which} {operation} {times} {usecs}").split()
    return int(address, 16), int(thread)


def heads(tool: Tool) -> list[tuple[str, int, int, int]]:
    """Name, thread (with -s process), lock and count of each histogram."""
    assert (tool.status, tool.stderr) == (0, "")
    assert tool.stdout.splitlines()[0] == "Summarize futex contention latency, hit ctrl-c to exit"
    found = [HEAD.match(line) for line in tool.stdout.splitlines() if " contended " in line]
    assert all(found), tool.stdout
    return [(one[1], int(one[2]), int(one[3], 16), int(one[4])) for one in found if one]


def histograms(tool: Tool) -> list[dict[str, Any]]:
    assert (tool.status, tool.stderr) == (0, "")
    return [one for record in tool.records() for one in record["histograms"]]


def test_every_wait_is_counted(program: Told) -> None:
    """By thread, lock and stack; with bounds that the times must be within."""
    tool = Tool("futexctn", "-p", program.pid).start()
    first, one = wait(program, "left", 0, WAIT | PRIVATE, 23, 1500)
    second, two = wait(program, "right", 1, WAIT, 11, 5000)
    third, three = wait(program, "left", 0, WAIT | PRIVATE, 7, 100)
    found = heads(tool.stop())
    assert sorted(found) == sorted(
        [("waiter", one, first, 23), ("waiter", two, second, 11), ("waiter", three, third, 7)]
    )
    text = tool.stdout.split(f"waiter[{two}]")[1].split("\n\n")[0].splitlines()
    assert text[1:7] == ["    -", "    inner", "    right", "    waiter", "    start_thread", "    -"]
    assert re.search(r"usecs +: count +distribution", text[7])


def test_json_has_times_and_named_frames(program: Told) -> None:
    tool = Tool("futexctn", "--json", "-p", program.pid).start()
    lock, thread = wait(program, "left", 3, WAIT | PRIVATE, 13, 20_000)
    (one,) = histograms(tool.stop())
    assert (one["pid"], one["tid"], one["comm"], one["lock"]) == (int(program.pid), thread, "waiter", lock)
    assert one["count"] == 13 and one["min"] >= 20_000 and one["sum"] >= 13 * 20_000
    assert [frame["label"] for frame in one["user"]][:3] == ["inner", "left", "waiter"]
    assert sum(bucket["count"] for bucket in one["buckets"] if bucket["high"] >= 20_000) == 13


def test_stacks_are_apart_and_locks_are(program: Told) -> None:
    tool = Tool("futexctn", "--json", "-p", program.pid).start()
    for side, which, times in (("left", 0, 3), ("left", 1, 5), ("right", 1, 7)):
        wait(program, side, which, WAIT, times, 200)
    found = histograms(tool.stop())
    assert sorted((one["user"][1]["label"], one["count"]) for one in found) == [("left", 3), ("left", 5), ("right", 7)]
    assert len({one["lock"] for one in found}) == 2


def test_summary(program: Told) -> None:
    """-s: all threads of the process together, under its name, without stacks."""
    tool = Tool("futexctn", "-s", "-p", program.pid).start()
    lock, _ = wait(program, "left", 0, WAIT, 5, 100)
    wait(program, "right", 0, WAIT, 6, 100)
    name = Path(f"/proc/{program.pid}/comm").read_text().strip()
    assert heads(tool.stop()) == [(name, int(program.pid), lock, 11)]
    assert "    -\n" not in tool.stdout and "inner" not in tool.stdout


@pytest.mark.parametrize(
    ("line", "usual", "every"),
    [
        (("left", 0, LOCK_PI, 7, 500), 7, 7),
        (("left", 0, LOCK_PI | PRIVATE, 5, 500), 5, 5),
        (("right", 0, WAIT_BITSET | PRIVATE, 7, 500), 0, 7),
        (("right", 0, WAIT_BITSET | PRIVATE | REALTIME, 3, 500), 0, 3),
        (("refused", 0, WAIT, 11, 0), 0, 0),  # EAGAIN: the word had changed, it did not wait
        (("late", 0, WAIT, 3, 2000), 0, 0),  # ETIMEDOUT
    ],
)  # fmt: skip
def test_kinds_of_waits(program: Told, line: Any, usual: int, every: int) -> None:
    """--all adds those of condition variables."""
    for words, count in (([], usual), (["-a"], every)):
        tool = Tool("futexctn", *words, "--json", "-p", program.pid).start()
        lock, _ = wait(program, *line)
        assert sum(one["count"] for one in histograms(tool.stop()) if one["lock"] == lock) == count


def test_filters(program: Told) -> None:
    """-l in hexadecimal as it is shown; another lock, another process, another name."""
    lock, _ = wait(program, "refused", 2, WAIT, 1, 0)
    words = [["-l", f"{lock:#x}"], ["-l", f"{lock + 4:x}"], ["-n", "waiter"], ["-n", "nobody"], ["--uid", "54321"],
             ["-p", str(os.getpid())]]  # fmt: skip
    tools = [Tool("futexctn", "--json", *more).start() for more in words]
    wait(program, "left", 2, WAIT, 5, 100)
    wait(program, "left", 3, WAIT, 7, 100)
    counts = [sum(one["count"] for one in histograms(tool.stop()) if one["pid"] == int(program.pid)) for tool in tools]
    assert counts == [5, 7, 12, 0, 0, 0]


def test_one_thread(program: Told) -> None:
    """-t of a thread that is not there yet is refused; of one that is, only that counts."""
    tool = Tool("futexctn", "--json", "-t", program.pid).start()
    wait(program, "left", 2, WAIT, 5, 100)  # another thread's
    assert histograms(tool.stop()) == []


def test_intervals_add_up(program: Told) -> None:
    tool = Tool("futexctn", "--json", "-p", program.pid, "0.3").start()
    for _ in range(5):
        wait(program, "left", 0, WAIT, 7, 20_000)
    assert sum(one["count"] for one in histograms(tool.stop())) == 35


def test_milliseconds(program: Told) -> None:
    tool = Tool("futexctn", "-m", "-T", "-p", program.pid).start()
    wait(program, "left", 0, WAIT, 3, 40_000)
    tool.stop()
    assert len(heads(tool)) == 1 and re.search(r"^\d\d:\d\d:\d\d$", tool.stdout, re.M)
    found = HEAD.search(next(line for line in tool.stdout.splitlines() if " contended " in line))
    assert found and found[6] == "msecs" and int(found[9]) >= 40


def test_csv(program: Told) -> None:
    tool = Tool("futexctn", "--csv", "-p", program.pid).start()
    lock, _ = wait(program, "left", 0, WAIT, 3, 1000)
    first, *rest = tool.stop().stdout.splitlines()
    assert first == "time,key,low,high,count" and sum(int(line.rsplit(",", 1)[1]) for line in rest) == 3
    assert all(f"{lock:#x};waiter;start_thread;waiter;left;inner" in line for line in rest)


def test_a_recording_has_the_names(program: Told, tmp_path: Path) -> None:
    out = tmp_path / "recording"
    tool = Tool("record", "-o", str(out), "futexctn", "-p", program.pid).start()
    lock, thread = wait(program, "right", 0, WAIT, 11, 1000)
    tool.stop()
    assert tool.status == 0, tool.stderr
    program.process.kill()
    shown = osmia("replay", str(out))
    assert f"waiter[{thread}] lock {lock:#x} contended 11 times" in shown.stdout, shown.stderr
    assert "    -\n    inner\n    right\n    waiter\n" in shown.stdout
    (record,) = [json.loads(line) for line in osmia("replay", str(out), "--json").stdout.splitlines()]
    assert [one["count"] for one in record["histograms"]] == [11]


def test_the_call_of_its_own(program: Told) -> None:
    """futex_wait() of 6.7 is a wait of --all."""
    needs_tracepoint("syscalls:sys_enter_futex_wait", "6.7")
    script = ("import ctypes, threading, time; c = ctypes.CDLL(None); w = ctypes.c_uint(0); "
              "every = ctypes.c_ulong(0xffffffff); at = ctypes.byref(w); "
              "t = threading.Thread(target=lambda: c.syscall(455, at, 0, every, 2, None, 0), daemon=True); t.start()\n"
              "while c.syscall(454, at, every, 1, 2) != 1: time.sleep(0.001)\n"
              "t.join(); print(ctypes.addressof(w), flush=True)")  # fmt: skip
    tool = Tool("futexctn", "-a", "--json", "-n", "python").start()
    address = int(os.popen(f'python3 -c "{script}"').read())
    assert [one["count"] for one in histograms(tool.stop()) if one["lock"] == address] == [1]


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-l", "lock"], "option -l: 'lock' is not an address: it is written as in 0x8187bb8"),
        (["-l", "0"], "option -l: '0' is not an address: it is written as in 0x8187bb8"),
        (["--stack-storage-size", "0"], "option --stack-storage-size: '0' is not a whole number from 1"),
    ],
)
def test_mistakes(words: list[str], text: str) -> None:
    done = osmia("futexctn", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"osmia: futexctn: {text}\n")
