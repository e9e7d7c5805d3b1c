# SPDX-License-Identifier: Apache-2.0
"""loads against /proc/loadavg, which is the same number, rounded."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness import environment, osmia, osmia_command
from patience import patient

LINE = re.compile(r"^\d\d:\d\d:\d\d load averages: (\d+\.\d{3}) (\d+\.\d{3}) (\d+\.\d{3})$")


def rounded() -> list[str]:
    """The kernel's text."""
    return Path("/proc/loadavg").read_text().split()[:3]


def as_the_kernel_rounds(load: float) -> str:
    """loadavg_proc_show() in fs/proc/loadavg.c: 11 bits after the point, and half of a hundredth added."""
    fixed = round(load * 2048)
    assert fixed == load * 2048  # nothing is lost on the way
    fixed += 2048 // 200
    return f"{fixed >> 11}.{(fixed & 2047) * 100 >> 11:02}"


@pytest.mark.kernel
def test_the_same_as_in_proc() -> None:
    for _ in range(3):
        before = rounded()
        done = osmia("loads", "--json", "1", "1")
        after = rounded()
        assert done.returncode == 0 and done.stderr == ""
        record = json.loads(done.stdout)
        found = [as_the_kernel_rounds(record[name]) for name in ("load1", "load5", "load15")]
        if before == after:  # it is counted anew each five seconds
            assert found == before
            return
    pytest.fail("the load has changed three times")


def test_lines_and_their_number() -> None:
    done = osmia("loads", "0.1", "3")
    banner, *lines = done.stdout.splitlines()
    assert banner == "Reading load averages... Hit Ctrl-C to end." and len(lines) == 3
    assert all(LINE.match(line) for line in lines)


def test_three_decimal_places() -> None:
    from osmia.tools import loads

    shown = loads.line({"time": 0, "load1": 2 + 187 / 2048, "load5": 0.0, "load15": 11.99999})
    assert shown.partition(" ")[2] == "load averages: 2.091 0.000 12.000"


def test_duration() -> None:
    done = osmia("loads", "-d", "0.5", "0.2")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1 + 3


def test_csv() -> None:
    head, row = osmia("loads", "--csv", "1", "1").stdout.splitlines()
    assert head == "time,load1,load5,load15" and re.fullmatch(r"[\d.]+(,[\d.]+){3}", row)


def test_ends_with_ctrl_c() -> None:
    """After the first line, which comes at once, and with status 0."""
    process = subprocess.Popen(osmia_command("loads"), env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() and LINE.match(process.stdout.readline().rstrip())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=patient(20))
    assert process.returncode == 0


def test_needs_no_privileges() -> None:
    code = "import os; from osmia.kernel.proc import loads; loads(); os.setgid(65534); os.setuid(65534); print(loads())"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\([\d.e-]+, [\d.e-]+, [\d.e-]+\)\n", done.stdout)


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["0"], "interval: 0 is not a time: more than 0 seconds is needed"),
        (["1", "0"], "count: '0' is not a whole number from 1"),
        (["1", "2", "3"], "unexpected argument '3'; see osmia loads --help"),
    ],
)
def test_mistakes(words: list[str], text: str) -> None:
    done = osmia("loads", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"osmia: loads: {text}\n")
