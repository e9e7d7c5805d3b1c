# SPDX-License-Identifier: Apache-2.0
"""readahead against files of which mincore(2) tells which pages are in memory.

A kernel that reclaims what is not used (DAMON) drops pages at any time: how many are there is asked next to the
work, not after the tool has ended.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filesystems import Worker, mounted
from harness import REPO, Tool, eventually, osmia
from needs import needs, older_than

from osmia.kernel import tracefs

pytestmark = pytest.mark.kernel

PAGE = mmap.PAGESIZE
LENGTH = 1500  # pages of the file
READ = 101  # of them, one by one, from the beginning
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
#: Since 6.12 tracepoints tell which pages are used, and since 6.18 which are read ahead; before, functions are traced.
BY_TRACEPOINTS = tracefs.exists("readahead", "page_cache_ra_unbounded")


@pytest.fixture(scope="module", params=["ext4", "xfs"])
def file(request: pytest.FixtureRequest) -> Iterator[Path]:
    if not BY_TRACEPOINTS:
        needs("fentry")
    with mounted(request.param) as place:
        (place / "data").write_bytes(b"x" * LENGTH * PAGE)
        subprocess.run(["sync", "-f", str(place)], check=True)
        yield place / "data"


def forget(file: Path) -> None:
    """Have none of its pages in memory."""
    fd = os.open(file, os.O_RDONLY)
    os.fdatasync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    assert resident(file) == 0


def resident(file: Path) -> int:
    """How many of its pages are in memory, once those that are being read have come."""
    device = file.stat().st_dev
    inflight = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/inflight")  # reads, writes
    assert eventually(lambda: inflight.read_text().split()[0] == "0", 20)
    fd = os.open(file, os.O_RDONLY)
    pages = (ctypes.c_ubyte * LENGTH)()
    address = ctypes.c_void_p(LIBC.mmap(None, ctypes.c_size_t(LENGTH * PAGE), mmap.PROT_READ, mmap.MAP_SHARED, fd, 0))
    try:
        assert LIBC.mincore(address, ctypes.c_size_t(LENGTH * PAGE), pages) == 0
    finally:
        LIBC.munmap(address, ctypes.c_size_t(LENGTH * PAGE))
        os.close(fd)
    return sum(page & 1 for page in pages)


def read_some(file: Path) -> None:
    fd = os.open(file, os.O_RDONLY)
    for _ in range(READ):
        assert len(os.read(fd, PAGE)) == PAGE
    os.close(fd)


def counted(
    work: Callable[[], object], behind: Callable[[], object] = lambda: None, before: Callable[[], object] = lambda: None
) -> dict[str, int]:
    """Pages by what happened to them, of a process that does ``work``; ``behind`` is called before the tool ends,
    ``before`` when it has begun."""
    worker = Worker(work)
    tool = Tool("readahead", "--json", "-p", str(worker.pid)).start()
    before()
    worker.work()
    behind()
    tool.stop()
    assert tool.status == 0 and tool.stderr == ""
    (record,) = [json.loads(line) for line in tool.stdout.splitlines()]
    return {one["label"]: one["count"] for one in record["histograms"]}


@pytest.mark.feature("B13 tools")
def test_pages_read_ahead_and_used(file: Path) -> None:
    """As many as are in memory then, of which those that were read are used."""
    forget(file)
    there = []
    found = counted(lambda: read_some(file), lambda: there.append(resident(file)))
    assert READ < there[0] < LENGTH
    dropped = found.pop("dropped unused", 0)  # by the kernel alone, since
    assert found == {"read ahead": there[0], "used": READ} and dropped <= there[0] - resident(file)


def test_pages_that_are_dropped_unused(file: Path) -> None:
    forget(file)
    there = []

    def drop() -> None:
        there.append(resident(file))
        forget(file)

    found = counted(lambda: read_some(file), drop)
    assert found == {"read ahead": there[0], "used": READ, "dropped unused": there[0] - READ}


def test_what_is_in_memory_is_not_read_ahead(file: Path) -> None:
    forget(file)
    assert counted(lambda: read_some(file), before=file.read_bytes) == {}


def test_what_is_written_is_not_read_ahead(file: Path) -> None:
    assert counted(lambda: (file.parent / "new").write_bytes(b"y" * 64 * PAGE)) == {}


def test_asked_for_and_used_later(file: Path) -> None:
    """posix_fadvise() reads ahead what is read after a while: the age is that while at least.

    What the kernel has dropped in the meantime was read ahead in vain, and is read and used at once.
    """
    forget(file)
    kept = mmap.mmap(-1, PAGE)

    def work() -> None:
        fd = os.open(file, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 31 * PAGE, os.POSIX_FADV_WILLNEED)
        time.sleep(0.3)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        kept[0] = resident(file)
        for number in range(31):
            assert os.pread(fd, PAGE, number * PAGE)
        os.close(fd)

    worker = Worker(work)
    tool = Tool("readahead", "--json", "-p", str(worker.pid)).start()
    worker.work()
    tool.stop()
    (record,) = [json.loads(line) for line in tool.stdout.splitlines()]
    found = {one["label"]: one for one in record["histograms"]}
    lost = 31 - kept[0]
    used, dropped = found["used"], found.get("dropped unused", {"count": 0})
    assert (found["read ahead"]["count"], used["count"], dropped["count"]) == (31 + lost, 31, lost)
    assert sum(one["count"] for one in used["buckets"] if one["low"] < 256) == lost
    assert record["unit"] == "msecs" and (lost or used["min"] >= 290) and used["max"] >= 290


def test_memory_that_is_mapped(file: Path) -> None:
    """What a program touches is used; the kernel maps pages around it, which cannot be told from that."""
    if not BY_TRACEPOINTS:
        assert older_than("6.18")
        pytest.skip("functions tell of pages that are mapped only when they are not mapped any more")
    forget(file)

    def work() -> None:
        fd = os.open(file, os.O_RDONLY)
        memory = mmap.mmap(fd, LENGTH * PAGE, prot=mmap.PROT_READ)
        assert sum(memory[number * PAGE] for number in range(67)) == 67 * ord("x")

    there = []
    found = counted(work, lambda: there.append(resident(file)))
    # A kernel that reclaims what is not used may have begun: a page or two folios less.
    assert 0 <= found["read ahead"] - there[0] <= 16 and 67 <= found["used"] <= found["read ahead"]


def test_text_is_bccs(file: Path) -> None:
    forget(file)
    worker = Worker(lambda: read_some(file))
    tool = Tool("readahead", "-p", str(worker.pid)).start()
    worker.work()
    there = resident(file)
    tool.stop()
    lines = tool.stdout.splitlines()
    assert lines[:5] == [
        "Tracing... Hit Ctrl-C to end.", "", f"Read-ahead unused pages: {there - READ}",
        "Histogram of read-ahead used page age (ms):", "",
    ]  # fmt: skip
    assert "     age (ms)            : count     distribution" in lines
    counts = [int(n) for n in re.findall(r"^\s*\d+ -> \d+\s*: (\d+)\s*\|", tool.stdout, re.M)]
    assert sum(counts) == READ


def test_other_processes_are_left_out(file: Path) -> None:
    forget(file)
    other = Worker(lambda: read_some(file))
    found = counted(lambda: None, other.work)
    assert found == {} and resident(file) > READ


@pytest.mark.anywhere
@pytest.mark.parametrize(("words", "text"), [("-d x", "'x' is not a number of seconds"), ("-d 0", "0 is not a time")])
def test_wrong_options_are_one_sentence(words: str, text: str) -> None:
    run = osmia("readahead", *words.split())
    assert run.returncode == 2 and run.stdout == ""
    assert text in run.stderr and len(run.stderr.splitlines()) == 1


@pytest.mark.anywhere
@pytest.mark.parametrize("command", (REPO / "tests" / "fixtures" / "bcc" / "readahead.txt").read_text().splitlines())
def test_commands_that_bcc_documents(command: str) -> None:
    if not BY_TRACEPOINTS:
        needs("fentry")
    run = Tool(*command.split()).start().stop()
    assert run.status == 0 and run.stderr == ""
