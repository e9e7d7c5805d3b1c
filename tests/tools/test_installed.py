# SPDX-License-Identifier: Apache-2.0
"""What a wheel installs runs without a compiler, and many starts at once do not disturb one another."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import Files, Tool
from needs import needs_tracepoint
from patience import patient
from prebuilt import installed
from test_objects import TRACEPOINTS

from osmia.cli import shipped

pytestmark = pytest.mark.kernel

#: What tools cannot run without.
WORDS = {
    **dict.fromkeys(("funccount", "funcinterval", "funclatency", "funcslower"), ("c:getppid",)),
    "stackcount": ("t:sched:sched_switch",), "deadlock": ("-p", str(os.getpid())), "memleak": (),
    "ttysnoop": ("/dev/null",), "pythongc": ("--python", "/usr/bin/python3"),
}  # fmt: skip
WORDS["netqtop"] = ("-n", "lo")
WORDS["biolatpcts"] = (min(os.listdir("/sys/class/block"), default=""),)
#: What tools say where a machine has not what they look at; there is no more to be seen of them then.
REFUSED = {
    "cpufreq": "virtual machines have none", "criticalstat": "CONFIG_PREEMPTIRQ_TRACEPOINTS",
    "kvmexit": "kvm", "llcstat": "hardware counter", "numasched": "NUMA", "virtiostat": "kprobes or fentry",
}
#: Tools whose -v is another option, as in bcc; capable and tcptracer have both meanings.
OTHER_V = ("drsnoop", "kvmexit")
NO_COMPILER = "raise ImportError('not installed')\n"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What the installed package runs in: without llvmlite, with an empty cache."""
    (tmp_path / "none" / "llvmlite").mkdir(parents=True)
    (tmp_path / "none" / "llvmlite" / "__init__.py").write_text(NO_COMPILER)
    path = f"{tmp_path / 'none'}:{installed()}"
    return {**os.environ, "PYTHONPATH": path, "OSMIA_CACHE": str(tmp_path / "cache")}


def run(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "osmia.cli.main", *words], env=environment, capture_output=True,
                          text=True, timeout=patient(60), check=False, cwd="/")  # fmt: skip


@pytest.mark.parametrize("tool", shipped.names())
def test_every_tool_runs_without_a_compiler(tool: str, environment: dict[str, str]) -> None:
    if tool in TRACEPOINTS:
        needs_tracepoint(*TRACEPOINTS[tool])
    words = (tool, *WORDS.get(tool, ()), *(() if tool in OTHER_V else ("-v",)), "--duration", "1")
    first, second = run(environment, *words), run(environment, *words)
    if first.returncode == 1 and tool in REFUSED:
        assert REFUSED[tool] in first.stderr.splitlines()[-1] and "compil" not in first.stderr
        return
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    if tool in OTHER_V:
        return
    assert first.stderr.splitlines()[0] == "osmia: object that came with osmia"
    assert second.stderr.splitlines()[0] == "osmia: object that came with osmia, taken from the cache"
    assert ": attached to " in first.stderr


def test_without_a_compiler_a_program_of_ones_own_gets_one_sentence(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from osmia import Hash, tracepoint, u32, u64\nseen = Hash[u32, u64]()\n"
                    "@tracepoint('syscalls:sys_enter_getpgid')\ndef enter(call):\n    seen[0] += 1\n")  # fmt: skip
    done = run(environment, "run", str(file))
    assert done.returncode == 1
    assert done.stderr == ("osmia: compiling needs llvmlite, which is not installed (not installed); "
                           "run: pip install 'osmia[compiler]'\n")  # fmt: skip


def test_twenty_first_starts_at_once(environment: dict[str, str], tmp_path: Path) -> None:
    """All see the same opens, and the cache has one whole entry at the end."""
    command = [sys.executable, "-m", "osmia.cli.main", "opensnoop", "-n", "files", "-d", "600"]
    ready, processes = [], []
    for _ in range(20):
        read, write = os.pipe()
        ready.append(read)
        processes.append(subprocess.Popen(command, env={**environment, "OSMIA_READY_FD": str(write)},
                                          pass_fds=(write,), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                          text=True))  # fmt: skip
        os.close(write)
    try:
        said = [os.read(read, 1) for read in ready]
        assert said == [b"x"] * 20, [p.communicate(timeout=5)[1] for p in processes if p.poll() is not None]
        target = tmp_path / "opened by one and seen by twenty"
        with Files() as files:
            files.open(target)
        time.sleep(patient(0.3))
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        outputs = [process.communicate(timeout=patient(20)) for process in processes]
        for read in ready:
            os.close(read)
    assert [out.count(str(target)) for out, _ in outputs] == [1] * 20
    names = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert [name for name in names if name.endswith(".spec")] == [name for name in names if "opensnoop" in name]
    assert len([name for name in names if "opensnoop" in name]) == 1
    assert not [name for name in names if name.startswith(".")]
    assert "taken from the cache" in run(environment, "opensnoop", "-n", "files", "-v", "-d", "0.1").stderr


@pytest.mark.anywhere
def test_a_warm_start_does_not_read_the_kernels_types(environment: dict[str, str], tmp_path: Path) -> None:
    """By strace: of /sys/kernel/btf, a warm start opens nothing; of osmia.obj.btf, it imports nothing."""
    run(environment, "opensnoop", "-d", "0.1")
    for tool in ("opensnoop", "runqlat"):  # runqlat attaches by type
        run(environment, tool, "-d", "0.1")
        out = tmp_path / "strace"
        subprocess.run(["strace", "-f", "-e", "trace=open,openat,openat2", "-o", out, sys.executable, "-m",
                        "osmia.cli.main", tool, "--duration", "1"], env=environment, cwd="/", check=True,
                       capture_output=True, timeout=patient(60))  # fmt: skip
        opened = re.findall(r'"([^"]+)"', out.read_text())
        assert f"{installed()}/osmia/tools/{tool}.py" in opened or any(tool in path for path in opened)
        assert [path for path in opened if path.startswith("/sys/kernel/btf") or "obj/btf" in path] == []


@pytest.mark.anywhere
def test_a_stale_or_damaged_image_is_made_anew(environment: dict[str, str], tmp_path: Path) -> None:
    def first_note() -> str:
        done = run(environment, "runqlen", "-v", "--duration", "1")
        assert done.returncode == 0, done.stderr
        return done.stderr.splitlines()[0]

    shipped, cached = "osmia: object that came with osmia", "osmia: object that came with osmia, taken from the cache"
    assert [first_note(), first_note()] == [shipped, cached]
    (entry,) = (tmp_path / "cache").glob("runqlen-*.spec")
    whole = entry.read_bytes()
    for damaged in (whole[:50], whole[:-1], b"", whole[:99] + bytes([whole[99] ^ 1]) + whole[100:]):
        entry.write_bytes(damaged)
        assert [first_note(), first_note()] == [shipped, cached]
    environment["OSMIA_FEATURES_OFF"] = "kprobe_multi"  # what an image was made for is in its key
    assert [first_note(), first_note()] == [shipped, cached]


def test_rows_come_without_a_compiler_as_with_one(environment: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "osmia.cli.main", "opensnoop", "-n", "files", "--json"]
    tool = Tool(command=["env", *[f"{name}={environment[name]}" for name in ("PYTHONPATH", "OSMIA_CACHE")], *command])
    with tool, Files() as files:
        for number in range(23):
            files.open(tmp_path / f"no such file {number}")
    paths = [record["path"] for record in tool.records() if "no such file" in record.get("path", "")]
    assert paths == [str(tmp_path / f"no such file {number}") for number in range(23)]
