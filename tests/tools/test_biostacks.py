# SPDX-License-Identifier: Apache-2.0
"""biostacks against a loop device that is read and written from known places a known number of times."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Tool, loop_device, osmia, skipped

from osmia.kernel import tracefs

pytestmark = pytest.mark.kernel

READS, WRITES = 211, 101
BLOCK = 4096


@pytest.fixture
def loop() -> Iterator[str]:
    with loop_device(8) as name:
        time.sleep(0.1)  # what looks at new disks has looked
        yield name


def direct(disk: str, reads: int, writes: int) -> None:
    """Direct reads and writes of 4 KiB each, one after the other."""
    fd = os.open(f"/dev/{disk}", os.O_RDWR | os.O_DIRECT)
    buffer = mmap.mmap(-1, BLOCK)
    try:
        for number in range(reads):
            assert os.preadv(fd, [buffer], number * BLOCK) == BLOCK
        for number in range(writes):
            assert os.pwritev(fd, [buffer], number * BLOCK) == BLOCK
    finally:
        os.close(fd)


def done(disk: str) -> int:
    """Reads and writes that the kernel has counted for ``disk``."""
    words = Path(f"/sys/block/{disk}/stat").read_text().split()
    return int(words[0]) + int(words[4])


def histograms(tool: Tool) -> list[dict[str, Any]]:
    assert tool.status == 0, tool.stderr
    return [one for record in tool.records() if "histograms" in record for one in record["histograms"]]


def first_seen(name: str) -> bool:
    """Whether a request is made in this function; before 6.5 also whether it leaves the list of its task there."""
    return "submit_bio" in name or ("plug" in name and not tracefs.exists("block", "block_io_start"))


def names(one: dict[str, Any]) -> list[str]:
    return [frame["name"] for frame in one["kernel"]]


def through(found: list[dict[str, Any]], call: str) -> int:
    """Requests whose stack has a function with ``call`` in its name."""
    return sum(one["count"] for one in found if any(call in name for name in names(one)))


def whole(tool: Tool, counted: int, made: int) -> bool:
    """Whether everything was counted, but for what the kernel skipped and the tool's account says."""
    return 0 <= made - counted <= skipped(tool)


def test_reads_and_writes_by_their_stacks(loop: str) -> None:
    before = done(loop)
    tool = Tool("biostacks", "--json", "-d", loop).start()
    direct(loop, READS, WRITES)
    tool.stop()
    found = histograms(tool)
    assert done(loop) - before == READS + WRITES
    mine = [one for one in found if one["pid"] == os.getpid()]
    assert whole(tool, through(mine, "preadv"), READS) and whole(tool, through(mine, "pwritev"), WRITES)
    assert whole(tool, sum(one["count"] for one in found), READS + WRITES)
    for one in mine:
        assert one["comm"] == Path("/proc/self/comm").read_text().rstrip("\n") and one["cut"] == []
        assert any(map(first_seen, names(one))) and not any("bpf" in name for name in names(one))
        assert sum(bucket["count"] for bucket in one["buckets"]) == one["count"] and 0 < one["min"] <= one["max"]
    sums = [one["sum"] for one in found]
    assert sums == sorted(sums)


def test_text(loop: str) -> None:
    tool = Tool("biostacks", "-d", loop).start()
    direct(loop, READS, 0)
    tool.stop()
    banner, *blocks = tool.stdout.strip("\n").split("\n\n")
    assert banner == "Tracing block device I/O by the stack that made it... Hit Ctrl-C to end."
    comm = Path("/proc/self/comm").read_text().rstrip("\n")
    mine = [block.split("\n") for block in blocks if f"    {'-':<16} {comm} ({os.getpid()})" in block]
    total = 0
    for lines in mine:
        at = lines.index(f"    {'-':<16} {comm} ({os.getpid()})")
        assert any(map(first_seen, lines[:at]))
        assert lines[at + 1].split() == ["usecs", ":", "count", "distribution"]
        total += sum(int(line.split(":")[1].split()[0]) for line in lines[at + 2 :])
    assert total == READS or (total < READS and "skipped" in tool.stderr)


def test_milliseconds_and_csv(loop: str) -> None:
    csv = Tool("biostacks", "--csv", "-d", loop).start()
    millis = Tool("biostacks", "-m", "--json", "-d", loop).start()
    direct(loop, 0, WRITES)
    csv.stop()
    millis.stop()
    head, *rows = csv.stdout.splitlines()
    assert head == "time,key,low,high,count"
    cells = [row.split(",") for row in rows]
    total = sum(int(count) for *_, count in cells)
    assert total == WRITES or (total < WRITES and "skipped" in csv.stderr)
    assert all(";" in key and first_seen(key) for _, key, *_ in cells)
    record = json.loads(millis.stdout.splitlines()[0])
    assert record["unit"] == "msecs" and whole(millis, sum(one["count"] for one in record["histograms"]), WRITES)


def test_one_process_only(loop: str) -> None:
    """Another process reads, too."""
    script = (
        "import mmap, os, sys\nsys.stdin.readline()\nfd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)\n"
        "buffer = mmap.mmap(-1, 4096)\nfor n in range(53): os.preadv(fd, [buffer], n * 4096)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", script, f"/dev/{loop}"], stdin=subprocess.PIPE, text=True)
    tool = Tool("biostacks", "--json", "-p", str(other.pid)).start()
    direct(loop, 17, 19)
    other.communicate("\n")
    tool.stop()
    found = histograms(tool)
    assert {one["pid"] for one in found} == {other.pid} and whole(tool, through(found, "preadv"), 53)


def test_intervals_add_up(loop: str) -> None:
    tool = Tool("biostacks", "--json", "-i", "0.5", "-d", loop).start()
    for _ in range(5):
        direct(loop, 20, 3)
        time.sleep(0.3)
    tool.stop()
    assert whole(tool, sum(one["count"] for one in histograms(tool)), 115)
    assert len([record for record in tool.records() if record.get("histograms")]) >= 2


def test_a_heat_map_names_the_stacks(loop: str) -> None:
    tool = Tool("biostacks", "--heatmap", "-i", "0.5", "-d", loop).start()
    direct(loop, 29, 0)
    tool.stop()
    heads = [line for line in tool.stdout.splitlines() if line.startswith("stack = ")]
    assert heads and all(";" in head and first_seen(head) for head in heads)


def test_it_ends_after_the_duration(loop: str) -> None:
    finished = osmia("biostacks", "-d", loop, "0.2")
    assert (finished.returncode, finished.stderr) == (0, "") and finished.stdout.startswith("Tracing block device I/O")


def test_no_room_for_another_stack_is_said(loop: str) -> None:
    """Reads and writes have two stacks, and there is room for one."""
    tool = Tool("biostacks", "--json", "--stack-storage-size", "1", "-d", loop).start()
    direct(loop, 7, 5)
    tool.stop()
    found = [one for record in tool.records() if "histograms" in record for one in record["histograms"]]
    assert whole(tool, sum(one["count"] for one in found), 12)
    assert sum(one["count"] for one in found if one["kernel"]) < 12 and "lost" in tool.stdout + tool.stderr


@pytest.mark.anywhere
def test_what_is_no_disk() -> None:
    finished = osmia("biostacks", "-d", "no-such-disk")
    assert finished.returncode == 2 and "there is no disk 'no-such-disk'" in finished.stderr
