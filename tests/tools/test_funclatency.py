# SPDX-License-Identifier: Apache-2.0
"""funclatency, funcinterval and funcslower against calls whose number and length are known."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness import Told, Tool, osmia, prebuilt, workload
from needs import needs
from patience import patient

from osmia.kernel import features

pytestmark = pytest.mark.kernel


@pytest.fixture
def program() -> str:
    return workload("nested")


def histograms(tool: Tool) -> dict[str, dict[str, Any]]:
    """The histograms of a run's only summary, by label (empty where there is no key)."""
    assert tool.status == 0, tool.stderr
    (record,) = [one for one in tool.records() if "histograms" in one]
    return {one.get("label", ""): one for one in record["histograms"]}


def test_calls_within_calls_are_timed_each_for_itself(program: str) -> None:
    """Seven times three levels, each of which sleeps 20 ms on its way back: 20, 40 and 60 ms."""
    with Told(program) as work:
        tool = Tool("funclatency", "--json", "-p", work.pid, "-m", f"{program}:nest").start()
        work.tell("3 7 20000")
        tool.stop()
    (found,) = histograms(tool).values()
    assert found["count"] == 21
    assert 20 <= found["min"] < patient(40) and found["max"] >= 60
    assert 7 * (20 + 40 + 60) <= found["sum"] < 7 * patient(240)


def test_only_the_outermost_levels(program: str) -> None:
    with Told(program) as work:
        one = Tool("funclatency", "--json", "-p", work.pid, "-m", "-l", "1", f"{program}:nest").start()
        two = Tool("funclatency", "--json", "-p", work.pid, "-m", "-l", "2", f"{program}:nest").start()
        work.tell("3 5 10000")
        one.stop()
        two.stop()
    (outer,), (both,) = histograms(one).values(), histograms(two).values()
    assert outer["count"] == 5 and outer["min"] >= 30
    assert both["count"] == 10 and both["min"] >= 20


def test_ten_thousand_returns() -> None:
    program = workload("calls")
    with Told(program) as work, Told(program) as other:
        tool = Tool("funclatency", "-p", work.pid, f"{program}:counted_function").start()
        other.tell("17 19")
        work.tell("6000 4000")
        tool.stop()
    assert tool.stdout.startswith(f'Tracing 1 function for "{program}:counted_function"... Hit Ctrl-C to end.\n')
    assert re.search(r"^     nsecs               : count     distribution$", tool.stdout, re.M)
    rows = [int(line.split(":")[1].split("|")[0]) for line in tool.stdout.splitlines() if " -> " in line]
    assert sum(rows) == 10_000
    averages = re.search(r"^avg = (\d+) nsecs, total: (\d+) nsecs, count: 10000$", tool.stdout, re.M)
    assert averages and int(averages[2]) // 10_000 == int(averages[1]) > 0


def test_a_histogram_for_each_function_and_process(program: str) -> None:
    with Told(program) as one, Told(program) as two:
        tool = Tool("funclatency", "--json", "-F", f"{program}:[ns]*[tx]").start()
        text = Tool("funclatency", "-F", "-u", "-p", one.pid, f"{program}:[ns]*[tx]").start()
        one.tell("1 3 1000")
        one.tell("args 5")
        two.tell("2 2 1000")
        tool.stop()
        text.stop()
    counts = {label: found["count"] for label, found in histograms(tool).items()}
    assert counts == {f"nest [{one.pid}]": 3, f"six [{one.pid}]": 5, f"nest [{two.pid}]": 4}
    assert re.findall(r"^Function = (.*)$", text.stdout, re.M) == [f"nest [{one.pid}]", f"six [{one.pid}]"]
    assert "     usecs   " in text.stdout


def test_calls_that_never_return_do_not_disturb_those_that_do(program: str) -> None:
    with Told(program) as work:
        tool = Tool("funclatency", "--json", "-F", "-m", "-p", work.pid, f"{program}:[no]*t").start()
        work.tell("jump 50")
        work.tell("1 5 10000")
        work.tell("jump 3")
        work.tell("1 5 10000")
        tool.stop()
    found = histograms(tool)
    assert list(found) == [f"nest [{work.pid}]"] and found[f"nest [{work.pid}]"]["count"] == 10
    assert found[f"nest [{work.pid}]"]["min"] >= 10


def test_functions_of_the_kernel() -> None:
    needs("kprobe_multi")
    with Told(workload("stairs")) as work:
        tool = Tool("funclatency", "--json", "-p", work.pid, "__x64_sys_getpgid").start()
        apart = Tool("funclatency", "--json", "-F", "-p", work.pid, "__x64_sys_getpg*").start()
        work.tell("2 10000")
        tool.stop()
        apart.stop()
    assert histograms(tool)[""]["count"] == 10_000
    assert {label: one["count"] for label, one in histograms(apart).items()} == {"__x64_sys_getpgid": 10_000}


def test_go_programs_are_refused(tmp_path: Path) -> None:
    """What makes a program one of Go's is its section of build information."""
    program = tmp_path / "gopher"
    subprocess.run(["objcopy", "--add-section", f".go.buildinfo={__file__}", workload("calls"), program], check=True)
    for tool in ("funclatency", "funcslower"):
        done = osmia(tool, f"{program}:counted_function")
        assert done.returncode == 1
        assert "it is a Go program, which moves its stacks and crashes when return addresses" in done.stderr


def test_returns_that_must_never_be_probed() -> None:
    done = osmia("funclatency", "c:_setjmp")
    assert done.returncode == 1 and "the return of _setjmp must never be probed: it keeps its return" in done.stderr
    with Told(prebuilt.user("caller")) as work:
        tool = Tool("funclatency", "-v", "-d", "1", "-p", work.pid, "c:*sig*jmp*").start()
        tool.wait()
    assert "must never be probed: left out" in tool.stderr


@pytest.mark.parametrize("tool", ["funclatency", "funcslower", "funcinterval"])
def test_what_is_asked_for_wrongly(tool: str) -> None:
    assert "it is not said w" in osmia(tool).stderr
    assert "there is no function mallok" in osmia(tool, "c:mallok").stderr
    if tool != "funcinterval":
        assert "t:sched:sched_switch is a tracepoint, and" in osmia(tool, "t:sched:sched_switch").stderr
    if features.has("kprobe"):
        done = osmia(tool, "vfs_reed")
        assert done.returncode == 1 and "did you mean vfs_read" in done.stderr


# --- funcinterval -------------------------------------------------------------------------------------------------


def test_times_between_calls(program: str) -> None:
    with Told(program) as work:
        tool = Tool("funcinterval", "--json", "-m", "-p", work.pid, f"{program}:nest").start()
        work.tell("1 24 15000")
        tool.stop()
    (found,) = histograms(tool).values()
    assert found["count"] == 23 and found["min"] >= 15


def test_times_between_tracepoints() -> None:
    with Told(workload("stairs")) as work:
        tool = Tool("funcinterval", "-u", "-p", work.pid, "t:syscalls:sys_enter_getpgid").start()
        work.tell("1 1")
        work.tell("1 1")
        work.tell("1 1")
        tool.stop()
    assert tool.stdout.startswith('Tracing tracepoint for "syscalls:sys_enter_getpgid"... Hit Ctrl-C to end.\n')
    assert "     usecs   " in tool.stdout
    assert sum(int(line.split(":")[1].split("|")[0]) for line in tool.stdout.splitlines() if " -> " in line) == 2


# --- funcslower ---------------------------------------------------------------------------------------------------


def slow(tool: Tool) -> list[dict[str, Any]]:
    assert tool.status == 0, tool.stderr
    return [one for one in tool.records() if "retval" in one]


def test_slow_calls_with_results_and_arguments(program: str) -> None:
    with Told(program) as work:
        tool = Tool("funcslower", "-a", "6", "-m", "1.5", "-p", work.pid, f"{program}:six").start()
        work.tell("args 7")
        tool.stop()
    banner, head, *rows = tool.stdout.splitlines()
    assert banner == "Tracing function calls slower than 1.5 ms... Ctrl+C to quit."
    assert head == "COMM           PID    LAT(ms)             RVAL FUNC ARGS"
    assert len(rows) == 7
    for row in rows:
        fields = row.split()
        assert fields[:2] == ["nested", work.pid] and float(fields[2]) >= 2
        assert fields[3:] == ["ffffffffffffffeb", f"{program}:six", *[f"{n:#x}" for n in range(1, 7)]]


def test_only_what_is_slower(program: str) -> None:
    """Each level takes longer than the one below: of four the two outermost."""
    with Told(program) as work:
        tool = Tool("funcslower", "--json", "-m", "89", "-p", work.pid, f"{program}:nest", f"{program}:six").start()
        fast = Tool("funcslower", "--json", "-u", "500", "-p", work.pid, f"{program}:nest", f"{program}:six").start()
        work.tell("4 3 30000")
        work.tell("args 2")
        tool.stop()
        fast.stop()
    found = slow(tool)
    assert len(found) >= 6 and all(one["ns"] >= 89_000_000 for one in found)
    assert [one["retval"] for one in found if one["retval"] > 2] == [3, 4] * 3
    every = slow(fast)
    assert [one["retval"] for one in every[:12]] == [1, 2, 3, 4] * 3
    assert [one["func"] for one in every[12:]] == [f"{program}:six"] * 2


def test_stacks_of_slow_calls(program: str) -> None:
    with Told(program) as work:
        tools = [Tool("funcslower", *words, "-p", work.pid, f"{program}:six").start()
                 for words in (("-U",), ("-U", "-f"), ("-U", "--json"), ("-T",), ("-t",))]  # fmt: skip
        work.tell("args 2")
        for tool in tools:
            tool.stop()
    rows, folded, json, clock, seconds = tools
    lines = rows.stdout.splitlines()[2:]
    assert len([line for line in lines if not line.startswith("    ")]) == 2
    assert "    six" in lines and lines[-1].startswith("    ")
    assert [line.split(";")[0] for line in folded.stdout.splitlines()] == ["nested", "nested"]
    assert all(line.endswith("six 1") for line in folded.stdout.splitlines())
    assert all(one["user_stack"][0]["name"] == "six" and one["kernel_stack"] == [] for one in slow(json))
    assert re.search(r"^\d\d:\d\d:\d\d   nested", clock.stdout, re.M)
    assert re.search(r"^0\.000000   nested", seconds.stdout, re.M)


def test_slow_functions_of_the_kernel(program: str) -> None:
    needs("kprobe_multi")
    with Told(program) as work:
        tool = Tool("funcslower", "--json", "-m", "10", "-K", "-p", work.pid, "do_nanosleep", f"{program}:nest").start()
        work.tell("1 11 15000")
        tool.stop()
    found = slow(tool)
    assert [one["func"] for one in found] == ["do_nanosleep", f"{program}:nest"] * 11
    assert all(one["kernel_stack"][0]["name"] == "do_nanosleep" for one in found if one["in_kernel"])


def test_options_that_exclude_each_other() -> None:
    assert "from 1 to 6" in osmia("funcslower", "-a", "7", "c:open").stderr
    assert "-f is about stacks" in osmia("funcslower", "-f", "c:open").stderr
