# SPDX-License-Identifier: Apache-2.0
"""drsnoop, with processes whose cgroup is too small for what they read."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filesystems import mounted
from harness import Tool, osmia
from memory import MIB, forgotten, in_group, memory_group, reader

pytestmark = pytest.mark.kernel

LIMIT = 24 * MIB
TRACING = Path("/sys/kernel/tracing")
COMMANDS = (Path(__file__).resolve().parents[1] / "fixtures" / "bcc" / "drsnoop.txt").read_text().splitlines()


@contextmanager
def kernels_own(kind: str) -> Iterator[Path]:
    """What the kernel itself says of begins and ends, as text: a tracing instance of our own."""
    instance = TRACING / "instances" / f"osmia-test-{os.getpid()}"
    instance.mkdir()
    try:
        for end in ("begin", "end"):
            (instance / "events" / "vmscan" / f"mm_vmscan_{kind}_reclaim_{end}" / "enable").write_text("1")
        yield instance / "trace"
    finally:
        instance.rmdir()


def reclaimed(text: str, pid: int) -> list[int]:
    return [int(n) for n in re.findall(rf"-{pid} .*_reclaim_end: nr_reclaimed=(\d+)", text)]


def events(tool: Tool, pid: int) -> list[dict[str, Any]]:
    assert tool.status == 0, tool.stderr
    return [event for event in tool.records() if event.get("pid") == pid]


@pytest.fixture
def big() -> Iterator[Path]:
    """On a disk: what lies in a tmpfs is read without new pages."""
    with mounted("ext4", 64) as place:
        yield forgotten(place / "big", 40)


@pytest.mark.feature("B13 tools")
def test_each_reclaim_is_a_row(big: Path) -> None:
    """Those that the kernel's own tracing has, with the same pages; none took longer than all of it."""
    with memory_group(LIMIT) as group, kernels_own("memcg") as trace, Tool("drsnoop", "-m", "--json") as tool:
        start = time.monotonic_ns()
        process = reader(group, "reader", big, 1)
        assert process.wait() == 0
        wall = time.monotonic_ns() - start
        text = trace.read_text()
        tool.stop()
    found = events(tool, process.pid)
    truth = reclaimed(text, process.pid)
    assert [event["pages"] for event in found] == truth and truth
    assert sum(truth) * 4096 > 12 * MIB  # 40 MiB do not fit
    assert {(event["comm"], event["uid"], event["memcg"], event["order"]) for event in found} == {("reader", 0, 1, 0)}
    assert all(event["delta"] > 0 for event in found) and sum(event["delta"] for event in found) < wall


def test_as_a_table(big: Path) -> None:
    with memory_group(LIMIT) as group, Tool("drsnoop", "-TUvm") as tool:
        process = reader(group, "reader", big, 1)
        process.wait()
        tool.stop()
    head, *rows = tool.stdout.splitlines()
    assert head.split() == ["TIME(s)", "UID", "COMM", "PID", "LAT(ms)", "PAGES", "FOR", "FREE(KB)"]
    mine = [row.split() for row in rows if f" {process.pid} " in row]
    assert mine and all(row[1:4] == ["0", "reader", str(process.pid)] and row[6] == "cgroup" for row in mine)
    assert all(float(row[4]) >= 0 and int(row[5]) >= 0 and int(row[7]) > 0 for row in mine)


def test_without_m_only_the_systems_shortage_counts(big: Path) -> None:
    with memory_group(LIMIT) as group, Tool("drsnoop", "--json") as tool:
        process = reader(group, "reader", big, 1)
        process.wait()
        tool.stop()
    assert events(tool, process.pid) == []


@pytest.mark.parametrize(
    ("words", "seen"),
    [(["-n", "read"], True), (["-n", "other"], False), (["-u", "0"], True), (["-u", "12345"], False),
     (["-p", "{pid}"], True), (["-p", "1"], False), (["-t", "{pid}"], True), (["-t", "1"], False)],
)  # fmt: skip
def test_filters(big: Path, words: list[str], seen: bool) -> None:
    """The process waits for a line before it reads, so that its number is known."""
    code = f"sys.stdin.readline()\nf = open(sys.argv[3], 'rb', 0)\nwhile f.read({MIB}): pass\n"
    with memory_group(LIMIT) as group:
        read, write = os.pipe()
        process = in_group(group, "reader", f"os.dup2({read}, 0)\n" + code, str(big), keep=read)
        os.close(read)
        with Tool("drsnoop", "-m", "--json", *[word.format(pid=process.pid) for word in words]) as tool:
            os.write(write, b"\n")
            os.close(write)
            assert process.wait() == 0
            tool.stop()
    assert bool(events(tool, process.pid)) == seen


def test_the_system_is_short_of_memory() -> None:
    """On a machine of one's own: the kernel keeps so much free that reading makes room itself."""
    needed = Path("/proc/sys/vm/min_free_kbytes")
    if "virtme" not in Path("/proc/cmdline").read_text():
        pytest.skip("only in a guest of the kernel matrix: a machine that others use must not run short of memory")
    before = needed.read_text()
    with mounted("ext4", 256) as place, kernels_own("direct") as trace, Tool("drsnoop", "--json") as tool:
        file = forgotten(place / "big", 200)
        stalls = sum(stat(name) for name in STALLS)
        try:
            free = int(re.search(r"MemFree: +(\d+)", Path("/proc/meminfo").read_text())[1])  # type: ignore[index]
            kept_free = min(free // 2, 400_000)
            needed.write_text(str(kept_free))
            for attempt in range(1, 9):  # each takes more of what the kernel may give out
                with open(file, "rb", 0) as stream:
                    while stream.read(MIB):
                        pass
                keep = bytearray(b"x") * ((free - kept_free - 30_000) * attempt // 8 * 1024)
                del keep
        finally:
            needed.write_text(before)
        if sum(stat(name) for name in STALLS) == stalls:
            pytest.skip("this kernel has made room in time, however much was wanted")
        text = trace.read_text()
        tool.stop()
    found = [event for event in tool.records() if "delta" in event]
    ends = [int(n) for n in re.findall(r"_reclaim_end: nr_reclaimed=(\d+)", text)]
    assert ends
    assert sorted(event["pages"] for event in found) == sorted(ends)
    assert {event["memcg"] for event in found} == {0}


STALLS = ("allocstall_dma", "allocstall_dma32", "allocstall_normal", "allocstall_movable")


def stat(name: str) -> int:
    found = re.search(rf"^{name} (\d+)$", Path("/proc/vmstat").read_text(), re.M)
    return int(found[1]) if found else 0


def test_csv_and_a_duration() -> None:
    run = osmia("drsnoop", "--csv", "-d", "0.2")
    assert run.returncode == 0 and run.stdout.splitlines()[0] == "COMM,PID,LAT(ms),PAGES"


@pytest.mark.parametrize("command", COMMANDS)
def test_what_bcc_documents_is_taken(command: str) -> None:
    words = re.sub(r"\b(181|123|17491)\b", str(os.getpid()), command).split()
    assert Tool(*words).start().stop().status == 0


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("args", "text"), [(["-t", "4194303"], "there is no thread"), (["-u", "nobody-at-all"], "there is no user")]
)
def test_wrong_options_are_one_sentence(args: list[str], text: str) -> None:
    run = osmia("drsnoop", *args)
    assert run.returncode == 2 and run.stdout == "" and text in run.stderr and len(run.stderr.splitlines()) == 1
