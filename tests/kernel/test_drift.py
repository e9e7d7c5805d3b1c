# SPDX-License-Identifier: Apache-2.0
"""Each entry of ``lang/drift.py`` gives the truth on this kernel, and the matrix has a kernel on either side of it."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kernel_code import running, wait_for
from needs import older_than

from osmia.kernel import btf_source, features
from osmia.lang import drift
from osmia.obj import consts

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from harness import loop_device, workload

pytestmark = [pytest.mark.kernel]
Row = Callable[[str, Any], None]

STRUCT = (consts.BTF_KIND_STRUCT,)


def has(struct: str, member: str = "") -> bool:
    """Whether this kernel's types have a structure (with a member)."""
    btf = btf_source.kernel_btf()
    assert btf is not None
    found = btf.find(struct, STRUCT)
    return bool(found) and (not member or btf.find_member(found, member) is not None)


def entries() -> list[str]:
    """The functions that tools call."""
    return [name for name, value in vars(drift).items() if inspect.isfunction(value) and not name.startswith("_")
            and value.__module__ == drift.__name__]  # fmt: skip


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process that sleeps, as its state says once it does."""
    process = subprocess.Popen(["sleep", "60"])
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        time.sleep(0.01)
    yield process.pid
    process.kill()
    process.wait()


def test_task_state(sleeper: int, record_property: Row) -> None:
    """A running task has state 0, a sleeping one 1 (TASK_INTERRUPTIBLE)."""
    with running("""
from osmia.lang.drift import task_state
states = Hash[u32, u64]()

@iterator("task")
def look(it):
    task = it.task
    if task:
        states[task.pid] = task_state(task) + 1
""") as it:
        link = it.attach("look")
        link.read()  # type: ignore[attr-defined]
        states = it.module.states
        assert states[os.getpid()] == 1
        assert states[sleeper] - 1 & 0xFF == 1  # bits above say that it may be frozen, since 6.1
    newer = has("task_struct", "__state")
    assert newer != has("task_struct", "state")
    side(record_property, "task_state", newer)


def test_block_requests(record_property: Row) -> None:
    """A request's disk is the one that was read from, whichever way leads there; the request is a request."""
    with loop_device() as name, running("""
from osmia.lang.drift import queue_comes_first, request_disk
disks = Hash[u64, u64]()
strange = Array[u64](1)

@first_of(tp_btf("block_rq_issue"), raw_tracepoint("block_rq_issue"))
def issue(rq):
    if queue_comes_first(rq):
        strange[0] += 1
    else:
        disks[request_disk(rq)] += 1
""", only=["issue__tp_btf"]) as it:
        it.attach("issue__tp_btf")
        read_directly(f"/dev/{name}", 23)
        number = os.stat(f"/dev/{name}").st_rdev
        mine = os.major(number) << 20 | os.minor(number)
        assert it.module.disks[mine] == 23 and it.module.strange[0] == 0
    newer = not has("request", "rq_disk")
    assert newer <= has("request_queue", "disk")
    side(record_property, "request_disk", newer)
    side(record_property, "queue_comes_first", not has("hd_struct"))


def test_loops(record_property: Row) -> None:
    """What the types say of the helper is what loading a program that calls it shows."""
    with running("""
from osmia.lang.drift import loops_are_long
n = Array[u64](1)

@raw_tracepoint("sys_enter")
def enter(regs, number):
    n[0] = 2 if loops_are_long() else 1
""") as it:
        it.attach("enter")
        os.getpgid(0)
        assert it.module.n[0] == (2 if features.has("bpf_loop") else 1)
    side(record_property, "loops_are_long", features.has("bpf_loop") is True)


def test_sleepers_in_a_run_queue(record_property: Row) -> None:
    """Who goes to sleep before it would be its turn again stays queued, on kernels that do that; never are there more.

    While threads are switched the queue's numbers stand still, so they have to agree.
    """
    with running("""
from osmia.lang.drift import asleep_but_queued
seen = Array[u64](1)
wrong = Array[u64](1)

@tp_btf("sched_switch")
def switch(preempt, prev, next):
    queue = next.se.cfs_rq.rq
    asleep = asleep_but_queued(queue)
    if asleep > 0:
        seen[0] += 1
    if asleep < 0 or asleep > queue.nr_running:
        wrong[0] += 1
""") as it:
        it.attach("switch")
        pair = [subprocess.Popen(["taskset", "-c", "0", workload("sleeper"), *words], stdin=subprocess.PIPE)
                for words in (["1", "0", "1500000"], ["300", "500", "2500"])]  # fmt: skip
        for process in pair:
            process.communicate(b"\n")
        seen, wrong = it.module.seen[0], it.module.wrong[0]
    newer = has("cfs_rq", "h_nr_runnable") or has("cfs_rq", "h_nr_delayed")
    assert wrong == 0 and (seen > 0) == newer
    side(record_property, "asleep_but_queued", newer)


def test_cgroups(record_property: Row) -> None:
    """A task is in its own cgroup and in those above, and in no other."""
    place = cgroup_root()
    below = place / f"osmia-drift-{os.getpid()}"
    inner, other = below / "inner", place / f"osmia-drift-other-{os.getpid()}"
    for folder in (below, inner, other):
        folder.mkdir()
    process = subprocess.Popen(["sh", "-c", "read word; kill -0 $$; read word"], stdin=subprocess.PIPE, text=True)
    (inner / "cgroup.procs").write_text(str(process.pid))
    try:
        ids = {"own": inner, "above": below, "root": place, "other": other}
        text = f"pid = {process.pid}\n" + IN_CGROUP
        for at, folder in enumerate(ids.values()):
            text += f"        n[{at}] = 2 if in_cgroup({folder.stat().st_ino}) else 1\n"
        with running(text) as it:
            it.attach("enter")
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            wait_for(lambda: it.module.n[3])
            assert [it.module.n[at] for at in range(4)] == [2, 2, 2, 1]
    finally:
        process.communicate("\n")
        for folder in (inner, below, other):
            wait_for(lambda folder=folder: gone(folder))
    side(record_property, "in_cgroup", not older_than("5.15"))


IN_CGROUP = """
from osmia.lang.drift import in_cgroup
n = Array[u64](4)

@raw_tracepoint("sys_enter")
def enter(regs, number):
    if current.tgid == pid:
"""


def cgroup_root() -> Path:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return next(Path(words[1]) for words in mounts if words[2] == "cgroup2" and words[1].startswith("/sys/fs/cgroup"))


def gone(folder: Path) -> bool:
    """A cgroup can be removed once its last process is gone for good."""
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def read_directly(path: str, times: int) -> None:
    """Read so many blocks past the page cache."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        import mmap

        page = mmap.mmap(-1, 4096)
        for at in range(times):
            assert os.preadv(fd, [page], at * 4096) == 4096
    finally:
        os.close(fd)


def side(record_property: Row, entry: str, newer: bool) -> None:
    """Tell the matrix which side of the change this kernel is on."""
    record_property("row", f"drift:{entry}")
    record_property("how", "since" if newer else "before")


def test_each_change_cites_its_commit() -> None:
    """Twelve digits of the commit, in the entry's own text or in that of a flavour it uses."""
    tree = ast.parse(inspect.getsource(drift))
    texts = {node.name: ast.get_docstring(node) or "" for node in tree.body
             if isinstance(node, (ast.FunctionDef, ast.ClassDef))}  # fmt: skip
    for name in entries():
        used = [name, *[n for n in texts if "___" in n and n in inspect.getsource(getattr(drift, name))]]
        assert any(re.search(r"\b[0-9a-f]{12}\b", texts[n]) for n in used), f"{name} cites no commit"


def test_each_entry_is_tested_here() -> None:
    source = Path(__file__).read_text()
    for name in entries():
        assert f"import {name}" in source or f", {name}" in source, f"no test calls {name}"
