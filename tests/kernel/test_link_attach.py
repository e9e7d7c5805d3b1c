# SPDX-License-Identifier: Apache-2.0
"""Each hook delivers exactly what happened, and detaches completely."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import prebuilt
import pytest
from needs import needs, older_than
from patience import PATIENCE, patient

from osmia.errors import NotFound, NotSupported, UserError
from osmia.kernel import bpf, cpus, features
from osmia.link import attach
from osmia.load.object import LiveObject, load
from osmia.obj.spec import ObjectSpec

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("no_fd_leak")]
Specs = Callable[[str], ObjectSpec]


@pytest.fixture
def live(live_spec: Specs) -> Iterator[LiveObject]:
    spec = live_spec("live")
    spec.maps[".rodata"].set("want_tgid", struct.pack("<I", os.getpid()))
    # `run` calls bpf_loop, which an older kernel does not have.
    with load(spec, optional=["run"]) as loaded:
        yield loaded
    features.turn_off()


def count(live: LiveObject, key: int) -> int:
    value = live.maps["counts"].lookup(struct.pack("<I", key))
    return int.from_bytes(value, "little") if value else 0


@pytest.mark.feature("A3 tracepoints", only="on_enter")
@pytest.mark.feature("A3 raw tracepoints", only="on_raw")
@pytest.mark.feature("A3 raw tracepoints with types (tp_btf)", only="on_typed")
@pytest.mark.parametrize(("program", "key", "how"), [
    ("on_enter", 7, "perf link"), ("on_raw", 8, "raw tracepoint"), ("on_typed", 9, "raw tracepoint, typed"),
])  # fmt: skip
def test_counts_between_attach_and_close(live: LiveObject, program: str, key: int, how: str) -> None:
    os.getpgid(0)
    if how == "perf link" and older_than("5.15"):
        how = "perf ioctl"
    with attach(live.progs[program]) as link:
        assert link.how == how
        for _ in range(23):
            os.getpgid(0)
    os.getpgid(0)
    assert count(live, key) == 23


def test_tracepoint_by_ioctl(live: LiveObject) -> None:
    features.turn_off("bpf_link")
    with attach(live.progs["on_enter"]) as link:
        assert link.how == "perf ioctl"
        for _ in range(23):
            os.getpgid(0)
    os.getpgid(0)
    assert count(live, 7) == 23


def test_tracepoint_sees_every_cpu(live: LiveObject) -> None:
    allowed = os.sched_getaffinity(0)
    with attach(live.progs["on_enter"]):
        try:
            for cpu in sorted(allowed):
                os.sched_setaffinity(0, {cpu})
                for _ in range(10):
                    os.getpgid(0)
        finally:
            os.sched_setaffinity(0, allowed)
    assert count(live, 7) == 10 * len(allowed)


@pytest.mark.feature("A4 timed sampling")
@pytest.mark.parametrize("way", ["perf link", "perf ioctl"])
def test_samples_come_at_the_frequency(live: LiveObject, way: str) -> None:
    if way == "perf ioctl":
        features.turn_off("bpf_link")
    else:
        needs("bpf_link")
    start = time.monotonic()
    with attach(live.progs["on_sample"], frequency=100) as link:
        assert link.how == way
        assert len(link.fds) == len(cpus.online()) * (2 if way == "perf link" else 1)
        while time.monotonic() < start + 0.5:  # keeps this CPU from sleeping
            pass
    elapsed = time.monotonic() - start
    samples = [count(live, 100 + cpu) for cpu in cpus.online()]
    least = 0.6 / PATIENCE  # a timer that is late by more than a period fires once
    assert least * 100 * elapsed < max(samples) < 1.3 * 100 * elapsed + 2, samples


def test_a_period_counts_events(live: LiveObject) -> None:
    """Software events: one run for every tenth page fault of this process."""
    import mmap

    with attach(live.progs["on_sample"], event="page-faults", period=10, pid=os.getpid()):
        memory = mmap.mmap(-1, 400 * mmap.PAGESIZE)
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        for page in range(400):
            memory[page * mmap.PAGESIZE] = 1
    memory.close()
    assert 40 <= sum(count(live, 100 + cpu) for cpu in cpus.possible()) <= 60


def test_errors_name_what_is_near(live: LiveObject) -> None:
    with pytest.raises(NotFound, match="did you mean syscalls:sys_enter_getpgid"):
        attach(live.progs["on_enter"], target="syscalls:sys_enter_getpgidd")
    with pytest.raises(NotFound, match="did you mean sched:sched_switch"):
        attach(live.progs["on_enter"], target="shed:sched_switch")
    with pytest.raises(NotFound, match="did you mean sched_switch"):
        attach(live.progs["on_raw"], target="sched_swich")
    with pytest.raises(UserError, match="category:name"):
        attach(live.progs["on_enter"], target="sched_switch")
    with pytest.raises(NotFound, match="no tracepoint"):
        attach(live.progs["on_enter"], target="../../..:x")


def test_perf_event_errors(live: LiveObject) -> None:
    with pytest.raises(UserError, match="unknown perf event 'cycle'"):
        attach(live.progs["on_sample"], event="cycle", frequency=1)
    with pytest.raises(UserError, match="a frequency or a period"):
        attach(live.progs["on_sample"])
    with pytest.raises(UserError, match="refused"):
        attach(live.progs["on_sample"], frequency=1 << 30)


@pytest.mark.feature("A5 hardware counters, or a clear refusal")
def test_missing_counters_are_refused_in_words(live: LiveObject) -> None:
    link = None
    try:
        link = attach(live.progs["on_sample"], event="cycles", period=1_000_000)
    except NotSupported as e:
        assert "no such hardware counter" in str(e)
    if link:
        start = time.monotonic()
        while time.monotonic() < start + 0.1:
            pass
        link.close()
        assert sum(count(live, 100 + cpu) for cpu in cpus.possible()) > 0


def test_reading_beyond_a_record(live_spec: Specs) -> None:
    with load(live_spec("bad"), only=["beyond_record"]) as loaded, pytest.raises(UserError, match="beyond this trace"):
        attach(loaded.progs["beyond_record"])


def test_hooks_that_cannot_be_attached(live: LiveObject) -> None:
    live.progs["on_raw"].spec.hook = "netfilter"
    with pytest.raises(NotSupported, match="programs for netfilter cannot be attached"):
        attach(live.progs["on_raw"])


def _program_ids() -> set[int]:
    found, id = set(), 0
    while id := bpf.prog_get_next_id(id):
        found.add(id)
    return found


_LEAVER = """
import os, sys, time
sys.path[:0] = sys.argv[1].split(os.pathsep)
import conftest
from osmia.link import attach
from osmia.link.detach import leave
from osmia.load.object import load
from osmia.obj.elf import parse_object
spec = parse_object(conftest._build("live"), "live")
live, other = load(spec, only=["on_enter", "on_raw"]), load(spec, only=["on_enter"])
links = [attach(live.progs["on_enter"]), attach(other.progs["on_enter"]), attach(live.progs["on_raw"])]
print(live.progs["on_enter"].info().id, flush=True)
start = time.monotonic()
if sys.argv[2] == "fast":
    assert leave(links)
    print(time.monotonic(), flush=True)
    os._exit(0)
if sys.argv[2] == "kill":
    print(time.monotonic(), flush=True)
    os.kill(os.getpid(), 9)
print(time.monotonic(), flush=True)
"""


def _run_leaver(way: str) -> tuple[float, int, int]:
    places = os.pathsep.join([os.path.dirname(__file__), str(prebuilt.TESTS / "support")])
    process = subprocess.Popen([sys.executable, "-c", _LEAVER, places, way], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    text = process.stdout.read()  # ends when nobody holds the pipe any more
    status = process.wait(timeout=patient(30))
    end = time.monotonic()
    process.stdout.close()
    id, start = text.split()
    return end - float(start), int(id), status


def _gone(id: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if id not in _program_ids():
            return True
        time.sleep(0.01)
    return False


def test_leaving_is_fast_and_complete() -> None:
    times = {}
    for way in ("fast", "slow", "kill"):
        seconds, id, status = _run_leaver(way)
        assert status == (-9 if way == "kill" else 0)
        times[way] = seconds
        assert _gone(id, 5), f"still attached after leaving the {way} way"
    assert times["fast"] < patient(0.05) and times["fast"] < times["slow"] / 2, times


def test_nothing_slow_needs_no_child(live: LiveObject) -> None:
    from osmia.link.detach import close_all, leave

    links = [attach(live.progs["on_raw"])]
    assert leave(links) is False
    close_all(links)
    assert links[0].fds == []
