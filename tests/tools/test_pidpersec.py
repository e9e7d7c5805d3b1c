# SPDX-License-Identifier: Apache-2.0
"""pidpersec against a process that makes known numbers of others."""

from __future__ import annotations

import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from harness import Tool

from osmia.tools import pidpersec

pytestmark = pytest.mark.kernel

CHILDREN, THREADS = 23, 11
MAKER = f"""
import os, sys, threading
sys.stdin.readline()
for _ in range({CHILDREN}):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
for _ in range({THREADS}):
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
"""


def counted(*words: str) -> dict[str, int]:
    """What there was in all summaries together, by kind."""
    maker = subprocess.Popen([sys.executable, "-c", MAKER], stdin=subprocess.PIPE, text=True)
    tool = Tool("pidpersec", "--json", "-i", "0.2", "-p", str(maker.pid), *words).start()
    maker.communicate("\n")
    tool.stop()
    assert maker.returncode == 0 and tool.status == 0 and tool.stderr == ""
    found: dict[str, int] = {}
    for record in tool.records():
        for row in record["rows"]:
            found[row["what"]] = found.get(row["what"], 0) + row["count"]
    return found


def test_processes_and_threads() -> None:
    assert counted() == {"processes": CHILDREN, "threads": THREADS}


def test_only_processes() -> None:
    assert counted("-P") == {"processes": CHILDREN}


def test_a_line_each_second() -> None:
    tool = Tool("pidpersec", "--duration", "2.5").start().wait()
    first, *lines = tool.stdout.splitlines()
    assert first == "Tracing... Ctrl-C to end." and len(lines) in (2, 3)
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d: PIDs/sec: \d+", line) for line in lines)


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("counts", "seconds", "rate"), [((), 1.0, 0), ((30, 7), 1.02, 37), ((30, 7), 2.0, 18), ((3,), 0.25, 12)]
)
def test_rate(counts: tuple[int, ...], seconds: float, rate: int) -> None:
    entries: list[Any] = [SimpleNamespace(count=n) for n in counts]
    assert pidpersec.line(entries, seconds).endswith(f": PIDs/sec: {rate}")
