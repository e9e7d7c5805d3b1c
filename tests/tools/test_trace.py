# SPDX-License-Identifier: Apache-2.0
"""trace against programs that do a known thing a known number of times."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from harness import Commanded, Files, Tool, osmia, user_program
from needs import needs

pytestmark = pytest.mark.kernel


@pytest.fixture
def program() -> str:
    return user_program("specs")


def rows(tool: Tool) -> list[dict[str, Any]]:
    assert tool.status == 0, tool.stderr
    return [row for row in tool.records() if "function" in row]


def visited(program: str, spec: str, *words: str, times: int = 23) -> list[dict[str, Any]]:
    """What ``spec`` sees of so many calls of visit() in one process, while another one calls it, too."""
    with Commanded("specs") as work, Commanded("specs") as other:
        tool = Tool("trace", "--json", "-p", work.pid, *words, spec.replace("FILE", program)).start()
        other.ask("visit", 5)
        work.ask("visit", times)
        tool.stop()
    made = rows(tool)
    assert {(row["pid"], row["tid"], row["comm"]) for row in made} <= {(int(work.pid), int(work.pid), "specs.program")}
    return made


# --------------------------------------------------------------------------
# Functions of programs


def test_every_call_is_a_row(program: str) -> None:
    made = visited(program, "FILE:visit", times=101)
    assert len(made) == 101
    assert {(row["function"], row["message"], row["probe"]) for row in made} == {("visit", "", f"{program}:visit")}


def test_arguments_by_number_and_results(program: str) -> None:
    with Commanded("specs") as work:
        tool = Tool("trace", "--json", "-p", work.pid, f'p:{program}:size_of (arg1 >= 256) "%d of %d", arg1, arg2',
                    f'r:{program}:size_of ((int)retval < 0 || retval == 512) "%d %x", retval, retval')  # fmt: skip
        tool.start()
        work.ask("sizes", 11)
        tool.stop()
    messages = [row["message"] for row in rows(tool)]
    # In the order in which it happened, though it is two specifications.
    assert messages == ["256 of 0", "512 200", "512 of 1", "1024 of 0", "-1 ffffffff"]


def test_a_typed_signature_names_arguments(program: str) -> None:
    spec = 'FILE:visit(void *where, int *at, unsigned char level) (level == 250) "%d %d", level, at[1]'
    assert [row["message"] for row in visited(program, spec, times=5)] == [f"250 {-2 * n}" for n in range(5)]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ("where->number", lambda n: n),
        ("where->inner.depth", lambda n: -n),
        ("where->inner.low + 10 * where->inner.high", lambda n: (n & 7) + 10 * (n & 31)),
        ("where->next->number", lambda n: 1000 + n),
        ("at->x - at->y", lambda n: 3 * n),
        ("((point *)arg2)->y", lambda n: -2 * n),
        ("*(int *)arg2", lambda n: n),
        ("((struct place *)arg1)->next->inner.depth", lambda n: 0),
        ("where->inner.label[1]", lambda n: ord("a")),
        ("&where->inner.low == 0 ? 1 : 2", None),
        ("(char *)&where->name - (char *)where", lambda n: 8),
        ("sizeof(struct place)", lambda n: 40),
    ],
)
def test_structures_by_debug_information(program: str, values: str, shown: Any) -> None:
    """Names and types come from the program's DWARF; a double among the parameters takes none of the registers."""
    if shown is None:  # a bit-field has no address
        done = osmia("trace", f'{program}:visit "%d", {values}')
        assert done.returncode == 1 and "a bit-field has no address" in done.stderr
        return
    made = visited(program, f'FILE:visit "%ld", {values}', times=7)
    assert [row["values"] for row in made] == [[shown(n)] for n in range(7)]


def test_strings_are_read_from_the_program(program: str) -> None:
    spec = 'FILE:visit "%s in %s: %-8s|", where->name, where->inner.label, where->next->name'
    assert [row["message"] for row in visited(program, spec, times=3)] == [
        f"place-{n} in label: other   |" for n in range(3)
    ]
    cut = visited(program, 'FILE:visit "%s", where->name', "-Z", "6", times=1)
    assert [row["message"] for row in cut] == ["place..."]  # cut, and marked so


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('STRCMP("place-3", where->name)', [3, 10, 17]),
        ('STRCMP("place", where->name)', list(range(23))),  # as bcc has it: what follows does not matter
        ('where->name == "place"', []),
        ('where->name == "place-3"', [3, 10, 17]),
        ('where->name != "place-0"', [n for n in range(23) if n % 7]),
        ('where->name.startswith("place-6")', [6, 13, 20]),
        ('"ce-5" in where->name', [5, 12, 19]),
        ("where->number in (2, 20, 200)", [2, 20]),
        ("where->number > 20 or not where->number", [0, 21, 22]),
        ("where->number > 20 || !where->number", [0, 21, 22]),
        ("(where->number & 1) == 0 && where->number / 5 == 2", [10, 12, 14]),
        ('$COMM == "specs.program" && where->number == 1', [1]),
        ('$COMM == "specs"', []),
        ("level == 250 ? where->number < 2 : 1", [0, 1]),
    ],
)
def test_filters(program: str, condition: str, expected: list[int]) -> None:
    made = visited(program, f'FILE:visit ({condition}) "%d", where->number')
    assert [row["values"] for row in made] == [[n] for n in expected]


def test_bytes_are_compared_with_bin_cmp(program: str) -> None:
    spec = 'FILE:visit (STRCMP("{0x03, 0x00, 0x00, 0x00, 0x00}", arg1)) "%d", where->number'
    assert [row["values"] for row in visited(program, spec, "--bin_cmp")] == [[3]]


def test_entry_values_and_latency_at_the_return(program: str) -> None:
    with Commanded("specs") as work:
        tool = Tool("trace", "--json", "-p", work.pid,
                    f'r:{program}:slow(int turn) ($latency > 15000000) "%d %d", $entry(turn), retval',
                    f'r:{program}:size_of "%d", $entry(arg1)').start()  # fmt: skip
        work.ask("slow", 10)
        work.ask("sizes", 4)
        tool.stop()
    assert [row["message"] for row in rows(tool)] == ["0 0", "3 3", "6 6", "9 9", "1", "2", "4", "8"]


def test_the_current_task(program: str) -> None:
    spec = 'FILE:visit "%d %d %d %d %s %s %d", $PID, $tgid, $pid, $uid, $COMM, $task->comm, $task->tgid'
    (row,) = visited(program, spec, times=1)
    assert row["values"] == [row["pid"], row["pid"], row["tid"], 0, "specs.program", "specs.program", row["pid"]]
    (row,) = visited(program, 'FILE:visit "%d", $CPU', times=1)
    assert row["values"] == [row["cpu"]]


def test_formats(program: str) -> None:
    spec = 'FILE:visit "%5d|%-5u|%05x|%lx|%hd|%hhd|%c|100%%|%p", arg3, arg3, arg3, -1, 70000, 300, 65, 255'
    (row,) = visited(program, spec, times=1)
    assert row["message"] == "  250|250  |000fa|ffffffffffffffff|4464|44|A|100%|0xff"


def test_symbols_of_addresses(program: str) -> None:
    made = visited(program, "FILE:visit \"%U %K %kS\", ctx->ip, 0, 0", times=1)
    assert re.match(r"visit\+0x0 \[specs\.program\] ", made[0]["message"]), made


def test_a_pattern_names_the_function_of_each_row(program: str) -> None:
    with Commanded("specs") as work:
        tool = Tool("trace", "--json", "-p", work.pid, f'{program}:s[il]* "%d", arg1').start()
        work.ask("sizes", 3)
        work.ask("slow", 2)
        tool.stop()
    assert [(row["function"], row["values"]) for row in rows(tool)] == [
        ("size_of", [1]), ("size_of", [2]), ("size_of", [4]), ("slow", [0]), ("slow", [1]),
    ]  # fmt: skip


def test_an_instruction_within_a_function(program: str) -> None:
    """At its first one the registers are those of the call."""
    made = visited(program, 'FILE:size_of "%d", ctx->di', times=3)
    assert made == []  # nobody called that
    with Commanded("specs") as work:
        tool = Tool("trace", "--json", "-p", work.pid, f'p:{program}:size_of+0x0 "%d %d", ctx->di, ctx->si').start()
        work.ask("sizes", 3)
        tool.stop()
    assert [row["message"] for row in rows(tool)] == ["1 0", "2 1", "4 0"]


# --------------------------------------------------------------------------
# Static probes and tracepoints


def test_static_probes(program: str) -> None:
    made = visited(program, 'u:FILE:visited (arg1 % 2 == 1) "%d %s %d", arg1, arg2, arg3', times=7)
    assert [row["message"] for row in made] == [f"{n} place-{n} 250" for n in (1, 3, 5)]
    assert {row["function"] for row in made} == {"visited"}
    with_provider = visited(program, "u:FILE:specs:visited", times=5)
    assert [row["function"] for row in with_provider] == ["specs:visited"] * 5


def test_tracepoints_and_system_calls(tmp_path: Path) -> None:
    names = [str(tmp_path / f"file-{n}") for n in range(23)]
    with Files() as files:
        tool = Tool("trace", "--json", "-p", str(files.pid),
                    't:syscalls:sys_enter_openat (STRCMP("/", args->filename)) "%s %d", args->filename, args->flags',
                    'sys_openat (arg3 == 0) "%s", arg2', 'r::sys_openat (retval < 0) "%d", retval').start()  # fmt: skip
        for name in names:
            assert files.openat(name)[0] < 0  # there are none
        tool.stop()
    made = rows(tool)
    by_function = [[row for row in made if row["probe"].startswith(kind)] for kind in ("t:", "sys", "r:")]
    assert [row["message"] for row in by_function[0]] == [f"{name} 0" for name in names]
    assert [row["message"] for row in by_function[1]] == names
    assert [row["message"] for row in by_function[2]] == ["-2"] * 23


def test_fields_of_records(program: str) -> None:
    """Also one of variable length, by its plain name."""
    with Commanded("specs") as work:
        tool = Tool("trace", "--json", 't:sched:sched_process_exec "%s %d %d", args->filename, args->pid, pid',
                    "-n", "specs").start()  # fmt: skip
        with Commanded("specs") as other:
            pass
        tool.stop()
    assert work.pid != other.pid
    messages = [row["message"] for row in rows(tool)]
    assert messages == [f"{program} {other.pid} {other.pid}"]


def test_a_pattern_of_tracepoints() -> None:
    with Files() as files:
        tool = Tool("trace", "--json", "-p", str(files.pid), "t:syscalls:sys_*_chdir").start()
        for _ in range(7):
            files.chdir("/")
        tool.stop()
    assert [row["function"] for row in rows(tool)] == ["sys_enter_chdir", "sys_exit_chdir"] * 7


# --------------------------------------------------------------------------
# Functions of the kernel


def opened(*specs: str, times: int = 23) -> tuple[list[str], list[dict[str, Any]]]:
    """The names of files that are opened in vain, and what ``specs`` see of it."""
    needs("kprobe")
    names = [f"/osmia-no-such-{n}" for n in range(times)]
    with Files() as files:
        tool = Tool("trace", "--json", "-p", str(files.pid), *specs).start()
        for name in names:
            files.openat(name)
        tool.stop()
    return names, rows(tool)


def test_the_line_of_the_slides() -> None:
    names, made = opened('do_sys_openat2 "%s", arg2', 'r::do_sys_openat2 "ret:%d", retval')
    assert [row["message"] for row in made] == [text for name in names for text in (name, "ret:-2")]


def test_arguments_of_kernel_functions_by_name() -> None:
    """The name is a user address: told by @user, by __user, by a signature, or found out."""
    specs = [
        'do_sys_openat2 "%s", filename', 'do_sys_openat2 "%s", arg2@user', '::do_sys_openat2 "%s", filename@user',
        'p::do_sys_openat2(int dfd, const char __user *path) "%s", path',
        'p::do_sys_openat2(int dfd, char *path) (STRCMP("/osmia", path)) "%s", path',
    ]  # fmt: skip
    names, made = opened(*specs, times=5)
    for spec in specs:
        assert [row["message"] for row in made if row["probe"] == spec] == names


def test_arguments_of_a_wrapped_system_call() -> None:
    if os.uname().machine != "x86_64":
        wrapper = "__arm64_sys_openat"
    else:
        wrapper = "__x64_sys_openat"
    names, made = opened(f'{wrapper} "%s %x", arg2, arg3', times=5)
    assert [row["message"] for row in made] == [f"{name} 0" for name in names]


def test_structures_of_the_kernel(tmp_path: Path) -> None:
    needs("kprobe")
    path = tmp_path / "a-file"
    path.write_text("x" * 100)
    specs = [
        'vfs_open "%s", ((struct path *)arg1)->dentry->d_name.name',
        'vfs_open(struct path *path) "%s %d", path->dentry->d_name.name, path->dentry->d_inode->i_size',
        'vfs_open "%s %d", path->dentry->d_name.name, (*path).dentry->d_name.len',
        'vfs_open (path->dentry->d_name.len == 6 and "file" in path->dentry->d_name.name) "%d", (&path->dentry) != 0',
    ]
    with Files() as files:
        tool = Tool("trace", "--json", "-p", str(files.pid), *specs).start()
        files.openat(path)
        tool.stop()
    # The kernel calls the probes of one function in an order of its own.
    messages = {row["probe"]: row["message"] for row in rows(tool)}
    assert [messages[spec] for spec in specs] == ["a-file", "a-file 100", "a-file 6", "1"]


def test_a_pattern_of_kernel_functions() -> None:
    needs("kprobe_multi")
    with Files() as files:
        tool = Tool("trace", "--json", "-p", str(files.pid), "do_sys_op[e]nat2").start()
        for _ in range(7):
            files.openat("/etc/passwd")
        tool.stop()
    assert [row["function"] for row in rows(tool)] == ["do_sys_openat2"] * 7


# --------------------------------------------------------------------------
# What is printed


def lines(program: str, *words: str, times: int = 2) -> list[str]:
    with Commanded("specs") as work:
        tool = Tool("trace", "-p", work.pid, *[word.replace("FILE", program) for word in words]).start()
        work.ask("visit", times)
        tool.stop()
    assert tool.status == 0, tool.stderr
    return [line.replace(work.pid.ljust(7), "<pid>  ") for line in tool.stdout.splitlines()]


def test_columns_are_bccs(program: str) -> None:
    assert lines(program, 'FILE:visit "%d", arg3') == [
        "PID     TID     COMM            FUNC             -",
        "<pid>   <pid>   specs.program   visit            250",
        "<pid>   <pid>   specs.program   visit            250",
    ]
    assert lines(program, "FILE:visit", times=1) == [
        "PID     TID     COMM            FUNC             ",
        "<pid>   <pid>   specs.program   visit            ",
    ]


@pytest.mark.parametrize(
    ("words", "heading", "pattern"),
    [
        (("-T",), "TIME     PID ", r"\d\d:\d\d:\d\d <pid>"),
        (("-t",), "TIME     PID ", r"\d\.\d{6} <pid>"),
        (("-t", "-u"), "TIME              PID ", r"\d{10}\.\d{6} <pid>"),
        (("-C",), "CPU PID ", r"\d+ +<pid>"),
        (("-TC",), "TIME     CPU PID ", r"\d\d:\d\d:\d\d \d+ +<pid>"),
    ],
)
def test_times_and_cpu(words: tuple[str, ...], heading: str, pattern: str, program: str) -> None:
    first, second = lines(program, *words, "FILE:visit", times=1)
    assert first.startswith(heading) and re.match(pattern, second), (first, second)


def test_stacks(program: str) -> None:
    made = lines(program, "-U", "-a", "FILE:visit", times=1)
    assert re.match(r" {8} +[0-9a-f]+ visit\+0x0 \[specs\.program\]$", made[2])
    assert made[-1] == ""
    rows_ = visited(program, "FILE:visit", "-U", times=1)
    assert rows_[0]["user"][0]["name"] == "visit"
    with Files() as files:
        tool = Tool("trace", "--json", "-p", str(files.pid), "-K", "t:sched:sched_switch").start()
        files.chdir("/")
        tool.stop()
    kernel = [row["kernel"] for row in rows(tool)]
    assert kernel and any("schedule" in frame["name"] for stack in kernel for frame in stack)


def test_the_end_after_some_events(program: str) -> None:
    with Commanded("specs") as work:
        tool = Tool("trace", "--json", "-p", work.pid, "-M", "5", f"{program}:visit").start()
        work.ask("visit", 23)
        tool.wait()
    assert len(rows(tool)) == 5


def test_sums_of_equal_lines(program: str) -> None:
    made = lines(program, "-A", "-M", "20", 'FILE:visit "%s", where->name', times=23)
    counts = sorted(int(line.rpartition(" ")[2]) for line in made if line.startswith("-->COUNT"))
    assert sum(counts) == 20 and counts == [2, 3, 3, 3, 3, 3, 3]


def test_filters_of_messages_and_names(program: str) -> None:
    made = visited(program, 'FILE:visit "%s", where->name', "-f", "ce-3", times=14)
    assert [row["message"] for row in made] == ["place-3"] * 2
    assert visited(program, "FILE:visit", "-n", "nobody") == []
    assert len(visited(program, "FILE:visit", "-n", "specs", times=3)) == 3


def test_a_thread(program: str) -> None:
    with Commanded("specs") as work, Commanded("specs") as other:
        tool = Tool("trace", "--json", "-L", work.pid, f"{program}:visit").start()
        other.ask("visit", 3)
        work.ask("visit", 7)
        tool.stop()
    assert len(rows(tool)) == 7


def test_osmia_itself_is_left_out_unless_asked_for() -> None:
    for words, expected in (((), False), (("-S",), True)):
        with Files() as files:
            tool = Tool("trace", "--json", *words, "t:syscalls:sys_enter_write").start()
            own = tool.pid
            files.chdir("/")
            tool.stop()
        assert any(row["pid"] == own for row in rows(tool)) == expected


def test_csv(program: str) -> None:
    with Commanded("specs") as work:
        tool = Tool("trace", "--csv", "-p", work.pid, f'{program}:visit "%d,%s", level, where->name').start()
        work.ask("visit", 1)
        tool.stop()
    heading, row = tool.stdout.splitlines()
    assert heading == "time,cpu,pid,tid,comm,function,message"
    assert row.endswith(f',{work.pid},{work.pid},specs.program,visit,"250,place-0"')


# --------------------------------------------------------------------------
# What is refused


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ('FILE:visit "%d", wher->number', "did you mean where"),
        ('FILE:visit "%d", where->numbr', "did you mean number"),
        ('FILE:visit "%d", where', ""),
        ('FILE:visit "%s", level + ', "a value is missing here"),
        ('FILE:visit (level', "this parenthesis is not closed"),
        ('FILE:visit "%d"', "the format shows 1 value, and there are none"),
        ("FILE:visitt", "did you mean visit?"),
        ('u:FILE:visited "%d", arg4', "this probe has 3 arguments"),
        ("t:sched:sched_swich", "did you mean sched:sched_switch"),
        ('t:sched:sched_switch "%d", args->prev_pidd', "did you mean prev_pid"),
        ("do_sys_openat", "this kernel has no function do_sys_openat; did you mean do_sys_openat2"),
        ('r:FILE:visit "%d", level', "$entry(level) is what it was on entry"),
        ('FILE:visit "%d", retval', "r:FUNCTION is its return"),
        ("x:y:z", "'x:y:z' does not say what to trace"),
        ("", "'' does not say what to trace"),
    ],
)
def test_mistakes_are_pointed_at(spec: str, sentence: str, program: str) -> None:
    if not sentence:  # an address is a number, too
        assert len(visited(program, spec, times=2)) == 2
        return
    done = osmia("trace", spec.replace("FILE", program), "-M", "1")
    assert done.returncode in (1, 2) and sentence in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and "internal" not in done.stderr


def test_options_that_do_not_go_together(program: str) -> None:
    for words, sentence in (
        (("-u",), "-u says how -t shows the time"), (("-A",), "give -M N, too"), ((), "it is not said what to trace"),
        (("-p", str(os.getpid()), "-L", str(os.getpid())), "-p and -L exclude each other"),
    ):  # fmt: skip
        done = osmia("trace", *words, *([f"{program}:visit"] if words else []))
        assert done.returncode == 2 and sentence in done.stderr


def test_the_object_in_the_cache_belongs_to_the_text(program: str, tmp_path: Path) -> None:
    """Each of two specifications is found again, and neither is taken for the other."""
    told = []
    for spec in ('"%d", where->number + 1', '"%d", where->number + 2') * 2:
        with Commanded("specs") as work:
            tool = Tool("trace", "-v", "--json", "-p", work.pid, f"{program}:visit {spec}").start()
            work.ask("visit", 1)
            tool.stop()
        told.append((json.loads(tool.stdout.splitlines()[0])["values"], "taken from the cache" in tool.stderr))
    assert [values for values, _ in told] == [[1], [2], [1], [2]]
    assert [cached for _, cached in told[2:]] == [True, True]
