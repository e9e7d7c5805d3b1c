# SPDX-License-Identifier: Apache-2.0
"""execsnoop against programs that are started with known arguments."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from harness import Tool, osmia
from needs import needs

from osmia.kernel import features

pytestmark = pytest.mark.kernel

TRUE = shutil.which("true") or "/bin/true"


def spawn(path: str, *args: str, **more: Any) -> int:
    """Run a program to its end; its PID."""
    process = subprocess.Popen([path, *args], stdout=subprocess.DEVNULL, **more)
    process.wait()
    return process.pid


def failing(path: str, *args: str) -> int:
    """A child whose exec fails; its PID."""
    child = os.fork()
    if child == 0:
        try:
            os.execv(path, [path, *args])
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    return child


def records(tool: Tool, pid: int) -> list[dict[str, Any]]:
    return [r for r in tool.records() if r.get("pid") == pid]


@pytest.mark.feature("B13 tools", "A17 strings: read")
def test_sixty_arguments_are_all_there() -> None:
    args = [f"argument-{n}" for n in range(59)] + ["the last one"]
    with Tool("execsnoop") as tool:
        pid = spawn(TRUE, *args)
    rows = [row.split(None, 4) for row in tool.rows() if row.split()[1] == str(pid)]
    assert rows == [["true", str(pid), str(os.getpid()), "0", " ".join([TRUE, *args])]]
    assert tool.stdout.splitlines()[0].split() == ["COMM", "PID", "PPID", "RET", "ARGS"]


@pytest.mark.anywhere
def test_rows_are_laid_out_as_in_bcc() -> None:
    with Tool("execsnoop", "--ppid", str(os.getpid())) as tool:
        pid = spawn(TRUE, "one", "two")
    assert tool.stdout == (
        f"{'COMM':<16} {'PID':<7} {'PPID':<7} {'RET':>3} ARGS\n"
        f"{'true':<16} {pid:<7} {os.getpid():<7} {0:3} {TRUE} one two\n"
    )


@pytest.mark.parametrize("count", [0, 1, 19, 20, 21, 500, 1900])
def test_json_has_the_arguments_as_a_list(count: int) -> None:
    if count > 127:
        needs("bpf_loop")  # before, the verifier does not walk through more
    args = [f"a{n}" for n in range(count)]
    with Tool("execsnoop", "--json", "--ppid", str(os.getpid())) as tool:
        pid = spawn(TRUE, *args)
    (record,) = records(tool, pid)
    assert record["args"] == [TRUE, *args]
    assert (record["ppid"], record["ret"], record["comm"], record["uid"]) == (os.getpid(), 0, "true", os.getuid())
    assert record["pcomm"] == Path("/proc/self/comm").read_text().strip()


def test_more_arguments_than_the_bound_are_marked() -> None:
    args = [f"a{n}" for n in range(5000)]
    with Tool("execsnoop", "--ppid", str(os.getpid())) as tool:
        spawn(TRUE, *args)
    (row,) = tool.rows()
    shown = row.split()[5:]
    assert shown[-1] == "..." and shown[:-1] == args[: len(shown) - 1]
    assert len(shown) > (1000 if features.has("bpf_loop") else 100)


def test_a_long_argument_is_cut_and_marked() -> None:
    long = "x" * 20_000
    with Tool("execsnoop", "--ppid", str(os.getpid())) as tool:
        spawn(TRUE, "before", long, "after")
    (row,) = tool.rows()
    shown = row.split()[4:]
    assert shown == [TRUE, "before", "x" * 4095, "after", "..."] or shown == [TRUE, "before", "x" * 4095, "after..."]


def test_max_args_bounds_what_is_shown() -> None:
    with Tool("execsnoop", "--max-args", "3", "--ppid", str(os.getpid())) as tool:
        spawn(TRUE, "one", "two", "three", "four")
        spawn(TRUE, "one", "two")
    assert [row.split()[3:] for row in tool.rows()] == [["0", TRUE, "one", "two", "..."], ["0", TRUE, "one", "two"]]


def test_fails_shows_failed_execs() -> None:
    with Tool("execsnoop", "-x", "--ppid", str(os.getpid())) as tool:
        missing = failing("/nonexistent/program", "with", "arguments")
        refused = failing("/etc", "x")
        pid = spawn(TRUE)
    assert [(row.split()[1], row.split()[3:]) for row in tool.rows()] == [
        (str(missing), [str(-errno.ENOENT), "/nonexistent/program", "with", "arguments"]),
        (str(refused), [str(-errno.EACCES), "/etc", "x"]),
        (str(pid), ["0", TRUE]),
    ]


def test_without_fails_only_new_programs() -> None:
    with Tool("execsnoop", "--ppid", str(os.getpid())) as tool:
        failing("/nonexistent/program")
        pid = spawn(TRUE)
    assert [row.split()[1] for row in tool.rows()] == [str(pid)]


def test_script_shows_the_script(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh -e\n:\n")
    script.chmod(0o755)
    with Tool("execsnoop", "--json", "--ppid", str(os.getpid())) as tool:
        pid = spawn(str(script), "one", "two")
    (record,) = records(tool, pid)
    assert record["args"] == [str(script), "one", "two"] and record["comm"] == "script"


def test_exec_by_another_thread() -> None:
    """The thread that executes takes over the PID of its process."""
    code = (
        "import os, threading\n"
        f"threading.Thread(target=os.execv, args=({TRUE!r}, ['true', 'from', 'thread'])).start()\n"
        "threading.Event().wait(10)\n"
    )
    with Tool("execsnoop", "--json", "-l", "from thread") as tool:
        pid = spawn(sys.executable, "-c", code)
    found = [(r["pid"], r["args"]) for r in tool.records() if r.get("comm") == "true"]
    assert found == [(pid, [TRUE, "from", "thread"])]


def test_execveat() -> None:
    descriptor = os.open(TRUE, os.O_RDONLY)
    with Tool("execsnoop", "--json", "--ppid", str(os.getpid())) as tool:
        child = os.fork()
        if child == 0:
            try:
                os.set_inheritable(descriptor, True)
                os.execve(descriptor, ["true", "by descriptor"], dict(os.environ))
            finally:
                os._exit(1)
        os.waitpid(child, 0)
    os.close(descriptor)
    (record,) = records(tool, child)
    assert record["args"] == [f"/dev/fd/{descriptor}", "by descriptor"] and record["ret"] == 0


@pytest.mark.anywhere
def test_name_and_line_are_regular_expressions() -> None:
    echo = shutil.which("echo") or "/bin/echo"
    with Tool("execsnoop", "-n", "^tru?e$", "--ppid", str(os.getpid())) as tool:
        pid = spawn(TRUE, "x")
        spawn(echo, "x")
    assert [row.split()[1] for row in tool.rows()] == [str(pid)]
    with Tool("execsnoop", "-l", "needle-[0-9]+", "--ppid", str(os.getpid())) as tool:
        spawn(TRUE, "needle-x")
        pid = spawn(TRUE, "hay", "needle-42")
    assert [row.split()[1] for row in tool.rows()] == [str(pid)]


@pytest.mark.anywhere
def test_a_wrong_regular_expression_is_one_sentence() -> None:
    run = osmia("execsnoop", "-n", "[")
    assert run.returncode == 2 and len(run.stderr.splitlines()) == 1 and "regular expression" in run.stderr


@pytest.mark.anywhere
def test_quotes() -> None:
    with Tool("execsnoop", "-q", "--ppid", str(os.getpid())) as tool:
        spawn(TRUE, "two words", 'a "quote"')
    (row,) = tool.rows()
    assert row.split(None, 4)[4] == f'"{TRUE}" "two words" "a \\"quote\\""'
    assert shlex.split(row.split(None, 4)[4]) == [TRUE, "two words", 'a "quote"']


@pytest.mark.anywhere
def test_users_and_columns() -> None:
    with Tool("execsnoop", "-UCM", "-u", "root", "--ppid", str(os.getpid())) as tool:
        pid = spawn(TRUE)
        spawn(TRUE, user=65534)
    assert tool.stdout.splitlines()[0].split() == ["UID", "COMM", "PID", "PCOMM", "PPID", "CPU", "RET", "ARGS"]
    (row,) = tool.rows()
    assert row.split()[:3] == ["0", "true", str(pid)] and 0 <= int(row.split()[-3]) < (os.cpu_count() or 1)
    run = osmia("execsnoop", "-u", "no-such-user-here")
    assert run.returncode == 2 and "there is no user 'no-such-user-here'" in run.stderr


@pytest.mark.anywhere
def test_times() -> None:
    with Tool("execsnoop", "-Tt", "--ppid", str(os.getpid())) as tool:
        before = time.time()
        spawn(TRUE)
        after = time.time()
    assert tool.stdout.splitlines()[0].split()[:2] == ["TIME", "TIME(s)"]
    clock, seconds = tool.rows()[0].split()[:2]
    first, last = (time.strftime("%H:%M:%S", time.localtime(t)) for t in (before, after + 1))
    assert first <= clock <= last
    assert 0 <= float(seconds) < 20 and len(seconds.partition(".")[2]) == 3


@pytest.mark.anywhere
def test_newlines_in_arguments_are_escaped() -> None:
    with Tool("execsnoop", "--ppid", str(os.getpid())) as tool:
        spawn(TRUE, "two\nlines\x1b[0m")
    (row,) = tool.rows()
    assert row.endswith("two\\nlines\\x1b[0m")
