# SPDX-License-Identifier: Apache-2.0
"""Perf events: every software event, by period and by frequency; counters in hardware, or a clear refusal."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kernel_code import Running, module, running
from needs import older_than
from patience import PATIENCE

from osmia.errors import CompileError, NotSupported, UserError
from osmia.events import missed
from osmia.events.loss import sentence
from osmia.kernel import cpus, perf, perf_names

pytestmark = [pytest.mark.kernel, pytest.mark.vm, pytest.mark.usefixtures("no_fd_leak")]
Row = Callable[[str, Any], None]

PAGES = 200
SAMPLE = """
low = option("--low", type=int)
high = option("--high", type=int)
n = Array[u64](8)

@perf_event("cpu-clock", frequency=99)
def sample(s):
    n[0] += 1
    n[1] = s.sample_period
    if s.ip:
        n[2] += 1
    if low <= s.addr < high:
        n[3] += 1
        n[4] += (s.addr - low) // 4096
"""


def untouched() -> tuple[mmap.mmap, int]:
    """Memory without pages, and its address."""
    memory = mmap.mmap(-1, PAGES * mmap.PAGESIZE)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))


def touch(memory: mmap.mmap) -> None:
    for page in range(PAGES):
        memory[page * mmap.PAGESIZE] = 1


def sampling(**options: int) -> Any:
    return running(SAMPLE, options)


def n(it: Running) -> list[int]:
    return [it.module.n[at] for at in range(8)]


@pytest.mark.parametrize("event", ["page-faults", "faults"])
def test_page_faults_one_by_one(event: str, record_property: Row) -> None:
    """A period of one: each page that is touched first is one run, with its address."""
    memory, start = untouched()
    with sampling(low=start, high=start + PAGES * mmap.PAGESIZE) as it:
        link = it.attach("sample", event=event, period=1, pid=os.getpid())
        touch(memory)
        link.close()
        found = n(it)
        assert (found[3], found[4]) == (PAGES, sum(range(PAGES))), found
        assert found[1] == 1 and found[2] == found[0] >= PAGES
    record_property("row", "hook:perf_event, software")
    record_property("how", link.how)


def test_page_faults_of_either_kind(record_property: Row) -> None:
    """Each is minor or major, as the kernel's own accounts of the process say.

    First touches of anonymous memory are minor, but not everywhere: 5.10.262, as Debian has it, accounts them as major.
    """
    memory, start = untouched()
    place = {"low": start, "high": start + PAGES * mmap.PAGESIZE}
    with sampling(**place) as minor, sampling(**place) as major:
        before = resource.getrusage(resource.RUSAGE_SELF)
        links = [it.attach("sample", event=event, period=1, pid=os.getpid())
                 for it, event in ((minor, "minor-faults"), (major, "major-faults"))]  # fmt: skip
        touch(memory)
        for link in links:
            link.close()
        after = resource.getrusage(resource.RUSAGE_SELF)
        found = n(minor), n(major)
    assert [found[0][at] + found[1][at] for at in (3, 4)] == [PAGES, sum(range(PAGES))], found
    assert found[0][0] <= after.ru_minflt - before.ru_minflt and found[1][0] <= after.ru_majflt - before.ru_majflt
    record_property("row", "hook:perf_event, software")
    record_property("how", links[0].how)


def test_a_period_of_ten() -> None:
    memory, start = untouched()
    with sampling(low=start, high=start + PAGES * mmap.PAGESIZE) as it:
        link = it.attach("sample", event="page-faults", period=10, pid=os.getpid())
        touch(memory)
        link.close()
        assert PAGES // 10 - 1 <= n(it)[3] <= PAGES // 10 + 1


def test_migrations_and_switches() -> None:
    mine = os.sched_getaffinity(0)
    if len(mine) < 2:
        pytest.skip("one CPU")
    a, b = sorted(mine)[:2]
    with sampling(low=0, high=0) as it:
        os.sched_setaffinity(0, {a})
        try:
            link = it.attach("sample", event="cpu-migrations", period=1, pid=os.getpid())
            for _ in range(10):
                os.sched_setaffinity(0, {b})
                os.sched_setaffinity(0, {a})
            link.close()
            assert n(it)[0] == 20
        finally:
            os.sched_setaffinity(0, mine)
        link = it.attach("sample", event="context-switches", period=1, pid=os.getpid())
        for _ in range(10):
            time.sleep(0.001)
        link.close()
        assert n(it)[0] - 20 >= 10


def test_every_software_event_opens() -> None:
    """Those that nothing here can cause are attached all the same."""
    with sampling(low=0, high=0) as it:
        for event in perf_names.names():
            if perf_names.find(event)[0] != perf.PERF_TYPE_SOFTWARE:  # type: ignore[index]
                continue
            if event == "cgroup-switches" and older_than("5.13"):
                continue
            it.attach("sample", event=event, period=1_000_000, pid=os.getpid()).close()


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.mark.feature("A4 timed sampling")
@pytest.mark.parametrize("event", ["cpu-clock", "task-clock"])
@pytest.mark.parametrize("how", [{"frequency": 500}, {"period": 2_000_000}])
def test_clocks_by_frequency_and_period(event: str, how: dict[str, int]) -> None:
    """500 samples for each second of CPU time that this process used, said either way."""
    with sampling(low=0, high=0) as it:
        link = it.attach("sample", event=event, pid=os.getpid(), **how)
        burn(0.4)
        link.close()
        found = n(it)
        assert 0.6 * 200 / PATIENCE <= found[0] <= 1.2 * 200, found
        if "period" in how:
            assert found[1] == 2_000_000


HARDWARE = ["cpu-cycles", "instructions", "L1-dcache-load-misses", "LLC-loads", "dTLB-store-misses", "r01c2"]


@pytest.mark.feature("A5 hardware counters, or a clear refusal")
@pytest.mark.parametrize("event", HARDWARE)
def test_counters_of_the_processor(event: str, record_property: Row) -> None:
    """They count, or the refusal says what this machine lacks."""
    record_property("row", f"hook:perf_event, {event}")
    with sampling(low=0, high=0) as it:
        try:
            link = it.attach("sample", event=event, period=10_000, pid=os.getpid())
        except NotSupported as err:
            kind = perf_names.kind_of(perf_names.find(event)[0])  # type: ignore[index]
            assert str(err) == (
                f"sample ({event}): this machine has no such {kind}; virtual machines often have none"
            )
            assert not os.path.exists("/sys/bus/event_source/devices/cpu/events/cpu-cycles") or event not in (
                "cpu-cycles", "instructions",
            )  # fmt: skip
            record_property("how", "refused: no such counter")
            return
        burn(0.1)
        link.close()
        if event in ("cpu-cycles", "instructions"):
            assert n(it)[0] > 100
        record_property("how", link.how)


def test_names() -> None:
    """Numbers as in include/uapi/linux/perf_event.h."""
    assert perf_names.find("cpu-cycles") == perf_names.find("cycles") == (0, 0)
    assert perf_names.find("L1-dcache-load-misses") == (3, 0x10000)
    assert perf_names.find("LLC-stores") == (3, 0x102)
    assert perf_names.find("node-prefetch-misses") == (3, 0x10206)
    assert perf_names.find("r01c2") == (4, 0x1C2)
    assert perf_names.find("cs") == (1, 3)
    for wrong in ("", "r", "rx1", "L1-dcache", "L1-dcache-misses", "cpu_cycles", "r" + "1" * 17):
        assert perf_names.find(wrong) is None
    assert all(perf_names.find(name) is not None for name in perf_names.names())
    with pytest.raises(UserError, match=r"unknown perf event 'cpu-cycle'; did you mean cpu-cycles"):
        perf_names.must_find("cpu-cycle")
    with pytest.raises(UserError, match=r"names are those of `perf list`, or a number such as r01c2"):
        perf_names.must_find("zzzz")


def test_what_is_refused() -> None:
    with sampling(low=0, high=0) as it:
        with pytest.raises(UserError, match=r"a frequency of 1073741824 Hz is refused; see kernel\.perf_event"):
            it.attach("sample", event="cpu-clock", frequency=1 << 30)
        with pytest.raises(NotSupported, match="cpu-clock works everywhere"):
            it.attach("sample", event="r7fffffffffffffff", frequency=99)
    for text in ('perf_event("cpu-clock")', 'perf_event("cpu-clock", frequency=1, period=1)'):
        with pytest.raises(TypeError, match="one of them"):
            module(f"f = {text}\n")
    text = 'n = Array[u64](1)\n@perf_event("cpu-clock", frequency=9)\ndef f(s):\n    n[0] = s.sample_perod\n'
    with pytest.raises(CompileError, match=r"no field 'sample_perod'"), running(text):
        pass


def test_a_sampled_process_ends() -> None:
    """What one process used is exact to its last sample; its end disturbs nothing."""
    with sampling(low=0, high=0) as it:
        code = "import time, sys; sys.stdin.readline()\nwhile time.process_time() < 0.5: pass"
        child = subprocess.Popen([sys.executable, "-S", "-E", "-c", code], stdin=subprocess.PIPE)
        link = it.attach("sample", event="task-clock", period=1_000_000, pid=child.pid)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)  # os.times() counts in hundredths of a second
        child.communicate(b"\n")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        first = n(it)[0]
        assert 350 / PATIENCE <= first <= 1000 * used + 5  # a timer that is late by more than a period fires once
        burn(0.05)
        assert n(it)[0] == first
        link.close()


def test_every_online_cpu_has_its_own_event() -> None:
    with sampling(low=0, high=0) as it:
        link = it.attach("sample", event="cpu-clock", frequency=99)
        per_cpu = 2 if "link" in link.how else 1
        assert len(link.fds) == per_cpu * len(cpus.online())
        link.close()
        one = it.attach("sample", event="cpu-clock", frequency=99, cpu=cpus.online()[0])
        assert len(one.fds) == per_cpu


def test_time_without_samples_is_told() -> None:
    """An event that the kernel has stopped, as it does when its CPU goes away, is a loss with its length."""
    with sampling(low=0, high=0) as it:
        link = it.attach("sample", event="cpu-clock", frequency=99)
        time.sleep(0.1)
        assert missed.read([link], {}) == []
        gone = cpus.online()[-1]
        perf.disable(link.events[gone])  # type: ignore[attr-defined]
        time.sleep(0.3)
        ((slot, milliseconds),) = missed.read([link], {})
        assert 250 <= milliseconds < 290 + 1000
        assert sentence(slot, milliseconds, {}) == (
            f"cpu-clock on CPU {gone}: no samples for {milliseconds:,} ms, because the CPU was offline"
        )
        link.close()
        assert missed.read([link], {}) == []


@pytest.mark.feature("P1 the next probe of a plan, said with -v")
def test_a_plan_without_a_counter(tmp_path: Path) -> None:
    """Hardware where there is one, the clock elsewhere; -v says which."""
    script = tmp_path / "plan.py"
    script.write_text("""
from osmia import *
n = Array[u64](1)

@first_of(perf_event("cpu-cycles", frequency=99), perf_event("cpu-clock", frequency=99))
def sample(s):
    n[0] += 1

run()
""")
    done = subprocess.run(
        [sys.executable, str(script), "-v", "-d", "1"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    if "this machine has no such hardware counter" in done.stderr:
        assert "sample: attached to perf_event: (perf " in done.stderr
