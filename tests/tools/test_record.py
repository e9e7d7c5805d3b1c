# SPDX-License-Identifier: Apache-2.0
"""Runs that are recorded and replayed: what a replay prints is what the run has printed, to the byte."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Files, Tool, environment, eventually, loop_device, osmia, osmia_command, workload
from patience import PATIENCE, patient
from recordings import read

pytestmark = pytest.mark.kernel

COUNT, READS, SMALL = 23, 101, 37
PROGRAM = """
from osmia import Hash, PerCpuHash, current, {template}log2_hist, tracepoint, u32, u64
from osmia.lang.filters import pid

sizes = log2_hist("bytes")
calls = Hash[u32, u64]()
parts = PerCpuHash[u32, u64]()

@tracepoint("syscalls:sys_exit_read")
def leave(call):
    if current.tgid == pid and call.ret > 2000:
        sizes.add(call.ret)
        calls[current.tgid] += 1
        parts[call.ret] += 1
        {more}

{end}
"""


def apart(*words: str) -> Any:
    """A case that says of every kernel what another one says."""
    return pytest.param(words, marks=pytest.mark.anywhere)


@pytest.fixture
def files() -> Iterator[Files]:
    with Files() as made:
        yield made


def program(tmp_path: Path, end: str = "", *, template: str = "", more: str = "pass") -> str:
    path = tmp_path / "reads.py"
    path.write_text(PROGRAM.format(end=end, template=template, more=more))
    return str(path)


def replayed(path: Path, *words: str) -> str:
    done = osmia("replay", str(path), *words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def work() -> None:
    """Reads of two sizes, in two bursts with more than an interval between them."""
    fd = os.open("/dev/zero", os.O_RDONLY)
    for size, count in ((4096, READS), (16384, SMALL)):
        for _ in range(count):
            os.read(fd, size)
        time.sleep(0.5)
    os.close(fd)


def same(path: Path, tool: Tool, *words: str) -> str:
    """What was shown, which is what is replayed (by its own form, and by that of ``words``)."""
    assert tool.status == 0, tool.stderr
    assert replayed(path, *words) == tool.stdout
    return tool.stdout


@pytest.mark.parametrize("words", [(), apart("-T", "-e"), apart("--json"), apart("--csv", "-U")])
def test_every_open_is_replayed_as_it_was_shown(words: tuple[str, ...], files: Files, tmp_path: Path) -> None:
    path = tmp_path / "opens.rec"
    with Tool("record", "--show", "opensnoop", *words, "-p", str(files.pid), "-o", str(path)) as tool:
        for number in range(COUNT):
            files.openat(f"{tmp_path}/missing-{number:02}")
        tool.stop()
    text = same(path, tool)
    assert len(re.findall(r"missing-\d\d", text)) == COUNT
    blocks = len(read(path.read_bytes())[1]) + 2
    assert tool.stderr == f"osmia: {path}: {blocks} blocks, {path.stat().st_size:,} bytes\n"
    # The same events in the other forms.
    names = [f"{tmp_path}/missing-{number:02}" for number in range(COUNT)]
    assert [line.split()[-1] for line in replayed(path, "--no-json", "--no-csv").splitlines()[1:]] == names
    assert [json.loads(line)["path"] for line in replayed(path, "--json").splitlines()] == names
    assert [row["PATH"] for row in csv.DictReader(io.StringIO(replayed(path, "--csv")))] == names


def test_what_is_recorded_is_what_is_shown_beside_it(files: Files, tmp_path: Path) -> None:
    """An ordinary run and a recording, of the same opens: their outputs do not differ."""
    path = tmp_path / "opens.rec"
    with Tool("opensnoop", "-p", str(files.pid)) as live, \
            Tool("record", "opensnoop", "-p", str(files.pid), "-o", str(path)) as tool:  # fmt: skip
        for number in range(COUNT):
            files.openat(f"{tmp_path}/missing-{number:02}")
        live.stop()
        tool.stop()
    assert tool.stdout == ""
    assert replayed(path) == live.stdout
    assert len(live.rows()) == COUNT


def test_arguments_of_programs_and_times_since_the_start(tmp_path: Path) -> None:
    path = tmp_path / "execs.rec"
    true = shutil.which("true") or "/bin/true"
    with Tool("record", "--show", "execsnoop", "-t", "-P", str(os.getpid()), "-o", str(path)) as tool:
        for number in range(COUNT):
            subprocess.run([true, f"--number={number}", "a b"], check=True)
        tool.stop()
    text = same(path, tool)
    assert re.findall(r"--number=(\d+) a b", text) == [str(n) for n in range(COUNT)]
    assert '"a b"' in replayed(path, "-q")
    assert replayed(path, "-l", "number=7").count("--number=") == 1  # what is filtered in Python can be changed


@pytest.mark.anywhere
def test_a_program_without_capabilities_replays(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "opens.rec"
    with Tool("record", "--show", "opensnoop", "-p", str(files.pid), "-o", str(path)) as tool:
        files.openat(f"{tmp_path}/missing")
        tool.stop()
    drop = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--no-new-privs"]
    command = [*drop, *osmia_command("replay", str(path))]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=patient(60), check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, tool.stdout, "")


@pytest.mark.parametrize("words", [(), apart("--json"), apart("--csv"), apart("-T")])
def test_intervals_add_up_to_what_was_shown(words: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "reads.rec"
    file = program(tmp_path, "tool = histogram(sizes)", template="histogram, ")
    with Tool("record", "--show", file, "-p", str(os.getpid()), *words, "-o", str(path), "0.2") as tool:
        work()
        tool.stop()
    same(path, tool)
    counted = [sum(one["count"] for one in json.loads(line)["histograms"]) for line in
               replayed(path, "--no-csv", "--json").splitlines()]  # fmt: skip
    assert sum(counted) == READS + SMALL and len([n for n in counted if n]) == 2
    whole = [json.loads(line) for line in replayed(path, "--no-csv", "--json", "1000").splitlines()]
    assert [one["count"] for one in whole[0]["histograms"]] == [READS + SMALL]
    assert len(whole) == 1
    picture = tmp_path / "x.svg"
    replayed(path, "--no-csv", "--no-json", "--svg", str(picture))
    cells = re.findall(r"bytes: ([\d,]+), ", picture.read_text())
    assert sum(int(n.replace(",", "")) for n in cells) == READS + SMALL


@pytest.mark.anywhere
def test_a_run_without_intervals_can_be_drawn_over_time(tmp_path: Path) -> None:
    path = tmp_path / "reads.rec"
    file = program(tmp_path, "tool = histogram(sizes)", template="histogram, ")
    with Tool("record", "--show", file, "-p", str(os.getpid()), "-o", str(path)) as tool:
        work()
        time.sleep(1.2)
        work()
        tool.stop()
    assert same(path, tool).count("distribution") == 1
    picture = tmp_path / "x.html"
    replayed(path, "--html", str(picture))
    assert len({*re.findall(r"([\d:]{8}) to [\d:]{8}, 4096", picture.read_text())}) == 2


@pytest.mark.anywhere
def test_disks_have_their_names_elsewhere(tmp_path: Path) -> None:
    """Labels are recorded: the replay need not find the disk."""
    path = tmp_path / "disks.rec"
    with loop_device() as disk, Tool("record", "--show", "biolatency", "-D", "-o", str(path), "0.5") as tool:
        block = os.open(f"/dev/{disk}", os.O_WRONLY | os.O_DSYNC)
        for number in range(COUNT):
            os.pwrite(block, b"x" * 4096, 4096 * number)
        os.close(block)
        time.sleep(0.6)
        tool.stop()
    text = same(path, tool)
    assert f"disk = {disk}\n" in text
    found = [one["count"] for line in replayed(path, "--json").splitlines() for one in json.loads(line)["histograms"]
             if one["label"] == disk]  # fmt: skip
    assert sum(found) >= COUNT
    assert f"disk = {disk}\n" in replayed(path, "--json", "--no-json", "1000")


def test_waits_of_a_process_by_intervals(tmp_path: Path) -> None:
    path = tmp_path / "waits.rec"
    script = "read line; for i in 1 2 3 4 5 6 7 8; do sleep 0.2; done"
    process = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE)
    words = ("runqlat", "-P", "-p", str(process.pid), "-o", str(path), "0.5")
    with Tool("record", "--show", *words) as tool:
        process.communicate(b"\n")
        tool.stop()
    same(path, tool)
    shown = sum(int(n) for n in re.findall(r" : (\d+) +\|", tool.stdout))
    again = sum(one["count"] for line in replayed(path, "--json", "1000").splitlines()
                for one in json.loads(line)["histograms"])  # fmt: skip
    assert shown == again > 0


@pytest.mark.parametrize("words", [(), apart("--json")])
def test_counts_are_replayed(words: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "counts.rec"
    columns = '[Col("key", "SIZE", 8, align="<"), Col("count", "READS")]'
    file = program(tmp_path, f"tool = count_table(parts, {columns})", template="Col, count_table, ")
    with Tool("record", "--show", file, "-p", str(os.getpid()), *words, "-o", str(path), "0.2") as tool:
        work()
        tool.stop()
    same(path, tool)
    text = replayed(path, "--no-json", "1000")  # the whole run at once
    assert re.findall(r"^(\d+) +(\d+)$", text, re.M) == [("16384", str(SMALL)), ("4096", str(READS))]
    assert "SIZE" in text and "READS" in text


@pytest.mark.parametrize("words", [(), apart("--json")])
def test_a_run_of_a_given_length_has_one_summary(words: tuple[str, ...], tmp_path: Path) -> None:
    """Also where the length is a multiple of the snapshots' time."""
    path = tmp_path / "length.rec"
    columns = '[Col("key", "SIZE", 8, align="<"), Col("count", "READS")]'
    file = program(tmp_path, f"tool = count_table(parts, {columns})", template="Col, count_table, ")
    with Tool("record", "--show", file, "-p", str(os.getpid()), *words, "-o", str(path), "--duration", "2") as tool:
        work()
        tool.wait()
    same(path, tool)
    text = replayed(path, "--no-json")
    assert re.findall(r"^(\d+) +(\d+)$", text, re.M) == [("16384", str(SMALL)), ("4096", str(READS))]


def test_a_file_without_a_template_and_its_prints(tmp_path: Path) -> None:
    path = tmp_path / "all.rec"
    file = program(tmp_path, more='print(f"{current.comm}: {call.ret}")')
    with Tool("record", "--show", file, "-p", str(os.getpid()), "-o", str(path)) as tool:
        work()
        tool.stop()
    text = same(path, tool)
    assert text.count(": 4096\n") == READS and text.count(": 16384\n") == SMALL
    assert "sizes:\n" in text and "parts:\n" in text and "calls:\n" in text
    assert re.search(rf"  {os.getpid()}\s+{READS + SMALL}\n", text)


@pytest.mark.anywhere
def test_a_recording_that_is_killed_is_readable_up_to_there(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "killed.rec"
    tool = Tool("record", "opensnoop", "-p", str(files.pid), "-o", str(path)).start()
    for number in range(COUNT):
        files.openat(f"{tmp_path}/missing-{number:02}")

    def rows() -> str:
        return osmia("replay", str(path)).stdout

    assert eventually(lambda: rows().count("missing-") == COUNT), rows()
    assert tool.process is not None
    tool.process.kill()
    tool.process.wait()
    done = osmia("replay", str(path))
    assert done.returncode == 0
    assert done.stdout.count("missing-") == COUNT
    told = rf"osmia: {re.escape(str(path))}: the recording was cut: it ends after [\d.]+ s without its last block\n"
    assert re.fullmatch(told, done.stderr)


@pytest.mark.anywhere
def test_a_full_disk_ends_it_and_says_so(files: Files, tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "osmia-test", str(place)], check=True)
    try:
        path = place / "x.rec"
        tool = Tool("record", "--no-compress", "opensnoop", "-p", str(files.pid), "-o", str(path)).start()
        for number in range(400):
            files.openat(f"{tmp_path}/missing-{number:03}")
        tool.wait()
        assert tool.status == 1
        assert "cannot write: No space left on device" in tool.stderr
        done = osmia("replay", str(path))
        shown = re.findall(r"missing-(\d+)", done.stdout)
        assert shown == [f"{n:03}" for n in range(len(shown))] and "was cut" in done.stderr
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_storm_is_recorded_without_a_loss_of_its_own(tmp_path: Path) -> None:
    """100,000 opens a second: each is in the recording, or was counted as lost because the ring was full."""
    path = tmp_path / "storm.rec"
    process = subprocess.Popen(
        [workload("storm"), "2", "100000", "/x", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with Tool("record", "opensnoop", "-p", str(process.pid), "-o", str(path)) as tool:
        made = int(process.communicate("\n", timeout=patient(60))[0])
        tool.stop()
    assert read(path.read_bytes())[0].whole
    done = osmia("replay", str(path), "--json")
    rows, lost, skipped = done.stdout.count('"path":"/x"'), 0, 0
    for what, count in json.loads(done.stdout.splitlines()[-1]).get("lost", {}).items():
        lost += count if what.endswith(": ring") else 0
        skipped += count if what.endswith(": skipped") else 0
    assert made > 10_000 or PATIENCE > 1, "the storm was too slow to mean anything"
    assert 0 <= made - rows - lost <= skipped, f"{made} opens, {rows} rows, {lost} lost"
    assert done.stderr.count("lost") == tool.stderr.count("events lost")


STRUCTURES = """
from osmia import *

me = option("-p", "--pid", type=int, help="pid")

class Place(Event):
    fd: u64
    comm: Comm

class Sum(Event):
    calls: u64
    bytes: u64

sums = Hash[Place, Sum]()
sizes = log2_hist("bytes", key=Place)

@tracepoint("syscalls:sys_enter_read")
def enter(call):
    if current.tgid == me and call.count > 2000:
        key = Place(fd=call.fd, comm=current.comm)
        sums[key].calls += 1
        sums[key].bytes += call.count
        sizes[key].add(call.count)

tool = histogram(sizes)
"""
PRINTK = """
from osmia import *

me = option("-p", "--pid", type=int, help="pid")

@tracepoint("syscalls:sys_exit_read")
def leave(call):
    if current.tgid == me and call.ret > 2000:
        trace_printk(f"osmia-read {call.ret}")
"""


def read_by(count: int) -> None:
    """Reads through as many descriptors."""
    fds = [os.open("/dev/zero", os.O_RDONLY) for _ in range(count)]
    for fd in reversed(fds):
        os.read(fd, 4096)
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("words", [
    ("runqlen", "-C"), apart("runqlen", "-C", "--json"), apart("runqlen", "-O"), ("cpudist", "-P"),
    apart("syscount"), ("syscount", "-L"), apart("syscount", "-P", "--json"), apart("syscount", "-L", "--csv"),
    ("hardirqs",), ("softirqs", "-d"), ("pidpersec",), ("exitsnoop",), ("runqslower", "1"), ("cpuwalk",),
    apart("funcinterval", "t:sched:sched_switch"),
])  # fmt: skip
def test_tools_of_every_template(words: tuple[str, ...], tmp_path: Path) -> None:
    """Histograms by CPU, texts in place of tables, counts with other numbers, intervals of the tool's own."""
    path = tmp_path / "x.rec"
    more = () if words[0] in ("pidpersec", "exitsnoop", "runqslower") else ("0.5",)
    with Tool("record", "--show", *words, "-o", str(path), *more) as tool:
        for _ in range(3):
            subprocess.run(["true"], check=True)
            time.sleep(0.5)
        tool.stop()
    assert same(path, tool)


@pytest.mark.parametrize(("end", "one"), [
    ("tool = histogram(sizes)", r"^sizes = \d+ "),
    ("tool = count_table(sums, [Col('fd'), Col('bytes')])", r"^ +\d+ +(4096|8192)$"),
    ("", r"^(  \d+ [\w.-]+ +\d \d+|sizes = \d+ .*)$"),
])  # fmt: skip
def test_keys_and_values_that_are_structures(end: str, one: str, tmp_path: Path) -> None:
    """In one order, which is not that of the kernel's table."""
    file, path = tmp_path / "x.py", tmp_path / "x.rec"
    file.write_text(STRUCTURES.replace("tool = histogram(sizes)", end))
    with Tool("record", "--show", str(file), "-p", str(os.getpid()), "-o", str(path)) as tool:
        read_by(3)
        time.sleep(1.2)
        read_by(COUNT)
        tool.stop()
    text = same(path, tool)
    assert len(re.findall(one, text, re.M)) == COUNT * (1 if end else 2)


@pytest.mark.parametrize("words", [(), apart("--json")])
def test_lines_of_the_trace_pipe(words: tuple[str, ...], tmp_path: Path) -> None:
    file, path = tmp_path / "x.py", tmp_path / "x.rec"
    file.write_text(PRINTK)
    with Tool("record", "--show", str(file), "-p", str(os.getpid()), *words, "-o", str(path)) as tool:
        read_by(5)
        time.sleep(0.5)
        tool.stop()
    assert same(path, tool).count("osmia-read 4096") == 5


def test_what_an_iterator_writes(tmp_path: Path) -> None:
    path = tmp_path / "x.rec"
    example = Path(__file__).resolve().parents[2] / "examples" / "tasks.py"
    with Tool("record", "--show", str(example), "-o", str(path)) as tool:
        tool.wait()
    assert re.search(rf"\b{os.getpid()}\b", same(path, tool))


@pytest.mark.anywhere
def test_the_reader_of_what_is_shown_goes_away(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "x.rec"
    ours, theirs = os.pipe()
    tool = Tool("record", "--show", "opensnoop", "-p", str(files.pid), "-o", str(path), stdout=theirs).start()
    os.close(theirs)
    files.openat(f"{tmp_path}/missing")
    assert b"COMM" in os.read(ours, 4096)
    os.close(ours)
    tool.wait()
    assert tool.status == 0 and read(path.read_bytes())[0].whole


@pytest.mark.anywhere
def test_a_run_that_costs_too_much_is_recorded_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "x.rec"
    tool = Tool("record", "opensnoop", "--max-overhead", "0.0001", "-o", str(path)).start()
    tool.wait()
    assert tool.status == 3 and "--max-overhead" in tool.stderr
    assert read(path.read_bytes())[0].whole


@pytest.mark.anywhere
def test_through_a_pipe(files: Files, tmp_path: Path) -> None:
    tool = Tool("record", "opensnoop", "-p", str(files.pid), "-o", "-")
    with tool:
        files.openat(f"{tmp_path}/missing")
        tool.stop()
    tool.out.seek(0)
    data = tool.out.read()
    done = subprocess.run(osmia_command("replay", "-"), env=environment(), input=data, capture_output=True,
                          timeout=patient(60), check=False)  # fmt: skip
    assert done.returncode == 0 and done.stdout.count(b"missing") == 1


@pytest.mark.anywhere
def test_a_failed_start_leaves_an_older_recording_alone(tmp_path: Path) -> None:
    path = tmp_path / "old.rec"
    path.write_bytes(b"precious")
    done = osmia("record", "opensnoop", "--btf", "/nonexistent", "-o", str(path))
    assert done.returncode == 1 and path.read_bytes() == b"precious"


@pytest.mark.anywhere
def test_cost_and_stats_are_in_it(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "cost.rec"
    with Tool("record", "opensnoop", "--stats", "-p", str(files.pid), "-o", str(path)) as tool:
        files.openat(f"{tmp_path}/missing")
        tool.stop()
    _, blocks = read(path.read_bytes())
    cost = next(block.json() for block in blocks if block.kind == 6)
    assert cost["own_cpu_ns"] > 0 and cost["stats"]["cost"]["seconds"] > 0
    done = osmia("replay", str(path))
    assert "cost of " in done.stderr and "this process:" in done.stderr
