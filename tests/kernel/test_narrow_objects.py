# SPDX-License-Identifier: Apache-2.0
"""What is compiled for a run: one hook of each plan, and more of it as soon as a run wants something else."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from patience import patient

from osmia.kernel import features

pytestmark = pytest.mark.kernel

SRC = Path(__file__).resolve().parents[2] / "src"
MARK = -7_654_321  # an argument of getpgid() that nobody else gives
CALLS = 7
HEAD = f"""\
from osmia import *
from osmia.cli import plans

n = Hash[u32, u64]()
more = option("--more", help="count getsid, too")

@first_of(tp_btf("sched_process_exit"), raw_tracepoint("sched_process_exit"))
def often(task):
    n[0] += 1

@tracepoint("syscalls:sys_enter_getpgid")
def asked(call):
    if call.pid == {MARK}:
        n[1] += 1

@tracepoint("syscalls:sys_enter_getsid")
def other(call):
    if call.pid == {MARK}:
        n[2] += 1

def prepare():
    other.enabled = bool(more)

tool = count_table(n, [Col("key"), Col("count")], prepare=prepare)
"""
WORK = f"""
import os
for call in (os.getpgid, os.getsid):
    for _ in range({CALLS}):
        try:
            call({MARK})
        except ProcessLookupError:
            pass
"""
COMPILED, TAKEN = "compiled: nothing usable in the cache", "compiled object taken from the cache"
LACKING = "compiled with all hooks: the object has not what this run wants"
PLAIN = {"often__tp_btf", "asked"}
NAMES = ("often__tp_btf", "often__raw_tracepoint", "asked", "other", "probe__fentry", "probe__fexit",
         "probe__tracepoint", "probe__perf_event_1", "probe__perf_event_2")  # fmt: skip


class Runs:
    """Runs of one file, with a cache of their own."""

    def __init__(self, folder: Path, text: str) -> None:
        self.file = folder / "sample.py"
        self.file.write_text(text)
        self.cache = folder / "cache"
        self.counts: dict[int, int] = {}

    def run(self, *options: str) -> list[str]:
        """What it says of its object and its probes; ``counts`` is what it counted while WORK was done."""
        env = {**os.environ, "OSMIA_CACHE": str(self.cache), "PYTHONPATH": str(SRC)}
        start = "from osmia.cli.main import main; raise SystemExit(main())"
        work = shlex.join([sys.executable, "-c", WORK])
        command = [sys.executable, "-c", start, "run", str(self.file), "-v", "--json", "-c", work, *options]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=patient(60), check=False)
        assert done.returncode == 0, done.stderr
        self.counts = {}
        for line in done.stdout.splitlines():
            self.counts |= {row["key"]: row["count"] for row in json.loads(line)["rows"]}
        said = [line.removeprefix("osmia: ") for line in done.stderr.splitlines()]
        return [line for line in said if not line.startswith("-c: ")]

    def programs(self) -> set[str]:
        """Which programs are in the object that is in the cache."""
        (entry,) = self.cache.glob("sample-*.spec")
        raw = entry.read_bytes()
        return {name for name in NAMES if name.encode() in raw}


@pytest.mark.feature("P1 the next probe of a plan, said with -v")
def test_a_run_compiles_what_it_wants(tmp_path: Path) -> None:
    """One hook of each plan, and no program that the options leave out; the first run that wants more has it all."""
    runs = Runs(tmp_path, HEAD)
    assert runs.run()[0] == COMPILED
    assert runs.programs() == PLAIN
    assert runs.counts[1] == CALLS and 2 not in runs.counts and runs.counts[0]
    assert runs.run()[0] == TAKEN
    assert runs.counts[1] == CALLS and 2 not in runs.counts
    assert runs.run("--more")[0] == LACKING
    assert runs.programs() == {*PLAIN, "often__raw_tracepoint", "other"}
    assert runs.counts[1] == runs.counts[2] == CALLS and runs.counts[0]
    for options in ((), ("--more",)):
        assert runs.run(*options)[0] == TAKEN
        assert runs.counts[1] == CALLS and runs.counts.get(2, 0) == CALLS * len(options)


def test_nothing_is_left_out_where_nothing_can_be(tmp_path: Path) -> None:
    runs = Runs(tmp_path, HEAD)
    assert runs.run("--more")[0] == COMPILED
    assert runs.programs() == {*PLAIN, "other"}
    assert runs.run()[0] == TAKEN


@pytest.mark.feature("P1 the next probe of a plan, said with -v")
def test_a_hook_that_cannot_be_loaded(tmp_path: Path) -> None:
    """The object is compiled whole, and the plan's next hook is taken; fentry seems to be there, and may be locked."""
    plan = """
plans._attachable = lambda: True

@first_of(fentry("vfs_read"), tracepoint("syscalls:sys_enter_getpgid"))
def probe():
    n[3] += 1

@first_of(fentry("vfs_read", optional=True), fexit("vfs_read", optional=True))
def maybe():
    n[4] += 1

tool = count_table(n, [Col("key"), Col("count")], prepare=prepare)
"""
    runs = Runs(tmp_path, HEAD + plan)
    notes = runs.run()
    assert notes[0] == COMPILED and runs.counts[1] == CALLS
    if features.has("fentry"):
        assert runs.counts[3] and runs.counts[4]
        assert runs.programs() == {*PLAIN, "probe__fentry"}
        return
    assert any(note.startswith("probe: fentry:vfs_read does not do: ") for note in notes), notes
    assert notes.count(LACKING) == 1 and "probe: attached to tracepoint:syscalls:sys_enter_getpgid" in str(notes)
    assert runs.counts[3] >= CALLS and 4 not in runs.counts
    assert runs.programs() == {*PLAIN, "often__raw_tracepoint", "other", "probe__fentry", "probe__tracepoint"}
    again = runs.run()
    assert again[0] == TAKEN and LACKING not in again and runs.counts[3] >= CALLS


def test_a_hook_that_cannot_be_attached(tmp_path: Path) -> None:
    """Emulated and rented CPUs have no counters: that shows when the program is attached, with everything loaded."""
    plan = """
@first_of(perf_event("cpu-cycles", frequency=997), perf_event("cpu-clock", frequency=997))
def probe():
    n[3] += 1
"""
    runs = Runs(tmp_path, HEAD + plan)
    notes = runs.run()
    assert notes[0] == COMPILED and runs.counts[1] == CALLS and runs.counts[3]
    if "probe: attached to perf_event" in str(notes) and LACKING not in notes:
        assert runs.programs() == {*PLAIN, "probe__perf_event_1"}
        return
    assert notes.count(LACKING) == 1
    assert runs.programs() == {*PLAIN, "often__raw_tracepoint", "other", "probe__perf_event_1", "probe__perf_event_2"}
    assert runs.run()[0] == TAKEN and runs.counts[1] == CALLS and runs.counts[3]
