# SPDX-License-Identifier: Apache-2.0
"""funccount against programs whose calls are known to the call."""

from __future__ import annotations

import os
import re
import time

import pytest
from harness import Told, Tool, osmia, prebuilt, skipped, workload
from needs import needs, older_than

from osmia.kernel import features

pytestmark = pytest.mark.kernel

HEAD = f"{'FUNC':<36} {'COUNT':>8}"


@pytest.fixture
def program() -> str:
    return workload("calls")


def counts(tool: Tool) -> dict[str, int]:
    """All intervals of a run with ``--json`` added up."""
    assert tool.status == 0, tool.stderr
    out: dict[str, int] = {}
    for record in tool.records():
        for row in record.get("rows", ()):
            out[row["key"]] = out.get(row["key"], 0) + row["count"]
    return out


@pytest.mark.parametrize("words", [(), ("-r",)])
def test_ten_thousand_calls_of_a_user_function(program: str, words: tuple[str, ...]) -> None:
    with Told(program) as work, Told(program) as other:
        tool = Tool("funccount", *words, "-p", work.pid, f"{program}:counted_function").start()
        other.tell("17 19")
        assert work.tell("6000 4000") == "10000\n"
        tool.stop()
    assert tool.status == 0
    banner, empty, head, row = tool.stdout.splitlines()
    assert banner == f'Tracing 1 function for "{program}:counted_function"... Hit Ctrl-C to end.'
    assert (empty, head, row) == ("", HEAD, f"{'counted_function':<36} {10000:>8}")


def test_several_functions_smallest_count_first(program: str) -> None:
    with Told(program) as work:
        tool = Tool("funccount", "-p", work.pid, f"p:{program}:by_*").start()
        for _ in range(23):
            work.tell("1 1")
        tool.stop()
        only = Tool("funccount", "--json", "-p", work.pid, "-r", f"{program}:by_ri.*t$").start()
        work.tell("3 5")
        only.stop()
    assert tool.stdout.splitlines()[0].startswith("Tracing 2 functions for ")
    assert sorted(tool.rows()[1:]) == [f"{name:<36} {23:>8}" for name in ("by_left", "by_right")]
    assert counts(only) == {"by_right": 1}


def test_a_function_and_those_that_are_not_called(program: str) -> None:
    """A pattern takes what matches, and what was not called is not shown."""
    with Told(program) as work:
        tool = Tool("funccount", "--json", "-p", work.pid, f"{program}:*counted_f*").start()
        work.tell("101 0")
        tool.stop()
    assert counts(tool) == {"counted_function": 101}


def test_tracepoints_by_pattern() -> None:
    with Told(workload("stairs")) as work:
        tool = Tool("funccount", "--json", "-p", work.pid, "t:syscalls:sys_enter_getpg*").start()
        work.tell("1 10000")
        tool.stop()
    (name, count), = counts(tool).items()
    assert name == "syscalls:sys_enter_getpgid" and 0 <= 10_000 - count <= skipped(tool)


def test_static_probes() -> None:
    library = prebuilt.user("libtarget")
    with Told(prebuilt.user("caller")) as work:
        assert work.process.stdout and work.process.stdout.readline() == "ready\n"
        work.tell(f"load {library}")
        tool = Tool("funccount", "--json", "-p", work.pid, f"u:{library}:tw*").start()
        work.tell("twice 10000")
        tool.stop()
    assert counts(tool) == {"twice": 10_000}


def test_one_cpu_only(program: str) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.fail("two CPUs are needed")
    with Told(program) as work:
        os.sched_setaffinity(int(work.pid), {cpus[0]})
        tools = [Tool("funccount", "--json", "-c", str(cpu), "-p", work.pid, f"{program}:counted_function").start()
                 for cpu in cpus[:2]]  # fmt: skip
        work.tell("53 47")
        for tool in tools:
            tool.stop()
    assert [counts(tool) for tool in tools] == [{"counted_function": 100}, {}]


def test_intervals_with_the_time_add_up(program: str) -> None:
    with Told(program) as work:
        tool = Tool("funccount", "-T", "-i", "1", "-p", work.pid, f"{program}:counted_function").start()
        for _ in range(6):
            work.tell("100 7")
            time.sleep(0.4)
        tool.stop()
    found = [int(line.split()[1]) for line in tool.stdout.splitlines() if line.startswith("counted_function")]
    assert sum(found) == 642 and len(found) >= 2
    assert len(re.findall(r"^\d\d:\d\d:\d\d$", tool.stdout, re.M)) >= len(found)


def test_a_duration_of_whole_intervals_ends_with_the_last() -> None:
    tool = Tool("funccount", "--json", "-i", "1", "-d", "2", f"{workload('calls')}:counted_function").start().wait()
    assert tool.status == 0 and len(tool.records()) == 2


def test_functions_of_the_kernel() -> None:
    needs("kprobe_multi")
    with Told(workload("stairs")) as work:
        tool = Tool("funccount", "--json", "-p", work.pid, "__*_sys_getpgi*").start()
        work.tell("2 10000")
        tool.stop()
    made = counts(tool)
    assert set(made.values()) == {10_000} and all(name.endswith("_sys_getpgid") for name in made)


def test_kernel_functions_that_must_never_be_probed() -> None:
    needs("kprobe_multi")
    done = osmia("funccount", "-d", "1", "migrate_disable")
    assert done.returncode == 1 and "migrate_disable must never be probed: every program that runs" in done.stderr
    done = osmia("funccount", "-d", "1", "_raw_spin_loc*")
    assert done.returncode == 1 and "the functions that _raw_spin_loc* matches must never be probed" in done.stderr


def test_all_of_libc() -> None:
    """Thousands of functions with one link; what the kernel cannot step over is seen beforehand."""
    if not features.has("uprobe_multi") and older_than("6.6"):
        pytest.skip("one link for many: since 6.6")
    with Told(workload("calls")) as _, Told(prebuilt.user("caller")) as work:
        assert work.process.stdout and work.process.stdout.readline() == "ready\n"
        tool = Tool("funccount", "-v", "--json", "-p", work.pid, "c:*").start()
        work.tell("load /nowhere.so")
        tool.stop()
    made = counts(tool)
    places = int(re.search(r"attached to (\d+) places", tool.stderr)[1])  # type: ignore[index]
    assert places > 1000 and "uprobe multi link" in tool.stderr
    assert any("read" in name for name in made)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "it is not said what to count"),
        (["t:sched"], "write t:CATEGORY:EVENT"),
        (["t:sched:sched_switched"], "did you mean sched:sched_switch"),
        (["-r", "c:mall(oc"], "is not a regular expression"),
        (["c:mallok"], "there is no function mallok"),
        (["-c", "one", "c:malloc"], "is not a whole number"),
    ],
)
def test_what_cannot_be_counted(words: list[str], says: str) -> None:
    done = osmia("funccount", *words)
    assert done.returncode in (1, 2) and says in done.stderr and "Traceback" not in done.stderr
