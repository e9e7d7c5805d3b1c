# SPDX-License-Identifier: Apache-2.0
"""cpuwalk against a process that is pinned to one CPU and whose running time the scheduler has counted."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from harness import Tool, osmia
from test_runqlat import Sleeper

pytestmark = pytest.mark.kernel

HERTZ = 99  # emulated CPUs do not keep up with more


def samples(text: str) -> dict[int, int]:
    """By CPU, those with any."""
    found = re.findall(r"^\s*(\d+)\s+: (\d+)\s*\|", text, re.M)
    return {int(cpu): int(n) for cpu, n in found if n != "0"}


def ran(pid: int) -> float:
    """Seconds that a process has had a CPU."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def test_where_a_process_runs() -> None:
    """All samples are on its CPU, and as many as fit into the time that it had."""
    with Sleeper(1, 0, 2_000_000) as spinner, Sleeper(1, 0, 2_000_000) as other:
        tool = Tool("cpuwalk", "-f", str(HERTZ), "-p", str(spinner.pid)).start()
        before = ran(spinner.pid)
        spinner.go()
        other.go()
        spinner.done()
        seconds = ran(spinner.pid) - before
        tool.stop()
        other.done()
    assert tool.status == 0 and tool.stderr == ""
    assert tool.stdout.startswith(f"Sampling CPU at {HERTZ}hz... Hit Ctrl-C to end.\n\n     cpu           : count ")
    found = samples(tool.stdout)
    assert list(found) == [0]
    assert 0.5 * HERTZ * seconds - 5 < found[0] < 1.5 * HERTZ * seconds + 5


def test_idle_cpus_are_left_out() -> None:
    """Of a process that sleeps there is nothing; of all together no more than the samples there are."""
    with Sleeper(1) as sleeper:
        tool = Tool("cpuwalk", "-p", str(sleeper.pid)).start()
        everybody = Tool("cpuwalk", "-T", "1", "1").start().wait()
        tool.stop()
    assert samples(tool.stdout) == {}
    found = samples(everybody.stdout)
    assert set(found) <= set(range(os.cpu_count() or 1))
    assert all(n < 200 for n in found.values())
    assert re.search(r"^\d\d:\d\d:\d\d$", everybody.stdout, re.M)


@pytest.mark.anywhere
@pytest.mark.parametrize("word", ["0", "x", "10001"])
def test_impossible_frequencies(word: str) -> None:
    done = osmia("cpuwalk", "-f", word)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"osmia: cpuwalk: option -f: {word!r} is not a frequency: 1 to 10000 samples a second\n"
