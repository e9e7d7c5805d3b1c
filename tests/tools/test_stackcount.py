# SPDX-License-Identifier: Apache-2.0
"""stackcount against programs whose calls are known to the call."""

from __future__ import annotations

import os
import re
import time
from typing import Any

import pytest
from harness import Told, Tool, osmia, prebuilt, skipped, workload
from needs import needs, older_than

from osmia.kernel import features

pytestmark = pytest.mark.kernel

ROOTS = ("__libc_start_call_main", "__libc_start_main_impl", "__libc_start_main", "_start")


@pytest.fixture
def program() -> str:
    return workload("calls")


def rows(tool: Tool) -> list[dict[str, Any]]:
    assert tool.status == 0, tool.stderr
    return [row for row in tool.records() if "count" in row]


def chain(row: dict[str, Any]) -> tuple[str, ...]:
    """The user frames, innermost first, without what libc begins with."""
    return tuple(frame["name"] for frame in row["user"] if frame["name"] not in ROOTS)


def whole(tool: Tool, counted: int, made: int) -> bool:
    """Whether a tracepoint was counted each time, but for what the kernel skipped and the tool's account says."""
    return 0 <= made - counted <= skipped(tool)


def steps(depth: int) -> tuple[str, ...]:
    """The stack of ``stairs.c``, so many functions deep; ask() has no frame, and that hides the last down()."""
    return ("ask", *["down"] * (depth - 1), "main")


def callers(counts: dict[tuple[str, ...], int], *functions: str) -> list[tuple[str, ...]]:
    """Stacks at the first instruction of a function, by its caller.

    The caller has its frame, and the function none yet: until 6.11 the kernel
    took the caller's caller for its caller (cfa7f3d2c526, "perf,x86: avoid
    missing caller address in stack traces captured in uprobe"), and old series got that mended
    at some time (6.1.192 has it).
    """
    skipped = ("counted_function", "main")
    if older_than("6.11") and skipped in counts:
        return [skipped]
    return [("counted_function", function, "main") for function in functions]


def test_ten_thousand_calls_of_a_function(program: str) -> None:
    with Told(program) as work, Told(program) as other:
        tool = Tool("stackcount", "--json", "-p", work.pid, f"{program}:counted_function").start()
        other.tell("17 19")
        assert work.tell("6000 4000") == "10000\n"
        tool.stop()
    counts: dict[tuple[str, ...], int] = {}
    for row in rows(tool):
        assert (row["unit"], row["pid"], row["comm"], row["kernel"]) == ("calls", int(work.pid), "calls", [])
        counts[chain(row)] = counts.get(chain(row), 0) + row["count"]
    assert sum(counts.values()) == 10_000
    expected = callers(counts, "by_left", "by_right")
    assert set(counts) == set(expected)
    if len(expected) == 2:
        assert [counts[one] for one in expected] == [6000, 4000]


def test_every_process_and_each_by_itself(program: str) -> None:
    """Without -p and -P stacks that look the same are one."""
    with Told(program) as one, Told(program) as two:
        together = Tool("stackcount", f"{program}:counted_function").start()
        apart = Tool("stackcount", "-P", f"{program}:counted_function").start()
        one.tell("101 0")
        two.tell("211 0")
        together.stop()
        apart.stop()
    banner, _, rest = together.stdout.partition("\n")
    assert banner == f"Tracing {program}:counted_function... Hit Ctrl-C to end."
    (block,) = rest.strip("\n").split("\n\n")
    assert block.split("\n")[0] == "    counted_function" and block.split("\n")[-1] == "        312"
    assert not [line for line in block.split("\n") if line.startswith("    -")]
    blocks = [block.split("\n") for block in apart.stdout.partition("\n")[2].strip("\n").split("\n\n")]
    assert [block[-2:] for block in blocks] == [
        [f"    {'-':<16} calls ({one.pid})", "        101"], [f"    {'-':<16} calls ({two.pid})", "        211"],
    ]  # fmt: skip


@pytest.mark.parametrize(("words", "target"), [((), "by_*"), (("-r",), "by_(left|right)$"), ((), "by_ri?h*")])
def test_several_functions(words: tuple[str, ...], target: str, program: str) -> None:
    with Told(program) as work:
        tool = Tool("stackcount", "--json", "-p", work.pid, *words, f"p:{program}:{target}").start()
        for _ in range(23):
            work.tell("1 1")
        tool.stop()
    counts = {chain(row)[0]: row["count"] for row in rows(tool)}
    assert counts == ({"by_right": 23} if "?" in target else {"by_left": 23, "by_right": 23})


def test_folded_with_offsets(program: str) -> None:
    with Told(program) as work:
        folded = Tool("stackcount", "-f", "-P", "-s", "-p", work.pid, f"{program}:counted_function").start()
        work.tell("31 0")
        folded.stop()
    (line,) = folded.stdout.splitlines()
    stack, _, count = line.rpartition(" ")
    frames = stack.split(";")
    assert count == "31" and frames[0] == "calls" and frames[-1] == "counted_function"
    assert any(frame.startswith("main+0x") for frame in frames)


def test_a_tracepoint_from_both_sides() -> None:
    """The workload ``stairs.c`` makes a system call so many functions deep.

    Before 376bd59e2a04 ("bpf: Use fake pt_regs when doing bpf syscall tracepoint tracing", 6.12) the kernel has no
    stack of its own at these tracepoints.
    """
    with Told(workload("stairs")) as work:
        tools = [Tool("stackcount", "--json", "-p", work.pid, *words, "t:syscalls:sys_enter_getpgid").start()
                 for words in ((), ("-U",), ("-K",), ("-K", "-P"))]  # fmt: skip
        work.tell("3 7001")
        work.tell("5 2999")
        for tool in tools:
            tool.stop()
    both, user, kernel, own = map(rows, tools)
    for tool, found in ((tools[0], both), (tools[1], user)):
        counts = {chain(row): row["count"] for row in found}
        assert set(counts) == {steps(3), steps(5)}
        assert whole(tool, counts[steps(3)], 7001) and whole(tool, counts[steps(5)], 2999)
    inside = [[frame["name"] for frame in row["kernel"]] for row in both + kernel]
    assert all("do_syscall_64" in names for names in inside) or (older_than("6.12") and not any(inside)), inside
    assert all(row["kernel"] == [] for row in user)
    for tool, (row,), pid in ((tools[2], kernel, 0), (tools[3], own, int(work.pid))):
        assert whole(tool, row["count"], 10_000) and (row["pid"], row["user"]) == (pid, [])


@pytest.mark.parametrize("words", [("t:syscalls:sys_enter_getpg*",), ("-r", "t:syscalls:sys_enter_getpg(id|rp)$")])
def test_tracepoints_by_pattern(words: tuple[str, ...]) -> None:
    with Told(workload("stairs")) as work:
        tool = Tool("stackcount", "-v", "--json", "-p", work.pid, *words).start()
        work.tell("1 401")
        tool.stop()
    assert whole(tool, sum(row["count"] for row in rows(tool)), 401)
    names = {"sys_enter_getpgid", "sys_enter_getpgrp"}
    assert {name for name in names if f"attached to tracepoint:syscalls:{name} " in tool.stderr} == names


def test_static_probes() -> None:
    library = prebuilt.user("libtarget")
    with Told(prebuilt.user("caller")) as work:
        assert work.process.stdout and work.process.stdout.readline() == "ready\n"
        work.tell(f"load {library}")
        tools = [Tool("stackcount", "--json", "-p", work.pid, *words).start()
                 for words in ((f"u:{library}:target:twice",), ("-r", f"u:{library}:target:tw.ce"))]  # fmt: skip
        work.tell("twice 10000")
        for tool in tools:
            tool.stop()
    for tool in tools:
        assert sum(row["count"] for row in rows(tool)) == 10_000
        assert all(chain(row)[0] == "target_twice" for row in rows(tool))


def test_one_cpu_only(program: str) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.fail("two CPUs are needed")
    with Told(program) as work:
        os.sched_setaffinity(int(work.pid), {cpus[0]})
        tools = [Tool("stackcount", "--json", "-c", str(cpu), "-p", work.pid, f"{program}:counted_function").start()
                 for cpu in cpus[:2]]  # fmt: skip
        work.tell("53 47")
        for tool in tools:
            tool.stop()
    here, there = map(rows, tools)
    assert sum(row["count"] for row in here) == 100 and there == []


def test_intervals_add_up(program: str) -> None:
    with Told(program) as work:
        tool = Tool("stackcount", "--json", "-i", "1", "-p", work.pid, f"{program}:counted_function").start()
        for _ in range(6):
            work.tell("100 7")
            time.sleep(0.4)
        tool.stop()
    assert sum(row["count"] for row in rows(tool)) == 642
    assert len({row["time"] for row in rows(tool)}) >= 2


@pytest.mark.parametrize("off", ["", "kprobe_multi"], ids=["as the kernel can", "one by one"])
def test_functions_of_the_kernel(off: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all that the pattern matches the program calls one: each call is counted, and nothing else."""
    needs("kprobe")
    monkeypatch.setenv("OSMIA_FEATURES_OFF", off)
    with Told(workload("stairs")) as work:
        tool = Tool("stackcount", "-v", "--json", "-p", work.pid, "__*_sys_getp*").start()
        work.tell("2 7001")
        work.tell("4 2999")
        tool.stop()
    counts: dict[str, dict[tuple[str, ...], int]] = {}
    for row in rows(tool):
        names = [frame["name"] for frame in row["kernel"]]
        assert "do_syscall_64" in names[1:] and row["cut"] == [] and row["unit"] == "calls"
        counts.setdefault(names[0], {})[chain(row)] = row["count"]
    # The function that the table of system calls names, and the one within it where the compiler left them apart.
    assert counts and all(name.endswith("_sys_getpgid") for name in counts)
    assert all(found == {steps(2): 7001, steps(4): 2999} for found in counts.values()), counts
    one_link = bool(features.has("kprobe_multi")) and not off
    (said,) = re.findall(r"kernel_function: attached to kprobe_multi:.*", tool.stderr)
    assert ("with one link" in said) == one_link and ("single kprobes" in said) != one_link, said


@pytest.mark.anywhere
def test_where_the_kernel_has_no_such_probes() -> None:
    if features.has("kprobe"):
        pytest.skip("this kernel has kprobes")
    done = osmia("stackcount", "vfs_read")
    assert done.returncode == 1 and "osmia: " in done.stderr and "Traceback" not in done.stderr


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "it is not said what to trace"),
        (["-K", "-U", "c:malloc"], "-U and -K exclude each other"),
        (["t:sched"], "write t:CATEGORY:EVENT"),
        (["x:c:malloc"], "one of the kinds p:, t:, u:"),
        (["t:sched:sched_switched"], "did you mean sched:sched_switch"),
        (["-r", "c:mall(oc"], "is not a regular expression"),
        (["-r", "c:there_is_no_such_function"], "there is no user function that there_is_no_such_function matches"),
        (["c:mallok"], "there is no function mallok"),
    ],
)
def test_what_cannot_be_traced(words: list[str], says: str) -> None:
    done = osmia("stackcount", *words)
    assert done.returncode in (1, 2) and says in done.stderr and "Traceback" not in done.stderr
