# SPDX-License-Identifier: Apache-2.0
"""writeback against file systems on loop devices, where it is known how many pages have to be written."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filesystems import mounted
from harness import REPO, Tool, osmia

from osmia.tools import writeback

pytestmark = pytest.mark.kernel

PAGE = os.sysconf("SC_PAGESIZE")
PAGES, CHANGED = 1009, 503
LIBC = ctypes.CDLL(None)


@pytest.fixture(scope="module", params=["ext4", "xfs"])
def place(request: pytest.FixtureRequest) -> Iterator[Path]:
    with mounted(request.param) as place:
        LIBC.sync()
        yield place


def device(place: Path) -> str:
    number = place.stat().st_dev
    return f"{os.major(number)}:{os.minor(number)}"


def write(place: Path) -> tuple[int, int]:
    """New pages, synced, and some of them changed, synced; when the first sync began and the second was over, in ns."""
    fd = os.open(place / "data", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    for _ in range(PAGES):
        os.write(fd, b"x" * PAGE)
    begin = time.monotonic_ns()
    assert LIBC.syncfs(fd) == 0
    for number in range(CHANGED):
        os.pwrite(fd, b"y", 2 * number * PAGE)
    assert LIBC.syncfs(fd) == 0
    end = time.monotonic_ns()
    os.close(fd)
    os.unlink(place / "data")
    return begin, end


def of(device: str, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in records if one.get("device") == device]


@pytest.mark.feature("B13 tools")
def test_pages_are_those_that_were_changed(place: Path) -> None:
    """How many, why, on which device; the time is within that of the calls which waited for it."""
    tool = Tool("writeback", "--json").start()
    begin, end = write(place)
    tool.stop()
    assert tool.status == 0 and tool.stderr == ""
    found = [one for one in of(device(place), tool.records()) if one["pages"]]
    assert [one["pages"] for one in found] == [PAGES, CHANGED]
    for one in found:
        assert writeback.REASONS[one["reason"]] == "sync" and one["wanted"] >= one["pages"]
        assert one["ns"] > 0 and begin <= one["ts"] - one["ns"] <= one["ts"] <= end


def test_rows(place: Path) -> None:
    tool = Tool("writeback").start()
    write(place)
    tool.stop()
    banner, head, *rows = tool.stdout.splitlines()
    assert banner == "Tracing writeback... Hit Ctrl-C to end."
    assert head.split() == ["TIME", "DEVICE", "PAGES", "REASON", "ms"]
    words = [row.split() for row in rows]
    assert [word[2:4] for word in words if word[1] == device(place) and word[2] != "0"] == [
        [str(PAGES), "sync"], [str(CHANGED), "sync"]
    ]  # fmt: skip
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d", word[0]) and re.fullmatch(r"\d+\.\d{3}", word[4]) for word in words)


def test_memory_is_not_written_back(place: Path) -> None:
    """A tmpfs has no disk: nothing is seen."""
    subprocess.run(["mount", "-t", "tmpfs", "osmia-test", place], check=True)
    try:
        tool = Tool("writeback", "--json").start()
        write(place)
        tool.stop()
    finally:
        subprocess.run(["umount", place], check=True)
    assert [one for one in of(device(place), tool.records()) if one["pages"]] == []


def test_reasons_are_the_kernels() -> None:
    """Names and numbers as the kernel prints them."""
    shown = Path("/sys/kernel/tracing/events/writeback/writeback_start/format").read_text()
    found = re.findall(r'\{ (\d+), "(\w+)" \}', shown)
    if not found:  # names of an enum that user space does not know
        found = [(str(at), name) for at, name in enumerate(re.findall(r'\{ \w+, "(\w+)" \}', shown))]
    assert [name for _, name in found] == list(writeback.REASONS)
    assert [int(number) for number, _ in found] == list(range(len(found)))
    assert writeback.reason(2) == "sync" and writeback.reason(99) == "99"


@pytest.mark.anywhere
def test_wrong_options_are_one_sentence() -> None:
    run = osmia("writeback", "5")
    assert run.returncode == 2 and run.stdout == "" and len(run.stderr.splitlines()) == 1


@pytest.mark.anywhere
@pytest.mark.parametrize("command", (REPO / "tests" / "fixtures" / "bcc" / "writeback.txt").read_text().splitlines())
def test_commands_that_bpftrace_documents(command: str) -> None:
    run = Tool(*command.removeprefix("./").replace(".bt", "").split()).start().stop()
    assert run.status == 0 and run.stderr == ""
