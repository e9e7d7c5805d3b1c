# SPDX-License-Identifier: Apache-2.0
"""argdist against programs that do a known thing a known number of times."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from typing import Any

import pytest
from harness import Commanded, Files, Tool, osmia, user_program
from needs import needs

pytestmark = pytest.mark.kernel


@pytest.fixture
def program() -> str:
    return user_program("specs")


def merged(tool: Tool) -> list[dict[str, Any]]:
    """Each specifier's counts and histogram over all intervals: ``{"counts": {values: n}, "buckets": {low: n}}``."""
    assert tool.status == 0, tool.stderr
    out: list[dict[str, Any]] = []
    for record in tool.records():
        for at, one in enumerate(record.get("specifiers", [])):
            if at == len(out):
                out.append({"counts": {}, "buckets": {}, "value": one.get("value")})
            for row in one.get("counts", []):
                key = tuple(row["values"])
                out[at]["counts"][key] = out[at]["counts"].get(key, 0) + row["count"]
            for bucket in (one.get("histogram") or {}).get("buckets", []):
                low, count = bucket["low"], bucket["count"]
                if count:
                    out[at]["buckets"][low] = out[at]["buckets"].get(low, 0) + count
    return out


def counted(program: str, *words: str, ask: tuple[str, int] = ("sizes", 110)) -> list[dict[str, Any]]:
    """What is counted while one process does something, and another one, too."""
    with Commanded("specs") as work, Commanded("specs") as other:
        tool = Tool("argdist", "--json", "-p", work.pid, *[word.replace("FILE", program) for word in words]).start()
        other.ask("sizes", 5)
        work.ask(*ask)
        tool.stop()
    return merged(tool)


def test_ten_thousand_calls(program: str) -> None:
    (made,) = counted(program, "-C", "p:FILE:size_of()#calls", ask=("sizes", 10_000))
    assert made["counts"] == {(): 10_000}


def test_values_of_an_argument(program: str) -> None:
    (made,) = counted(program, "-C", "p:FILE:size_of(size_t size):size_t:size")
    assert made["counts"] == {(1 << n,): 10 for n in range(11)}


def test_several_values_and_a_filter(program: str) -> None:
    (made,) = counted(program, "-C", "p:FILE:size_of(size_t size, int fd):int,size_t:fd,size:size > 128 && fd == 1")
    expected: dict[tuple[int, int], int] = {}
    for n in range(110):
        if 1 << (n % 11) > 128 and n % 2:
            expected[1, 1 << (n % 11)] = expected.get((1, 1 << (n % 11)), 0) + 1
    assert made["counts"] == expected


def test_results_by_default(program: str) -> None:
    (counts, drawn) = counted(program, "-C", "r:FILE:size_of()", "-H", "r:FILE:size_of():long:$retval:$retval > 0")
    assert counts["counts"] == {(-1,): 10} | {(2 << n,): 10 for n in range(10)}
    assert drawn["buckets"] == {2 << n: 10 for n in range(10)}


def test_entry_values_and_latency(program: str) -> None:
    specs = ["-H", "r:FILE:slow(int turn):u64:$latency/1000000#ms", "-C", "r:FILE:slow(int turn):int:$entry(turn) % 3",
             "-C", "r:FILE:slow(int turn):int:$entry(turn):$latency > 15000000"]  # fmt: skip
    by_remainder, slow, drawn = counted(program, *specs, ask=("slow", 12))
    assert drawn["value"] == "$latency/1000000" and sum(drawn["buckets"].values()) == 12
    assert sum(count for low, count in drawn["buckets"].items() if low >= 16) >= 4
    assert by_remainder["counts"] == {(0,): 4, (1,): 4, (2,): 4}
    assert set(slow["counts"]) >= {(0,), (3,), (6,), (9,)}


def test_strings(program: str) -> None:
    specs = ["-C", "p:FILE:visit(struct place *where):char*:where->name", "-C", "u:FILE:visited():char*,int:arg2,arg3",
             "-C", 'p:FILE:visit():char*:$COMM:STRCMP("place-1", where->name)']  # fmt: skip
    functions, probes, names = counted(program, *specs, ask=("visit", 21))
    assert functions["counts"] == {(f"place-{n}",): 3 for n in range(7)}
    assert probes["counts"] == {(f"place-{n}", 250): 3 for n in range(7)}
    assert names["counts"] == {("specs.program",): 3}


def test_types_cut_values(program: str) -> None:
    kinds = ["u8", "s8", "short", "unsigned int", "u64"]
    spec = f"p:FILE:size_of(size_t size):{','.join(kinds)}:{','.join(['size - 5'] * len(kinds))}:size == 4"
    (made,) = counted(program, "-C", spec)
    assert made["counts"] == {(255, -1, -1, 2**32 - 1, 2**64 - 1): 10}


def test_tracepoints() -> None:
    specs = ["-C", "t:syscalls:sys_enter_chdir():u32:$PID", "-C", "t:syscalls:sys_exit_chdir():int:args->ret",
             "-C", 't:syscalls:sys_enter_chdir():char*:args->filename:STRCMP("/no", args->filename)']  # fmt: skip
    with Files() as files:
        tool = Tool("argdist", "--json", "-p", str(files.pid), *specs).start()
        for n in range(23):
            files.chdir("/" if n % 2 else f"/no-such-{n % 3}")
        tool.stop()
    pids, results, names = merged(tool)
    assert pids["counts"] == {(files.pid,): 23}
    assert results["counts"] == {(0,): 11, (-2,): 12}
    assert names["counts"] == {("/no-such-0",): 4, ("/no-such-1",): 4, ("/no-such-2",): 4}


def test_functions_of_the_kernel() -> None:
    needs("kprobe")
    specs = [
        "-C", "p::do_sys_openat2():u32:$PID", "-C", "r::do_sys_openat2():int:$retval",
        "-C", "p::do_sys_openat2(int dfd, const char __user *filename):char*,int:filename,dfd",
        "-C", "r::do_sys_openat2(int dfd, const char __user *filename):char*:$entry(filename):(int)$retval < 0",
        "-H", "r::do_sys_openat2():u64:$latency/1000",
    ]  # fmt: skip
    with Files() as files:
        tool = Tool("argdist", "--json", "-p", str(files.pid), *specs).start()
        for _ in range(17):
            files.close(files.openat("/etc/passwd")[0])
            files.openat("/osmia/no")
        tool.stop()
    opens, results, names, failed, times = merged(tool)
    assert opens["counts"] == {(files.pid,): 34}
    assert sum(results["counts"].values()) == 34 and results["counts"][-2,] == 17
    assert names["counts"] == {("/etc/passwd", -100): 17, ("/osmia/no", -100): 17}
    assert failed["counts"] == {("/osmia/no",): 17}
    assert sum(times["buckets"].values()) == 34


def test_ten_thousand_calls_of_a_kernel_function() -> None:
    needs("kprobe")
    script = "import os; input(); [os.access('/', 0) for _ in range(10_000)]; print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as work:
        assert work.stdin and work.stdout
        tool = Tool("argdist", "--json", "-C", f"p::do_faccessat():u32:$PID:$PID == {work.pid}").start()
        work.stdin.write("\n")
        work.stdout.readline()
        tool.stop()
        work.stdin.write("\n")
    (made,) = merged(tool)
    assert made["counts"] == {(work.pid,): 10_000}


# --------------------------------------------------------------------------
# What is printed


def test_the_shape_is_bccs(program: str) -> None:
    words = ["-C", f"p:{program}:size_of(size_t size):size_t:size", "-C", f"p:{program}:slow()#slow ones",
             "-H", f"p:{program}:size_of(size_t size):size_t:size", "-T", "3", "-i", "60"]  # fmt: skip
    with Commanded("specs") as work:
        tool = Tool("argdist", "-p", work.pid, *words).start()
        work.ask("sizes", 14)
        work.ask("slow", 2)
        tool.stop()
    first, *rest = tool.stdout.splitlines()
    assert re.fullmatch(r"\[\d\d:\d\d:\d\d\]", first)
    assert rest[:6] == [
        f"p:{program}:size_of(size_t size):size_t:size",
        "\tCOUNT      EVENT",
        "\t2          size = 1",
        "\t2          size = 2",
        "\t2          size = 4",
        "slow ones",
    ]
    assert rest[6:8] == ["\tCOUNT      EVENT", "\t2          total calls"]
    assert rest[8] == "     size                : count     distribution"
    assert rest[9].split(":")[1].split() == ["2", "|****************************************|"]


def test_intervals_show_what_is_new_and_sums_what_there_is(program: str) -> None:
    for words, expected in (((), [3, 4]), (("-c",), [3, 7])):
        with Commanded("specs") as work:
            tool = Tool("argdist", "-p", work.pid, "-i", "1", "-n", "4", *words, "-C", f"p:{program}:slow()").start()
            work.ask("slow", 3)
            time.sleep(1.2)
            work.ask("slow", 4)
            tool.wait()
        blocks = tool.stdout.split("[")[1:]
        assert len(blocks) == 4
        found = [int(block.split()[4]) for block in blocks if "total calls" in block]
        assert sorted(set(found)) == expected


def test_a_duration_ends_it(program: str) -> None:
    done = osmia("argdist", "-d", "1", "-C", f"p:{program}:slow()")
    assert done.returncode == 0 and "COUNT" in done.stdout


def test_csv(program: str) -> None:
    with Commanded("specs") as work:
        tool = Tool("argdist", "--csv", "-p", work.pid, "-C", f"p:{program}:slow(int n):int:n:n == 2").start()
        work.ask("slow", 5)
        tool.stop()
    heading, row = tool.stdout.splitlines()
    assert heading == "time,specifier,value,count" and row.endswith(",n = 2,1")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "it is not said what to count"),
        (("-C", "p:c"), "a kind, a file and a function are needed"),
        (("-H", "p:c:malloc()"), "a histogram needs a value"),
        (("-H", "p:c:write(int a, int b):int,int:a,b"), "a histogram shows one value"),
        (("-H", "p:c:puts(char *s):char*:s"), "text has no histogram"),
        (("-C", "p:c:puts(char *s):int:s,s"), "there is 1 type for 2 values"),
        (("-C", "p:c:puts(char *s):no_such_t:s"), "the kernel's BTF has no no_such_t"),
        (("-C", "r:c:puts(char *s):int:$entry(t)"), "nothing here is called 't'"),
        (("-C", "p:c:puts(char *s):int:$latency"), "r:FUNCTION is its return"),
        (("-C", "p:c:puts(char *s):char*:s", "-z", "4096"), "say less with -z BYTES"),
    ],
)
def test_mistakes_are_pointed_at(words: tuple[str, ...], sentence: str) -> None:
    done = osmia("argdist", *words, "-n", "1")
    assert done.returncode in (1, 2) and sentence in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("tool", ["argdist", "trace"])
def test_there_is_no_object_without_a_specification(tool: str) -> None:
    done = osmia("compile", tool, "-o", "/dev/null")
    assert done.returncode == 2 and f"the programs of {tool} depend on its command line" in done.stderr
