# SPDX-License-Identifier: Apache-2.0
"""profile against a program that spends 60, 30 and 10 percent of its time in three functions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from harness import Tool, osmia, prebuilt, workload
from needs import only_on

pytestmark = pytest.mark.kernel

SHARES = {"most": 60.0, "some": 30.0, "few": 10.0}
ROUNDS, FEW = 300, 100  # some seconds of a CPU's time, and less
HERTZ = "499"


class Burn:
    """The workload; ``rounds()`` returns when it has computed."""

    def __init__(self, program: Path, rounds: int = ROUNDS, prefix: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [*prefix, str(program), str(rounds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.pid = str(self.process.pid)

    def compute(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline()

    def end(self) -> None:
        if self.process.poll() is None:
            assert self.process.stdin
            self.process.stdin.close()
            self.process.wait()

    def __enter__(self) -> Burn:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.end()
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture(scope="module")
def burn() -> Path:
    """The program with frame pointers."""
    return Path(workload("burn"))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """The one without."""
    return Path(shutil.copy(prebuilt.burn("plain"), tmp_path / "burn"))


def samples(tool: Tool, pid: str) -> list[dict[str, Any]]:
    """The rows of process ``pid``."""
    return [row for row in tool.records() if row.get("pid") == int(pid)]


def check_shares(rows: list[dict[str, Any]]) -> int:
    """Each function has its share, to within three points and what chance does to so many samples."""
    found: Counter[str] = Counter()
    for row in rows:
        if row["user"]:  # there is none any more when a process ends
            found[row["user"][0]["name"]] += row["count"]
    total = sum(found.values())
    assert total > 100, found
    for name, percent in SHARES.items():
        chance = 300 * (percent / 100 * (1 - percent / 100) / total) ** 0.5
        assert abs(100 * found[name] / total - percent) <= 3 + chance, found
    return total


@pytest.mark.parametrize("kind", ["frame pointers", "none", "debug file"])
def test_shares_under_the_right_names(kind: str, tmp_path: Path, burn: Path) -> None:
    """Also when the program has ended, and is deleted, before the report."""
    program = tmp_path / "burn"
    which = {"frame pointers": burn, "none": prebuilt.burn("plain"), "debug file": prebuilt.burn("stripped")}[kind]
    shutil.copy(which, program)
    if kind == "debug file":
        shutil.copy(f"{which}.debug", tmp_path)
    with Burn(program) as work:
        tool = Tool("profile", "-F", HERTZ, "-U", "--json", "-p", work.pid).start()
        work.compute()
        work.end()
        program.unlink()
        tool.stop()
    assert tool.status == 0, tool.stderr
    rows = samples(tool, work.pid)
    total = check_shares(rows)
    assert all(row["comm"] == "burn" and row["kernel"] == [] for row in rows)
    if kind == "frame pointers":
        through = [row for row in rows if [frame["name"] for frame in row["user"][1:3]] == ["work", "main"]]
        whole = sum(row["count"] for row in through)
        # The others are in the instruction or two that make a frame, or in the C library, which makes none.
        assert whole >= 0.95 * total, rows
        assert not any(row["cut"] for row in through)


@pytest.mark.parametrize("where", ["chroot", "mount namespace"])
def test_a_program_whose_files_are_elsewhere(where: str, tmp_path: Path, burn: Path) -> None:
    """Its path means nothing out here, or another file; also when it has ended before the report."""
    inside = tmp_path / "root"
    inside.mkdir()
    if where == "chroot":
        shutil.copy(burn, inside / "burn")
        program, prefix = Path("/burn"), ["chroot", str(inside)]
    else:
        script = f"mount -t tmpfs none {inside} && cp {burn} {inside}/burn && exec {inside}/burn $1"
        program, prefix = Path("burn"), ["unshare", "-m", "sh", "-c", script]
        (inside / "burn").write_text("another file")
    with Burn(program, prefix=prefix) as work:
        tool = Tool("profile", "-F", HERTZ, "-U", "--json", "-p", work.pid).start()
        work.compute()
        work.end()
        tool.stop()
    assert tool.status == 0, tool.stderr
    rows = [row for row in samples(tool, work.pid) if row["comm"] == "burn"]
    check_shares(rows)
    chains = {tuple(frame["name"] for frame in row["user"][:3]) for row in rows}
    assert {(name, "work", "main") for name in SHARES} <= chains


def test_several_processes_and_threads(burn: Path) -> None:
    """-p and -L take lists, as bcc's; a process is given by no number of its threads."""
    with Burn(burn, 60) as one, Burn(burn, 60) as two, Burn(burn, 60) as three:
        both = Tool("profile", "-F", HERTZ, "--json", "-p", f"{one.pid},{two.pid}").start()
        threads = Tool("profile", "-F", HERTZ, "-f", "-L", f"{two.pid},{three.pid}", "--annotations").start()
        neither = Tool("profile", "-F", HERTZ, "--json", "-p", one.pid, "-L", f"{two.pid},{three.pid}").start()
        text = Tool("profile", "-p", f"{one.pid},{two.pid}", "-L", two.pid).start()
        for work in (one, two, three):
            work.compute()
        for tool in (both, threads, neither, text):
            tool.stop()
            assert tool.status == 0, tool.stderr
    assert {row["pid"] for row in both.records() if "pid" in row} == {int(one.pid), int(two.pid)}
    assert all(line.startswith("burn;") for line in threads.stdout.splitlines()) and threads.stdout
    assert not [row for row in neither.records() if "pid" in row]
    assert text.stdout.startswith(f"Sampling at 49 Hertz of PID {one.pid}, {two.pid} by user + kernel stack...")
    assert f"burn ({two.pid})" in text.stdout and f"burn ({one.pid})" not in text.stdout


@only_on("x86_64", "stacks are unwound there only")
@pytest.mark.parametrize("off", ["", "core_relo,bpf_link,batch,ringbuf"], ids=["new", "as before 5.8"])
def test_whole_stacks_without_frame_pointers(plain: Path, off: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one is cut, and all lead to where the process began."""
    monkeypatch.setenv("OSMIA_FEATURES_OFF", off)
    with Burn(plain) as work:
        tool = Tool("profile", "-F", HERTZ, "-U", "--json", "--dwarf", "-p", work.pid).start()
        work.compute()
        tool.stop()  # before it ends, when it has no stack any more
    rows = samples(tool, work.pid)
    total = check_shares(rows)
    chains = Counter[tuple[str, ...]]()
    for row in rows:
        names = [frame["name"] for frame in row["user"]]
        assert names[-1] == "_start" and row["cut"] == [] and row["comm"] == "burn"
        chains[tuple(names[1:3])] += row["count"]
    assert chains["work", "main"] >= 0.99 * total, chains


def test_two_programs_of_one_process(burn: Path) -> None:
    """What ran before exec() has its own names, although the process is another program by the time of the report."""
    script = (
        "import os, sys, time\nend = time.time() + 1\nwhile time.time() < end: os.getppid()\n"
        "os.execv(*eval(sys.argv[1]))"
    )
    tool = Tool("profile", "-F", HERTZ, "--json").start()
    words = repr((str(burn), ["burn", str(FEW)]))
    process = subprocess.Popen([sys.executable, "-c", script, words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.communicate(b"\n")
    tool.stop()
    rows = samples(tool, str(process.pid))
    names: dict[str, set[str]] = {}
    for row in rows:
        names.setdefault(row["comm"], set()).update(frame["label"] for frame in row["user"])
    after = names.pop("burn")
    assert {"most", "work", "main"} <= after and not any("Py" in name for name in after)
    before = set().union(*names.values())
    assert any("Py" in name or "python" in name for name in before) and not {"most", "work"} & before


def test_text_as_bcc_prints_it(burn: Path) -> None:
    with Burn(burn, FEW) as work:
        tool = Tool("profile", "-F", HERTZ, "-U", "-p", work.pid).start()
        work.compute()
        tool.stop()
    lines = tool.stdout.split("\n")
    assert lines[0] == f"Sampling at {HERTZ} Hertz of PID {work.pid} by user stack... Hit Ctrl-C to end."
    blocks = [block.split("\n") for block in "\n".join(lines[1:]).strip("\n").split("\n\n")]
    assert [int(block[-1]) for block in blocks] == sorted(int(block[-1]) for block in blocks)
    assert all(block[-2] == f"    -                burn ({work.pid})" for block in blocks)
    assert blocks[-1][:3] == ["    most", "    work", "    main"]


def test_folded_lines(burn: Path) -> None:
    with Burn(burn, FEW) as work:
        tool = Tool("profile", "-F", HERTZ, "-f", "-a", "-d", "-p", work.pid, "--stack-storage-size", "1000").start()
        work.compute()
        tool.stop()
    counts = {stack: int(n) for stack, _, n in (line.rpartition(" ") for line in tool.stdout.splitlines())}
    (most,) = [stack for stack in counts if stack.endswith(";main;work;most")]
    assert most.startswith("burn;") and counts[most] == max(counts.values())
    for stack in counts:
        user, between, kernel = stack.partition(";-;")
        assert "_[k]" not in user.partition(";")[2]
        assert not between or all(name.endswith("_[k]") for name in kernel.split(";"))


def test_the_kernel_alone() -> None:
    """A program that reads, and whose own functions are not asked for."""
    script = "import os; f = os.open('/dev/zero', 0); any(not os.read(f, 1 << 22) for _ in range(400))"
    tool = Tool("profile", "-K", "--json", "-F", HERTZ).start()
    process = subprocess.Popen([sys.executable, "-S", "-E", "-c", script])
    process.wait()
    tool.stop()
    rows = samples(tool, str(process.pid))
    names = {frame["name"] for row in rows for frame in row["kernel"]}
    assert "ksys_read" in names or "vfs_read" in names, names
    assert all(row["user"] == [] for row in rows)
    # While it reads: when it was started, profile's own program noted what it runs, which takes time like all else.
    reading = [row["kernel"] for row in rows if {"ksys_read", "vfs_read"} & {frame["name"] for frame in row["kernel"]}]
    assert not any(frame["name"].startswith("bpf_") for stack in reading for frame in stack)


def test_one_cpu_only(burn: Path) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.fail("two CPUs are needed")
    with Burn(burn, FEW) as work:
        os.sched_setaffinity(int(work.pid), {cpus[0]})
        here = Tool("profile", "-F", HERTZ, "--json", "-p", work.pid, "-C", str(cpus[0])).start()
        there = Tool("profile", "-F", HERTZ, "--json", "-p", work.pid, "-C", str(cpus[1])).start()
        work.compute()
        here.stop()
        there.stop()
    assert sum(row["count"] for row in samples(here, work.pid)) > 10
    assert samples(there, work.pid) == []


def test_stacks_that_find_no_room(burn: Path) -> None:
    """They are counted without frames, and how many that are is said."""
    with Burn(burn, FEW) as work:
        tool = Tool("profile", "-F", HERTZ, "--json", "-p", work.pid, "--stack-storage-size", "1").start()
        work.compute()
        tool.stop()
    *rows, last = tool.records()
    (lost,) = [n for what, n in last["lost"].items() if what == "stacks: places"]
    assert sum(row["count"] for row in rows if not row["user"]) > 0
    assert lost >= sum(row["count"] for row in rows if not row["user"] and not row["kernel"])
    assert f"osmia: stacks: {lost:,} stacks lost: there is room for 1 different ones" in tool.stderr


def test_by_period(burn: Path) -> None:
    with Burn(burn, FEW) as work:
        tool = Tool("profile", "-c", "2000000", "--csv", "-U", "-p", work.pid).start()
        work.compute()
        tool.stop()
    head, *rows = tool.stdout.splitlines()
    assert head == "count,pid,comm,stack"
    cells = [row.split(",", 3) for row in rows]
    assert {(pid, comm) for _, pid, comm, _ in cells} == {(work.pid, "burn")}
    assert any(stack.endswith(";work;most") for *_, stack in cells)


def test_pictures(burn: Path, tmp_path: Path) -> None:
    svg, page = tmp_path / "burn.svg", tmp_path / "burn.html"
    with Burn(burn, FEW) as work:
        tool = Tool("profile", "-F", HERTZ, "-p", work.pid, "--svg", str(svg), "--html", str(page)).start()
        work.compute()
        tool.stop()
    for made in (svg, page):
        text = made.read_text(encoding="utf-8")
        assert all(name in text for name in ("profile", "work", "most", "samples"))


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-U", "-K"], "-U and -K exclude each other"),
        (["-F", "99", "-c", "5"], "-F and -c exclude each other"),
        (["-F", "0"], "'0' is not a whole number from 1"),
        (["3", "--duration", "3"], "the duration is there twice"),
        (["--dwarf"], "--dwarf is for user stacks of chosen processes"),
        (["--cgroupmap", "/x"], "use --cgroup PATH"),
        (["-p", f"{os.getpid()},x"], "'x' is no process id"),
        (["-L", "1,,2"], "'' is no thread id"),
    ],
)
def test_what_does_not_go_together(words: list[str], says: str) -> None:
    done = osmia("profile", *words)
    assert done.returncode and says in done.stderr
