# SPDX-License-Identifier: Apache-2.0
"""cpufreq on a machine whose CPUs are said to have frequencies, and a process that computes on one of them.

What is sampled is real; what the frequencies are the tool reads from files of
the test, because virtual machines have none.  Changes of them are the kernel
half's own, run as plain Python.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Tool, osmia
from test_filters import cgroup
from test_runqlen import CPU, spinners

from osmia import machine
from osmia.kernel import cpus
from osmia.tools import cpufreq

#: osmia with other files of frequencies.
OSMIA = (
    "import sys; from osmia.kernel import cpus; cpus._FREQUENCY = sys.argv[1]; "
    "from osmia.cli.main import main; sys.exit(main(sys.argv[2:]))"
)


@pytest.fixture
def files(tmp_path: Path) -> str:
    """The CPU that is computed on has 3.4 GHz, all others 1.2 GHz."""
    for number in cpus.online():
        (tmp_path / f"{number}").write_text("3400000\n" if number == CPU else "1200000\n")
    return str(tmp_path / "{}")


def run(files: str, *words: str) -> Tool:
    tool = Tool(command=[sys.executable, "-c", OSMIA, files, "cpufreq", *words]).start().wait()
    assert tool.status == 0 and tool.stderr == ""
    return tool


def buckets(one: dict[str, Any]) -> dict[int, int]:
    return {bucket["low"]: bucket["count"] for bucket in one["buckets"] if bucket["count"]}


@pytest.mark.kernel
def test_samples_have_the_frequency_of_their_cpu(files: str) -> None:
    """Who computes on one CPU only is seen at its frequency; the system at those of all, 99 times a second on each."""
    with spinners():
        (record,) = run(files, "--json", "1", "1").records()
    assert (record["unit"], record["section"]) == ("MHz", "process")
    found = {one["label"]: buckets(one) for one in record["histograms"]}
    assert set(found["sleeper"]) == {3400} and set(found["syswide"]) <= {1200, 3400}
    assert found["syswide"][3400] >= found["sleeper"][3400] > 30
    assert sum(found["syswide"].values()) <= 130 * len(cpus.online())
    assert sum(sum(one.values()) for name, one in found.items() if name != "syswide") <= sum(found["syswide"].values())


@pytest.mark.kernel
def test_frequency_of_samples_and_text(files: str) -> None:
    with spinners():
        tool = run(files, "-f", "499", "-n", "sleeper", "-d", "1")
    assert tool.stdout.startswith("Sampling CPU freq system-wide & by process. Ctrl-C to end.\n")
    assert "\nprocess = syswide\n     MHz                 : count     distribution\n" in tool.stdout
    assert tool.stdout.count("process = ") == 2 and "process = sleeper\n" in tool.stdout
    (line, _) = [line for line in tool.stdout.splitlines() if "3400 -> 3599" in line]
    assert int(line.split(":")[1].split()[0]) > 150


@pytest.mark.kernel
def test_one_cgroup(files: str) -> None:
    """-c: what is in it, and nothing else."""
    with cgroup(f"osmia-cpufreq-{os.getpid()}") as place, spinners(2) as pids:
        (record,) = run(files, "-c", str(place), "--json", "0.5", "1").records()
        assert record["histograms"] == []
        (place / "cgroup.procs").write_text(str(pids[0]))
        (record,) = run(files, "--cgroup", str(place), "--json", "1", "1").records()
    assert {one["label"] for one in record["histograms"]} == {"syswide", "sleeper"}


@pytest.mark.kernel
def test_where_there_are_no_frequencies() -> None:
    if cpus.frequencies():
        assert osmia("cpufreq", "0.3", "1").returncode == 0
        return
    done = osmia("cpufreq")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "osmia: cpufreq: no CPU here has a frequency that the kernel could change (there is no cpufreq in "
        "/sys/devices/system/cpu); virtual machines have none\n"
    )


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-f", "0"], "option -f: '0' is not a frequency: 1 to 10000 samples a second"),
        (["-c", "no/such"], "option -c: 'no/such' is no cgroup (v2)"),
    ],
)
def test_mistakes(words: list[str], text: str) -> None:
    done = osmia("cpufreq", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"osmia: cpufreq: {text}\n")


def test_files_of_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kHz; a CPU without such a file, or with one that cannot be read, is left out."""
    monkeypatch.setattr(cpus, "_FREQUENCY", str(tmp_path / "cpu{}"))
    assert cpus.frequencies() == {}
    (tmp_path / f"cpu{CPU}").write_text("2400123\n")
    assert cpus.frequencies() == {CPU: 2400123}
    (tmp_path / f"cpu{CPU}").write_text("<unknown>\n")
    assert cpus.frequencies() == {}


# --- the kernel half as plain Python ------------------------------------------------------------------------------


@pytest.fixture
def fresh() -> Iterator[None]:
    cpufreq.speeds.max_entries = 4
    yield
    cpufreq.speeds.max_entries = 1
    cpufreq.speeds.clear()
    cpufreq.sampled._sim.clear()
    machine.pid = machine.tgid = machine.cpu = 0


def sample(cpu: int, pid: int, comm: str = "worker") -> None:
    machine.cpu, machine.pid, machine.tgid, machine.comm = cpu, pid, pid, comm
    cpufreq.sample(None)


@pytest.mark.usefixtures("fresh")
def test_a_sample_has_what_was_set_last() -> None:
    """Whichever CPU the change is made on: it says which one it is about."""
    cpufreq.change(1_200_000, 0)
    machine.cpu = 0
    cpufreq.change(3_900_999, 2)
    for cpu, pid in ((0, 17), (2, 17), (2, 0), (1, 17)):  # CPU 1 has no frequency that anybody knows
        sample(cpu, pid)
    cpufreq.change(800_000, 2)
    sample(2, 18, "other")
    found = {key: (shot.count, shot.sum) for key, shot in cpufreq.sampled.snapshots().items()}
    assert found == {
        cpufreq.EVERYTHING: (4, 1200 + 3900 + 3900 + 800), "worker": (2, 1200 + 3900), "other": (1, 800),
    }  # fmt: skip
    assert (cpufreq.label(""), cpufreq.label("worker")) == ("syswide", "worker")
