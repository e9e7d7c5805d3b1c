# SPDX-License-Identifier: Apache-2.0
"""Tools that count by stack, recorded: the replay has the stacks that the run has shown, and all other forms."""

from __future__ import annotations

import gzip
import json
import mmap
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from harness import REPO, Commanded, Tool, loop_device, osmia, workload
from needs import only_on
from wakes import Wakes

pytestmark = pytest.mark.kernel


def replayed(path: Path, *words: str) -> str:
    done = osmia("replay", str(path), *words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def folded(text: str) -> dict[str, int]:
    """Stacks and their numbers; each stands there once."""
    lines = [line.rpartition(" ") for line in text.splitlines()]
    found = {stack: int(number) for stack, _, number in lines}
    assert len(found) == len(lines)
    return found


def recorded(path: Path, *words: str) -> Tool:
    return Tool("record", "-o", str(path), "--show", *words).start()


def same(path: Path, tool: Tool) -> dict[str, int]:
    """The stacks that were shown, which are those of the replay."""
    tool.stop()
    assert tool.status == 0, tool.stderr
    found = folded(tool.stdout)
    assert found and folded(replayed(path)) == found
    return found


class Burn:
    """A program that computes in functions that are known; ``flags``: compiled anew with them."""

    def __init__(self, tmp_path: Path, *flags: str) -> None:
        program = workload("burn")
        if flags:
            program = str(tmp_path / "burn")
            subprocess.run(["gcc", "-O2", *flags, "-o", program, str(REPO / "tests/workloads/burn.c")], check=True)
        self.process = subprocess.Popen([program, "150"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = str(self.process.pid)

    def compute(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.process.stdout.readline()

    def __enter__(self) -> Burn:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.communicate()


def check_pictures(path: Path, tmp_path: Path, name: str) -> None:
    """The forms for other programs have the function ``name`` in them."""
    words = ("--svg", "--html", "--pprof", "--speedscope")
    files = {word: tmp_path / f"out{word.replace('--', '.')}" for word in words}
    assert replayed(path, *[part for word, file in files.items() for part in (word, str(file))]) == ""
    for word, file in files.items():
        data = file.read_bytes()
        assert name.encode() in (gzip.decompress(data) if word == "--pprof" else data), word


@pytest.mark.parametrize("words", [(), ("-a", "-d"), ("-K",), ("-c", "3000000")])
def test_profile_with_the_time_of_each_sample(words: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "burn.rec"
    rate = () if "-c" in words else ("-F", "499")
    with Burn(tmp_path) as work:
        tool = recorded(path, "profile", *rate, "-f", *words, "-p", work.pid)
        began = time.time()
        work.compute()
        found = same(path, tool)
    assert any(stack.endswith("most") for stack in found) or "-K" in words
    records = [json.loads(line) for line in replayed(path, "--json").splitlines()]
    assert sum(found.values()) == len(records) and {one["weight"] for one in records} == {1}
    assert {one["pid"] for one in records} == {int(work.pid)} and {one["comm"] for one in records} == {"burn"}
    times = [one["time"] for one in records]
    assert times == sorted(times) and len(set(times)) > 0.9 * len(times)
    assert began - 1 <= times[0] and times[-1] <= time.time()
    if words == ():
        check_pictures(path, tmp_path, "most")
        assert "most" in replayed(path, "--to", str(times[-1] - began + 60))
        assert "_[k]" not in replayed(path) and replayed(path, "--csv").startswith("time,pid,comm,weight,stack\n")


@only_on("x86_64", "stacks are unwound there only")
def test_copied_stacks_have_times_too(tmp_path: Path) -> None:
    path = tmp_path / "burn.rec"
    with Burn(tmp_path, "-DPLAIN") as work:
        tool = recorded(path, "profile", "-F", "199", "-f", "-U", "--dwarf", "-p", work.pid)
        work.compute()
        found = same(path, tool)
    assert any(stack.startswith("burn;_start;") and stack.endswith(";main;work;most") for stack in found)
    records = [json.loads(line) for line in replayed(path, "--json").splitlines()]
    assert sum(found.values()) == len(records)
    assert len({one["time"] for one in records}) > 0.9 * len(records)
    assert path.stat().st_size < 100_000  # not the copies themselves


@pytest.mark.parametrize("tool", ["offcputime", "offwaketime", "wakeuptime"])
def test_times_of_threads(tool: str, tmp_path: Path) -> None:
    """Microseconds to the last one, although each second is recorded by itself."""
    path = tmp_path / "waits.rec"
    with Wakes() as wakes:
        run = recorded(path, tool, "-f", "-p", wakes.sleeper)
        for _ in range(3):
            wakes.wake(7, 90_000)
        found = same(path, run)
    (line,) = [stack for stack in found if "sleepy" in stack and "pipe_write" in stack] or [
        stack for stack in found if "doze" in stack and "pipe_read" in stack
    ]
    assert found[line] > 1_000_000
    check_pictures(path, tmp_path, "try_to_wake_up" if tool != "offcputime" else "doze")
    records = [json.loads(line) for line in replayed(path, "--json").splitlines()]
    whose = wakes.waker if tool == "wakeuptime" else wakes.sleeper
    assert int(whose) in {one["pid"] for one in records} and len({one["time"] for one in records}) >= 2


@pytest.mark.parametrize("words", [(), ("-P",), ("-K", "-s"), ("-i", "1")])
def test_counts_of_calls(words: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "calls.rec"
    with Burn(tmp_path) as work:
        tool = recorded(path, "stackcount", "-f", *words, "-p", work.pid, "t:syscalls:sys_enter_write")
        for _ in range(7):
            work.compute()
        tool.stop()
        assert tool.status == 0, tool.stderr
        again = folded(replayed(path))
    lost = "skipped" in tool.stderr
    assert sum(again.values()) == 7 or lost
    lines = [line.rpartition(" ") for line in tool.stdout.splitlines()]
    shown: dict[str, int] = {}
    for stack, _, number in lines:
        shown[stack] = shown.get(stack, 0) + int(number)
    assert shown == again
    assert all(stack.startswith("burn;") == ("-P" in words) for stack in again)


def test_what_is_held_at_the_end(tmp_path: Path) -> None:
    """memleak's -o is another option; the last state counts, with what is freed left out."""
    path = tmp_path / "leaks.rec"
    with Commanded("leaks") as leaks:
        tool = Tool("record", "-o", str(path), "--show", "memleak", "--json", "-o", "0", "-p", leaks.pid, "-i", "0.5")
        tool.start()
        leaks.ask("churn", 50)
        for kind, times, size in (("malloc", 3, 101), ("calloc", 5, 103), ("realloc", 7, 1009)):
            leaks.ask(kind, times, size)
            time.sleep(0.7)
        tool.stop()
    assert tool.status == 0, tool.stderr
    records = [record for record in tool.records() if "bytes" in record]
    last = [record for record in records if record["time"] == records[-1]["time"]]
    shown = {";".join(frame["label"] for frame in reversed(one["stack"])): one["bytes"] for one in last}
    found = folded(replayed(path, "--no-json"))
    assert found == shown
    ends = {stack.rpartition(";")[2]: number for stack, number in found.items()}
    assert ends == {"by_malloc": 303, "by_calloc": 3 * 515, "by_realloc": 7063}
    check_pictures(path, tmp_path, "by_realloc")
    for words in (["record", "memleak", "-p", leaks.pid, "-o", str(path)], ["record", "memleak"]):
        done = osmia(*words)
        assert done.returncode and "-o is --older there" in done.stderr
        assert "osmia record -o FILE memleak" in done.stderr


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_histograms_by_stack(words: tuple[str, ...], tmp_path: Path) -> None:
    """Headed by the same stacks, with the same numbers; over time as a picture."""
    path = tmp_path / "io.rec"
    with loop_device(8) as disk:
        tool = recorded(path, "biostacks", "-d", disk, *words)
        fd = os.open(f"/dev/{disk}", os.O_RDWR | os.O_DIRECT)
        buffer = mmap.mmap(-1, 4096)
        for number in range(37):
            assert os.preadv(fd, [buffer], number * 4096) == 4096
        os.close(fd)
        tool.stop()
    assert tool.status == 0, tool.stderr
    assert replayed(path) == tool.stdout and "block_rq_issue" not in tool.stdout
    assert re.search(r"blk_mq_submit_bio|submit_bio|__blkdev_direct_IO", tool.stdout)
    svg = tmp_path / "io.svg"
    replayed(path, "--svg", str(svg))
    assert "submit_bio" in svg.read_text(encoding="utf-8")


def test_a_cycle_is_not_recorded(tmp_path: Path) -> None:
    done = osmia("record", "-o", str(tmp_path / "x"), "deadlock", str(os.getpid()))
    assert done.returncode and "what it shows cannot be recorded yet" in done.stderr


