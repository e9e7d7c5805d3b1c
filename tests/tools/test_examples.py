# SPDX-License-Identifier: Apache-2.0
"""Every example runs, and what it shows is true."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from disks import direct, row
from harness import EXAMPLES, REPO, Tool, loop_device, workload
from patience import PATIENCE, patient

pytestmark = pytest.mark.kernel


def example(name: str) -> Tool:
    return Tool(command=[sys.executable, str(REPO / "examples" / f"{name}.py")])


@pytest.mark.feature("B12 examples")
def test_examples_are_short_and_explained() -> None:
    assert len(EXAMPLES) >= 8
    for path in EXAMPLES:
        text = path.read_text()
        assert len(text.splitlines()) <= 25, path
        assert '"""' in text and "run()" in text, path
    assert len((REPO / "examples" / "bitehist.py").read_text().splitlines()) <= 10


@pytest.mark.feature("B12 examples")
def test_bitehist() -> None:
    with loop_device(8) as disk, example("bitehist") as tool:
        direct(disk, row(101, 4096), size=4096)
        direct(disk, row(53, 65536), size=65536)
    rows = {(int(a), int(b)): int(n) for a, b, n in re.findall(r"(\d+) -> (\d+)\s*: (\d+)\s*\|", tool.stdout)}
    # Other disks may be busy too; the backing file's own requests are as large as the loop device's.
    assert rows[4, 7] >= 101 and rows[64, 127] >= 53
    assert "     kbytes              : count     distribution" in tool.stdout


@pytest.mark.feature("B12 examples")
def test_hello() -> None:
    with example("hello") as tool:
        process = subprocess.Popen([shutil.which("true") or "/bin/true"])
        process.wait()
    assert f"hello, true (PID {process.pid})" in tool.stdout.splitlines()


@pytest.mark.feature("B12 examples")
def test_syscount() -> None:
    storm = subprocess.Popen(
        [workload("storm"), "0.2", "10000", "/x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with example("syscount") as tool:
        made = int(storm.communicate("\n", timeout=patient(10))[0])
    found = re.search(r"storm\D+(\d+)", tool.stdout)
    # Its opens, and the few calls around them: one read, one write, exit.
    assert found and made < int(found[1]) <= made + 12


@pytest.mark.feature("B12 examples")
def test_tcpstates() -> None:
    with example("tcpstates") as tool, socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            mine = client.getsockname()[1]
            server.accept()[0].close()
    lines = tool.stdout.splitlines()
    assert f"port {mine} to port {port}: state 2 -> 1" in lines  # SYN_SENT -> ESTABLISHED
    assert f"port {port} to port {mine}: state 3 -> 1" in lines  # SYN_RECV -> ESTABLISHED


@pytest.mark.feature("B12 examples")
def test_profile() -> None:
    with example("profile") as tool:
        busy = subprocess.Popen(
            [workload("sleeper"), "1", "0", "3000000"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert busy.stdin
        busy.stdin.write(b"\n")
        busy.stdin.close()
        used = os.wait4(busy.pid, 0)[2]
    found = re.search(rf"{busy.pid}\D+sleeper\D+(\d+)", tool.stdout)
    assert found, tool.stdout
    expected = 99 * (used.ru_utime + used.ru_stime)
    if PATIENCE > 1:  # an emulator's timer fires when it can
        assert expected > 10 and abs(int(found[1]) - expected) <= 5 * expected**0.5
    else:
        assert expected > 30 and 0.85 * expected - 2 <= int(found[1]) <= 1.15 * expected + 2


@pytest.mark.feature("B12 examples")
def test_tasks() -> None:
    """This process, and all the threads of a child that has seven."""
    code = (
        "import threading, sys\n"
        "for _ in range(6): threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "print(flush=True); sys.stdin.readline()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout and child.stdout.readline()
    expected = {int(tid) for tid in os.listdir(f"/proc/{child.pid}/task")}
    tool = example("tasks").start().wait()
    child.communicate("\n")
    comm = Path("/proc/self/comm").read_text().strip()
    parent = Path(f"/proc/{os.getppid()}/comm").read_text().strip()
    assert f"PID {os.getpid()} TID {os.getpid()} {comm}, child of {parent}" in tool.stdout.splitlines()
    found = re.findall(rf"^PID {child.pid} TID (\d+) \S+, child of {re.escape(comm)}$", tool.stdout, re.M)
    assert len(expected) == 7 and sorted(map(int, found)) == sorted(expected)


@pytest.mark.feature("B12 examples")
def test_readsize() -> None:
    with example("readsize") as tool:
        subprocess.run(["dd", "if=/dev/zero", "of=/dev/null", "bs=1000", "count=211", "status=none"], check=True)
    parts = re.split(r"^\S.*= ", tool.stdout, flags=re.M)
    dd = next(part for part in parts if part.startswith("dd"))
    rows = {(int(a), int(b)): int(n) for a, b, n in re.findall(r"(\d+) -> (\d+)\s*: (\d+)\s*\|", dd)}
    assert rows[512, 1023] >= 211 and rows[512, 1023] <= 213


@pytest.mark.feature("B6 histograms printed: linear")
def test_switches() -> None:
    with example("switches") as tool:
        sleeper = subprocess.Popen(
            ["taskset", "-c", "0", workload("sleeper"), "1500", "100", "0"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        sleeper.communicate(b"\n", timeout=patient(20))
    found = re.findall(r"^CPU (\d+): (\d+) switches, now to \S", tool.stdout, re.M)
    assert found and all(int(n) % 1000 == 0 and 0 <= int(c) < (os.cpu_count() or 1) for c, n in found)
    first = [int(n) for c, n in found if c == "0"]
    # 1,500 sleeps are 3,000 switches of CPU 0 at least: 1000, 2000, 3000 ..., each said once.
    assert len(first) >= 2 and first == [1000 * (at + 1) for at in range(len(first))]
