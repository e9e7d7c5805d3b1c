# SPDX-License-Identifier: Apache-2.0
"""``--stats`` and ``--max-overhead`` of real runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from harness import (
    FEW_PROGRAMS,
    TOOLS,
    Files,
    Tool,
    each_kind,
    environment,
    eventually,
    osmia,
    program_ids,
    programs_of,
    told,
    workload,
)

pytestmark = pytest.mark.kernel

NEVER = "100"
ALWAYS = "0.00001"  # of two CPUs: 200 ns in a second, less than looking at the clock takes
OPENS = 23
STACKS = ("offcputime", "offwaketime", "profile", "wakeuptime")  # tools that say how many stacks were cut


def cost(text: str) -> dict[str, Any]:
    """The last record of a run with ``--json``."""
    found = json.loads(text.splitlines()[-1])
    assert list(found) == ["cost"]
    return found["cost"]  # type: ignore[no-any-return]


class Storm:
    """The workload ``storm.c``: opens a file that is not there, a thousand times a second, for ten seconds at most."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([workload("storm"), "10", "1000", "/no/such/storm"], stdin=subprocess.PIPE,
                                        stdout=subprocess.DEVNULL, text=True, bufsize=1)  # fmt: skip
        self.pid = self.process.pid

    def __enter__(self) -> Storm:
        return self

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize("tool", each_kind(TOOLS))
def test_every_tool_says_what_it_cost(tool: str) -> None:
    """The table goes to standard error, so that the tool's own output stays what it is."""
    done = osmia(tool, "--stats", "--duration", "0.3")
    assert done.returncode == 0 and "cost of" not in done.stdout
    said, cost_of, table = done.stderr.partition("cost of ")  # what is said before is about stacks
    assert all(line.startswith("osmia: ") for line in said.splitlines())
    lines = (cost_of + table).splitlines()
    assert re.fullmatch(r"cost of \d\.\d{3} s of tracing:", lines[0])
    programs = [line for line in lines if re.fullmatch(r"  \w+: [\d,]+ runs, \d+ ns each", line)]
    assert len(programs) >= FEW_PROGRAMS.get(tool, 3)
    rest = lines[1 + len(programs) :]
    assert [re.sub(r"\d[\d,]*(\.\d+)?(e-\d+)?", "N", line) for line in rest] == [
        "  all programs: N ms of CPU", "  this process: N ms of CPU, peak memory N KB",
        "  together: N % of the time of " + ("one CPU" if os.cpu_count() == 1 else "N CPUs"),
        "  maps: N bytes of kernel memory", "  lost: N",
    ]  # fmt: skip


@pytest.mark.parametrize("tool", each_kind(TOOLS))
def test_the_last_record_of_json(tool: str) -> None:
    done = osmia(tool, "--stats", "--json", "--duration", "0.3")
    assert (done.returncode, told(done.stderr)) == (0, [])
    found = cost(done.stdout)
    assert found["programs_counted"] and len(found["programs"]) >= FEW_PROGRAMS.get(tool, 3)
    assert found["seconds"] >= 0.3 and found["own_cpu_ns"] > 0 and found["map_bytes"] > 0
    assert found["lost"] == 0 or done.stderr
    whole = sum(one["ns"] for one in found["programs"]) + found["own_cpu_ns"]
    assert found["percent_of_all_cpus"] == pytest.approx(100 * whole / found["seconds"] / 1e9 / found["cpus"], abs=1e-3)
    assert "max_overhead" not in found


def test_runs_are_counted() -> None:
    """Every open passes both programs, also one that a filter rules out."""
    with Files() as files, Files() as other:
        tool = Tool("opensnoop", "--stats", "--json", "-p", str(files.pid)).start()
        for number in range(OPENS):
            files.openat(f"/no/such/{number}")
            other.openat(f"/no/such/{number}")
        tool.stop()
    found = cost(tool.stdout)
    runs = {one["name"]: one["runs"] for one in found["programs"]}
    assert runs["enter_openat"] >= 2 * OPENS and runs["leave"] >= 2 * OPENS
    assert all(one["ns"] == pytest.approx(one["ns_per_run"] * one["runs"], rel=0.1) for one in found["programs"])
    assert len(tool.records()) == OPENS + 1


@pytest.mark.parametrize("mode", ["table", "json"])
def test_a_storm_ends_it(mode: str) -> None:
    """It detaches by itself, shows what it has seen, and says in one sentence why."""
    with Storm() as storm:
        tool = Tool("opensnoop", "-p", str(storm.pid), "--max-overhead", "0.001", *(["--json"] * (mode == "json")))
        tool.start()
        held = programs_of(tool.pid)
        storm.go()
        tool.wait()
        assert storm.process.poll() is None, "the storm goes on"
    assert tool.status == 3
    assert held and eventually(lambda: not held & program_ids())  # a child detaches after the exit
    sentence = re.fullmatch(
        r"osmia: opensnoop: detached after (\d+\.\d) s: tracing took (\S+) % of the time of .* in the last \S+ s "
        r"\(programs \S+ %, osmia itself \S+ %\), more than --max-overhead 0\.001; trace less .*, or allow more\n",
        tool.stderr,
    )
    assert sentence and float(sentence[1]) >= 1 and float(sentence[2]) > 0.001
    assert tool.stdout.count("/no/such/storm") > 100
    if mode == "json":
        found = cost(tool.stdout)
        assert found["detached"] and found["max_overhead"] == 0.001 < found["most_percent"]


@pytest.mark.parametrize("tool", each_kind(TOOLS))
def test_every_tool_ends_by_itself(tool: str) -> None:
    done = osmia(tool, "--max-overhead", ALWAYS, "--duration", "30")
    assert done.returncode == 3
    *before, last = done.stderr.splitlines()
    assert last.startswith(f"osmia: {tool}: detached after ") and (not before or tool in STACKS)
    banners = ("Tracing", "Counting", "Dump", "Sampling", "Summarize")
    headings = ("PID", "COMM", "PCOMM", "TIME", "ACTION", "SKADDR")
    assert done.stdout.startswith((*banners, *headings)) or " loadavg: " in done.stdout.partition("\n\n")[0]


def test_summaries_are_shown_once() -> None:
    """A histogram with intervals: the part of the last interval is shown, too."""
    done = osmia("runqlat", "--max-overhead", ALWAYS, "30")
    assert done.returncode == 3
    assert done.stdout.count("distribution") == 1


def test_what_is_cheap_goes_on() -> None:
    """The limit is never reached: all is as without it, and JSON says how much it was at most."""
    with Files() as files:
        tool = Tool("opensnoop", "-p", str(files.pid), "--max-overhead", NEVER, "--json", "-d", "2.5").start()
        for number in range(OPENS):
            files.openat(f"/no/such/{number}")
        tool.wait()
    assert (tool.status, tool.stderr) == (0, "")
    found = cost(tool.stdout)
    assert not found["detached"] and 0 < found["most_percent"] < 100
    assert len(tool.records()) == OPENS + 1


def test_a_kernel_that_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """``--stats`` leaves out what it cannot know; ``--max-overhead`` does not pretend."""
    monkeypatch.setenv("OSMIA_FEATURES_OFF", "stats")
    done = osmia("opensnoop", "--stats", "-d", "0.1")
    assert done.returncode == 0
    assert "  all programs: not counted: " in done.stderr and " runs, " not in done.stderr
    record = cost(osmia("opensnoop", "--stats", "--json", "-d", "0.1").stdout)
    assert record["programs"] == [] and record["programs_counted"] is False
    refused = osmia("opensnoop", "--max-overhead", "5", "-d", "0.1")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (
        "osmia: --max-overhead: this kernel counts the run time of programs only when told by a sysctl (before 5.8); "
        "set sysctl kernel.bpf_stats_enabled=1\n"
    )


@pytest.mark.anywhere
def test_nothing_of_it_is_loaded_unasked() -> None:
    code = (
        "import sys; import osmia.cli.main as m\n"
        "status = m.main(sys.argv[1:]); print([n for n in sys.modules if n == 'osmia.cli.costs']); sys.exit(status)\n"
    )
    for more, loaded in (([], "[]"), (["--stats"], "['osmia.cli.costs']")):
        done = subprocess.run([sys.executable, "-c", code, "opensnoop", "-o", "/dev/null", "-d", "0.05", *more],
                              env=environment(), capture_output=True, text=True, check=True)  # fmt: skip
        assert done.stdout.strip() == loaded
