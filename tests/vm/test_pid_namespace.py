# SPDX-License-Identifier: Apache-2.0
"""osmia inside a PID namespace, as in a container: numbers of processes are those that are seen from there."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Files, Tool, environment, eventually, osmia_command
from patience import patient

pytestmark = [pytest.mark.kernel, pytest.mark.vm]
Row = Callable[[str, Any], None]

TOOLS = ["biolatency", "execsnoop", "opensnoop", "runqlat"]
OPENS = 23


class Namespace:
    """A PID namespace with its own /proc, kept alive by its first process; ``enter`` is how a command gets in."""

    def __init__(self, outer: Namespace | None = None) -> None:
        before = outer.enter if outer is not None else []
        self.process = subprocess.Popen(
            [*before, "unshare", "-p", "-f", "--mount-proc", "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.process.stdout.readline()
        pid = child_of(self.process.pid)
        self.init = child_of(pid) if outer is not None else pid
        self.enter = ["nsenter", "-t", str(self.init), "-p", "-m", "--"]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(patient(10))


def child_of(pid: int) -> int:
    def first() -> int:
        return int((Path(f"/proc/{pid}/task/{pid}/children").read_text().split() or ["0"])[0])

    found = eventually(first)
    assert found
    return int(found)


def numbers(pid: int) -> list[int]:
    """The numbers of a process, from our namespace down to its own."""
    found = re.search(r"^NSpid:(.*)$", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found
    return [int(word) for word in found[1].split()]


@pytest.fixture
def inside() -> Iterator[Namespace]:
    made = Namespace()
    yield made
    made.close()


class Inner(Files):
    """The workload in a namespace; ``numbers`` as there (last), and in the namespaces around it."""

    def __init__(self, namespace: Namespace) -> None:
        super().__init__(prefix=namespace.enter)
        self.ask("close", 999)  # it runs
        self.outside = child_of(self.pid)
        self.numbers = numbers(self.outside)

    def open_in(self, folder: Path, times: int = OPENS) -> None:
        for number in range(times):
            fd, _ = self.open(f"{folder}/file{number}", os.O_CREAT | os.O_WRONLY, 0o644)
            self.close(fd)


def start(namespace: Namespace, *words: str) -> Tool:
    return Tool(command=[*namespace.enter, *osmia_command(*words)]).start()


def stop(tool: Tool) -> Tool:
    """As Ctrl-C does: osmia itself is the child of nsenter."""
    os.kill(child_of(tool.pid), 2)
    return tool.wait()


def rows(tool: Tool, folder: Path) -> list[str]:
    """First words of the rows about files of ``folder``."""
    return [line.split()[0] for line in tool.stdout.splitlines() if f"{folder}/file" in line]


@pytest.mark.parametrize("tool", TOOLS)
def test_pidns_tools_run(tool: str, tmp_path: Path, inside: Namespace, record_property: Row) -> None:
    """The tools see the whole machine; a process outside has no number here and is shown with the kernel's own."""
    running = start(inside, tool)
    with Files() as files:
        for number in range(OPENS):
            files.close(files.open(f"{tmp_path}/file{number}", os.O_CREAT | os.O_WRONLY, 0o644)[0])
        subprocess.run(["true"], check=True)
        stop(running)
    assert running.status == 0, running.stderr
    if tool == "opensnoop":
        assert rows(running, tmp_path) == [str(files.pid)] * OPENS
    elif tool == "execsnoop":
        assert re.search(r"\btrue\b", running.stdout)
    else:
        assert running.stdout.startswith("Tracing")
    record_property("row", f"surroundings:in a PID namespace:{tool}")
    record_property("how", "natively")


@pytest.mark.parametrize("option", ["-p", "-t"])
def test_pidns_own_numbers(option: str, tmp_path: Path, inside: Namespace, record_property: Row) -> None:
    """-p and -t take the number that the process has in osmia's namespace, and rows show it."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    with Inner(inside) as one, Inner(inside) as other:
        assert len(one.numbers) == 2 and one.numbers[1] not in (one.outside, other.numbers[1])
        tool = start(inside, "opensnoop", option, str(one.numbers[1]))
        one.open_in(ours)
        other.open_in(theirs)
        stop(tool)
    assert tool.status == 0, tool.stderr
    assert rows(tool, ours) == [str(one.numbers[1])] * OPENS
    assert rows(tool, theirs) == []
    record_property("row", "surroundings:in a PID namespace:-p PID")
    record_property("how", "natively")


def test_pidns_rows_without_a_filter(tmp_path: Path, inside: Namespace) -> None:
    """What is in the namespace is shown by its number there, whatever is asked for; JSON says the same."""
    with Inner(inside) as files:
        tool = start(inside, "opensnoop", "--json")
        files.open_in(tmp_path)
        stop(tool)
    found = [one for one in tool.records() if one.get("path", "").startswith(f"{tmp_path}/file")]
    assert [(one["pid"], one["tid"]) for one in found] == [(files.numbers[1], files.numbers[1])] * OPENS


def test_pidns_one_within_the_other(tmp_path: Path, inside: Namespace) -> None:
    """A process of a namespace below osmia's has a number in both; osmia's own is what counts."""
    deeper = Namespace(inside)
    try:
        with Inner(deeper) as files:
            assert len(files.numbers) == 3 and files.numbers[1] != files.numbers[2]
            tool = start(inside, "opensnoop", "-p", str(files.numbers[1]))
            files.open_in(tmp_path)
            stop(tool)
    finally:
        deeper.close()
    assert rows(tool, tmp_path) == [str(files.numbers[1])] * OPENS


def test_pidns_parents(inside: Namespace) -> None:
    """execsnoop's PPID and -P."""
    shell = subprocess.Popen([*inside.enter, "sh"], stdin=subprocess.PIPE, text=True)
    try:
        pid = numbers(child_of(shell.pid))[1]
        tool = start(inside, "execsnoop", "-P", str(pid))
        shell.communicate("/bin/true one\n/bin/true two\n/bin/true three\n", timeout=patient(20))
        subprocess.run([*inside.enter, "true", "stranger"], check=True)
        stop(tool)
    finally:
        shell.kill()
        shell.wait()
    found = [line.split() for line in tool.rows()]
    assert [(words[2], words[-1]) for words in found] == [(str(pid), word) for word in ("one", "two", "three")]
    assert all(0 < int(words[1]) - pid < 1000 for words in found)


def test_pidns_histogram_per_thread(inside: Namespace, tmp_path: Path) -> None:
    """runqlat looks at tasks other than the current one."""
    with Inner(inside) as one, Inner(inside) as other:
        tool = start(inside, "runqlat", "-L", "-p", str(one.numbers[1]))
        one.open_in(tmp_path)
        other.open_in(tmp_path)
        stop(tool)
    assert re.findall(r"^tid = (\d+)$", tool.stdout, re.M) == [str(one.numbers[1])]


def test_pidns_lists(inside: Namespace, tmp_path: Path) -> None:
    """-p of several: each by the number that it has in there."""
    with Inner(inside) as one, Inner(inside) as other, Inner(inside) as third:
        tool = start(inside, "offcputime", "--json", "-K", "-p", f"{one.numbers[1]},{other.numbers[1]}")
        for each in (one, other, third):
            each.open_in(tmp_path)
            each.open_in(tmp_path)
        stop(tool)
    found = {row["pid"] for row in map(json.loads, tool.stdout.splitlines()) if "pid" in row}
    assert found == {one.numbers[1], other.numbers[1]}


def test_pidns_command(inside: Namespace) -> None:
    """-c: the command and what it starts."""
    script = "/bin/true one; (/bin/true two)"
    done = subprocess.run([*inside.enter, *osmia_command("execsnoop", "-c", f"sh -c '{script}'")], env=environment(),
                          capture_output=True, text=True, timeout=patient(60), check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line.split()[-1] for line in done.stdout.splitlines()[2:]] == ["one", "two"]


def test_pidns_mistakes(inside: Namespace, tmp_path: Path) -> None:
    """A number of another namespace is none of ours; and without types of the kernel nobody can tell."""

    def said(*words: str, **env: str) -> str:
        done = subprocess.run([*inside.enter, *osmia_command("opensnoop", *words, "-d", "0.1")],
                              env={**environment(), **env}, capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode in (1, 2) and done.stdout == ""
        return done.stderr

    assert said("-p", "4194303") == "osmia: opensnoop: option -p: there is no process 4194303\n"
    assert said("-p", "1", OSMIA_FEATURES_OFF="btf").startswith(
        "osmia: option -p: ids of this PID namespace mean nothing to a kernel without types; use --cgroup PATH, "
    )


def test_the_programs_these_tests_use_are_there() -> None:
    import shutil

    for command in ("nsenter", "unshare"):
        assert shutil.which(command), f"{command} is missing (Debian: package util-linux)"
