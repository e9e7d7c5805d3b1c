# SPDX-License-Identifier: Apache-2.0
"""ext4slower, ext4dist and those for other file systems, against file systems on loop devices.

A process of its own does a known number of operations there, and as many on a tmpfs
and on another one, which must not be seen.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from filesystems import MAKE, Worker, frozen, known, mounted, waits
from harness import REPO, Tool, osmia
from patience import patient

pytestmark = pytest.mark.kernel

SYSTEMS = ("ext4", "xfs", "btrfs", "f2fs")
#: Those whose histograms have stat(), too: files of btrfs have device numbers that no mount has.
WITH_STAT = ("ext4", "xfs", "f2fs")
APPEND = 0x10  # RWF_APPEND


@pytest.fixture(scope="module", params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> Iterator[tuple[str, Path]]:
    with mounted(request.param) as place:
        yield request.param, place


@pytest.fixture(scope="module")
def ext4() -> Iterator[Path]:
    with mounted("ext4") as place:
        yield place


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A directory on a tmpfs."""
    with tempfile.TemporaryDirectory(prefix="osmia-tmpfs-") as place:
        subprocess.run(["mount", "-t", "tmpfs", "osmia-test", place], check=True)
        try:
            yield Path(place)
        finally:
            subprocess.run(["umount", place], check=True)


Row = tuple[str, int, int, str]  # type, bytes, offset, name


def everything(place: Path) -> list[Row]:
    """Operations of each kind, by each system call that does it; what is to be seen of them."""
    seen: list[Row] = []
    path = str(place / "data")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    seen.append(("O", 0, 0, "data"))
    for number in range(5):
        os.write(fd, b"x" * 1009)
        seen.append(("W", 1009, 1009 * number, "data"))
    os.writev(fd, [b"y" * 31, b"z" * 37])
    seen.append(("W", 68, 5045, "data"))
    os.pwrite(fd, b"p" * 503, 70001)
    seen.append(("W", 503, 70001, "data"))
    os.pwritev(fd, [b"q" * 11, b"r" * 13], 6007)
    seen.append(("W", 24, 6007, "data"))
    os.pwritev(fd, [b"s" * 17], 7001, os.RWF_DSYNC)
    seen.append(("W", 17, 7001, "data"))
    os.pwritev(fd, [b"t" * 19], 3, APPEND)  # pwritev2(): at the end, whatever the offset
    seen.append(("W", 19, 70504, "data"))
    os.fsync(fd)
    os.fdatasync(fd)
    seen += [("S", 0, 0, "data")] * 2
    os.lseek(fd, 100, os.SEEK_SET)
    for number in range(7):
        os.read(fd, 211)
        seen.append(("R", 211, 100 + 211 * number, "data"))
    os.readv(fd, [bytearray(100), bytearray(3)])
    seen.append(("R", 103, 1577, "data"))
    os.pread(fd, 307, 4001)
    seen.append(("R", 307, 4001, "data"))
    os.preadv(fd, [bytearray(41)], 2003)
    seen.append(("R", 41, 2003, "data"))
    os.pread(fd, 4096, 70523)  # at the end
    seen.append(("R", 0, 70523, "data"))
    os.close(fd)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    seen.append(("O", 0, 0, "data"))
    os.write(fd, b"a" * 101)
    seen.append(("W", 101, 70523, "data"))
    try:
        os.read(fd, 10)  # EBADF: no operation of the file system
    except OSError:
        os.close(fd)
    return seen


def nothing(place: Path) -> None:
    """Calls that are no operations of files: a directory, a path, a FIFO, what is not there."""
    fd = os.open(place, os.O_RDONLY)
    os.close(fd)
    os.close(os.open(place / "data", os.O_PATH))
    os.mkfifo(place / "fifo")
    fd = os.open(place / "fifo", os.O_RDWR)
    os.write(fd, b"12345")
    os.read(fd, 5)
    os.close(fd)
    os.unlink(place / "fifo")
    with suppress(OSError):
        os.open(place / "none", os.O_RDONLY)


def rows_of(tool: Tool) -> list[Row]:
    """The rows of a run with ``--json``."""
    rows = [one for one in tool.records() if "type" in one]
    return [(one["type"], one["size"], one["offset"], one["file"]) for one in rows]


@pytest.mark.feature("B13 tools")
def test_every_operation_is_a_row(system: tuple[str, Path], elsewhere: Path) -> None:
    """Kinds, bytes, offsets and names, of every system call; not those on a tmpfs."""
    name, place = system
    expected = everything(elsewhere)

    def work() -> None:
        everything(elsewhere)
        everything(place)
        nothing(place)
        everything(elsewhere)

    worker = Worker(work)
    tool = Tool(f"{name}slower", "--json", "-p", str(worker.pid), "0").start()
    worker.work()
    tool.stop()
    assert tool.status == 0 and tool.stderr == ""
    assert rows_of(tool) == expected
    for one in tool.records():
        assert one["pid"] == one["tid"] == worker.pid and one["ns"] > 0


def test_a_sync_of_a_directory_counts(system: tuple[str, Path]) -> None:
    name, place = system

    def work() -> None:
        fd = os.open(place, os.O_RDONLY)
        os.fsync(fd)

    worker = Worker(work)
    tool = Tool(f"{name}slower", "--json", "-p", str(worker.pid), "0").start()
    worker.work()
    tool.stop()
    assert [(kind, size) for kind, size, _, _ in rows_of(tool)] == [("S", 0)]


@pytest.mark.feature("A13 timestamps and time deltas")
def test_what_takes_long_is_shown(system: tuple[str, Path]) -> None:
    """A write to a frozen file system waits until it is thawed; the rest takes less than the limit or is as long."""
    name, place = system
    (place / "slow").write_bytes(b"x" * 100)
    fd = os.open(place / "slow", os.O_WRONLY)
    worker = Worker(lambda: [os.fstat(fd), os.write(fd, b"y" * 47)])
    tool = Tool(f"{name}slower", "-p", str(worker.pid), "150").start()
    with frozen(place):
        start = time.monotonic()
        worker.go()
        waits(worker.pid)
        since = time.monotonic()
        time.sleep(0.4)
        least = 1000 * (time.monotonic() - since)
    worker.done()
    most = 1000 * (time.monotonic() - start)
    tool.stop()
    os.close(fd)
    banner, head, *rows = tool.stdout.splitlines()
    assert banner == f"Tracing {name} operations slower than 150 ms"
    assert head.split() == ["TIME", "COMM", "PID", "T", "BYTES", "OFF_KB", "LAT(ms)", "FILENAME"]
    assert len(rows) == 1, rows
    row = rows[0].split()
    assert re.fullmatch(r"\d\d:\d\d:\d\d", row[0])
    assert row[2:6] == [str(worker.pid), "W", "47", "0"] and row[7] == "slow"
    assert least <= float(row[6]) <= most


def test_csv_is_bccs(ext4: Path) -> None:
    worker = Worker(lambda: everything(ext4))
    before = time.monotonic_ns() // 1000
    tool = Tool("ext4slower", "-j", "-p", str(worker.pid), "0").start()
    worker.work()
    tool.stop()
    after = time.monotonic_ns() // 1000
    head, *rows = tool.stdout.splitlines()
    assert head == "ENDTIME_us,TASK,PID,TYPE,BYTES,OFFSET_b,LATENCY_us,FILE"
    words = [row.split(",") for row in rows]
    assert [(w[3], int(w[4]), int(w[5]), w[7]) for w in words] == everything(ext4)
    assert all(before <= int(w[0]) <= after and int(w[2]) == worker.pid for w in words)


def test_other_processes_are_left_out(ext4: Path) -> None:
    one, other = Worker(lambda: everything(ext4)), Worker(lambda: everything(ext4))
    tool = Tool("ext4slower", "--json", "-p", str(one.pid), "0").start()
    other.work()
    one.work()
    tool.stop()
    assert rows_of(tool) == everything(ext4)
    assert {record["pid"] for record in tool.records()} == {one.pid}


def test_through_an_overlay(ext4: Path, elsewhere: Path) -> None:
    """Files of a container are in layers of an overlay: it is the layer's file system that does the work."""
    for name in ("lower", "upper", "work", "merged"):
        (ext4 / name).mkdir(exist_ok=True)
    (ext4 / "lower" / "old").write_bytes(b"o" * 1000)
    options = f"lowerdir={ext4}/lower,upperdir={ext4}/upper,workdir={ext4}/work"
    merged = ext4 / "merged"
    subprocess.run(["mount", "-t", "overlay", "osmia-test", "-o", options, merged], check=True)
    try:
        def work() -> None:
            fd = os.open(merged / "old", os.O_RDONLY)
            os.read(fd, 997)
            os.close(fd)
            everything(merged)

        worker = Worker(work)
        tool = Tool("ext4slower", "--json", "-p", str(worker.pid), "0").start()
        worker.work()
        tool.stop()
        expected = everything(merged)
    finally:
        subprocess.run(["umount", merged], check=True)
    assert rows_of(tool) == [("O", 0, 0, "old"), ("R", 997, 0, "old"), *expected]


def test_a_file_that_is_closed_meanwhile(ext4: Path) -> None:
    """Its name cannot be told any more, and is not made up."""
    path = ext4 / "closing"
    path.write_bytes(b"x")
    fd = os.open(path, os.O_WRONLY)
    closed = os.pipe()

    def work() -> None:
        writer = threading.Thread(target=lambda: os.write(fd, b"z" * 53))
        writer.start()
        waits(os.getpid(), writer.native_id)
        os.close(fd)
        os.write(closed[1], b"x")
        writer.join()

    worker = Worker(work)
    tool = Tool("ext4slower", "-p", str(worker.pid), "100").start()
    with frozen(ext4):
        worker.go()
        os.read(closed[0], 1)
        time.sleep(0.2)
    worker.done()
    tool.stop()
    for one in (fd, *closed):
        os.close(one)
    _, row = tool.rows()
    assert row.split()[2:5] == [str(worker.pid), "W", "53"] and row.split()[7:] == ["[closed]"]


NAMES = {"R": "read", "W": "write", "O": "open", "S": "fsync"}


def counts(text: str) -> Counter[str]:
    """Operations by kind in the histograms of text output."""
    found: Counter[str] = Counter()
    kind = ""
    for line in text.splitlines():
        head = re.fullmatch(r"operation = (\w+)", line)
        row = re.match(r"\s*\d+ -> \d+\s*: (\d+)\s*\|", line)
        if head:
            kind = head[1]
        elif row:
            found[kind] += int(row[1])
    return found


@pytest.mark.feature("A12 histograms: power-of-two")
def test_histograms_count_every_operation(system: tuple[str, Path], elsewhere: Path) -> None:
    name, place = system
    expected = Counter(NAMES[kind] for kind, _, _, _ in everything(elsewhere))

    def work() -> None:
        for _ in range(3):
            everything(place)
        everything(elsewhere)
        nothing(place)

    worker = Worker(work)
    tool = Tool(f"{name}dist", "-p", str(worker.pid)).start()
    worker.work()
    tool.stop()
    assert tool.stderr == "" and tool.stdout.startswith(f"Tracing {name} operation latency... Hit Ctrl-C to end.\n")
    assert counts(tool.stdout) == {kind: 3 * n for kind, n in expected.items()}
    assert "     usecs               : count     distribution\n" in tool.stdout


def test_stat_is_getattr(system: tuple[str, Path], elsewhere: Path) -> None:
    """By path and by descriptor, of files and directories; not what fails, and not what is on a tmpfs."""
    name, place = system
    (place / "file").write_bytes(b"")
    (elsewhere / "file").write_bytes(b"")
    fds = [os.open(where / "file", os.O_RDONLY) for where in (place, elsewhere)]

    def work() -> None:
        for _ in range(11):
            os.stat(place / "file")
            os.stat(elsewhere / "file")
        for _ in range(7):
            os.lstat(place)
        for fd in fds:
            for _ in range(5):
                os.fstat(fd)
        with suppress(OSError):
            os.stat(place / "none")

    worker = Worker(work)
    tool = Tool(f"{name}dist", "-p", str(worker.pid)).start()
    worker.work()
    tool.stop()
    for fd in fds:
        os.close(fd)
    assert tool.stderr == ""
    assert counts(tool.stdout) == ({"getattr": 11 + 7 + 5} if name in WITH_STAT else {})


STAND_IN = """
from osmia import run
from osmia.tools import _fs
_fs.SYSTEMS["nfs"] = _fs.SYSTEMS["ext4"]
from osmia.tools.nfsslower import *
run()
"""


def test_rows_of_stat(ext4: Path, elsewhere: Path, tmp_path: Path) -> None:
    """nfsslower's programs, with ext4 in place of NFS, which no machine has without a server."""
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    (ext4 / "file").write_bytes(b"")
    fd = os.open(ext4 / "file", os.O_RDONLY)

    def work() -> None:
        os.stat(ext4 / "file")
        os.stat(elsewhere)
        os.fstat(fd)
        with suppress(OSError):
            os.stat(ext4 / "none")
        everything(ext4)

    worker = Worker(work)
    tool = Tool("run", str(tmp_path / "stand_in.py"), "--json", "-p", str(worker.pid), "0").start()
    worker.work()
    tool.stop()
    os.close(fd)
    expected = [("G", 0, 0, str(ext4 / "file")), ("G", 0, 0, "file"), *everything(ext4)]
    assert rows_of(tool) == expected


def test_stat_on_what_was_mounted_later_is_counted_as_lost(ext4: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="osmia-tmpfs-") as place:
        worker = Worker(lambda: [os.stat(place) for _ in range(3)])
        tool = Tool("ext4dist", "-p", str(worker.pid)).start()
        subprocess.run(["mount", "-t", "tmpfs", "osmia-test", place], check=True)
        try:
            worker.work()
        finally:
            subprocess.run(["umount", place], check=True)
        tool.stop()
    assert counts(tool.stdout) == {}
    lost = "3 lost: calls of stat() on file systems that were not mounted when tracing began"
    assert tool.stderr == f"osmia: {lost}\n"


def test_histogram_of_what_takes_long(ext4: Path) -> None:
    """-m, and the time of each interval unless -T."""
    (ext4 / "slow").write_bytes(b"x")
    fd = os.open(ext4 / "slow", os.O_WRONLY)
    worker = Worker(lambda: os.write(fd, b"y" * 47))
    tool = Tool("ext4dist", "-m", "-p", str(worker.pid), "--json").start()
    with frozen(ext4):
        start = time.monotonic()
        worker.go()
        waits(worker.pid)
        since = time.monotonic()
        time.sleep(0.4)
        least = 1000 * (time.monotonic() - since) - 1  # whole milliseconds
    worker.done()
    most = 1000 * (time.monotonic() - start)
    tool.stop()
    os.close(fd)
    (record,) = [json.loads(line) for line in tool.stdout.splitlines()]
    (hist,) = record["histograms"]
    assert record["unit"] == "msecs" and record["section"] == "operation" and hist["label"] == "write"
    assert hist["count"] == 1 and least <= hist["sum"] <= most


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("args", "times"), [(["1", "2"], 2), (["-T", "1", "2"], 0), (["-i", "1", "-d", "1"], 1), (["-d", "1"], 0)]
)
def test_times_of_intervals(args: list[str], times: int) -> None:
    tool = Tool("ext4dist", *args).start()
    tool.wait(patient(20))
    assert len(re.findall(r"^\d\d:\d\d:\d\d$", tool.stdout, re.M)) == times


def without(system: str) -> None:
    """Skip on a machine that has such a file system mounted."""
    if any(f" - {system}" in line for line in Path("/proc/self/mountinfo").read_text().splitlines()):
        pytest.skip(f"this machine has {system} mounted")


@pytest.mark.anywhere
@pytest.mark.parametrize("system", ["nfs", "zfs", "f2fs"])
@pytest.mark.parametrize("kind", ["slower", "dist"])
def test_where_there_is_nothing_to_see(kind: str, system: str) -> None:
    name = system + kind
    without(system)
    tool = Tool(name, "--csv").start().stop()
    assert "mounted" not in tool.stdout
    tool = Tool(name).start().stop()
    assert tool.status == 0 and tool.stdout.splitlines()[1] == f"No {system} file system is mounted yet."


@pytest.mark.anywhere
@pytest.mark.parametrize("name", ["nfsdist", "nfsslower"])
def test_no_call_is_taken_for_another(name: str) -> None:
    """Where no such file system is, there is no row, not even of the calls that began while programs were attached."""
    without("nfs")
    worker = Worker(lambda: os.stat(f"/proc/self/fd/{os.pipe()[0]}"))
    tool = Tool(name, "--json", *(["0"] if name == "nfsslower" else [])).start()
    worker.work()
    time.sleep(0.5)
    tool.stop()
    assert [one for one in tool.records() if one.get("histograms") or "type" in one] == []


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("ext4slower -1", "-1"),
        ("xfsslower soon", "'soon' is not a time in milliseconds"),
        ("btrfsslower nan", "'nan' is not a time in milliseconds"),
        ("ext4dist 0", "0 is not a time: more than 0 seconds is needed"),
        ("ext4dist 1 0", "'0' is not a whole number from 1"),
        ("ext4slower -p x", "'x'"),
        ("nfsdist -i 1 1", "the interval is there twice"),
    ],
)
def test_wrong_options_are_one_sentence(words: str, text: str) -> None:
    run = osmia(*words.split())
    assert run.returncode == 2 and run.stdout == ""
    assert text in run.stderr and len(run.stderr.splitlines()) == 1


#: On a machine where others work, too.
LATER = re.compile(r"osmia: \d+ lost: calls of stat\(\) on file systems that were not mounted when tracing began\n")
COMMANDS = (REPO / "tests" / "fixtures" / "bcc" / "fs.txt").read_text().splitlines()


@pytest.mark.anywhere
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_that_bcc_documents(command: str) -> None:
    """Each is accepted, and runs until it is stopped."""
    tool, *words = command.replace("181", str(os.getpid())).split()
    run = Tool(tool, *words).start().stop()
    assert run.status == 0 and LATER.sub("", run.stderr) == "", command


def test_all_systems_can_be_made() -> None:
    """What the tests above are about is here: a kernel has at least one of them."""
    assert any(known(name) for name in MAKE)
