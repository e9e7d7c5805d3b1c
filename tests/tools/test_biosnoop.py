# SPDX-License-Identifier: Apache-2.0
"""biosnoop against a loop device: each request once, with its place, its size and who made it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from disks import BLOCK, SEES_THE_BEGINNING, apart, buffered, direct, done, flush
from harness import Tool, osmia

pytestmark = pytest.mark.kernel

READS, WRITES = 211, 101
COMM = Path("/proc/self/comm").read_text().strip()


def requests(tool: Tool) -> list[dict[str, Any]]:
    assert tool.status == 0, tool.stderr
    return [record for record in tool.records() if "sector" in record]


@pytest.mark.feature("B13 tools")
def test_each_request_is_a_row(loop: str) -> None:
    tool = Tool("biosnoop", "--json", "-d", loop).start()
    before, start = done(loop), time.monotonic_ns()
    direct(loop, apart(READS))
    direct(loop, apart(WRITES, 8192), write=True, size=8192)
    wall = time.monotonic_ns() - start
    delta = done(loop) - before
    found = requests(tool.stop())
    assert len(found) == delta == READS + WRITES
    assert [(e["type"], e["sector"], e["bytes"]) for e in found] == [
        *[("R", offset // 512, BLOCK) for offset in apart(READS)],
        *[("W", offset // 512, 8192) for offset in apart(WRITES, 8192)],
    ]
    assert {(e["pid"], e["comm"], e["disk"]) for e in found} == {(os.getpid(), COMM, loop)}
    assert all(e["latency"] > 0 for e in found)
    assert sum(e["queued"] + e["latency"] for e in found) < wall  # one after the other
    assert [e["ts"] for e in found] == sorted(e["ts"] for e in found)


def test_the_table(loop: str) -> None:
    tool = Tool("biosnoop", "-QP", "-d", loop).start()
    direct(loop, [0, BLOCK, 2 * BLOCK, 100 * BLOCK])
    tool.stop()
    head, *rows = tool.stdout.splitlines()
    assert head.split() == ["TIME(s)", "COMM", "PID", "DISK", "T", "SECTOR", "BYTES", "P", "QUE(ms)", "LAT(ms)"]
    cells = [row[row.rindex(loop) - 8 :].split() for row in rows]
    assert [(c[0], c[1], c[2], c[3], c[4]) for c in cells] == [
        (str(os.getpid()), loop, "R", str(sector), "4096") for sector in (0, 8, 16, 800)
    ]
    assert [c[5] for c in cells] == ["?", "S", "S", "R"]
    assert all(float(c[6]) >= 0 and float(c[7]) >= 0 for c in cells)
    assert rows[0].startswith("0.000000")


def test_buffered_requests_are_merged_and_count_once(loop: str) -> None:
    """Many pages become few requests; with the flush at the end they are as many as the disk has counted."""
    tool = Tool("biosnoop", "--json", "-d", loop).start()
    before = done(loop)
    buffered(loop)
    delta = done(loop) - before
    found = requests(tool.stop())
    assert sum(e["bytes"] for e in found if e["type"] == "W") == 64 * 65536
    assert sum(e["bytes"] for e in found if e["type"] == "R") == 8 << 20
    assert len(found) == delta < 64 * 16


def test_a_flush_is_what_was_asked_for_and_the_command(loop: str) -> None:
    """The process's request, which waits for it, and the command to the disk, which the kernel makes by itself."""
    tool = Tool("biosnoop", "--json", "-d", loop).start()
    before = done(loop)
    for _ in range(7):
        flush(loop)
    delta = done(loop) - before
    found = requests(tool.stop())
    assert {e["type"] for e in found} == {"F"} and {e["bytes"] for e in found} == {0}
    commands = [e for e in found if e["flags"] & 0xFF == 2]
    assert len(commands) == 7
    if SEES_THE_BEGINNING:
        assert len(found) == delta == 14
        assert {(e["pid"], e["comm"]) for e in found if e not in commands} == {(os.getpid(), COMM)}
    assert {e["sector"] for e in commands} == {0}


def test_writeback_is_the_kernels(loop: str) -> None:
    """Pages that nobody waits for: what the kernel's thread works at stands in place of its number."""
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", f"/dev/{loop}"], check=True)
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["mount", "-t", "ext4", f"/dev/{loop}", place], check=True)
        try:
            tool = Tool("biosnoop", "--json", "-d", loop).start()
            with open(f"{place}/file", "wb") as file:
                file.write(os.urandom(1 << 20))
            os.sync()
            time.sleep(0.2)
            found = requests(tool.stop())
        finally:
            subprocess.run(["umount", place], check=True)
    back = [e for e in found if e["comm"].startswith("flush-")]
    number = Path(f"/sys/block/{loop}/dev").read_text().strip()
    assert {e["comm"] for e in back} == {f"flush-{number}"}
    assert sum(e["bytes"] for e in back if e["type"] == "W") >= 1 << 20
    workers = {Path(f"/proc/{e['pid']}/comm") for e in back}
    assert all(not path.exists() or path.read_text().startswith("kworker") for path in workers)


@pytest.mark.parametrize(
    ("filters", "seen"),
    [
        (["-p", "{pid}"], True),
        (["-p", "1"], False),
        (["-n", "{comm}"], True),
        (["-n", "nobody-has-this"], False),
        (["--uid", "0"], True),
        (["--uid", "12345"], False),
        (["-m", "100000"], False),
    ],
)
def test_filters(loop: str, filters: list[str], seen: bool) -> None:
    words = [word.format(pid=os.getpid(), comm=COMM[:8]) for word in filters]
    tool = Tool("biosnoop", "--json", "-d", loop, *words).start()
    direct(loop, apart(31))
    assert len(requests(tool.stop())) == (31 if seen else 0)


def test_who_issues_a_request_is_not_who_made_it(loop: str) -> None:
    """With the filter on the kernel's workers nothing of ours is theirs, though they hand it to the driver."""
    with suppress(OSError):  # a loop device may have none
        Path(f"/sys/block/{loop}/queue/scheduler").write_text("mq-deadline")
    tool = Tool("biosnoop", "--json", "-d", loop, "-n", "kworker").start()
    with open(f"/dev/{loop}", "r+b", buffering=0) as device:
        for _ in range(13):
            device.write(b"x" * 65536)
        os.fdatasync(device.fileno())
    assert [e for e in requests(tool.stop()) if e["bytes"]] == [] or not SEES_THE_BEGINNING


def test_the_disk_alone(loop: str) -> None:
    """Without -d every disk is there; a path will do as a name."""
    everything = Tool("biosnoop", "--json", "-p", str(os.getpid())).start()
    by_path = Tool("biosnoop", "--json", "-d", f"/dev/{loop}").start()
    direct(loop, apart(17))
    assert len(requests(by_path.stop())) == 17
    assert len([e for e in requests(everything.stop()) if e["disk"] == loop]) == 17


def test_a_command(loop: str) -> None:
    read = "import mmap, os, sys; fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT); b = mmap.mmap(-1, 4096)\n" \
           "for n in range(19): os.preadv(fd, [b], n * 8192)"  # fmt: skip
    done_ = osmia("biosnoop", "-d", loop, "-c", f"{sys.executable} -c '{read}' /dev/{loop}")
    assert done_.returncode == 0, done_.stderr
    assert len([row for row in done_.stdout.splitlines()[1:] if f" {loop} " in row]) == 19


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["-d", "/dev/null"], "there is no disk '/dev/null'"),
        (["-d", "5"], "seconds are for --duration"),
        (["-m", "soon"], "soon"),
    ],
)
def test_wrong_options_are_one_sentence(args: list[str], text: str) -> None:
    run = osmia("biosnoop", *args)
    assert run.returncode == 2 and run.stdout == ""
    assert text in run.stderr and len(run.stderr.splitlines()) == 1
