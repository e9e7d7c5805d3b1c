# SPDX-License-Identifier: Apache-2.0
"""setuids against a child that becomes other users, step by step."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest
from harness import Told, Tool

pytestmark = pytest.mark.kernel

ROW = re.compile(r"^(\d\d:\d\d:\d\d) +(\d+) +(.{16}) (\d+) +(\w+) +(.*)$")
#: Does what a line says; the system calls themselves, for this thread only and whatever the C library thinks of it.
PROGRAM = """
import ctypes, os, sys
call = ctypes.CDLL(None, use_errno=True).syscall
NUMBERS = {"x86_64": {"setuid": 105, "setreuid": 113, "setresuid": 117, "setfsuid": 122},
           "aarch64": {"setuid": 146, "setreuid": 145, "setresuid": 147, "setfsuid": 151}}[os.uname().machine]
for line in sys.stdin:
    name, *words = line.split()
    print(call(NUMBERS[name], *[ctypes.c_uint(int(word)) for word in words]), flush=True)
"""
#: What is asked for, the answer, who asks, and the row.
STEPS = [
    ("setresuid -1 1009 -1", "0", 0, "setresuid", "ruid=-1 euid=1009 suid=-1 (0)"),
    ("setresuid -1 0 -1", "0", 0, "setresuid", "ruid=-1 euid=0 suid=-1 (0)"),
    ("setfsuid 1013", "0", 0, "setfsuid", "uid=1013 (prevuid=0)"),
    ("setfsuid 4000000007", "1013", 0, "setfsuid", "uid=4000000007 (prevuid=1013)"),
    ("setreuid -1 1009", "0", 0, "setreuid", "ruid=-1 euid=1009 (0)"),
    ("setuid 0", "0", 0, "setuid", "uid=0 (0)"),
    ("setresuid 1009 1009 0", "0", 0, "setresuid", "ruid=1009 euid=1009 suid=0 (0)"),
    ("setreuid 1009 0", "0", 1009, "setreuid", "ruid=1009 euid=0 (0)"),
    ("setresuid 1009 1009 1009", "0", 1009, "setresuid", "ruid=1009 euid=1009 suid=1009 (0)"),
    ("setuid 0", "-1", 1009, "setuid", "uid=0 (-1)"),
    ("setresuid -1 0 -1", "-1", 1009, "setresuid", "ruid=-1 euid=0 suid=-1 (-1)"),
]


@pytest.fixture
def child() -> Iterator[Told]:
    with Told(sys.executable, "-c", PROGRAM) as program:
        assert program.tell("setfsuid 0") == "0\n"  # it is ready
        yield program


def steps(child: Told) -> None:
    for line, answer, *_ in STEPS:
        assert child.tell(line) == answer + "\n", line


def rows(tool: Tool) -> list[tuple[str, int, str, str]]:
    """PID, UID, SYSCALL and ARGS of all rows."""
    assert tool.status == 0 and tool.stderr == ""
    assert tool.stdout.splitlines()[0] == "Tracing setuid(2) family syscalls. Hit Ctrl-C to end."
    assert tool.rows()[0].split() == ["TIME", "PID", "COMM", "UID", "SYSCALL", "ARGS", "(RET)"]
    found = [ROW.match(line) for line in tool.rows()[1:]]
    assert all(found), tool.stdout
    return [(row[2], int(row[4]), row[5], row[6]) for row in found if row]


def expected(child: Told, which: list[int]) -> list[tuple[str, int, str, str]]:
    return [(child.pid, *STEPS[n][2:]) for n in which]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("words", "which"),
    [
        ([], list(range(11))),
        (["-x"], [9, 10]),
        (["--changes"], [0, 1, 4, 5, 6, 7, 8]),
        (["-x", "--changes"], []),
        (["--uid", "1009"], [7, 8, 9, 10]),
        (["-n", "python"], list(range(11))),
        (["-n", "nobody"], []),
    ],
)
def test_every_step_has_a_row(child: Told, words: list[str], which: list[int]) -> None:
    tool = Tool("setuids", "-p", child.pid, *words).start()
    steps(child)
    assert rows(tool.stop()) == expected(child, which)


def test_all_processes_and_another_one(child: Told) -> None:
    with Told(sys.executable, "-c", PROGRAM) as other:
        everybody, one = Tool("setuids").start(), Tool("setuids", "-p", other.pid).start()
        steps(child)
        other.tell("setuid 0")
        seen = rows(everybody.stop())
        assert rows(one.stop()) == [(other.pid, 0, "setuid", "uid=0 (0)")]
    assert [row for row in seen if row[0] == child.pid] == expected(child, list(range(11)))
    assert [row for row in seen if row[0] == other.pid] == [(other.pid, 0, "setuid", "uid=0 (0)")]


def test_json(child: Told) -> None:
    """With who the process is before and after."""
    tool = Tool("setuids", "--json", "-p", child.pid).start()
    steps(child)
    found = tool.stop().records()
    assert [one["syscall"] for one in found] == [step[3] for step in STEPS]
    assert [one["args"] for one in found] == [step[4] for step in STEPS]
    assert [(one["uid"], one["euid"], one["new_uid"], one["new_euid"]) for one in found] == [
        (0, 0, 0, 1009), (0, 1009, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 1009), (0, 1009, 0, 0),
        (0, 0, 1009, 1009), (1009, 1009, 1009, 0), (1009, 0, 1009, 1009), (1009, 1009, 1009, 1009),
        (1009, 1009, 1009, 1009),
    ]  # fmt: skip
    assert found[3]["arg0"] == 4_000_000_007 and found[0]["arg0"] == 0xFFFFFFFF
    assert {one["pid"] for one in found} == {int(child.pid)} and {one["ret"] for one in found} == {0, -1, 1013}
