# SPDX-License-Identifier: Apache-2.0
"""statsnoop against a program that makes each of the calls, with names of all kinds."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from harness import Tool, osmia
from script import Script, traced

from osmia.kernel import syscall_names

pytestmark = pytest.mark.kernel

BEFORE = """
os.makedirs("one/two")
open("one/file", "w").close()
here, one, buffer = os.open(".", os.O_RDONLY), os.open("one", os.O_RDONLY), ctypes.create_string_buffer(1000)
def call(number, *arguments):
    return libc.syscall(number, *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
"""
ENOENT, EBADF, EFAULT, ENOTDIR = 2, 9, 14, 20
AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000
#: Call, directory, path, flags; the path that is shown and the error.
CALLS = [
    ("newfstatat", AT_FDCWD, "one/file", 0, "{cwd}/one/file", 0),
    ("newfstatat", AT_FDCWD, "/no/such", 0, "/no/such", ENOENT),
    ("newfstatat", "one", "file", 0, "{cwd}/one/file", 0),
    ("newfstatat", "one", "", AT_EMPTY_PATH, "{cwd}/one", 0),
    ("newfstatat", "one", "file/x", 0, "{cwd}/one/file/x", ENOTDIR),
    ("newfstatat", 987, "file", 0, "file", EBADF),
    ("statx", AT_FDCWD, "one", 0, "{cwd}/one", 0),
    ("statx", "here", "one/../no", 0, "{cwd}/one/../no", ENOENT),
    ("statx", "one", "", AT_EMPTY_PATH, "{cwd}/one", 0),
    ("statfs", None, "/proc", None, "/proc", 0),
    ("statfs", None, "no", None, "{cwd}/no", ENOENT),
    ("newstat", None, "one", None, "{cwd}/one", 0),
    ("newstat", None, "/etc/none", None, "/etc/none", ENOENT),
    ("newlstat", None, "one/two", None, "{cwd}/one/two", 0),
]  # fmt: skip
SPELLED = {"newstat": "stat", "newlstat": "lstat"}


def numbers() -> dict[str, int]:
    return {name: number for number, name in syscall_names.table().items()}


def work() -> tuple[str, list[tuple[str, str, int]]]:
    """The program, and what is to be seen of it: call, path, error.  Not every machine has each of the calls."""
    known, lines, expected = numbers(), [], []
    for name, directory, path, flags, shown, error in CALLS:
        number = known.get(SPELLED.get(name, name))
        if number is None:
            continue
        words = [str(number), *([] if directory is None else [str(directory)]), repr(path.encode())]
        words += {"statx": [str(flags), "0", "buffer"], "newfstatat": ["buffer", str(flags)]}.get(name, ["buffer"])
        lines.append(f"assert (call({', '.join(words)}) < 0) is {error > 0}")
        expected.append((name, shown, error))
    return "\n".join(lines), expected


def test_every_call(tmp_path: Path) -> None:
    """Whole paths, whatever they count from; an open file that is asked for has its own path."""
    program, expected = work()
    tool, pid = traced("statsnoop", "-s", work=program, before=BEFORE, cwd=tmp_path)
    assert (tool.status, tool.stderr) == (0, "")
    assert tool.stdout.splitlines()[0] == "PID     COMM               FD ERR SYSCALL      PATH"
    rows = [f"{pid:<7} script           {-1 if error else 0:>4} {error:>3} {name:<12} {path.format(cwd=tmp_path)}"
            for name, path, error in expected]  # fmt: skip
    assert tool.rows() == rows and len(rows) >= 11


@pytest.mark.anywhere
def test_failures(tmp_path: Path) -> None:
    program, expected = work()
    tool, _ = traced("statsnoop", "-x", "--json", work=program, before=BEFORE, cwd=tmp_path)
    found = [(record["sysname"], record["path"], record["err"]) for record in tool.records() if "path" in record]
    assert found == [(name, path.format(cwd=tmp_path), error) for name, path, error in expected if error]
    assert {record["fd"] for record in tool.records()} == {-1}


@pytest.mark.anywhere
def test_times(tmp_path: Path) -> None:
    program, expected = work()
    slow = program.replace("assert", "time.sleep(0.05)\nassert")
    tool, pid = traced("statsnoop", "-t", work=slow, before=BEFORE, cwd=tmp_path)
    rows = [re.fullmatch(rf"(\d+\.\d{{9}}) +{pid} +script .*", row) for row in tool.rows()]
    times = [float(row[1]) for row in rows if row]
    assert times[0] == 0 and len(times) == len(rows) == len(expected)
    assert all(second - first >= 0.05 for first, second in itertools.pairwise(times))


@pytest.mark.anywhere
@pytest.mark.parametrize("words", [["-p", "{one}"], ["-n", "one"], ["--tid", "{one}"]])
def test_others_are_left_out(words: list[str], tmp_path: Path) -> None:
    look = "for n in range(17):\n    os.access(f'/{n}', os.F_OK) or os.path.exists(f'/none/{n}')"
    with Script(look, name="one") as one, Script(look, name="other") as other:
        tool = Tool("statsnoop", *[word.format(one=one.pid) for word in words]).start()
        one.go()
        other.go()
        rows = tool.stop().rows()
    assert [row.split() for row in rows] == [[str(one.pid), "one", "-1", "2", f"/none/{n}"] for n in range(17)]


@pytest.mark.anywhere
def test_no_such_option() -> None:
    done = osmia("statsnoop", "-y")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
