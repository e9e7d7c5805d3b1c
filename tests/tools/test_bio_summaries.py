# SPDX-License-Identifier: Apache-2.0
"""biotop, bitesize, biopattern, iolatency and biolatpcts against a loop device and I/O of known number and size."""

from __future__ import annotations

import os
import re
import shlex
import time
from pathlib import Path
from typing import Any

import pytest
from disks import BLOCK, apart, direct, done, flush
from harness import Tool, osmia, told

pytestmark = pytest.mark.kernel

READS, WRITES = 211, 101
COMM = Path("/proc/self/comm").read_text().strip()
PERCENTILES = ["1", "5", "10", "16", "25", "50", "75", "84", "90", "95", "99", "100"]
COMMANDS = (Path(__file__).resolve().parents[1] / "fixtures" / "bcc" / "disks.txt").read_text().splitlines()


def rows_of(tool: Tool) -> list[dict[str, Any]]:
    assert tool.status == 0, tool.stderr
    return [row for record in tool.records() if "rows" in record for row in record["rows"]]


def histograms(tool: Tool) -> dict[Any, dict[str, Any]]:
    """The histograms of the only summary, by label."""
    assert tool.status == 0, tool.stderr
    (record,) = [one for one in tool.records() if one.get("histograms")]
    return {one.get("label"): one for one in record["histograms"]}


def counts(tool: Tool, label: Any = None) -> list[tuple[int, int]]:
    return [(bucket["low"], bucket["count"]) for bucket in histograms(tool)[label]["buckets"] if bucket["count"]]


# --- biotop


@pytest.mark.feature("B13 tools")
def test_biotop_adds_up(loop: str) -> None:
    tool = Tool("biotop", "--json", "-d", loop, "600").start()
    before, start = done(loop), time.monotonic()
    direct(loop, apart(READS))
    direct(loop, apart(WRITES, 8192), write=True, size=8192)
    wall = time.monotonic() - start
    delta = done(loop) - before
    rows = rows_of(tool.stop())
    major, minor = map(int, Path(f"/sys/block/{loop}/dev").read_text().split(":"))
    assert delta == READS + WRITES
    fields = ("pid", "comm", "type", "major", "minor", "disk", "count", "bytes")
    assert [tuple(row[field] for field in fields) for row in rows] == [
        (os.getpid(), COMM, kind, major, minor, loop, n, size)
        for kind, n, size in (("R", READS, READS * BLOCK), ("W", WRITES, WRITES * 8192))
    ]  # more bytes come first
    assert 0 < sum(r["ms"] * r["count"] for r in rows) < wall * 1000


def test_biotop_pages(loop: str) -> None:
    tool = Tool("biotop", "-C", "-d", loop, "-r", "1", "600").start()
    direct(loop, apart(31))
    direct(loop, apart(53), write=True)
    tool.stop()
    banner, blank, load, _, head, *rows = tool.stdout.splitlines()
    assert banner == "Tracing... Hit Ctrl-C to end" and not blank
    assert re.match(r"\d\d:\d\d:\d\d loadavg: [\d.]+ [\d.]+ [\d.]+ \d+/\d+ \d+", load)
    assert head.split() == ["PID", "COMM", "D", "MAJ", "MIN", "DISK", "I/O", "Kbytes", "AVGms"]
    assert len(rows) == 1 and rows[0].split()[-4:-1] == [loop, "53", str(53 * 4)]


@pytest.mark.parametrize(("words", "seen"), [(["-p", "{pid}"], True), (["-p", "1"], False), (["-n", "no-such"], False)])
def test_biotop_filters(loop: str, words: list[str], seen: bool) -> None:
    tool = Tool("biotop", "--json", "-d", loop, *[word.format(pid=os.getpid()) for word in words], "600").start()
    direct(loop, apart(29))
    assert sum(row["count"] for row in rows_of(tool.stop())) == (29 if seen else 0)


# --- bitesize


def test_bitesize_by_program(loop: str) -> None:
    tool = Tool("bitesize", "--json", "-d", loop).start()
    for size, n in ((512, 3), (BLOCK, 31), (16384, 17), (65536, 7)):
        direct(loop, apart(n, size), size=size)
    flush(loop)  # nothing is moved by it
    assert counts(tool.stop(), COMM) == [(0, 3), (4, 31), (16, 17), (64, 7)]
    assert set(histograms(tool)) == {COMM}


def test_bitesize_as_text(loop: str) -> None:
    tool = Tool("bitesize", "-d", loop).start()
    direct(loop, apart(13))
    tool.stop()
    assert tool.stdout.startswith("Tracing block I/O... Hit Ctrl-C to end.\n")
    assert f"Process Name = {COMM}" in tool.stdout
    assert re.search(r"^     Kbytes +: count     distribution$", tool.stdout, re.M)
    assert re.search(r"^ +4 -> 7 +: 13 ", tool.stdout, re.M)


# --- biopattern


@pytest.mark.parametrize(
    ("offsets", "random"),
    [
        ([n * BLOCK for n in range(101)], 0),
        (apart(101), 100),
        ([n * BLOCK + (n >= 76) * 99 * BLOCK + (n >= 77) * 99 * BLOCK for n in range(101)], 2),
    ],
)
def test_biopattern(loop: str, offsets: list[int], random: int) -> None:
    tool = Tool("biopattern", "--json", "-d", loop).start()
    direct(loop, offsets)
    flush(loop)  # is nowhere on the disk, and seeks not
    (row,) = rows_of(tool.stop())
    assert (row["disk"], row["random"], row["sequential"]) == (loop, random, 100 - random)
    assert (row["count"], row["bytes"]) == (100, 100 * BLOCK)  # the first one is neither


def test_biopattern_as_text(loop: str) -> None:
    tool = Tool("biopattern", "-d", loop, "600").start()
    direct(loop, [n * BLOCK for n in range(51)])
    tool.stop()
    head, *rows = [line for line in tool.stdout.splitlines() if line]
    assert head.split() == ["TIME", "DISK", "%RND", "%SEQ", "COUNT", "KBYTES"]
    assert [row.split()[1:] for row in rows] == [[loop, "0", "100", "50", "200"]]
    assert re.match(r"\d\d:\d\d:\d\d  ", rows[0])


# --- iolatency


@pytest.mark.parametrize(
    ("words", "seen"),
    [([], READS + WRITES), (["-Q"], READS + WRITES), (["-i", "*R*"], READS), (["-i", "WS*"], 0), (["-i", "W*"], WRITES),
     (["-i", "D"], 0)],
)  # fmt: skip
def test_iolatency_counts(loop: str, words: list[str], seen: int) -> None:
    tool = Tool("iolatency", "--json", "-d", loop, *words, "600").start()
    direct(loop, apart(READS))
    direct(loop, apart(WRITES), write=True)
    tool.stop()
    total = sum(one["count"] for record in tool.records() for one in record.get("histograms", []))
    if words == ["-i", "WS*"]:  # direct writes wait: the kernel marks them as such
        seen = WRITES
    assert total == seen


def test_iolatency_has_intervals_and_a_heat_map(loop: str) -> None:
    tool = Tool("iolatency", "-T", "-u", "-d", loop).start()
    direct(loop, apart(7))
    time.sleep(2.2)
    tool.stop()
    assert len(re.findall(r"^\d\d:\d\d:\d\d$", tool.stdout, re.M)) >= 2
    assert "usecs" in tool.stdout
    heat = Tool("iolatency", "--heatmap", "-d", loop).start()
    direct(loop, apart(7))
    heat.stop()
    assert heat.status == 0 and "msecs" in heat.stdout


# --- biolatpcts


def test_biolatpcts_is_in_the_range_of_what_passed(loop: str) -> None:
    tool = Tool("biolatpcts", loop, "-j", "-i", "-1", "-p", "0,50.0,099,100").start()
    start = time.monotonic()
    direct(loop, apart(READS))
    wall = time.monotonic() - start
    flush(loop)
    tool.stop()
    assert tool.status == 0, tool.stderr
    (record,) = [one for one in tool.records() if "read" in one]
    assert list(record["read"]) == ["0", "50.0", "099", "100"]
    values = list(record["read"].values())
    assert values == sorted(values) and values[0] > 0 and values[3] < wall
    assert values[1] * READS / 2 <= wall * 1.04  # half of them took that long, and one came after the other
    assert record["discard"] == dict.fromkeys(record["read"], 0)
    found = {one["label"]: one for one in record["histograms"]}
    assert found["read"]["count"] == READS and found["flush"]["count"] == 1
    assert round(record["read"]["100"] * 1e9) == found["read"]["max"]


def test_biolatpcts_as_text(loop: str) -> None:
    tool = Tool("biolatpcts", f"/dev/{loop}", "-i", "1", "-w", "after-rq-alloc").start()
    direct(loop, apart(17), write=True)
    time.sleep(1.2)
    tool.stop()
    lines = [line.split() for line in tool.stdout.splitlines() if line]
    assert lines[0] == [loop, *PERCENTILES]
    assert [line[0] for line in lines[1:5]] == ["read", "write", "discard", "flush"]
    assert any("-" not in line and len(line) == 13 for line in lines if line[0] == "write")
    assert set(lines[1][1:]) == {"-"}


def test_biolatpcts_ends_when_it_has_started(loop: str) -> None:
    run = osmia("biolatpcts", loop, "-i", "0")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


# --- all


@pytest.mark.parametrize("command", COMMANDS)
def test_what_bcc_documents_is_taken(loop: str, command: str) -> None:
    number = Path(f"/sys/block/{loop}/dev").read_text().strip().split(":")[1]
    words = shlex.split(command.replace("sdc", loop).replace("NUMBER", number).replace("181", str(os.getpid())))
    tool = Tool(*words).start().stop()
    assert tool.status == 0 and not told(tool.stderr), tool.stderr


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["biotop", "-r", "many"], "many"),
        (["bitesize", "-d", "nothing"], "there is no disk 'nothing'"),
        (["biopattern", "-d", "7,99999"], "there is no disk '7,99999'"),
        (["biolatpcts"], "which disk?"),
        (["biolatpcts", "nothing"], "there is no disk 'nothing'"),
        (["biolatpcts", "{loop}", "-p", "50,x"], "'x' is not a percentile"),
        (["biolatpcts", "{loop}", "-p", "101"], "'101' is not a percentile"),
        (["biolatpcts", "{loop}", "-w", "ever"], "'ever' is none of on-device"),
        (["biolatpcts", "{loop}", "-i", "-3"], "no interval"),
    ],
)
def test_wrong_options_are_one_sentence(loop: str, args: list[str], text: str) -> None:
    run = osmia(*[word.format(loop=loop) for word in args])
    assert run.returncode == 2 and run.stdout == ""
    assert text in run.stderr and len(run.stderr.splitlines()) == 1, run.stderr
