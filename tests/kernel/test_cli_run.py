# SPDX-License-Identifier: Apache-2.0
"""Runs of small tools on the running kernel: what they show, how they end, what they say when something is wrong."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import patient

pytestmark = pytest.mark.kernel

SRC = Path(__file__).resolve().parents[2] / "src"
NOBODY = 65534

EVENTS = '''\
"""Calls of getpgid."""
from osmia import Comm, Event, Ring, current, event_table, s32, tracepoint, u32
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted

class Call(Event):
    pid: u32
    comm: Comm
    about: s32

calls = Ring(Call)

@tracepoint("syscalls:sys_enter_getpgid")
def enter(call):
    if wanted():
        with calls.reserve() as e:
            e.pid, e.comm, e.about = current.tgid, current.comm, call.pid

tool = event_table(calls)
'''

HISTOGRAM = '''\
"""Arguments of getpgid."""
from osmia import histogram, log2_hist, tracepoint
from osmia.lang.filters import pid, wanted

about = log2_hist("about")

@tracepoint("syscalls:sys_enter_getpgid")
def enter(call):
    if wanted():
        about.add(call.pid)

tool = histogram(about, banner="Counting...")
'''

COUNTS = '''\
"""Calls of getpgid by argument."""
from osmia import Col, Hash, count_table, s64, tracepoint, u64
from osmia.lang.filters import pid, wanted

by_argument = Hash[s64, u64]()

@tracepoint("syscalls:sys_enter_getpgid")
def enter(call):
    if wanted():
        by_argument[call.pid] += 1

tool = count_table(by_argument, [Col("key", "ARGUMENT", 10), Col("count", "COUNT", 8)])
'''

PRINTS = '''\
"""Say so."""
from osmia import current, run, tracepoint
from osmia.lang.filters import pid, wanted

@tracepoint("syscalls:sys_enter_getpgid")
def enter(call):
    if wanted():
        print(f"{current.comm} asks about {call.pid}")

run()
'''


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SRC), "OSMIA_DEBUG": "0", **more}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "osmia.cli.main", *words]


def osmia(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), env=environment(**env), capture_output=True, text=True, timeout=patient(60),
                          check=False)  # fmt: skip


class Running:
    """A tool that is attached."""

    def __init__(self, *words: str, stdout: Any = subprocess.PIPE, **env: str) -> None:
        read, write = os.pipe()
        self.process = subprocess.Popen(
            command(*words), env=environment(OSMIA_READY_FD=str(write), **env), pass_fds=(write,),
            stdout=stdout, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        os.close(write)
        ready = os.read(read, 1)
        os.close(read)
        if not ready:
            raise AssertionError(f"not attached: {self.process.communicate()}")

    def end(self, number: int = signal.SIGINT) -> tuple[str, str, int]:
        """Send a signal; ``(stdout, stderr, status)``."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[str, str, int]:
        out, err = self.process.communicate(timeout=patient(30))
        return out or "", err, self.process.returncode


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    def write(text: str, name: str = "sample") -> str:
        file = tmp_path / f"{name}.py"
        file.write_text(text)
        return str(file)

    yield write


def call(times: int, about: int = 0) -> None:
    for _ in range(times):
        os.getpgid(about)


ME = str(os.getpid())


def test_rows_are_exactly_the_calls(make: Any) -> None:
    tool = Running("run", make(EVENTS), "-p", ME)
    call(101, 1)
    out, err, status = tool.end()
    lines = out.splitlines()
    assert lines[0].split() == ["PID", "COMM", "ABOUT"]
    assert len(lines) == 102
    assert {tuple(line.split()[::2]) for line in lines[1:]} == {(ME, "1")}
    assert (err, status) == ("", 0)


@pytest.mark.anywhere
def test_json_and_csv_have_the_same_rows(make: Any, tmp_path: Path) -> None:
    file = make(EVENTS)
    tool = Running("run", file, "-p", ME, "--json")
    call(7, 1)
    rows = [json.loads(line) for line in tool.end()[0].splitlines()]
    assert [(row["pid"], row["about"]) for row in rows] == [(os.getpid(), 1)] * 7
    assert set(rows[0]) == {"pid", "comm", "about"}
    target = tmp_path / "out.csv"
    tool = Running("run", file, "-p", ME, "--csv", "-o", str(target))
    call(7, 1)
    assert tool.end() == ("", "", 0)
    table = list(csv.reader(target.read_text().splitlines()))
    assert table[0] == ["PID", "COMM", "ABOUT"]
    assert [(row[0], row[2]) for row in table[1:]] == [(ME, "1")] * 7


@pytest.mark.anywhere
def test_the_common_timestamp_is_put_before_rows(make: Any) -> None:
    tool = Running("run", make(EVENTS), "-p", ME, "-T")
    call(3, 1)
    lines = tool.end()[0].splitlines()
    assert lines[0].split() == ["TIME", "PID", "COMM", "ABOUT"]
    assert len(lines) == 4
    assert all(re.match(r"\d\d:\d\d:\d\d +\d+ ", line) for line in lines[1:])


def test_head_ends_it(make: Any) -> None:
    """`osmia ... | head -3`: the reader goes away while rows come."""
    read, write = os.pipe()
    tool = Running("run", make(EVENTS), "-p", ME, stdout=write)
    os.close(write)
    call(10, 1)
    with os.fdopen(read) as rows:
        assert rows.readline().split() == ["PID", "COMM", "ABOUT"]
    call(10, 1)
    assert tool.wait()[1:] == ("", 0)


def test_filters(make: Any) -> None:
    file = make(EVENTS)
    for words, wanted in (
        (["--tid", ME], 5), (["--uid", "0", "-p", ME], 5), (["--uid", "nobody"], 0), (["-n", "no-such-name"], 0),
    ):  # fmt: skip
        tool = Running("run", file, *words)
        call(5)
        rows = [line for line in tool.end()[0].splitlines()[1:] if line.split()[0] == ME]
        assert len(rows) == wanted, words


def test_what_is_lost_is_counted_exactly(make: Any) -> None:
    for words in ([], ["--json"]):
        tool = Running("run", make(EVENTS), "-p", ME, "--ring-size", "4K", *words)
        os.kill(tool.process.pid, signal.SIGSTOP)
        call(500, 1)
        os.kill(tool.process.pid, signal.SIGCONT)
        out, err, status = tool.end()
        found = re.fullmatch(r"osmia: calls: (\d+) events lost: ring full \(4 KB; --ring-size makes it larger\)\n", err)
        assert found, err
        lost = int(found.group(1))
        lines = out.splitlines()
        if words:
            assert json.loads(lines[-1]) == {"lost": {"calls: ring": lost}}
        assert len(lines) - 1 + lost == 500
        assert 0 < lost < 500
        assert status == 0


def test_a_command_is_traced_from_its_first_call_to_its_last(make: Any) -> None:
    script = "import os; [os.getpgid(0) for _ in range(23)]"
    done = osmia("run", make(EVENTS), "-c", f"{sys.executable} -c '{script}'")
    assert len(done.stdout.splitlines()) == 24
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.anywhere
def test_a_command_that_does_not_exist(make: Any) -> None:
    done = osmia("run", make(EVENTS), "-c", "/no/such/program")
    assert done.stderr == "osmia: option -c: cannot run '/no/such/program': No such file or directory\n"
    assert done.returncode == 2
    done = osmia("run", make(EVENTS), "-c", "'open")
    assert done.stderr.startswith("osmia: option -c: \"'open\" cannot be split into words")


@pytest.mark.feature("B5 intervals that lose no count")
def test_intervals_add_up(make: Any) -> None:
    tool = Running("run", make(HISTOGRAM), "-p", ME, "--json", "0.2", "5")
    for _ in range(20):
        call(10, 1)
        time.sleep(0.02)
    out, err, status = tool.wait()
    records = [json.loads(line) for line in out.splitlines()]
    assert len(records) == 5
    assert all(record["unit"] == "about" for record in records)
    assert sum(h["count"] for record in records for h in record["histograms"]) == 200
    assert (err, status) == ("", 0)


@pytest.mark.feature("A12 histograms: power-of-two", "B6 histograms printed: power-of-two")
def test_a_histogram_at_the_end(make: Any) -> None:
    tool = Running("run", make(HISTOGRAM), "-p", ME, "-T")
    call(10, 1)
    call(3, os.getppid())
    out, _, _ = tool.end()
    lines = out.splitlines()
    assert lines[:2] == ["Counting...", ""]
    assert re.fullmatch(r"\d\d:\d\d:\d\d", lines[2])
    assert lines[3] == "     about               : count     distribution"
    counts = [int(line.split(":")[1].split()[0]) for line in lines[4:]]
    assert sum(counts) == 13
    assert counts[0] == 10


@pytest.mark.feature("A11 frequency counts")
def test_a_table_of_counts(make: Any) -> None:
    tool = Running("run", make(COUNTS), "-p", ME)
    call(3, 1)
    call(8, 0)
    out, _, _ = tool.end()
    assert [line.split() for line in out.splitlines()] == [[], ["ARGUMENT", "COUNT"], ["1", "3"], ["0", "8"]]


@pytest.mark.feature("B18 formatted prints")
def test_prints_and_everything_at_the_end(make: Any) -> None:
    tool = Running("run", make(PRINTS), "-p", ME)
    call(3, 1)
    assert tool.end()[0].splitlines() == [f"{Path('/proc/self/comm').read_text().strip()} asks about 1"] * 3
    bare = COUNTS.replace("tool = ", "unused = lambda: ")
    tool = Running("run", make(bare, "bare"), "-p", ME)
    call(4, 0)
    assert tool.end()[0] == "\nby_argument:\n  0  4\n"


def test_a_file_that_calls_run_is_started_by_python_too(make: Any) -> None:
    done = subprocess.run([sys.executable, make(PRINTS), "-d", "0.1"], env=environment(), capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_duration(make: Any) -> None:
    start = time.monotonic()
    done = osmia("run", make(EVENTS), "-p", ME, "-d", "0.5")
    assert done.returncode == 0
    assert 0.5 <= time.monotonic() - start < patient(5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_with_its_summary(make: Any, number: int) -> None:
    tool = Running("run", make(HISTOGRAM), "-p", ME)
    call(10, 1)
    out, err, status = tool.end(number)
    assert "0 -> 1          : 10 " in out
    assert (err, status) == ("", 0)


def test_a_closed_pipe_ends_it_quietly(make: Any) -> None:
    read, write = os.pipe()
    tool = Running("run", make(EVENTS), "-p", ME, stdout=write)
    os.close(write)
    os.close(read)  # noticed without any event
    assert tool.wait()[1:] == ("", 0)


@pytest.mark.feature("F9 nothing stays in tracefs or among the programs")
def test_nothing_stays_attached(make: Any) -> None:
    from osmia.kernel import bpf

    def programs() -> set[int]:
        found, at = set(), 0
        while at := bpf.prog_get_next_id(at):
            found.add(at)
        return found

    before = programs()
    for number in (signal.SIGINT, signal.SIGKILL):
        tool = Running("run", make(EVENTS), "-p", ME)
        assert programs() - before
        tool.end(number)
        end = time.monotonic() + 5
        while programs() - before and time.monotonic() < end:
            time.sleep(0.02)
        # Other processes of the machine may load programs meanwhile; ours are gone from every process.
        assert not holders("enter") & {tool.process.pid}
    assert not programs() - before or os.environ.get("CI") is None


def holders(name: str) -> set[int]:
    shown = subprocess.run(["bpftool", "-j", "prog", "show"], capture_output=True, text=True, check=True).stdout
    return {one["pid"] for prog in json.loads(shown) if prog.get("name") == name for one in prog.get("pids", ())}


def test_stats(make: Any) -> None:
    tool = Running("run", make(EVENTS), "-p", ME, "--stats")
    call(50)
    err = tool.end()[1]
    found = re.search(r"^  enter: ([\d,]+) runs, (\d+) ns each$", err, re.M)
    assert found, err
    assert int(found.group(1).replace(",", "")) >= 50
    assert int(found.group(2)) > 0
    assert re.search(r"^  lost: 0$", err, re.M)
    assert re.search(r"^  maps: [\d,]+ bytes of kernel memory$", err, re.M)


@pytest.mark.feature("P1 the next probe of a plan, said with -v")
def test_verbose_tells_what_was_attached(make: Any) -> None:
    file = make(EVENTS)
    cold = osmia("run", file, "-v", "-d", "0.05").stderr.splitlines()
    warm = osmia("run", file, "-v", "-d", "0.05").stderr.splitlines()
    assert cold[0] == "osmia: compiled: nothing usable in the cache"
    assert warm[0] == "osmia: compiled object taken from the cache"
    assert warm[-1].startswith("osmia: enter: attached to tracepoint:syscalls:sys_enter_getpgid (perf ")


@pytest.mark.anywhere
def test_the_cache_notices_changes(make: Any, tmp_path: Path) -> None:
    library = tmp_path / "library_of_it.py"
    library.write_text("LIMIT = 1\ndef small(n):\n    return n < LIMIT\n")
    text = EVENTS.replace("from osmia import", "from library_of_it import small\nfrom osmia import").replace(
        "if wanted():", "if wanted() and small(call.pid):"
    )
    file = make(text)

    def first_note() -> str:
        return osmia("run", file, "-v", "-d", "0.05").stderr.splitlines()[0]

    assert first_note() == "osmia: compiled: nothing usable in the cache"
    assert first_note() == "osmia: compiled object taken from the cache"
    library.write_text("LIMIT = 10\ndef small(n):\n    return n < LIMIT\n")
    assert first_note().startswith("osmia: compiled anew: changed since it was cached: ")
    make(text + "# changed\n")
    assert first_note() == (
        "osmia: compiled anew: changed since it was cached: another tool, compiler or kernel"
    )


@pytest.mark.anywhere
def test_the_ways_without_a_cache(make: Any, tmp_path: Path) -> None:
    file = make(EVENTS)

    def notes(**env: str) -> list[str]:
        done = osmia("run", file, "-v", "-d", "0.05", **env)
        assert done.returncode == 0, done.stderr
        return [line for line in done.stderr.splitlines() if "cache" in line]

    def only(reason: str) -> list[str]:
        return ["osmia: compiled: nothing usable in the cache", f"osmia: not cached: {reason}"]

    # A file where the directory should be.
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    assert notes(OSMIA_CACHE=str(blocked)) == only(f"{blocked}: File exists")
    # Somebody else's directory, and one that others may write to.
    foreign = tmp_path / "foreign"
    foreign.mkdir(mode=0o700)
    os.chown(foreign, NOBODY, NOBODY)
    assert notes(OSMIA_CACHE=str(foreign)) == only(f"{foreign} belongs to user {NOBODY}, not to 0")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    assert notes(OSMIA_CACHE=str(shared)) == only(f"{shared} is writable by others (mode 777)")
    # A damaged file is compiled over.
    good = tmp_path / "good"
    assert notes(OSMIA_CACHE=str(good)) == ["osmia: compiled: nothing usable in the cache"]
    assert notes(OSMIA_CACHE=str(good)) == ["osmia: compiled object taken from the cache"]
    (entry,) = good.glob("sample-*.spec")
    raw = bytearray(entry.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    entry.write_bytes(raw)
    assert notes(OSMIA_CACHE=str(good)) == ["osmia: compiled: nothing usable in the cache"]
    entry.write_bytes(entry.read_bytes()[:100])
    assert notes(OSMIA_CACHE=str(good)) == ["osmia: compiled: nothing usable in the cache"]
    assert notes(OSMIA_CACHE=str(good)) == ["osmia: compiled object taken from the cache"]


@pytest.mark.anywhere
def test_a_run_without_filters_is_compiled_without_them(make: Any, tmp_path: Path) -> None:
    """Whole subprograms that nothing in a run asks for are not even compiled; a run that does has its own object."""
    file = make(EVENTS)
    cache = tmp_path / "cache"

    def objects(*options: str) -> tuple[str, set[Path]]:
        before = set(cache.glob("sample-*.spec"))
        done = osmia("run", file, "-v", "-d", "0.05", *options, OSMIA_CACHE=str(cache))
        assert done.returncode == 0, done.stderr
        (note,) = [line for line in done.stderr.splitlines() if "cache" in line]
        return note, set(cache.glob("sample-*.spec")) - before

    compiled, taken = "osmia: compiled: nothing usable in the cache", "osmia: compiled object taken from the cache"
    note, (plain,) = objects()
    assert note == compiled
    note, (filtering,) = objects("-p", "1")
    assert note == compiled
    assert b"passes" in filtering.read_bytes()
    assert b"passes" not in plain.read_bytes()
    for options in ((), ("-p", "2"), ("--uid", "0"), ("-c", "true")):
        assert objects(*options) == (taken, set())


@pytest.mark.anywhere
def test_a_full_disk_and_a_read_only_home(make: Any, tmp_path: Path) -> None:
    file = make(EVENTS)
    place = tmp_path / "mnt"
    place.mkdir()
    for options, reason in (("size=4k,mode=700", "No space left on device"), ("ro,mode=700", "Read-only file system")):
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "osmia-test", str(place)], check=True)
        try:
            if options.startswith("size"):
                (place / "what-fills-it").write_bytes(bytes(4096))
            done = osmia("run", file, "-v", "-d", "0.05", OSMIA_CACHE=str(place / "cache"))
        finally:
            subprocess.run(["umount", str(place)], check=True)
        assert done.returncode == 0
        (note,) = [line for line in done.stderr.splitlines() if "not cached" in line]
        assert note.endswith(reason)


@pytest.mark.anywhere
def test_unknown_names_get_one_sentence(make: Any) -> None:
    file = make(EVENTS.replace("sys_enter_getpgid", "sys_enter_getpgidd"))
    done = osmia("run", file)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "'getpgidd'" in line
    assert "did you mean getpgid" in line
    done = osmia("run", make(EVENTS.replace("syscalls:sys_enter_getpgid", "sched:sched_swich"), "tracepoint"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "sched:sched_swich" in line
    assert "did you mean sched:sched_switch" in line
    done = osmia("run", make(EVENTS.replace("call.pid", "call.pidd"), "field"))
    assert done.returncode == 1
    assert re.search(r"field\.py:\d+:\d+: error: .*pidd", done.stderr)


def test_without_privileges(make: Any) -> None:
    code = (
        "import encodings.ascii, os, sys, pwd\n"
        "import osmia.cli.main as m, osmia.cli.session, osmia.cli.helptext, osmia.lang.filters\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "sys.exit(m.main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, "opensnoop", "-d", "1"], env=environment(),
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.stderr == (
        "osmia: tracing needs privileges: missing CAP_BPF (or CAP_SYS_ADMIN) and CAP_PERFMON (or CAP_SYS_ADMIN); "
        "run it as root (sudo osmia ...)\n"
    )
    assert done.returncode == 1
    # Root without capabilities, as in a container.
    words = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command("run", make(EVENTS), "-d", "1")]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "not permitted" in line
    assert "missing CAP_" in line


def test_a_kernel_without_btf(make: Any) -> None:
    """Tools of tracepoint fields work; others say what they lack."""
    tool = Running("run", make(EVENTS), "-p", ME, OSMIA_FEATURES_OFF="btf")
    call(11, 1)
    assert len(tool.end()[0].splitlines()) == 12
    text = 'from osmia import tp_btf\n\n@tp_btf("sched_switch")\ndef enter(preempt, before, after):\n    pass\n'
    done = osmia("run", make(text, "typed"), "-d", "1", OSMIA_FEATURES_OFF="btf")
    assert done.returncode == 1
    assert "BTF" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor() -> None:
    done = osmia("doctor")
    assert done.returncode == 0, done.stdout
    assert "Everything that most tools need is there." in done.stdout
    records = {}
    for line in osmia("doctor", "--json").stdout.splitlines():
        record = json.loads(line)
        assert set(record) == {"name", "state", "text", "fix"}
        records[record["name"]] = record
    assert records["kernel"]["text"] == f"Linux {os.uname().release} on {os.uname().machine}"
    for hook in ("tracepoint", "raw_tracepoint", "tp_btf", "perf_event", "iter"):
        assert records[f"hook {hook}"]["state"] == "ok", records[f"hook {hook}"]
    off = osmia("doctor", OSMIA_FEATURES_OFF="btf")
    assert off.returncode == 1
    assert "Missing: kernel types (BTF)" in off.stdout


@pytest.mark.anywhere
def test_compile_and_dump(make: Any, tmp_path: Path) -> None:
    target = tmp_path / "sample.o"
    assert osmia("compile", make(EVENTS), "-o", str(target)).stderr == ""
    assert target.read_bytes()[:4] == b"\x7fELF"
    for stage, sign in (("typed", "enter"), ("ir", "define "), ("asm", "exit"), ("btf", "Call")):
        done = osmia("compile", make(EVENTS), "--dump", stage)
        assert (done.returncode, done.stderr) == (0, ""), stage
        assert sign in done.stdout, stage
    done = osmia("compile", make(EVENTS), "-o", str(tmp_path / "no" / "such.o"))
    assert done.stderr == f"osmia: {tmp_path}/no/such.o: cannot write it: No such file or directory\n"
