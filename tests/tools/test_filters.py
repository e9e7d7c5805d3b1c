# SPDX-License-Identifier: Apache-2.0
"""Whom a tool traces: the filters for a task that is not the current one, ``-c CMD``, ``--container ID``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import Files, Tool, environment, eventually, osmia, osmia_command
from test_runqlat import Sleeper, blocks

from osmia.kernel import named

pytestmark = pytest.mark.kernel

NOBODY = 65534
TYPES = "/sys/kernel/btf/vmlinux"


@contextmanager
def cgroup(name: str) -> Iterator[Path]:
    """A cgroup (v2) at the root, removed when its last process has gone."""
    place = Path(named.cgroup_roots()[0]) / name
    place.mkdir()
    try:
        yield place
    finally:
        assert eventually(lambda: removed(place))


def removed(place: Path) -> bool:
    try:
        place.rmdir()
    except OSError:
        return False
    return True


# --------------------------------------------------------------------------
# Another task than the current one


@pytest.mark.parametrize("hook", ["tp_btf", "raw_tracepoint"])
@pytest.mark.parametrize("kind", ["-p", "--tid", "--uid", "--uid=name", "-n", "--cgroup"])
def test_filters_of_a_task(kind: str, hook: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """runqlat's tasks are those that wake up: one of two sleepers fits, the other one does not."""
    more = []
    if hook == "raw_tracepoint":  # what is not offered without the kernel's own types
        types = tmp_path / "types.btf"
        shutil.copyfile(TYPES, types)
        monkeypatch.setenv("OSMIA_FEATURES_OFF", "btf")
        more = ["--btf", str(types)]
    nobody = ["setpriv", f"--reuid={NOBODY}", "--clear-groups"]
    with cgroup(f"osmia-filters-{os.getpid()}") as group:
        with Sleeper(31, prefix=nobody, name="osmia-sleepy") as one, Sleeper(31) as other:
            (group / "cgroup.procs").write_text(str(one.pid))
            words = {
                "-p": ["-p", str(one.pid)], "--tid": ["--tid", str(one.pid)], "--uid": ["--uid", str(NOBODY)],
                "--uid=name": ["--uid=nobody"], "-n": ["-n", "sleepy"], "--cgroup": ["--cgroup", str(group)],
            }[kind]  # fmt: skip
            tool = Tool("runqlat", "-L", "-v", *words, *more).start()
            one.go()
            other.go()
            one.done()
            other.done()
            tool.stop()
        attached = [line for line in tool.stderr.splitlines() if "attached to" in line]
        assert len(attached) == 3 and all(f"attached to {hook}:" in line for line in attached)
        counts = blocks(tool.stdout, "tid")
        assert counts[str(one.pid)] >= 10 and str(other.pid) not in counts


# --------------------------------------------------------------------------
# -c


def executed(command: str, *options: str) -> list[str]:
    """The words given to ``true`` when ``command`` executed it."""
    done = osmia("execsnoop", *options, "-c", command)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return re.findall(r" \d+ /bin/true (\w+)$", done.stdout, re.M)


def test_command_and_what_it_starts() -> None:
    """Not only the command: children, children of children, and those whose parent has ended."""
    orphan = "(/bin/sh -c '/bin/sleep 0.1; exec /bin/true orphan' & ) ; /bin/sleep 0.4"
    stranger = subprocess.Popen(["sh", "-c", "while :; do /bin/true stranger; /bin/sleep 0.02; done"])
    try:
        found = executed(f'sh -c "/bin/true one; (/bin/true two; /bin/sh -c \'/bin/true three\'); {orphan}"')
    finally:
        stranger.kill()
        stranger.wait()
    assert found == ["one", "two", "three", "orphan"]


def test_command_and_a_filter() -> None:
    """Filters narrow it down."""
    assert executed('sh -c "/bin/true one; /bin/true two"', "-l", "two") == ["two"]
    assert executed('sh -c "/bin/true one"', "--uid", str(NOBODY)) == []


def test_command_of_a_tool_that_looks_at_other_tasks() -> None:
    """runqlat -c: a child of the command is there, osmia and others are not."""
    script = "import subprocess; subprocess.run(['sleep', '0.05']); print(subprocess.Popen(['sleep', '0.05']).wait())"
    done = subprocess.run(osmia_command("runqlat", "-P", "-c", f'{sys.executable} -c "{script}"'), env=environment(),
                          capture_output=True, text=True, check=True)  # fmt: skip
    with Sleeper(1) as idle:
        found = blocks(done.stdout, "pid")
        assert len(found) == 3 and str(idle.pid) not in found and str(os.getpid()) not in found


def test_osmia_gives_the_orphans_back() -> None:
    """In a program that goes on, osmia.run() leaves the process as it was."""
    script = (
        "import osmia.cli.main as m, os, subprocess, sys\n"
        "status = m.main(['opensnoop', '-o', '/dev/null', '-c', 'true'])\n"
        "out = subprocess.run(['sh', '-c', '(sleep 0.2; echo $PPID >&2; grep PPid /proc/self/status) & exit'],"
        " stdout=subprocess.PIPE, text=True).stdout\n"
        "sys.exit(3 if f'PPid:\\t{os.getpid()}\\n' in out else status)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], env=environment(), check=False).returncode == 0


# --------------------------------------------------------------------------
# --container


def test_container() -> None:
    """By the beginning of the id that the engine has put into the cgroup's name."""
    id = f"{os.getpid():08x}" + "c0ffee" * 9 + "00"
    with cgroup(f"docker-{id}.scope") as group, Files() as member, Files() as stranger:
        (group / "cgroup.procs").write_text(str(member.pid))
        tool = Tool("opensnoop", "--container", id[:12]).start()
        for number in range(23):
            member.open(f"/inside/{number}")
            stranger.open(f"/outside/{number}")
        tool.stop()
    assert len(re.findall(r" /inside/\d+$", tool.stdout, re.M)) == 23
    assert "/outside/" not in tool.stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--container", "feedbeef0000"],
         "opensnoop: option --container: there is no container 'feedbeef0000' with a cgroup (v2) of its own"),
        (["--container", ""], "opensnoop: option --container: there is no container '' with a cgroup (v2) of its own"),
        (["-p", "4194303"], "opensnoop: option -p: there is no process 4194303"),
        (["-p", "self"], "opensnoop: option -p: 'self' is no process id"),
        (["-t", "0"], "opensnoop: option -t: '0' is no thread id"),
        (["--cgroup", "no/such"], "opensnoop: option --cgroup: 'no/such' is no cgroup (v2)"),
    ],
)  # fmt: skip
def test_nobody_of_that_name(words: list[str], text: str) -> None:
    done = osmia("opensnoop", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"osmia: {text}\n")


def test_a_thread_is_no_process() -> None:
    """-p with the number of a thread says whose it is."""
    script = "import threading; t = threading.Thread(target=input); t.start(); print(t.native_id, flush=True); t.join()"
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        tid = process.stdout.readline().strip()
        done = osmia("opensnoop", "-p", tid)
        right = osmia("opensnoop", "-t", tid, "-d", "0.05")
    finally:
        process.communicate("\n")
    assert done.stderr == f"osmia: opensnoop: option -p: {tid} is a thread of process {process.pid}\n"
    assert (right.returncode, right.stderr) == (0, "")


def test_container_and_cgroup() -> None:
    id = f"{os.getpid():08x}" + "beefed" * 9 + "00"
    with cgroup(f"docker-{id}.scope") as group:
        done = osmia("opensnoop", "--container", id, "--cgroup", str(group))
        other = osmia("biolatency", "--container", id)
    assert done.stderr == "osmia: opensnoop: --container and --cgroup exclude each other\n"
    assert other.stderr.startswith("osmia: biolatency: unknown option --container")  # disk requests belong to nobody
    assert (done.returncode, other.returncode) == (2, 2)
