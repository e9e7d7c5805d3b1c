# SPDX-License-Identifier: Apache-2.0
"""What goes wrong while tracing: full maps, full rings, targets that end, CPUs that go, kill -9.

Nothing is lost in silence (seen plus counted as lost is what was made), and
nothing stays in the kernel.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driven import driven
from kernel_code import running, wait_for
from needs import older_than
from patience import patient

from osmia.events import missed
from osmia.kernel import bpf, cpus, features

pytestmark = [pytest.mark.kernel, pytest.mark.vm]
Row = Callable[[str, Any], None]
TRACING = Path("/sys/kernel/tracing")


FULL = """
class Stat(Event):
    calls: u64

by_key = Hash[u32, u64](10)
stats = Hash[u32, Stat](10)
few = Array[u64](4)

@probe(11)
def count(n):
    by_key[n] += 1
    stats[n].calls += 1
    few[n] += 1
"""


@pytest.mark.feature("F1 a map is full")
def test_full_maps_are_counted(record_property: Row) -> None:
    """A hundred keys into ten places: what is in and what is counted as lost add up; keys that are in go on."""
    with driven(FULL) as run:
        for key in range(100):
            run.call(11, key)
        assert len(run.module.by_key) == len(run.module.stats) == 10
        assert run.lost() == {("map", "by_key"): 90, ("map", "stats"): 90, ("index", "few"): 96}
        inside = next(iter(run.module.by_key))
        for _ in range(5):
            run.call(11, inside)
        assert run.module.by_key[inside] == run.module.stats[inside].calls == 6
        assert run.lost()[("map", "by_key")] == 90
    record_property("row", "fault:map full")
    record_property("how", "counted")


OVERFLOW = """
class Row(Event):
    number: u64

rows = Ring(Row, 4096)

@probe(11)
def send(n):
    with rows.reserve() as e:
        e.number = n
"""


@pytest.mark.feature("F2 a ring overflows")
def test_a_ring_that_nobody_reads_overflows(record_property: Row) -> None:
    """Rows read plus rows counted as lost are the rows made, and it goes on once somebody reads."""
    with driven(OVERFLOW) as run:
        assert run.live is not None
        for number in range(2000):
            run.call(11, number)
        got = [row.number for row in run.live.events("rows")]
        lost = sum(run.lost().values())
        assert got == list(range(len(got))) and 100 < len(got) < 2000
        assert len(got) + lost == 2000
        run.call(11, 77)
        assert [row.number for row in run.live.events("rows")] == [77]
        assert sum(run.lost().values()) == lost
    record_property("row", "fault:ring overflow")
    record_property("how", "counted")


TOOL = """
from osmia import *
me = option("-p", "--pid", type=int)
calls = Hash[u32, u64]()

@tracepoint("syscalls:sys_enter_getpriority")
def enter(call):
    if current.tgid == me:
        calls[current.tgid] += 1
        print(f"asked {call.who}")

run()
"""


class Tool:
    """A script that runs as a tool, attached."""

    def __init__(self, path: Path, text: str, *args: str) -> None:
        path.write_text(text)
        read, write = os.pipe()
        env = {**os.environ, "OSMIA_READY_FD": str(write)}
        self.process = subprocess.Popen(
            [sys.executable, str(path), *args], env=env, pass_fds=(write,), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        os.close(write)
        ready = os.read(read, 1)
        os.close(read)
        if ready != b"x":
            raise AssertionError(self.process.communicate()[1])

    def end(self, signal: int = 2) -> tuple[str, str]:
        self.process.send_signal(signal)
        out, err = self.process.communicate(timeout=patient(30))
        return out, err


ASKER = "import os, sys; sys.stdin.readline(); [os.getpriority(os.PRIO_PROCESS, 0) for _ in range({})]"


@pytest.mark.feature("F3 the traced process ends")
def test_the_target_ends(tmp_path: Path, record_property: Row) -> None:
    """With -p, all that the process did is there after its end; the tool goes on until it is told to stop."""
    target = subprocess.Popen([sys.executable, "-c", ASKER.format(321)], stdin=subprocess.PIPE)
    tool = Tool(tmp_path / "asks.py", TOOL, "-p", str(target.pid))
    target.communicate(b"\n")
    time.sleep(0.2)
    assert tool.process.poll() is None
    out, err = tool.end()
    assert (tool.process.returncode, err) == (0, "")
    assert out.splitlines().count("asked 0") == 321
    assert re.search(rf"{target.pid}\s+321\b", out), out
    record_property("row", "fault:target exits")
    record_property("how", "its events are complete")


@pytest.mark.feature("F3 the traced process ends")
def test_a_target_that_is_gone_already(tmp_path: Path) -> None:
    target = subprocess.Popen([sys.executable, "-c", ""])
    target.wait()
    tool = Tool(tmp_path / "asks.py", TOOL, "-p", str(target.pid))
    out, err = tool.end()
    assert tool.process.returncode == 0 and "asked" not in out and "Traceback" not in err


# --------------------------------------------------------------------------
# CPUs


def hot_cpu() -> int:
    """A CPU that can be taken away."""
    for cpu in cpus.online()[1:]:
        if os.access(f"/sys/devices/system/cpu/cpu{cpu}/online", os.W_OK):
            return cpu
    pytest.skip("no CPU of this machine can be taken offline")


def switch(cpu: int, on: bool) -> None:
    try:
        Path(f"/sys/devices/system/cpu/cpu{cpu}/online").write_text(str(int(on)))
    except OSError as err:
        pytest.skip(f"this machine does not let CPU {cpu} go: {err.strerror}")


@pytest.fixture
def cpu() -> Iterator[int]:
    """A CPU that is up again in the end.

    Taking a CPU away disturbs all that runs on the machine (processes that
    were bound to it are not any more), so it is asked for.
    """
    if "1" not in (os.environ.get("OSMIA_TEST_HOTPLUG"), os.environ.get("OSMIA_VM")):
        pytest.skip("takes a CPU of the machine away: set OSMIA_TEST_HOTPLUG=1 where that disturbs nobody")
    chosen = hot_cpu()
    yield chosen
    if chosen not in cpus.online():
        Path(f"/sys/devices/system/cpu/cpu{chosen}/online").write_text("1")


ON_CPUS = """
me = option("-p", type=int)
n = Array[u64](4)
each = PerCpuHash[u32, u64](8)
samples = Array[u64](64)

class Row(Event):
    number: u32
    where: u32

rows = Ring(Row, 1 << 20)

@tracepoint("syscalls:sys_enter_getpriority")
def enter(call):
    if current.tgid == me:
        n[0] += 1
        each[0] += 1
        with rows.reserve() as e:
            e.number, e.where = call.who, cpu()

@perf_event("cpu-clock", frequency=99)
def sample(s):
    samples[cpu()] += 1
"""


def ask(times: int) -> None:
    for _ in range(times):
        os.getpriority(os.PRIO_PROCESS, 0)


def burn_on(cpu: int, seconds: float) -> None:
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    os.sched_setaffinity(0, mine)


@pytest.mark.feature("F5 a CPU goes offline and comes back")
def test_a_cpu_goes_and_comes_back(cpu: int, record_property: Row) -> None:
    """Events stay exact; samples of the CPU stop while it is away, and those of others go on."""
    with running(ON_CPUS, {"me": os.getpid()}) as it:
        made = it.module
        it.attach("enter")
        link = it.attach("sample", frequency=99)
        os.sched_setaffinity(0, {cpu})
        ask(100)
        os.sched_setaffinity(0, set(cpus.online()))
        switch(cpu, False)
        try:
            assert cpu not in cpus.online()
            ask(100)
            before = [made.samples[at] for at in range(4)]
            first = cpus.online()[0]
            burn_on(first, 0.2)
            assert made.samples[first] > before[first]
            assert made.samples[cpu] == before[cpu]
        finally:
            switch(cpu, True)
        os.sched_setaffinity(0, {cpu})
        ask(100)
        os.sched_setaffinity(0, set(cpus.online()))
        assert made.n[0] == 300 and made.each[0] == 300
        found = it.events("rows")
        assert len(found) == 300 and {row.where for row in found[:100]} == {row.where for row in found[200:]} == {cpu}
        assert it.lost() == {}
        before = [made.samples[at] for at in range(4)]
        burn_on(cpu, 0.3)
        again = made.samples[cpu] > before[cpu]
        told = {slot.what: milliseconds for slot, milliseconds in missed.read([link], {})}
        assert told.get(f"cpu-clock on CPU {cpu}", 0) > 200 or again, told
        link.close()
    record_property("row", "fault:CPU offline and online")
    record_property("how", "events exact; its samples " + ("go on" if again else "end with it, which is told"))


# --------------------------------------------------------------------------
# kill -9


def program_ids() -> set[int]:
    found, id = set(), 0
    while id := bpf.prog_get_next_id(id):
        found.add(id)
    return found


def left_in_tracefs() -> str:
    """Probes that were made by name in tracefs (ours never are)."""
    return "".join(
        file.read_text() for file in (TRACING / "kprobe_events", TRACING / "uprobe_events") if file.exists()
    )


ALL_HOOKS = """
from osmia import *
n = Array[u64](8)

@tracepoint("sched:sched_switch")
def one(record):
    n[0] += 1

@perf_event("cpu-clock", frequency=49)
def two(sample):
    n[1] += 1

@iterator("task")
def three(record):
    n[2] += 1

@raw_tracepoint("sched_wakeup")
def four(task):
    n[3] += 1

@socket_filter()
def five(packet):
    n[4] += 1

@uprobe("c:getpid")
def six():
    n[5] += 1

run()
"""


@pytest.mark.feature("F9 nothing stays in tracefs or among the programs")
@pytest.mark.feature("F8 killed with -9", only="9")
@pytest.mark.parametrize("signal", [9, 15])
def test_nothing_is_left(tmp_path: Path, signal: int, record_property: Row) -> None:
    """After kill -9 as after an orderly end: no program, no map, no link of ours, nothing in tracefs."""
    text = ALL_HOOKS
    if features.has("uprobe") is not True:
        text = text.replace('@uprobe("c:getpid")\ndef six():\n    n[5] += 1\n', "")
    traced = left_in_tracefs()
    tool = Tool(tmp_path / "hooks.py", text)
    mine = _objects_of(tool.process.pid)
    assert len(mine["prog"]) >= text.count("@")
    tool.end(signal)
    assert tool.process.returncode == (-9 if signal == 9 else 0)
    for kind, ids in mine.items():
        assert ids or (kind == "link" and older_than("5.15")), kind
        wait_for(lambda kind=kind, ids=ids: not ids & _listed(kind), patient(20.0))
    assert not mine["prog"] & program_ids()
    assert left_in_tracefs() == traced
    record_property("row", "fault:killed with -9" if signal == 9 else "fault:ended by SIGTERM")
    record_property("how", "nothing stays")


def _objects_of(pid: int) -> dict[str, set[int]]:
    """Ids of the BPF objects that a process holds, by kind."""
    found: dict[str, set[int]] = {"prog": set(), "map": set(), "link": set()}
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            text = info.read_text()
        except FileNotFoundError:
            continue
        for kind, ids in found.items():
            ids |= {int(number) for number in re.findall(rf"^{kind}_id:\s+(\d+)", text, re.M)}
    return found


def _listed(kind: str) -> set[int]:
    shown = subprocess.run(["bpftool", "-j", kind, "show"], capture_output=True, text=True, check=False).stdout
    return {one["id"] for one in json.loads(shown)} if shown.strip() else set()
