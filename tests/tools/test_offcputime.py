# SPDX-License-Identifier: Apache-2.0
"""offcputime against a program that sleeps a known time through a known chain of functions."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from harness import REPO, Tool, osmia, workload
from needs import only_on

pytestmark = pytest.mark.kernel

CHAIN = ["inner", "middle", "outer", "main"]


SOURCE = REPO / "tests" / "workloads" / "naps.c"


class Naps:
    """The workload."""

    def __init__(self, program: str = "") -> None:
        self.process = subprocess.Popen(
            [program or workload("naps")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.pid = str(self.process.pid)

    def sleep(self, times: int, usecs: int) -> int:
        """Sleep; microseconds that it took, as seen from here."""
        assert self.process.stdin and self.process.stdout
        before = time.monotonic_ns()
        self.process.stdin.write(f"{times} {usecs}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline()
        return (time.monotonic_ns() - before) // 1000

    def __enter__(self) -> Naps:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.process.communicate()


def chains(tool: Tool) -> list[dict[str, Any]]:
    """The rows whose user stack is the chain; it is the only one that ends in inner()."""
    rows = [row for row in tool.records() if row.get("user") and row["user"][0]["name"] == "inner"]
    for row in rows:
        assert [frame["name"] for frame in row["user"]][:4] == CHAIN
        assert row["unit"] == "us" and row["comm"] == "naps" and row["cut"] == []
    return rows


def test_ten_sleeps_of_50_ms_under_exactly_that_chain() -> None:
    with Naps() as naps:
        tool = Tool("offcputime", "-f", "-p", naps.pid).start()
        took = naps.sleep(10, 50_000)
        tool.stop()
    assert tool.status == 0, tool.stderr
    lines = [line.rpartition(" ") for line in tool.stdout.splitlines() if ";inner;" in line]
    asleep = {stack: int(n) for stack, _, n in lines if stack.endswith(";do_nanosleep;schedule;__schedule")}
    assert len(asleep) == 1, tool.stdout
    (stack,) = asleep
    # On a busy machine it may lose the CPU on its way into the sleep, which then counts in full or in part there.
    usecs = sum(int(n) for other, _, n in lines if ";do_nanosleep;" in other)
    frames = stack.split(";")
    assert frames[0] == "naps" and ";main;outer;middle;inner;" in stack
    assert not any("bpf" in frame for frame in frames)
    # Not a microsecond less than it slept, unless the account says that something was lost, nor more than it took.
    assert (500_000 if not tool.stderr else 400_000) <= usecs <= took, tool.stderr + tool.stdout


@only_on("x86_64", "stacks are unwound there only")
@pytest.mark.parametrize("off", ["", "core_relo,bpf_link,batch,ringbuf"], ids=["new", "as before 5.8"])
def test_whole_stacks_without_frame_pointers(tmp_path: Path, off: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the C library sleeps, as distributions compile it: every stack leads to where the process began."""
    monkeypatch.setenv("OSMIA_FEATURES_OFF", off)
    program = tmp_path / "naps"
    subprocess.run(["gcc", "-O2", "-DPLAIN", "-o", str(program), str(SOURCE)], check=True)
    with Naps(str(program)) as naps:
        tool = Tool("offcputime", "--json", "--dwarf", "-p", naps.pid).start()
        long = Tool("offcputime", "-f", "--dwarf", "-t", naps.pid, "-m", "200000").start()
        took = naps.sleep(10, 50_000)
        again = naps.sleep(2, 400_000)
        tool.stop()
        long.stop()
    rows = [row for row in tool.records() if "pid" in row]
    asleep = [row for row in rows if "inner" in [frame["name"] for frame in row["user"]]]
    for row in asleep:
        names = [frame["name"] for frame in row["user"]]
        assert any("nanosleep" in name for name in names[: names.index("inner")])
        assert names[names.index("inner") :][:4] == CHAIN and names[-1] == "_start"
        assert (row["cut"], row["unit"], row["comm"], row["tid"]) == ([], "us", "naps", int(naps.pid))
    whole = sum(row["count"] for row in asleep if row["kernel"][0]["name"] == "__schedule")
    assert (1_300_000 if not tool.stderr else 1_100_000) <= whole <= took + again, tool.stderr
    lines = [line.rpartition(" ") for line in long.stdout.splitlines() if ";inner;" in line]
    assert len(lines) == 1 and lines[0][0].startswith("naps;_start;"), long.stdout
    assert 800_000 <= int(lines[0][2]) <= again  # the short ones are not even sent


def test_json_and_text() -> None:
    with Naps() as naps:
        tool = Tool("offcputime", "--json", "-p", f"{os.getpid()},{naps.pid}", "-U").start()
        text = Tool("offcputime", "-p", naps.pid, "-K").start()
        took = naps.sleep(7, 30_000)
        tool.stop()
        text.stop()
    rows = chains(tool)
    assert len(rows) == 1 and 210_000 <= rows[0]["count"] <= took
    assert rows[0]["tid"] == rows[0]["pid"] == int(naps.pid) and rows[0]["kernel"] == []
    assert {row["pid"] for row in tool.records() if "pid" in row} == {os.getpid(), int(naps.pid)}
    banner, *lines = text.stdout.split("\n")
    assert banner == f"Tracing off-CPU time (us) of PID {naps.pid} by kernel stack... Hit Ctrl-C to end."
    at = lines.index("    do_nanosleep")
    assert f"    -                naps ({naps.pid})" in lines[at:] and "    inner" not in lines


def test_long_and_short_times() -> None:
    """Two naps of 0.6 s among short ones."""
    with Naps() as naps:
        long = Tool("offcputime", "--json", "-p", naps.pid, "-m", "500000").start()
        short = Tool("offcputime", "--json", "-p", naps.pid, "-M", "500000").start()
        naps.sleep(5, 1000)
        naps.sleep(2, 600_000)
        long.stop()
        short.stop()
    assert sum(row["count"] for row in chains(long)) >= 1_200_000
    assert 5_000 <= sum(row["count"] for row in chains(short)) < 1_200_000


@pytest.mark.parametrize(("words", "seen"), [(["--state", "1"], True), (["--state", "2"], False), (["-u"], True),
                                             (["-k"], False)])  # fmt: skip
def test_which_threads_and_states(words: list[str], seen: bool) -> None:
    """nanosleep() sleeps interruptibly, and its thread is one of a program."""
    with Naps() as naps:
        tool = Tool("offcputime", "--json", "-t", naps.pid, *words).start()
        naps.sleep(3, 10_000)
        tool.stop()
    asleep = [row for row in chains(tool) if any("nanosleep" in frame["name"] for frame in row["kernel"])]
    assert bool(asleep) == seen


def test_threads_of_the_kernel() -> None:
    tool = Tool("offcputime", "-k", "--json").start()
    time.sleep(1.5)
    tool.stop()
    rows = [row for row in tool.records() if "kernel" in row]
    assert rows and all(row["user"] == [] for row in rows)
    assert any(row["kernel"][-1]["name"].startswith("ret_from_fork") for row in rows)


def test_a_picture(tmp_path: Path) -> None:
    svg = tmp_path / "naps.svg"
    with Naps() as naps:
        tool = Tool("offcputime", "-p", naps.pid, "--svg", str(svg)).start()
        naps.sleep(3, 20_000)
        tool.stop()
    text = svg.read_text(encoding="utf-8")
    assert all(name in text for name in CHAIN) and "us" in text


@pytest.mark.anywhere
def test_what_does_not_go_together() -> None:
    for words, says in ((["-U", "-K"], "-U and -K exclude"), (["-u", "-k"], "-u and -k exclude")):
        done = osmia("offcputime", *words)
        assert done.returncode and says in done.stderr
