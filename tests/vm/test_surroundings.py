# SPDX-License-Identifier: Apache-2.0
"""The tools where something is missing: types of the kernel, most privileges, an open kernel.

Each test makes its surroundings itself, so it runs anywhere; only lockdown
has to be asked for when the kernel is booted.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import Files, Tool, environment, eventually, osmia_command
from needs import older_than
from patience import patient

from osmia.kernel import caps

pytestmark = [pytest.mark.kernel, pytest.mark.vm]
Row = Callable[[str, Any], None]

TOOLS = ["biolatency", "execsnoop", "opensnoop", "runqlat"]
TYPES = "/sys/kernel/btf/vmlinux"
NOBODY = 65534
OPENS = 23
#: Counts the getpgid(2) of one process by a raw tracepoint, which needs no tracefs.
COUNTER = """
# SPDX-License-Identifier: Apache-2.0
from osmia import Col, Hash, count_table, current, option, raw_tracepoint, u32, u64

me = option("-p", "--pid", type=int)
calls = Hash[u32, u64]()

@raw_tracepoint("sys_enter")
def enter(regs, number):
    if number == 121 and current.tgid == me:
        calls[current.tgid] += 1

tool = count_table(calls, [Col("key", "PID"), Col("count", "COUNT")])
"""


def on_a_tracepoint(text: str) -> str:
    """The counter, by a tracepoint of the one system call instead."""
    text = text.replace("raw_tracepoint", "tracepoint").replace('"sys_enter"', '"syscalls:sys_enter_getpgid"')
    return text.replace("def enter(regs, number):", "def enter(call):").replace("number == 121", "call.pid == 0")


def seen(tool: Tool, folder: Path) -> int:
    """How many rows name a file of ``folder``."""
    return sum(f"{folder}/file" in line for line in tool.stdout.splitlines())


def open_files(folder: Path, files: Files) -> None:
    for number in range(OPENS):
        fd, _ = files.open(f"{folder}/file{number}", os.O_CREAT | os.O_WRONLY, 0o644)
        files.close(fd)


def run(command: list[str], seconds: float = 60, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env={**environment(), **env}, capture_output=True, text=True,
                          timeout=patient(seconds), check=False)  # fmt: skip


def one_sentence(text: str) -> str:
    """What osmia says when it gives up: no traceback, and what to do."""
    assert "Traceback" not in text and "internal error" not in text, text
    found = [line for line in text.splitlines() if line.startswith("osmia: ")]
    assert found, text
    return text


# --------------------------------------------------------------------------
# No types of the kernel


@pytest.mark.parametrize("tool", ["biolatency", "execsnoop", "runqlat"])
def test_no_btf_says_what_to_do(tool: str, record_property: Row) -> None:
    """Without any types these tools cannot be compiled, and say how to give them some."""
    done = run(osmia_command(tool, "--duration", "1"), OSMIA_FEATURES_OFF="btf")
    assert done.returncode == 1
    assert "--btf" in one_sentence(done.stderr)
    record_property("row", f"surroundings:no BTF:{tool}")
    record_property("how", "with --btf FILE")


def test_no_btf_opensnoop(tmp_path: Path, record_property: Row) -> None:
    """Names are shown as they were given: without types nobody knows where the directory of a task is."""
    with Files(cwd=str(tmp_path)) as files:
        with environment_of(OSMIA_FEATURES_OFF="btf"):
            tool = Tool("opensnoop", "-p", str(files.pid)).start()
        open_files(tmp_path, files)
        files.open("relative", os.O_CREAT | os.O_WRONLY, 0o644)
        tool.stop()
    assert seen(tool, tmp_path) == OPENS
    assert tool.stdout.splitlines()[-1].split()[-1] == "relative"
    record_property("row", "surroundings:no BTF:opensnoop")
    record_property("how", "relative names as given, absolute ones with --btf FILE")


@pytest.mark.parametrize("tool", TOOLS)
def test_no_btf_but_a_file_of_types(tool: str, tmp_path: Path, record_property: Row) -> None:
    """With the kernel's types from a file everything runs that does not attach by type."""
    types = tmp_path / "types.btf"
    types.write_bytes(Path(TYPES).read_bytes())
    with Files() as files:
        only = ["-p", str(files.pid)] if tool == "opensnoop" else []
        running = Tool(command=osmia_command(tool, *only, "-v", "--btf", str(types)))
        with environment_of(OSMIA_FEATURES_OFF="btf"):
            running.start()
        open_files(tmp_path, files)
        subprocess.run(["true"], check=True)
        running.stop()
    assert running.status == 0, running.stderr
    assert "tp_btf" not in plans(running.stderr)
    if tool == "opensnoop":
        assert seen(running, tmp_path) == OPENS
    elif tool == "execsnoop":
        assert "true" in running.stdout
    record_property("row", f"surroundings:no BTF:{tool}")
    record_property("how", "with --btf FILE")


def test_no_btf_tracepoints_alone(tmp_path: Path, record_property: Row) -> None:
    """Fields of tracepoints are described by tracefs."""
    assert counted(tmp_path, on_a_tracepoint(COUNTER), OSMIA_FEATURES_OFF="btf") == 100
    record_property("row", "surroundings:no BTF:tracepoint fields")
    record_property("how", "types from tracefs")


@contextmanager
def environment_of(**more: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def plans(text: str) -> str:
    """What ``-v`` says was attached, without the alternatives that were not taken."""
    return "\n".join(line for line in text.splitlines() if "attached" in line and " not " not in line)


def counted(folder: Path, text: str, *prefix: str, **env: str) -> int:
    """Run ``text`` as a tool on a process that makes 100 calls of getpgid(2); how many it counted."""
    file = folder / "counter.py"
    file.write_text(text)
    script = "import os, sys; sys.stdin.readline(); [os.getpgid(0) for _ in range(100)]; sys.stdin.readline()"
    worker = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, text=True)
    try:
        with environment_of(**env):
            tool = Tool(command=[*prefix, *osmia_command("run", str(file), "-p", str(worker.pid))]).start()
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
        wait_for_calls(worker.pid)
        tool.stop()
    finally:
        worker.communicate("\n")
    assert tool.status == 0, tool.stderr
    return sum(int(line.split()[-1]) for line in tool.rows() if line.split()[0] == str(worker.pid))


def wait_for_calls(pid: int) -> None:
    """Until the worker waits for its second line: it has made its calls then."""
    import time

    end = time.monotonic() + patient(5)
    while time.monotonic() < end:
        fields = Path(f"/proc/{pid}/syscall").read_text().split()
        if fields[0] == "0" and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S":
            time.sleep(0.1)
            return
        time.sleep(0.02)


# --------------------------------------------------------------------------
# Few capabilities


#: Opens directories to everybody, in a mount namespace of its own, and runs a command: what is below them is mounted
#: below an empty directory in their place.
OPENED = """
while [ "$1" != -- ]; do
    stage=$(mktemp -d)
    mount --rbind "$1" "$stage"
    mount -t tmpfs -o mode=755 tmpfs "$1"
    for sub in "$stage"/* "$stage"/.[!.]*; do
        [ -d "$sub" ] && [ ! -L "$sub" ] || continue
        mkdir "$1/${sub##*/}"
        mount --rbind "$sub" "$1/${sub##*/}"
    done
    umount -l "$stage"
    rmdir "$stage"
    shift
done
shift
exec "$@"
"""


@functools.cache
def closed() -> list[str]:
    """Directories on the way to Python, its modules and this checkout that only their owner can enter (root's home)."""
    ends = [sys.executable, *(sysconfig.get_path(name) for name in ("stdlib", "purelib")), __file__]
    ways = {place for end in ends for path in (end, os.path.realpath(end)) for place in Path(path).parents}
    return sorted((str(place) for place in ways if not place.stat().st_mode & 1), key=len)


def bare(*names: str) -> list[str]:
    """The beginning of a command that runs as nobody with these capabilities only."""
    words = ",".join(f"+{name}" for name in names)
    sets = [f"--{kind}=-all,{words}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    opened = ["unshare", "-m", "sh", "-ec", OPENED, "sh", *closed(), "--"] if closed() else []
    return [*opened, "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *sets]


@pytest.fixture
def for_all(tmp_path: Path) -> Path:
    """A directory that nobody can use, too."""
    done = subprocess.run([*bare("bpf"), sys.executable, "-c", "import osmia, llvmlite"], env=environment(),
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, f"nobody cannot run Python here: {done.stderr}"
    place = tmp_path
    while place != Path(place.root) and place.stat().st_uid == 0:
        if not place.stat().st_mode & 1:
            os.chmod(place, 0o755)
        place = place.parent
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chmod(shared, 0o1777)
    return shared


def unlimited() -> list[str]:
    """Before 5.11 maps count as locked memory, of which nobody may have 64 KiB."""
    return ["prlimit", "--memlock=unlimited"] if older_than("5.11") else []


def test_few_caps_raw_tracepoint(for_all: Path, record_property: Row) -> None:
    """CAP_BPF and CAP_PERFMON are all that a raw tracepoint needs."""
    prefix = [*unlimited(), *bare("bpf", "perfmon")]
    assert counted(for_all, COUNTER, *prefix, OSMIA_CACHE=str(for_all / "cache")) == 100
    record_property("row", "surroundings:CAP_BPF+CAP_PERFMON:raw_tracepoint")
    record_property("how", "natively")


@pytest.mark.parametrize("tool", ["biolatency", "runqlat"])
def test_few_caps_tools_on_raw_tracepoints(tool: str, for_all: Path, record_property: Row) -> None:
    with environment_of(OSMIA_CACHE=str(for_all / "cache")):
        command = [*unlimited(), *bare("bpf", "perfmon"), *osmia_command(tool, "1", "1")]
        done = run(command)
    assert done.returncode == 0 and done.stdout.startswith("Tracing"), done.stderr
    if tool == "runqlat":
        assert "distribution" in done.stdout
    record_property("row", f"surroundings:CAP_BPF+CAP_PERFMON:{tool}")
    record_property("how", "natively")


@pytest.mark.parametrize("tool", ["execsnoop", "opensnoop"])
def test_few_caps_tracepoints_need_tracefs(tool: str, for_all: Path, record_property: Row) -> None:
    """Who may not read tracefs is told which capability lets him."""
    done = run([*unlimited(), *bare("bpf", "perfmon"), *osmia_command(tool, "--duration", "1")],
               OSMIA_CACHE=str(for_all / "cache"))  # fmt: skip
    assert done.returncode == 1
    assert "tracefs" in one_sentence(done.stderr) and "CAP_DAC_READ_SEARCH" in done.stderr
    record_property("row", f"surroundings:CAP_BPF+CAP_PERFMON:{tool}")
    record_property("how", "with CAP_DAC_READ_SEARCH for tracefs")


def test_few_caps_and_tracefs(for_all: Path, record_property: Row) -> None:
    """Tracepoints need tracefs; and Debian's older kernels refuse perf events to all but CAP_SYS_ADMIN unless told."""
    prefix = [*unlimited(), *bare("bpf", "perfmon", "dac_read_search")]
    how = "with CAP_DAC_READ_SEARCH for tracefs"
    before = PARANOID.read_text()
    with Files() as files, environment_of(OSMIA_CACHE=str(for_all / "cache")):
        command = [*prefix, *osmia_command("opensnoop", "-p", str(files.pid))]
        done = run([*command, "--duration", "0.1"])
        if done.returncode:
            assert int(before) > 2 and f"kernel.perf_event_paranoid is {before.strip()}" in one_sentence(done.stderr)
            how += ", and kernel.perf_event_paranoid=2"
            PARANOID.write_text("2")
        try:
            tool = Tool(command=command).start()
            open_files(for_all, files)
            tool.stop()
        finally:
            PARANOID.write_text(before)
    assert seen(tool, for_all) == OPENS
    record_property("row", "surroundings:CAP_BPF+CAP_PERFMON:opensnoop")
    record_property("how", how)


PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")


@pytest.mark.parametrize(("have", "lacks"), [((), "CAP_BPF"), (("bpf",), "CAP_PERFMON"), (("perfmon",), "CAP_BPF")])
def test_few_caps_names_what_is_missing(have: tuple[str, ...], lacks: str, for_all: Path) -> None:
    (for_all / "counter.py").write_text(COUNTER)
    prefix = bare(*have) if have else [word for word in bare("bpf") if "ambient" not in word]
    done = run([*prefix, *osmia_command("run", str(for_all / "counter.py"))], OSMIA_CACHE=str(for_all / "cache"))
    assert done.returncode == 1
    assert lacks in one_sentence(done.stderr)


# --------------------------------------------------------------------------
# A cgroup


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup (v2) of this test's own."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    root = next((words[1] for words in mounts if words[2] == "cgroup2" and words[1].startswith("/sys/fs/cgroup")), "")
    assert root, "no cgroup (v2) is mounted below /sys/fs/cgroup"
    place = Path(root) / f"osmia-test-{os.getpid()}"
    place.mkdir()
    yield place
    for pid in (place / "cgroup.procs").read_text().split():
        (place.parent / "cgroup.procs").write_text(pid)
    assert eventually(lambda: removed(place))


def removed(place: Path) -> bool:
    """A cgroup can be removed once its last process is gone for good."""
    try:
        place.rmdir()
    except OSError:
        return False
    return True


def test_cgroup_inside_and_filtered(cgroup: Path, tmp_path: Path, record_property: Row) -> None:
    """Run inside a cgroup and trace only that: what is outside is not seen, and the tool itself is."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    shell = f"echo $$ > {cgroup}/cgroup.procs; exec \"$@\""
    command = ["sh", "-c", shell, "sh", *osmia_command("opensnoop", "--cgroup", str(cgroup))]
    with Files() as member, Files() as stranger:
        (cgroup / "cgroup.procs").write_text(str(member.pid))
        tool = Tool(command=command).start()
        open_files(inside, member)
        open_files(outside, stranger)
        tool.stop()
    assert (seen(tool, inside), seen(tool, outside)) == (OPENS, 0)
    record_property("row", "surroundings:in a cgroup:opensnoop")
    record_property("how", "natively")


# --------------------------------------------------------------------------
# Lockdown


@pytest.fixture
def locked() -> None:
    assert caps.lockdown() == "confidentiality", "boot with lockdown=confidentiality"


@pytest.mark.lockdown
@pytest.mark.parametrize("tool", TOOLS)
def test_lockdown_is_named(tool: str, locked: None, record_property: Row) -> None:
    """Confidentiality forbids BPF to read kernel memory: a tool that needs to says so, one that does not works."""
    done = run(osmia_command(tool, "--duration", "1"))
    record_property("row", f"surroundings:lockdown=confidentiality:{tool}")
    if done.returncode == 0:
        record_property("how", "natively")
        return
    assert "lockdown" in one_sentence(done.stderr)
    record_property("how", "refused: kernel memory must not be read")


@pytest.mark.lockdown
def test_lockdown_doctor(locked: None) -> None:
    done = run(osmia_command("doctor"))
    assert "lockdown" in done.stdout and "confidentiality" in done.stdout and "Traceback" not in done.stderr


@pytest.mark.lockdown
def test_lockdown_counting_works(locked: None, tmp_path: Path, record_property: Row) -> None:
    """What reads no kernel memory is allowed."""
    record_property("row", "surroundings:lockdown=confidentiality:raw_tracepoint")
    assert counted(tmp_path, COUNTER) == 100
    record_property("how", "natively")


@pytest.mark.lockdown
def test_lockdown_takes_tracepoints_away(locked: None, tmp_path: Path, record_property: Row) -> None:
    """tracefs is empty, so nobody knows the numbers of tracepoints; one is told why."""
    file = tmp_path / "counter.py"
    file.write_text(on_a_tracepoint(COUNTER))
    record_property("row", "surroundings:lockdown=confidentiality:tracepoint")
    done = run(osmia_command("run", str(file), "--duration", "1"))
    assert done.returncode == 1 and "lockdown" in one_sentence(done.stderr)
    record_property("how", "refused: tracefs is empty; use raw_tracepoint")


def test_the_programs_these_tests_use_are_there() -> None:
    for command in ("setpriv", "unshare", "prlimit"):
        assert shutil.which(command), f"{command} is missing (Debian: package util-linux)"
