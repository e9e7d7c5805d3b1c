# SPDX-License-Identifier: Apache-2.0
"""syncsnoop against a program that makes each of the calls."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from harness import Tool, osmia
from script import Script, traced

pytestmark = pytest.mark.kernel

BEFORE = """
os.mkdir("one")
fd = os.open("one/file", os.O_CREAT | os.O_RDWR)
here = os.open(".", os.O_RDONLY)
os.ftruncate(fd, 4096)
memory = mmap.mmap(fd, 4096)
took = []
def timed(function, *arguments):
    begin = time.monotonic_ns()
    try:
        function(*arguments)
    except OSError:
        pass
    took.append(time.monotonic_ns() - begin)
"""
WORK = """
for n in range(3):
    timed(os.fsync, fd)
for n in range(5):
    timed(os.fdatasync, fd)
timed(memory.flush)
timed(libc.sync_file_range, fd, ctypes.c_long(0), ctypes.c_long(4096), 2)
timed(libc.syncfs, here)
timed(os.fsync, here)
timed(os.fsync, 987)
timed(os.sync)
os.write(os.open("took", os.O_CREAT | os.O_WRONLY), repr(took).encode())
"""
FILE, NO_FILE, EBADF = "{cwd}/one/file", "", 9
EXPECTED = [
    *[("fsync", FILE, 0)] * 3, *[("fdatasync", FILE, 0)] * 5, ("msync", NO_FILE, 0), ("sync_file_range", FILE, 0),
    ("syncfs", "{cwd}", 0), ("fsync", "{cwd}", 0), ("fsync", NO_FILE, -EBADF), ("sync", NO_FILE, 0),
]  # fmt: skip


def test_every_call(tmp_path: Path) -> None:
    tool, _ = traced("syncsnoop", work=WORK, before=BEFORE, cwd=tmp_path)
    assert (tool.status, tool.stderr) == (0, "")
    assert re.fullmatch(r"TIME\(s\) {12}COMM {13}CALL *", tool.stdout.splitlines()[0])
    rows = [re.fullmatch(r"(\d+\.\d{9}) +script {10} (\w+) *", row) for row in tool.rows()]
    assert [row[2] for row in rows if row] == [call for call, _, _ in EXPECTED] and all(rows)
    times = [float(row[1]) for row in rows if row]
    assert times == sorted(times)


def test_what_for_and_how_long(tmp_path: Path) -> None:
    """The file, the answer, and no more time than the program itself has measured."""
    tool, pid = traced("syncsnoop", "--json", work=WORK, before=BEFORE, cwd=tmp_path)
    records = tool.records()
    assert [(record["what"], record["path"], record["ret"]) for record in records] == [
        (call, path.format(cwd=tmp_path), ret) for call, path, ret in EXPECTED
    ]
    assert {(record["pid"], record["tid"]) for record in records} == {(pid, pid)}
    took = json.loads((tmp_path / "took").read_text())
    assert all(0 < record["delta_ns"] <= most for record, most in zip(records, took, strict=True))


@pytest.mark.anywhere
def test_extended(tmp_path: Path) -> None:
    tool, pid = traced("syncsnoop", "-e", work=WORK, before=BEFORE, cwd=tmp_path)
    assert tool.stdout.splitlines()[0].split() == ["TIME(s)", "PID", "COMM", "CALL", "LAT(ms)", "ERR", "FILE"]
    first, failed = tool.rows()[0], tool.rows()[12]
    assert re.fullmatch(rf"\d+\.\d{{9}} +{pid} +script +fsync +\d+\.\d{{3}}   0 {tmp_path}/one/file", first)
    assert re.fullmatch(rf"\d+\.\d{{9}} +{pid} +script +fsync +\d+\.\d{{3}}   9 *", failed)


@pytest.mark.anywhere
@pytest.mark.parametrize("words", [["-p", "{one}"], ["-n", "one"], ["--tid", "{one}"]])
def test_others_are_left_out(words: list[str], tmp_path: Path) -> None:
    work = 'fd = os.open(".", os.O_RDONLY)\nfor n in range(7):\n    os.fsync(fd)'
    with Script(work, cwd=tmp_path, name="one") as one, Script(work, cwd=tmp_path, name="other") as other:
        tool = Tool("syncsnoop", *[word.format(one=one.pid) for word in words]).start()
        one.go()
        other.go()
        rows = tool.stop().rows()
    assert [row.split()[1:] for row in rows] == [["one", "fsync"]] * 7


@pytest.mark.anywhere
def test_no_such_option() -> None:
    done = osmia("syncsnoop", "-y")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
