# SPDX-License-Identifier: Apache-2.0
"""syscount against processes that make known numbers of calls."""

from __future__ import annotations

import json
import re
import time
from types import SimpleNamespace
from typing import Any

import pytest
from harness import Files, Tool, osmia
from test_runqlat import Sleeper

from osmia import machine
from osmia.tools import syscount

pytestmark = pytest.mark.kernel

GOOD, BAD = 101, 211
ROUNDS, USECS = 53, 2000
SLEEP = ("clock_nanosleep", "nanosleep")  # which one the C library takes


def blocks(text: str) -> list[dict[str, list[str]]]:
    """What each summary says: the words after each name, by name."""
    out: list[dict[str, list[str]]] = []
    for line in text.splitlines()[1:]:
        if re.fullmatch(r"\[\d\d:\d\d:\d\d\]", line):
            out.append({})
        elif line and not line.startswith(("SYSCALL", "PID ")):
            first, *words = line.split()
            out[-1][first] = words
    return out


def opening(*words: str, other: bool = False) -> Tool:
    """The tool while a process opens ``/`` and, more often, what does not exist; with ``-p`` unless told otherwise."""
    with Files("opener") as files, Files() as stranger:
        whom = [str(files.pid) if word == "PID" else word for word in words]
        tool = Tool("syscount", *whom, *(() if other else ("-p", str(files.pid)))).start()
        for number in range(BAD):
            if number < GOOD:
                files.close(files.openat("/")[0])
            files.openat(f"/no/such/{number}")
            stranger.openat("/no/such")
        tool.stop()
    assert tool.status == 0 and tool.stderr == ""
    return tool


def test_calls_are_counted_exactly() -> None:
    tool = opening()
    assert tool.stdout.startswith("Tracing syscalls, printing top 10... Ctrl+C to quit.\n[")
    (found,) = blocks(tool.stdout)
    commands = 2 * GOOD + BAD
    assert found["openat"] == [str(GOOD + BAD)] and found["close"] == [str(GOOD)]
    # Each command is a line that is read and one that is written; the read that waits for the first began before.
    assert found["write"] == [str(commands)] and int(found["read"][0]) in (commands, commands + 1)
    counts = [int(words[0]) for words in found.values()]
    assert counts == sorted(counts, reverse=True)
    assert re.search(r"^SYSCALL                   COUNT$", tool.stdout, re.M)
    assert re.search(rf"^openat                 {GOOD + BAD:>8}$", tool.stdout, re.M)


@pytest.mark.parametrize(
    ("words", "number"),
    [(["-x"], BAD), (["-e", "ENOENT"], BAD), (["-e", "2"], BAD), (["-e", "EPERM"], 0),
     (["--syscall", "openat"], GOOD + BAD), (["--syscall", "openat", "-x"], BAD),
     (["-t", "PID"], GOOD + BAD), (["-T", "0"], GOOD + BAD)],
)  # fmt: skip
def test_what_is_counted(words: list[str], number: int) -> None:
    tool = opening(*words)
    (found,) = blocks(tool.stdout)
    assert found.get("openat", ["0"]) == [str(number)]
    if words[0] not in ("-t", "-T"):
        assert set(found) <= {"openat"}
    failed, only = ("failed " if "-x" in words else ""), "--syscall" in words
    what = "syscall 'openat'" if only else f"syscalls, printing top {0 if words[0] == '-T' else 10}"
    assert tool.stdout.startswith(f"Tracing {failed}{what}... Ctrl+C to quit.\n")


def test_processes() -> None:
    """-P: by number and name, each with all its calls."""
    tool = opening("-P", "-n", "opener", "--syscall", "openat", other=True)
    (found,) = blocks(tool.stdout)
    ((pid, words),) = found.items()
    assert words == ["opener", str(GOOD + BAD)]
    assert re.search(r"^PID    COMM               COUNT$", tool.stdout, re.M)
    assert re.search(rf"^{pid:<6} {'opener':<15} {GOOD + BAD:>8}$", tool.stdout, re.M)


def test_top() -> None:
    """-T: no more than that many, those with the most calls."""
    tool = opening("-T", "2")
    (found,) = blocks(tool.stdout)
    assert len(found) == 2 and set(found) == {"read", "write"}


@pytest.mark.parametrize(("words", "unit"), [(["-L"], 1), (["-L", "-m"], 1000)])
def test_time_that_calls_take(words: list[str], unit: int) -> None:
    """Sleeps take at least what they are asked for, and all of them no longer than the whole."""
    with Sleeper(ROUNDS, USECS) as sleeper:
        tool = Tool("syscount", *words, "-p", str(sleeper.pid)).start()
        began = time.monotonic()
        sleeper.go()
        sleeper.done()
        usecs = (time.monotonic() - began) * 1e6
        tool.stop()
    (found,) = blocks(tool.stdout)
    ((count, spent),) = [found[name] for name in SLEEP if name in found]
    assert int(count) == ROUNDS and ROUNDS * USECS <= float(spent) * unit <= usecs
    assert next(iter(found)) in SLEEP  # the one that takes the most is the first
    head = rf"SYSCALL +COUNT +TIME \({'ms' if unit > 1 else 'us'}\)"
    assert re.search(rf"^{head}$", tool.stdout, re.M)


def test_intervals_add_up() -> None:
    with Sleeper(400, 4000) as sleeper:
        tool = Tool("syscount", "-p", str(sleeper.pid), "-i", "0.5").start()
        sleeper.go()
        sleeper.done()
        tool.stop()
    found = [one[name] for one in blocks(tool.stdout) for name in SLEEP if name in one]
    assert len(found) >= 3 and sum(int(words[0]) for words in found) == 400


def test_json_and_csv() -> None:
    (record,) = opening("--json", "-T", "0").records()
    assert {"syscall": "openat", "count": GOOD + BAD} in record["rows"]
    rows = opening("--csv", "-P", "-L").stdout.splitlines()
    assert rows[0] == "PID,COMM,COUNT,TIME" and len(rows) == 2
    assert re.fullmatch(r"\d+,opener,\d+,\d+\.\d{3}", rows[1])


@pytest.mark.anywhere
def test_list_of_calls() -> None:
    done = osmia("syscount", "-l")
    names = done.stdout.split()
    assert done.returncode == 0 and names == sorted(names)
    assert {"openat", "execve", "io_uring_enter", "mseal"} <= set(names)


@pytest.mark.anywhere
def test_calls_of_32_bit_programs_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their numbers mean other calls: 5 is open there, and fstat for the others."""
    task: Any = SimpleNamespace(thread_info=SimpleNamespace(status=0))
    monkeypatch.setattr(machine, "task", task)
    assert syscount.label(syscount.called(5)) == syscount.syscall_names.name(5)
    task.thread_info.status = syscount.TS_COMPAT
    assert syscount.label(syscount.called(5)) == "32-bit call 5"


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--syscall", "nope"], "syscount: option --syscall: there is no system call 'nope'"),
        (["-e", "ENOPE"],
         "syscount: option -e: there is no error 'ENOPE': it is spelled as in errno(3), ENOENT for example"),
        (["-t", "0"], "syscount: option -t: '0' is no thread id"),
    ],
)  # fmt: skip
def test_mistakes(words: list[str], text: str) -> None:
    done = osmia("syscount", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"osmia: {text}\n")


@pytest.mark.anywhere
def test_duration_is_one_summary() -> None:
    done = osmia("syscount", "-d", "0.3", "--json")
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 1
