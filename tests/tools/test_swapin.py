# SPDX-License-Identifier: Apache-2.0
"""swapin against a process whose memory is in swap space, and the kernel's own count of pages read from there."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filesystems import Worker, mounted
from harness import REPO, Tool, osmia
from patience import patient
from swapped import PAGE, Swapped, counter, swap_space

pytestmark = pytest.mark.kernel

PAGES = 2003


@pytest.fixture(scope="module")
def swapped() -> Iterator[Swapped]:
    with swap_space(), Swapped(PAGES) as process:
        yield process


def rows(tool: Tool) -> list[dict[str, Any]]:
    return [row for one in tool.records() for row in one.get("rows", [])]


def of(tool: Tool, pid: int) -> int:
    return sum(row["count"] for row in rows(tool) if row["pid"] == pid)


@pytest.mark.feature("B13 tools")
def test_count_is_the_kernels_own(swapped: Swapped) -> None:
    swapped.push_out()
    tool = Tool("swapin", "--json").start()
    before = counter("pswpin")
    swapped.touch()
    read = counter("pswpin") - before
    tool.stop()
    assert read > PAGES // 2  # pages are read in one by one: each is a count
    assert of(tool, swapped.pid) == read
    assert {row["comm"] for row in rows(tool) if row["pid"] == swapped.pid} == {
        Path(f"/proc/{swapped.pid}/comm").read_text().strip()
    }


def test_intervals_and_their_times(swapped: Swapped) -> None:
    swapped.push_out()
    tool = Tool("swapin", "-p", str(swapped.pid), "1", "2").start()
    before = counter("pswpin")
    swapped.touch()
    read = counter("pswpin") - before
    tool.wait(patient(20))
    lines = tool.stdout.splitlines()
    assert lines[0] == "Counting swap ins. Ctrl-C to end."
    assert len([one for one in lines if re.fullmatch(r"\d\d:\d\d:\d\d", one)]) == 2
    assert [one.split() for one in lines if one.startswith("COMM")] == [["COMM", "PID", "COUNT"]] * 2
    counts = [one.split()[-1] for one in lines if one.split()[1:2] == [str(swapped.pid)]]
    assert sum(map(int, counts)) == read


def test_without_times(swapped: Swapped) -> None:
    tool = Tool("swapin", "-T", "1", "1").start()
    tool.wait(patient(20))
    assert not re.search(r"^\d\d:\d\d:\d\d$", tool.stdout, re.M)


def test_other_processes_are_left_out(swapped: Swapped) -> None:
    swapped.push_out()
    tool = Tool("swapin", "--json", "-p", str(os.getpid())).start()
    swapped.touch()
    tool.stop()
    assert rows(tool) == []


def test_reads_of_files_are_none(swapped: Swapped) -> None:
    """Neither through the page cache nor directly into the memory of a program."""
    with mounted("ext4") as place:
        (place / "data").write_bytes(b"x" * 64 * PAGE)
        subprocess.run(["sync", "-f", str(place)], check=True)

        def work() -> None:
            import mmap

            fd = os.open(place / "data", os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            while os.read(fd, PAGE):
                pass
            direct = os.open(place / "data", os.O_RDONLY | os.O_DIRECT)
            memory = mmap.mmap(-1, 64 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            assert os.readv(direct, [memory]) == 64 * PAGE  # pages that nobody has touched
            os.lseek(direct, 0, os.SEEK_SET)
            assert os.readv(direct, [memory]) == 64 * PAGE  # and that are there

        worker = Worker(work)
        tool = Tool("swapin", "--json").start()
        worker.work()
        tool.stop()
    assert of(tool, worker.pid) == 0


@pytest.mark.anywhere
@pytest.mark.parametrize(("words", "text"), [("0", "0 is not a time"), ("1 x", "'x'"), ("-p", "-p")])
def test_wrong_options_are_one_sentence(words: str, text: str) -> None:
    run = osmia("swapin", *words.split())
    assert run.returncode == 2 and run.stdout == ""
    assert text in run.stderr and len(run.stderr.splitlines()) == 1


@pytest.mark.anywhere
@pytest.mark.parametrize("command", (REPO / "tests" / "fixtures" / "bcc" / "swapin.txt").read_text().splitlines())
def test_commands_that_bcc_documents(command: str) -> None:
    run = Tool(*command.split()).start().stop()
    assert run.status == 0 and run.stderr == ""
