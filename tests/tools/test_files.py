# SPDX-License-Identifier: Apache-2.0
"""filetop, dirtop and fileslower against a program whose reads and writes are known one by one."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Tool, osmia
from script import Script, traced

pytestmark = pytest.mark.kernel

#: Opened before the tool looks; reads and writes by each of the system calls.
BEFORE = """
os.makedirs("below/deep", exist_ok=True)
source, target = os.open("source", os.O_CREAT | os.O_RDWR), os.open("below/deep/target", os.O_CREAT | os.O_RDWR)
os.write(source, bytes(100_000))
pipe, other = os.pipe(), socket.socketpair()
zero = os.open("/dev/zero", os.O_RDONLY)
buffer = bytearray(500)
"""
WORK = """
for n in range(23):
    os.pread(source, 1000, 0)
os.lseek(source, 99_000, os.SEEK_SET)
for n in range(3):
    os.read(source, 3000)
for n in range(5):
    os.readv(target, [buffer])
    os.preadv(source, [buffer, buffer], 0)
    os.preadv(source, [buffer], 0, os.RWF_HIPRI)
for n in range(7):
    os.write(target, b"x" * 300)
    os.pwrite(target, b"x" * 100, 0)
    os.writev(target, [b"x" * 10, b"y" * 20])
    os.pwritev(target, [b"x", b"y"], 0)
    os.pwritev(target, [b"x"], 0, os.RWF_HIPRI)
for n in range(11):
    os.write(pipe[1], b"pipe")
    os.write(other[0].fileno(), b"socket")
    os.read(pipe[0], 99)
    os.read(other[1].fileno(), 99)
    os.read(zero, 10)
for failing in (lambda: os.read(987, 1), lambda: os.write(-1, b"x"), lambda: os.pread(987, 1, 0)):
    try:
        failing()
        os._exit(3)
    except OSError:
        pass
"""
SOURCE = (23 + 3 + 5 + 5, 0, 23 * 1000 + 1000 + 5 * 1000 + 5 * 500, 0)
TARGET = (5, 5 * 7, 0, 7 * (300 + 100 + 30 + 2 + 1))

Numbers = tuple[int, int, int, int]


def numbers(tool: Tool, name: str) -> dict[Any, Numbers]:
    """Reads, writes and bytes of all intervals, by the column ``name``."""
    out: dict[Any, Numbers] = {}
    for record in tool.records():
        for row in record.get("rows", []):
            before = out.get(row[name], (0, 0, 0, 0))
            new = [row[field] for field in ("reads", "writes", "rbytes", "wbytes")]
            out[row[name]] = tuple([a + b for a, b in zip(before, new, strict=True)])  # type: ignore[assignment]
    return out


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    with Script(WORK, before=BEFORE, cwd=tmp_path, name="script") as made:
        yield made


def top(script: Script, tool: str, *words: str) -> Tool:
    running = Tool(tool, "--json", "-p", str(script.pid), *words).start()
    script.go()
    done = running.stop()
    assert (done.status, done.stderr) == (0, "")
    return done


# --------------------------------------------------------------------------
# filetop


def test_regular_files(script: Script) -> None:
    """Calls of all five kinds, and the bytes that were moved: not those that were asked for."""
    tool = top(script, "filetop")
    assert numbers(tool, "name") == {"source": SOURCE, "target": TARGET}
    rows = [row for record in tool.records() for row in record["rows"]]
    assert {(row["comm"], row["tid"], row["type"]) for row in rows} == {("script", script.pid, "R")}


def test_the_kernel_moved_as_many_bytes(script: Script) -> None:
    """/proc/PID/io, which counts all files."""
    before = script.io()
    sums = numbers(top(script, "filetop", "-a"), "name").values()
    after = script.io()
    assert after["rchar"] - before["rchar"] == sum(one[2] for one in sums)
    assert after["wchar"] - before["wchar"] == sum(one[3] for one in sums)
    assert after["syscw"] - before["syscw"] == sum(one[1] for one in sums)


def test_all_kinds_of_files(script: Script) -> None:
    tool = top(script, "filetop", "--all-files")
    rows = [row for record in tool.records() for row in record["rows"]]
    found = {(row["type"], re.sub(r"^(pipe:\[|UNIX).*", r"\1", row["name"])) for row in rows}
    assert found == {("R", "source"), ("R", "target"), ("O", "pipe:["), ("S", "UNIX"), ("O", "zero")}
    assert numbers(tool, "name")["zero"] == (11, 0, 110, 0)


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["--read-only"], {"source": SOURCE, "target": (5, 0, 0, 0)}), (["--write-only"], {"target": (0, *TARGET[1:])}),
     (["-d", "below/deep"], {"target": TARGET}), (["-d", "."], {"source": SOURCE}), (["-d", "below"], {})],
)  # fmt: skip
def test_what_counts(script: Script, tmp_path: Path, words: list[str], expected: dict[str, Numbers]) -> None:
    if words[0] == "-d":
        words = ["-d", str(tmp_path / words[1])]
    assert numbers(top(script, "filetop", *words), "name") == expected


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("sort", "first"),
    [("all", "source"), ("reads", "source"), ("rbytes", "source"), ("writes", "target"), ("wbytes", "target")],
)  # fmt: skip
def test_order_and_rows(script: Script, sort: str, first: str) -> None:
    tool = top(script, "filetop", "-s", sort, "-r", "1", "9")
    assert [row["name"] for record in tool.records() for row in record["rows"]] == [first]


@pytest.mark.anywhere
def test_pages(script: Script) -> None:
    """As bcc prints them: banner, time and load, the table; kilobytes."""
    tool = Tool("filetop", "-p", str(script.pid), "30").start()
    script.go()
    lines = tool.stop().stdout.splitlines()
    assert lines[0] == "Tracing... Hit Ctrl-C to end" and re.match(r"\d\d:\d\d:\d\d loadavg: ", lines[2])
    assert lines[4] == "TID     COMM             READS  WRITES R_Kb    W_Kb    T FILE"
    assert lines[5] == f"{script.pid:<7} script           36     0      {SOURCE[2] // 1024:<7} 0       R source"
    assert lines[6].split()[2:] == ["5", "35", "0", str(TARGET[3] // 1024), "R", "target"]


@pytest.mark.anywhere
def test_intervals_are_apart(tmp_path: Path) -> None:
    """What was counted in one is not in the next one, and all of them together are the whole."""
    work = "for n in range(7):\n    os.pwrite(fd, b'abc', 0)\n    time.sleep(0.3)"
    before = 'fd = os.open("file", os.O_CREAT | os.O_RDWR)'
    with Script(work, before=before, cwd=tmp_path) as slow:
        tool = top(slow, "filetop", "0.5")
    assert numbers(tool, "name") == {"file": (0, 7, 0, 21)}
    assert len([record for record in tool.records() if record["rows"]]) >= 3


@pytest.mark.anywhere
def test_recorded(script: Script, tmp_path: Path) -> None:
    """The map is not emptied then, and the replay shows the same."""
    tool = Tool("record", "filetop", "-p", str(script.pid), "0.5", "-o", str(tmp_path / "recording")).start()
    script.go()
    tool.stop()
    tool.stdout = osmia("replay", str(tmp_path / "recording"), "--json").stdout
    assert numbers(tool, "name") == {"source": SOURCE, "target": TARGET}


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "said"),
    [(["--read-only", "--write-only"], "--read-only and --write-only exclude each other"),
     (["-s", "size"], "size"),
     (["-d", "/no/such"], "/no/such is no directory that can be seen: No such file or directory"),
     (["-d", "/etc/passwd"], "/etc/passwd is no directory that can be seen: Not a directory")],
)  # fmt: skip
def test_filetop_refuses(words: list[str], said: str) -> None:
    done = osmia("filetop", *words)
    assert done.returncode in (1, 2) and said in done.stderr and done.stderr.count("osmia: ") == 1


# --------------------------------------------------------------------------
# dirtop


def test_directories(script: Script, tmp_path: Path) -> None:
    """Each with all that is below it, at any depth."""
    both = tuple([a + b for a, b in zip(SOURCE, TARGET, strict=True)])
    tool = top(script, "dirtop", "-d", f"{tmp_path},{tmp_path}/below,{tmp_path}/below/*,{tmp_path}")
    assert numbers(tool, "path") == {
        str(tmp_path): both, f"{tmp_path}/below": TARGET, f"{tmp_path}/below/deep": TARGET
    }  # fmt: skip


def test_a_directory_has_what_is_mounted_in_it(tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "osmia-test", mounted], check=True)
    try:
        work = "for n in range(13):\n    os.pwrite(fd, b'abc', 0)"
        before = 'fd = os.open("mounted/file", os.O_CREAT | os.O_RDWR)'
        with Script(work, before=before, cwd=tmp_path) as writer:
            tool = top(writer, "dirtop", "-d", f"{tmp_path},{mounted},/")
    finally:
        subprocess.run(["umount", "-l", mounted], check=True)
    assert numbers(tool, "path") == dict.fromkeys([str(tmp_path), str(mounted), "/"], (0, 13, 0, 39))


@pytest.mark.anywhere
def test_without_directories_it_is_those_of_the_root(script: Script, tmp_path: Path) -> None:
    both = tuple([a + b for a, b in zip(SOURCE, TARGET, strict=True)])
    assert numbers(top(script, "dirtop"), "path")["/" + tmp_path.parts[1]] == both


@pytest.mark.anywhere
def test_other_directories_are_left_out(script: Script, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    tool = top(script, "dirtop", "--root-directories", str(tmp_path / "o*"))
    assert numbers(tool, "path") == {}


@pytest.mark.anywhere
def test_dirtop_pages(script: Script, tmp_path: Path) -> None:
    words = ["-C", "-r", "5", "-s", "wbytes", "-d", f"{tmp_path},{tmp_path}/*", "-p", str(script.pid), "30"]
    with Tool("dirtop", *words) as tool:
        script.go()
    lines = tool.stdout.splitlines()
    assert lines[0] == "Tracing... Hit Ctrl-C to end"
    assert lines[4] == "READS  WRITES R_Kb     W_Kb     PATH"
    assert {line.split()[-1] for line in lines[5:]} == {str(tmp_path), f"{tmp_path}/below"}


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "said"),
    [(["-d", ""], "there is no directory"), (["-d", "/no/such/*"], "there is no directory /no/such/*"),
     (["-d", "/etc/passwd"], "there is no directory /etc/passwd")],
)  # fmt: skip
def test_dirtop_refuses(words: list[str], said: str) -> None:
    done = osmia("dirtop", *words)
    assert done.returncode == 2 and done.stderr.startswith(f"osmia: dirtop: {said}") and done.stderr.count("\n") == 1


# --------------------------------------------------------------------------
# fileslower


def test_every_call_has_a_row(tmp_path: Path) -> None:
    """With 0: what it moved, on which file, which way."""
    tool, pid = traced("fileslower", "--json", "0", work=WORK, before=BEFORE, cwd=tmp_path)
    assert (tool.status, tool.stderr) == (0, "")
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for record in tool.records():
        assert (record["pid"], record["tid"], record["comm"]) == (pid, pid, "script") and record["delta_ns"] > 0
        key = (record["name"], record["write"])
        calls, moved = found.get(key, (0, 0))
        found[key] = calls + 1, moved + record["ret"]
    assert found == {
        ("source", 0): SOURCE[::2], ("target", 0): TARGET[::2], ("target", 1): TARGET[1::2]
    }  # fmt: skip
    inode = os.stat(tmp_path / "source").st_ino
    assert {record["ino"] for record in tool.records() if record["name"] == "source"} == {inode}


#: Reads that wait for half a second; in between some that do not.  How long each took, at most, is in "took".
WAITS = """
def later():
    time.sleep(0.5)
    os.write(pipe[1], b"abc")
took = []
for n in range(5):
    os.pread(source, 10, 0)
    threading.Thread(target=later).start()
    begin = time.monotonic_ns()
    os.read(pipe[0], 99)
    took.append((time.monotonic_ns() - begin) / 1e6)
os.write(os.open("took", os.O_CREAT | os.O_WRONLY), repr(took).encode())
"""


def test_slow_calls_alone(tmp_path: Path) -> None:
    """Five reads of a pipe into which somebody writes half a second later."""
    tool, pid = traced("fileslower", "--all-files", "100", work=WAITS, before=BEFORE, cwd=tmp_path)
    lines = tool.stdout.splitlines()
    assert lines[0] == "Tracing sync read/writes slower than 100 ms"
    assert lines[1] == "TIME(s)  COMM           TID    D BYTES   LAT(ms) FILENAME"
    rows = [re.fullmatch(rf"\d+\.\d{{3}} +script +{pid} +R 3 +(\d+\.\d\d) pipe:\[\d+\]", line) for line in lines[2:]]
    slow = [float(row[1]) for row in rows if row]
    assert len(slow) == len(rows) == 5, tool.stdout
    most = json.loads((tmp_path / "took").read_text())
    assert all(100 <= latency <= took + 0.01 for latency, took in zip(slow, most, strict=True))
    assert max(slow) > 400


@pytest.mark.anywhere
def test_pipes_are_left_out(tmp_path: Path) -> None:
    tool, _ = traced("fileslower", "100", work=WAITS, before=BEFORE, cwd=tmp_path)
    assert tool.stdout.splitlines()[2:] == []


@pytest.mark.anywhere
def test_a_failed_call_shows_its_error(tmp_path: Path) -> None:
    work = "try:\n    os.pread(fd, 10, 0)\nexcept OSError:\n    pass"
    before = 'open("file", "w").close(); fd = os.open("file", os.O_WRONLY)'
    tool, _ = traced("fileslower", "--json", "0", work=work, before=before, cwd=tmp_path)
    assert [(record["name"], record["ret"]) for record in tool.records()] == [("file", -9)]


@pytest.mark.anywhere
@pytest.mark.parametrize("word", ["fast", "-1", "1e12", ""])
def test_no_such_time(word: str) -> None:
    done = osmia("fileslower", "--", word)
    assert done.returncode == 2 and "is no number of milliseconds" in done.stderr
