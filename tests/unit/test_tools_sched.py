# SPDX-License-Identifier: Apache-2.0
"""The scheduler tools' kernel halves as plain Python: what a busy machine does not show on demand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from osmia import linear_hist, log2_hist, machine, u32
from osmia.tools import _sched, cpudist

DEAD = 0x80


class Task:
    """A ``task_struct``, as far as the tools look; what it lacks, this kernel lacks (``exists``)."""

    def __init__(self, pid: int, state: int = 1, **more: Any) -> None:
        self.pid = self.tgid = pid
        self.comm = f"task{pid}"
        self.group_leader = self
        setattr(self, "__state", state)
        self.__dict__.update(more)

    def __getattr__(self, name: str) -> None:
        return None


class Queue(Task):
    """A ``struct rq`` with ``nr_running`` threads."""

    def __init__(self, running: int, **cfs: int) -> None:
        super().__init__(0)
        self.nr_running = running
        self.cfs = Task(0)
        self.cfs.__dict__.update(cfs)


IDLE, ONE, TWO = Task(0), Task(17), Task(23)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    for one in (cpudist.offcpu, cpudist.pids, cpudist.tids, cpudist.idle):
        one.value = one.default
    for table in (cpudist.starts, cpudist.names):
        table.clear()
    for hist in (cpudist.total, cpudist.split):
        hist._sim.clear()
    machine.ktime = machine.cpu = 0


def switch(at: int, prev: Task, next: Task, cpu: int = 0) -> None:
    """At ``at`` microseconds the CPU goes from one to the other."""
    machine.ktime, machine.cpu = at * 1000, cpu
    cpudist.switch(False, prev, next)


def sums(hist: Any) -> dict[Any, tuple[int, int]]:
    return {key: (shot.count, shot.sum) for key, shot in hist.snapshots().items()}


def test_idle_time_is_left_out_and_counted_on_demand() -> None:
    for wanted in (False, True):
        cpudist.idle.value = wanted
        switch(0, ONE, IDLE, cpu=0)
        switch(100, TWO, IDLE, cpu=1)
        switch(1000, IDLE, ONE, cpu=0)
        switch(1300, IDLE, TWO, cpu=1)
        # Two idle threads with the same number, each of them on its CPU.
        assert sums(cpudist.total) == ({None: (2, 1000 + 1200)} if wanted else {})
        cpudist.starts.clear()


def test_idle_threads_are_process_0_without_a_name() -> None:
    cpudist.idle.value = cpudist.pids.value = True
    switch(0, ONE, IDLE)
    switch(10, IDLE, ONE)
    switch(30, ONE, IDLE)
    assert sums(cpudist.split) == {0: (1, 10), 17: (1, 20)}
    assert (cpudist.label(0), cpudist.label(17)) == ("0", "17 task17")


def test_off_the_cpu_from_one_cpu_to_another() -> None:
    """The time of a thread that goes on somewhere else is whole."""
    cpudist.offcpu.value = True
    switch(0, ONE, TWO, cpu=0)
    switch(70, TWO, ONE, cpu=1)
    assert sums(cpudist.total) == {None: (1, 70)}


def test_what_has_ended_is_not_kept() -> None:
    """A dead thread does not come back: nothing remembers it."""
    cpudist.offcpu.value = True
    switch(0, Task(31, DEAD), ONE)
    assert len(cpudist.starts) == 0
    switch(10, ONE, TWO)
    assert dict(cpudist.starts.items()) == {17: 10_000}


def test_a_turn_that_began_before_is_not_counted() -> None:
    switch(100, ONE, TWO)
    assert sums(cpudist.total) == {}


@pytest.mark.parametrize(
    ("preempt", "state", "goes_on"), [(False, 0, True), (True, 1, True), (False, 1, False), (False, DEAD, False)]
)
def test_who_waits_for_another_turn(preempt: bool, state: int, goes_on: bool) -> None:
    assert _sched.goes_on(preempt, Task(17, state)) is goes_on


@pytest.mark.parametrize(
    ("running", "current", "cfs", "waiting"),
    [
        (0, IDLE, {}, 0),
        (2, IDLE, {}, 2),  # woken just now: nobody has the CPU, and both wait
        (1, ONE, {}, 0),
        (4, ONE, {}, 3),
        (5, ONE, {"h_nr_queued": 5, "h_nr_runnable": 3}, 2),  # two sleep, but are still queued (6.14)
        (5, ONE, {"h_nr_delayed": 1}, 3),  # the same in 6.13
    ],
)
@pytest.mark.parametrize("groups", [True, False])
def test_length_of_a_run_queue(
    running: int, current: Task, cfs: dict[str, int], waiting: int, groups: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Queue(running, **cfs)
    entity = Task(0, cfs_rq=Task(0, rq=queue) if groups else queue.cfs)
    if not groups:  # the CPU's queue is around the only one of its class
        monkeypatch.setattr(_sched, "container_of", lambda inner, kind, member: queue if inner is queue.cfs else None)
    monkeypatch.setattr(machine, "task", Task(current.pid, se=entity))
    assert _sched.waiting_here() == waiting


def test_histogram_by_cpu() -> None:
    hist = linear_hist("runqlen", low=0, high=8, step=1)
    shown = hist.by_cpu()
    assert shown.keyed and shown.snapshots() == {}
    hist.add(3)
    assert (shown.kind, shown.unit, shown.slots) == ("linear", "runqlen", 10)
    assert shown.snapshots()[0].count == 1
    with pytest.raises(TypeError, match="without a key"):
        log2_hist("usecs", key=u32).by_cpu()
