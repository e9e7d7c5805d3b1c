# SPDX-License-Identifier: Apache-2.0
"""killsnoop against signals that this process sends, and what the kernel answered."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from harness import Tool, osmia

pytestmark = pytest.mark.kernel

ROW = re.compile(r"^(\d\d:\d\d:\d\d) +(\d+) +(.{16}) (\d+) +(-?\d+) +(-?\d+)$")
NOBODY = 4_194_304  # one more than the largest number of a process


@pytest.fixture
def target() -> Iterator[int]:
    """A process that ignores what it can."""
    process = subprocess.Popen(["sh", "-c", "trap '' HUP TERM USR1; sleep 60 & wait"], start_new_session=True)
    time.sleep(0.1)
    yield process.pid
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def send(pid: int, number: int) -> int:
    """What kill(2) answers."""
    try:
        os.kill(pid, number)
    except OSError as err:
        assert err.errno
        return -err.errno
    return 0


def rows(tool: Tool) -> list[tuple[int, int, int, int]]:
    """PID, SIG, TPID and RESULT of all rows, but the one about the signal that ended the tool."""
    assert tool.status == 0 and tool.stderr == ""
    assert tool.stdout.splitlines()[0].split() == ["TIME", "PID", "COMM", "SIG", "TPID", "RESULT"]
    found = [ROW.match(line) for line in tool.rows()]
    assert all(found), tool.stdout
    return [tuple(int(row[n]) for n in (2, 4, 5, 6)) for row in found if row and int(row[5]) != tool.pid]  # type: ignore[misc]


ME = os.getpid()


def traced(target: int, *words: str) -> list[tuple[int, int, int, int]]:
    """The rows while this process sends 29 signals that arrive and 11 that do not."""
    tool = Tool("killsnoop", "-p", str(ME), *words).start()
    for number in range(29):
        assert send(target, (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, 0)[number % 4]) == 0
        if number < 11:
            assert send(NOBODY, signal.SIGTERM) == -errno.ESRCH
    return rows(tool.stop())


def test_every_signal_has_a_row(target: int) -> None:
    """In order, with what was asked for and what came of it."""
    expected = []
    for number in range(29):
        expected.append((ME, (1, 15, 10, 0)[number % 4], target, 0))
        if number < 11:
            expected.append((ME, 15, NOBODY, -errno.ESRCH))
    assert traced(target) == expected


@pytest.mark.parametrize(
    ("words", "count"),
    [(["-x"], 11), (["-s", "15"], 7 + 11), (["-s", "TERM"], 7 + 11), (["-s", "1,SIGUSR1"], 8 + 7), (["-s", "9"], 0),
     (["-x", "-s", "HUP"], 0), (["-T", str(NOBODY)], 11)],
)  # fmt: skip
def test_what_is_shown(target: int, words: list[str], count: int) -> None:
    assert len(traced(target, *words)) == count


def test_one_target(target: int) -> None:
    found = traced(target, "-T", str(target))
    assert len(found) == 29 and {row[2] for row in found} == {target}


def test_groups_of_processes(target: int) -> None:
    """The number is shown as it was given: negative for a group."""
    tool = Tool("killsnoop", "-p", str(ME)).start()
    os.killpg(target, signal.SIGUSR1)
    assert rows(tool.stop()) == [(ME, int(signal.SIGUSR1), -target, 0)]


def test_others_are_left_out(target: int) -> None:
    """-p is the sender."""
    tool = Tool("killsnoop", "-p", str(target)).start()
    send(target, 0)
    assert rows(tool.stop()) == []


def test_json(target: int) -> None:
    tool = Tool("killsnoop", "--json", "-p", str(ME), "-T", str(target)).start()
    send(target, signal.SIGUSR1)
    (record,) = tool.stop().records()
    assert (record["pid"], record["tid"]) == (ME, ME)
    assert (record["sig"], record["tpid"], record["ret"]) == (10, target, 0)


@pytest.mark.anywhere
@pytest.mark.parametrize("word", ["NOPE", "0", "65", "9,x", ""])
def test_no_such_signal(word: str) -> None:
    done = osmia("killsnoop", "-s", word)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"osmia: killsnoop: option -s: there is no signal '\w*'\n", done.stderr)
