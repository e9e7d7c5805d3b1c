# SPDX-License-Identifier: Apache-2.0
"""Flight recorders, trace pipe and perf buffers as a run of ``osmia run`` shows them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import patient

pytestmark = pytest.mark.kernel

HEAD = "from osmia import *\n\nme = option('-p', '--pid', type=int, help='pid')\n"
EVENTS = HEAD + """
class Call(Event):
    n: s32

calls = RING

@tracepoint("syscalls:sys_enter_getpriority")
def enter(call):
    if current.tgid == me and call.which == 77:
        with calls.reserve() as e:
            e.n = call.who
"""
PRINTK = HEAD + """
@tracepoint("syscalls:sys_enter_getpriority")
def enter(call):
    if current.tgid == me and call.which == 77:
        trace_printk(f"osmia-run {call.who}")
"""
PINS = HEAD + """
clock = Counters("cpu-clock")
total = Global[u64]()
last = PerThread[u64]()

class Call(Event):
    n: u64
    clock: u64

calls = Ring(Call)

@tail_program(tracepoint("syscalls:sys_enter_getpriority"))
def send(call):
    with calls.reserve() as e:
        e.n = total.value
        e.clock = clock.read()

handlers = ProgArray([send])

@tracepoint("syscalls:sys_enter_getpriority")
def enter(call):
    if current.tgid == me and call.which == 77:
        total.value += call.who
        tail_call(handlers, 0)
"""


class Run:
    """``osmia run FILE`` that traces this process."""

    def __init__(self, folder: Path, text: str, *words: str, **environment: str) -> None:
        file = folder / "program.py"
        file.write_text(text)
        ready, far = os.pipe()
        env = {**os.environ, **environment, "OSMIA_READY_FD": str(far)}
        command = [sys.executable, "-m", "osmia.cli.main", "run", str(file), "-p", str(os.getpid()), *words]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, pass_fds=[far]
        )
        os.close(far)
        with os.fdopen(ready, "rb") as pipe:
            if not pipe.read(1):
                raise AssertionError(self.process.communicate(timeout=patient(30)))

    def end(self) -> tuple[str, str]:
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=patient(30))
        assert self.process.returncode == 0, err
        return out, err


def call(numbers: range) -> None:
    for n in numbers:
        with contextlib.suppress(OSError):
            os.getpriority(77, n)


def numbers(text: str) -> list[int]:
    return [int(line) for line in text.split() if re.fullmatch(r"\d+", line)]


@pytest.mark.feature("A8 events: perf buffer")
@pytest.mark.parametrize("off", ["", "ringbuf"])
def test_perf_buffers_show_the_same_rows(tmp_path: Path, off: str) -> None:
    run = Run(tmp_path, EVENTS.replace("RING", "Ring(Call)"), "-v", OSMIA_FEATURES_OFF=off)
    call(range(200))
    out, err = run.end()
    assert out.split() == ["N", *map(str, range(200))]
    assert ("calls: perf buffers, because this kernel has no ring buffer" in err) == bool(off)


@pytest.mark.feature("A16 overwriting ring buffers (flight recorder)")
def test_a_recorder_shows_what_it_holds_at_the_end_and_when_asked(tmp_path: Path) -> None:
    run = Run(tmp_path, EVENTS.replace("RING", "FlightRecorder(Call, 1 << 16)"))
    call(range(10))
    run.process.send_signal(signal.SIGUSR1)
    time.sleep(0.5)
    call(range(10, 15))
    out, _ = run.end()
    assert numbers(out) == [*range(10), *range(15)]


@pytest.mark.feature("B3 debug output: raw", "B3 debug output: fields")
def test_the_trace_pipe_is_shown(tmp_path: Path) -> None:
    run = Run(tmp_path, PRINTK)
    call(range(3))
    time.sleep(0.5)
    out, _ = run.end()
    shown = [line.partition("bpf_trace_printk: ")[2] for line in out.splitlines()]
    assert shown == [f"osmia-run {n}" for n in range(3)]
    run = Run(tmp_path, PRINTK, "--json")
    call(range(3))
    time.sleep(0.5)
    out, _ = run.end()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["message"], row["pid"]) for row in rows] == [(f"osmia-run {n}", os.getpid()) for n in range(3)]


def test_jumps_variables_and_counters_in_a_run(tmp_path: Path) -> None:
    run = Run(tmp_path, PINS, "--json")
    call(range(1, 5))
    out, err = run.end()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["n"] for row in rows] == [1, 3, 6, 10] and all(row["clock"] > 0 for row in rows) and err == ""
