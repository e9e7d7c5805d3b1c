# SPDX-License-Identifier: Apache-2.0
"""vfsstat against a program that makes known calls, and against the kernel's own account of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from harness import Tool, osmia
from script import Script, traced

pytestmark = pytest.mark.kernel

HEADING = "TIME READ/s WRITE/s FSYNC/s OPEN/s CREATE/s UNLINK/s MKDIR/s RMDIR/s"
READS, WRITES = 5 * 23, 5 * 19
#: Prime numbers of each: also of what fails.
WORK = """
made = [os.open(f"made-{n}", os.O_CREAT | os.O_RDWR) for n in range(13)]
again = [os.open(f"made-{n}", os.O_CREAT | os.O_RDWR) for n in range(7)]
fd, buffer = made[0], bytearray(100)
for n in range(19):
    os.write(fd, b"x" * 100)
    os.pwrite(fd, b"x", 0)
    os.writev(fd, [b"a", b"b"])
    os.pwritev(fd, [b"a", b"b"], 0, 0)
    os.pwritev(fd, [b"a", b"b"], 0, os.RWF_HIPRI)
for n in range(23):
    os.read(fd, 10)
    os.pread(fd, 10, 0)
    os.readv(fd, [buffer])
    os.preadv(fd, [buffer], 0, 0)
    os.preadv(fd, [buffer], 0, os.RWF_HIPRI)
for n in range(3):
    os.fsync(fd)
for n in range(2):
    os.fdatasync(fd)
for n in range(11):
    os.mkdir(f"directory-{n}")
for n in range(7):
    os.rmdir(f"directory-{n}")
here = os.open(".", os.O_RDONLY)
for n in range(7, 10):
    os.rmdir(f"directory-{n}", dir_fd=here)
for n in range(3):
    os.unlink(f"made-{n}")
for n in range(3, 5):
    os.unlink(f"made-{n}", dir_fd=here)
for failing in (lambda: os.read(987, 1), lambda: os.write(987, b"x"), lambda: os.fsync(987), lambda: os.mkdir("made-9"),
                lambda: os.open("no", os.O_RDONLY), lambda: os.unlink("no"), lambda: os.rmdir("no"),
                lambda: os.unlink("no", dir_fd=here)):
    try:
        failing()
        os._exit(3)
    except OSError:
        pass
"""
KNOWN = {
    "READ": READS, "WRITE": WRITES, "FSYNC": 5, "OPEN": 13 + 7 + 1, "CREATE": 13, "UNLINK": 5, "MKDIR": 11, "RMDIR": 10,
}  # fmt: skip


def counts(tool: Tool) -> dict[str, int]:
    """All that a run with ``--json`` has counted."""
    out: dict[str, int] = {}
    for record in tool.records():
        for row in record.get("rows", []):
            out[row["what"]] = out.get(row["what"], 0) + row["count"]
    return out


def test_every_call_is_counted(tmp_path: Path) -> None:
    """Each once, whichever of the system calls it was; and what failed is not there."""
    tool, _ = traced("vfsstat", "--json", work=WORK, cwd=tmp_path)
    assert (tool.status, tool.stderr) == (0, "")
    assert counts(tool) == KNOWN


def test_the_kernel_counts_as_many(tmp_path: Path) -> None:
    """/proc/PID/io counts calls on files that can be read, also those that fail for want of a file."""
    with Script(WORK, cwd=tmp_path) as script:
        before = script.io()
        tool = Tool("vfsstat", "--json", "-p", str(script.pid)).start()
        script.go()
        after = script.io()
        tool.stop()
    found = counts(tool)
    assert after["syscr"] - before["syscr"] == found["READ"]
    assert after["syscw"] - before["syscw"] == found["WRITE"]


def rates(tool: Tool) -> list[list[int]]:
    rows = [re.fullmatch(r"\d\d:\d\d:\d\d: ((?: +\d+){8})", line) for line in tool.rows()]
    assert rows and all(rows), tool.stdout
    return [[int(word) for word in row[1].split()] for row in rows if row]


@pytest.mark.anywhere
def test_rates_per_second(tmp_path: Path) -> None:
    """The heading once, then a line each interval; a rate is the count divided by the seconds it took."""
    with Script("time.sleep(0.2)\n" + WORK, cwd=tmp_path) as script:
        tool = Tool("vfsstat", "-p", str(script.pid), "2").start()
        script.go()
        tool.stop()
    assert tool.stdout.splitlines()[0].split() == HEADING.split()
    shown = rates(tool)
    assert sum(row[0] for row in shown) > 0 and all(row[2] <= 5 * 5 for row in shown)


@pytest.mark.anywhere
def test_intervals(tmp_path: Path) -> None:
    done = osmia("vfsstat", "0.3", "3")
    assert done.returncode == 0 and done.stderr == ""
    assert len(done.stdout.splitlines()) == 1 + 3


@pytest.mark.anywhere
@pytest.mark.parametrize(("words", "opens"), [(["-n", "someone"], 1), (["-n", "nobody"], 0), (["--uid", "65533"], 0)])
def test_filters(words: list[str], opens: int) -> None:
    """The one open of a program, and nobody else's."""
    with Script('os.open("/", os.O_RDONLY)', name="someone") as script:
        tool = Tool("vfsstat", "--json", *words).start()
        script.go()
        assert counts(tool.stop()) == ({"OPEN": opens} if opens else {})


@pytest.mark.anywhere
def test_another_process_is_left_out() -> None:
    with Script("os.sync()") as other, Script('os.open("/", os.O_RDONLY)') as script:
        tool = Tool("vfsstat", "--json", "-p", str(other.pid)).start()
        script.go()
        other.go()
        assert counts(tool.stop()) == {}


@pytest.mark.anywhere
def test_bad_interval() -> None:
    done = osmia("vfsstat", "often")
    assert done.returncode == 2 and done.stderr.count("\n") <= 2 and "often" in done.stderr


@pytest.mark.anywhere
def test_json_shape() -> None:
    record: dict[str, Any] = Tool("vfsstat", "--json", "0.2", "1").start().wait().records()[0]
    assert set(record) == {"time", "rows"} and all(set(row) == {"what", "count"} for row in record["rows"])
