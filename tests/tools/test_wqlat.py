# SPDX-License-Identifier: Apache-2.0
"""wqlat against a loop device, which has a workqueue of its own: each direct read of it is work, once.

A read that comes before the worker has gone to sleep is done by it at once, and
its work may stay queued for the next one: so there is a pause after each.
"""

from __future__ import annotations

import mmap
import os
import pty
import re
import time
import tty
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from harness import Tool, loop_device, osmia
from needs import older_than
from test_runqlat import ATTEMPTS, blocks, rows

from osmia import machine
from osmia.tools import wqlat

READS = 101
#: 87579e9b7d8d ("loop: use worker per cgroup instead of kworker", 5.14): before, a loop device has a thread.
LOOP_QUEUES = "5.14"


@pytest.fixture
def disk() -> Iterator[str]:
    if older_than(LOOP_QUEUES):
        pytest.skip(f"loop devices use no workqueue before {LOOP_QUEUES}, this is {os.uname().release}")
    with loop_device() as name:
        yield name


def read(disk: str, times: int = READS) -> None:
    """Direct reads, with time to sleep for the worker after each."""
    fd = os.open(f"/dev/{disk}", os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, 4096)
    for number in range(times):
        os.preadv(fd, [buffer], number * 4096)
        time.sleep(0.002)
    os.close(fd)


def type_letters(times: int) -> None:
    """Letters through a terminal, each of which is work on every kernel."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    for _ in range(times):
        os.write(master, b"x")
        assert os.read(slave, 1) == b"x"
    os.close(master)
    os.close(slave)


@pytest.mark.kernel
def test_one_workqueue(disk: str, record_property: Any) -> None:
    """-w: exactly the reads of that device, whatever other work there is."""
    record_property("row", "tool:wqlat")
    for _ in range(ATTEMPTS):
        tool = Tool("wqlat", "-w", disk).start()
        type_letters(11)
        read(disk)
        tool.stop()
        assert tool.status == 0 and tool.stderr == ""
        assert tool.stdout.startswith("Tracing work queue request latency time... Hit Ctrl-C to end.\n\n     usecs   ")
        count = sum(n for _, _, n in rows(tool.stdout))
        assert count <= READS  # whatever a sandbox hides
        if count == READS:
            return
    pytest.fail(f"{count} of {READS}")


@pytest.mark.kernel
def test_each_workqueue_by_itself(disk: str) -> None:
    """-W: the device's is one of them; nanoseconds are what microseconds are cut from."""
    micro, nano = Tool("wqlat", "-W").start(), Tool("wqlat", "-NW", "--json").start()
    type_letters(23)
    read(disk)
    micro.stop()
    (record,) = nano.stop().records()
    assert "     usecs               : count     distribution\n" in micro.stdout
    found = blocks(micro.stdout, "wqname")
    assert 0.9 * READS <= found[disk] <= READS and len(found) > 1
    assert (record["unit"], record["section"]) == ("nsecs", "wqname")
    (mine,) = [one for one in record["histograms"] if one["label"] == disk]
    assert 0.9 * READS <= mine["count"] <= READS and mine["key"] == disk
    assert 100 * mine["count"] < mine["sum"] and mine["min"] < mine["max"]


@pytest.mark.kernel
def test_all_together_on_every_kernel() -> None:
    tool = Tool("wqlat", "-T").start()
    type_letters(READS)
    tool.stop()
    assert re.search(r"^\d\d:\d\d:\d\d\n     usecs ", tool.stdout, re.M)
    assert sum(n for _, _, n in rows(tool.stdout)) >= 0.9 * READS


@pytest.mark.kernel
def test_a_workqueue_that_there_is_not() -> None:
    done = osmia("wqlat", "-w", "nvmet_tcp_no_such", "0.3", "1")
    assert done.returncode == 0 and rows(done.stdout) == []


@pytest.mark.kernel
@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-w", "x" * 32], f"option -w: '{'x' * 32}' is no name of a workqueue: those have 1 to 31 bytes"),
        (["-w", ""], "option -w: '' is no name of a workqueue: those have 1 to 31 bytes"),
        (["-p", "1"], "unknown option -p; see osmia wqlat --help"),
    ],
)
def test_mistakes(words: list[str], text: str) -> None:
    done = osmia("wqlat", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"osmia: wqlat: {text}\n")


# --- the kernel half as plain Python ------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    wqlat.waiting.clear()
    for hist in (wqlat.total, wqlat.split):
        hist._sim.clear()
    for one in (wqlat.only, wqlat.by_queue, wqlat.nanoseconds):
        one.value = one.default
    machine.ktime = 0


def queue(at: int, work: Any, name: str = "events") -> None:
    machine.ktime = at
    wqlat.queue(0, SimpleNamespace(wq=SimpleNamespace(name=name)), work)


def begin(at: int, work: Any) -> None:
    machine.ktime = at
    wqlat.begin(work)


def sums(hist: Any) -> dict[Any, tuple[int, int]]:
    return {key: (shot.count, shot.sum) for key, shot in hist.snapshots().items()}


class Work:
    """A ``work_struct``: its address is what it is known by."""

    def __init__(self, func: int) -> None:
        self.func = func


def test_waits_are_from_queueing_to_the_beginning() -> None:
    one, other = Work(1), Work(2)
    queue(1_000, one)
    queue(500_000, other)
    begin(751_000, other)
    begin(3_001_000, one)
    begin(9_000_000, one)  # queued by nobody that was seen
    assert sums(wqlat.total) == {None: (2, 251 + 3000)}


def test_one_name_or_each() -> None:
    wqlat.by_queue.value = True
    for name in ("events", "loop0"):
        work = Work(1)
        queue(0, work, name)
        begin(17_000, work)
    assert sums(wqlat.split) == {"events": (1, 17), "loop0": (1, 17)}
    wqlat.only.value = "loop0"
    work = Work(1)
    queue(0, work, "events")
    begin(17_000, work)
    assert sums(wqlat.split) == {"events": (1, 17), "loop0": (1, 17)} and len(wqlat.waiting) == 0


def test_memory_of_cancelled_work_is_used_again() -> None:
    """It waits for nothing: what begins at its address was never queued there."""
    work = Work(1)
    queue(1_000, work)
    work.func = 2
    begin(10**9, work)
    assert sums(wqlat.total) == {} and len(wqlat.waiting) == 0
