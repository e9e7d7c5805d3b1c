# SPDX-License-Identifier: Apache-2.0
"""opensnoop against workloads that open a known number of named files."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Files, Tool, osmia, workload
from patience import PATIENCE, patient

pytestmark = pytest.mark.kernel

COUNT = 23
FAILURES = [
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT,
]  # fmt: skip


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    out = []
    for number in range(COUNT):
        file = tmp_path / f"file-{number:02}"
        file.touch()
        out.append(str(file))
    return out


@pytest.fixture
def files() -> Iterator[Files]:
    with Files() as workload:
        yield workload


def open_all(files: Files, names: list[str]) -> list[tuple[str, int, int]]:
    """Open and close each; ``(path, fd, errno)`` as the kernel answered."""
    out = []
    for name in names:
        fd, error = files.openat(name)
        out.append((name, fd, error))
        if fd >= 0:
            files.close(fd)
    return out


def fail(files: Files, tmp_path: Path) -> list[tuple[str, int, int]]:
    """Seven opens that fail, each in another way; the paths as they are to be shown."""
    (tmp_path / "plain").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    plain, long = f"{tmp_path}/plain", f"{tmp_path}/{'n' * 300}"
    made = [
        (f"{tmp_path}/missing", files.openat(f"{tmp_path}/missing")),
        (f"{plain}/below", files.openat(f"{plain}/below")),
        (str(tmp_path), files.openat(str(tmp_path), os.O_WRONLY)),
        (plain, files.openat(plain, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)),
        (f"{tmp_path}/loop", files.openat(f"{tmp_path}/loop")),
        (long, files.openat(long)),
        ("", files.openat("")),
    ]
    return [(path, fd, error) for path, (fd, error) in made]


def rows_of(tool: Tool, pid: int) -> list[list[str]]:
    """Rows of ``pid`` in text output: PID COMM FD ERR PATH."""
    return [words for words in (row.split(None, 4) for row in tool.rows()) if words[0] == str(pid)]


def as_columns(pid: int, comm: str, opens: list[tuple[str, int, int]]) -> list[list[str]]:
    return [[str(pid), comm, str(fd), str(error), path] for path, fd, error in opens]


@pytest.mark.feature("B13 tools", "B4 events as typed objects")
def test_every_open_is_one_row(files: Files, names: list[str]) -> None:
    with Tool("opensnoop") as tool:
        opens = open_all(files, names)
    assert len(opens) == COUNT and all(fd >= 0 for _, fd, _ in opens)
    assert rows_of(tool, files.pid) == as_columns(files.pid, "files", opens)
    assert tool.stdout.splitlines()[0].split() == ["PID", "COMM", "FD", "ERR", "PATH"]
    assert tool.status == 0


def test_rows_are_laid_out_as_in_bcc(files: Files, names: list[str]) -> None:
    with Tool("opensnoop", "-p", str(files.pid)) as tool:
        fd, _ = files.openat(names[0])
    assert tool.stdout == (
        f"{'PID':<6} {'COMM':<16} {'FD':>4} {'ERR':>3} PATH\n{files.pid:<6} {'files':<16} {fd:4} {0:3} {names[0]}\n"
    )


@pytest.mark.feature("A6 filters in the kernel")
def test_pid_shows_that_process_only(files: Files, names: list[str]) -> None:
    with Files() as other, Tool("opensnoop", "-p", str(files.pid)) as tool:
        opens = open_all(files, names)
        assert len(open_all(other, names)) == COUNT
    assert [row.split(None, 4) for row in tool.rows()] == as_columns(files.pid, "files", opens)


def test_tid_shows_that_thread(files: Files, names: list[str]) -> None:
    with Tool("opensnoop", "-t", str(files.pid)) as tool:
        opens = open_all(files, names)
    assert tool.stdout.split()[0] == "TID"
    assert [row.split(None, 4) for row in tool.rows()] == as_columns(files.pid, "files", opens)


def test_failed_shows_failures_only(files: Files, names: list[str], tmp_path: Path) -> None:
    with Tool("opensnoop", "-x", "-p", str(files.pid)) as tool:
        open_all(files, names)
        failures = fail(files, tmp_path)
    assert [error for _, _, error in failures] == FAILURES
    assert {fd for _, fd, _ in failures} == {-1}
    assert [row.split(None, 4) for row in tool.rows()][:6] == as_columns(files.pid, "files", failures)[:6]
    # The seventh is the empty name: an empty column.
    assert [row.split() for row in tool.rows()][6] == [str(files.pid), "files", "-1", str(errno.ENOENT)]
    assert len(tool.rows()) == 7


def test_name_matches_a_part_of_the_command(names: list[str]) -> None:
    with Files("tell-me-apart") as named, Files() as other, Tool("opensnoop", "-n", "me-ap") as tool:
        opens = open_all(named, names)
        open_all(other, names)
    assert [row.split(None, 4) for row in tool.rows()] == as_columns(named.pid, "tell-me-apart", opens)


def test_json_has_one_record_per_open(files: Files, names: list[str]) -> None:
    with Tool("opensnoop", "--json", "-p", str(files.pid)) as tool:
        opens = open_all(files, names)
    records = [r for r in tool.records() if "lost" not in r]
    assert [(r["path"], r["fd"], r["err"]) for r in records] == opens
    fields = {"ts", "pid", "tid", "uid", "comm", "fd", "err", "flags", "mode", "path"}
    assert {frozenset(r) for r in records} == {frozenset(fields)}
    who = {(r["pid"], r["tid"], r["uid"], r["comm"]) for r in records}
    assert who == {(files.pid, files.pid, os.getuid(), "files")}
    times = [r["ts"] for r in records]
    assert times == sorted(times) and len(set(times)) == COUNT


def test_uid_is_a_filter_and_a_column(files: Files, names: list[str]) -> None:
    with Tool("opensnoop", "-U", "-u", str(os.getuid()), "-p", str(files.pid)) as tool:
        open_all(files, names[:3])
    assert tool.stdout.split()[0] == "UID"
    assert [row.split()[:2] for row in tool.rows()] == [[str(os.getuid()), str(files.pid)]] * 3
    with Tool("opensnoop", "-u", "4711", "-p", str(files.pid)) as tool:
        open_all(files, names[:3])
    assert tool.rows() == []


def test_timestamps_begin_at_zero(files: Files, names: list[str]) -> None:
    with Tool("opensnoop", "-T", "-p", str(files.pid)) as tool:
        open_all(files, names)
    times = [float(row.split()[0]) for row in tool.rows()]
    assert tool.stdout.startswith("TIME(s) ") and times[0] == 0.0 and times == sorted(times)
    assert 0 < times[-1] < 10 and re.match(r"\d+\.\d{9} ", tool.rows()[-1])


def test_duration_ends_the_run(files: Files, names: list[str]) -> None:
    tool = Tool("opensnoop", "-d", "1", "-p", str(files.pid)).start()
    open_all(files, names)
    tool.wait(patient(10))
    assert len(tool.rows()) == COUNT and tool.status == 0


def test_extended_fields(files: Files, tmp_path: Path) -> None:
    with Tool("opensnoop", "-e", "-p", str(files.pid)) as tool:
        files.openat(tmp_path / "new", os.O_CREAT | os.O_WRONLY, 0o640)
        files.openat(tmp_path / "new", os.O_RDONLY | os.O_NONBLOCK)
        files.openat2(tmp_path / "newer", os.O_CREAT | os.O_RDWR, 0o604)
    assert tool.stdout.splitlines()[0].split() == ["PID", "COMM", "FD", "ERR", "FLAGS", "MODE", "PATH"]
    assert [row.split()[4:6] for row in tool.rows()] == [
        [f"{os.O_CREAT | os.O_WRONLY:08o}", "0640"], [f"{os.O_NONBLOCK:08o}", "n/a"],
        [f"{os.O_CREAT | os.O_RDWR:08o}", "0604"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("filters", "shown"),
    [
        (["O_WRONLY"], ["write"]),
        (["O_WRONLY", "O_RDWR"], ["write", "both"]),
        (["O_RDONLY"], ["read", "append-read"]),
        (["O_APPEND"], ["append-read"]),
        (["O_CREAT", "O_RDWR"], ["write", "both"]),
    ],
)
def test_flag_filter(files: Files, tmp_path: Path, filters: list[str], shown: list[str]) -> None:
    for name in ("read", "both", "append-read"):
        (tmp_path / name).touch()
    args = [word for flag in filters for word in ("-f", flag)]
    with Tool("opensnoop", *args, "-p", str(files.pid)) as tool:
        files.openat(tmp_path / "read", os.O_RDONLY)
        files.openat(tmp_path / "write", os.O_WRONLY | os.O_CREAT, 0o600)
        files.open(tmp_path / "both", os.O_RDWR)
        files.openat2(tmp_path / "append-read", os.O_RDONLY | os.O_APPEND)
    assert [row.split()[-1] for row in tool.rows()] == [str(tmp_path / name) for name in shown]


def test_the_three_calls(files: Files, names: list[str]) -> None:
    with Tool("opensnoop", "--json", "-p", str(files.pid)) as tool:
        answers = [files.open(names[0]), files.openat(names[1]), files.openat2(names[2])]
    assert [(r["path"], r["fd"]) for r in tool.records() if "lost" not in r] == [
        (name, fd) for name, (fd, _) in zip(names, answers, strict=False)
    ]


def test_relative_paths_are_made_absolute(files: Files, tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b c" / "d"
    deep.mkdir(parents=True)
    (deep / "here").touch()
    with Tool("opensnoop", "--json", "-p", str(files.pid)) as tool:
        files.chdir(deep)
        directory, _ = files.openat(tmp_path / "a", os.O_RDONLY | os.O_DIRECTORY)
        assert files.openat("here")[0] >= 0
        assert files.openat("../d/here")[0] >= 0
        assert files.openat("b c/d/here", directory=directory)[0] >= 0
        assert files.openat2("b c", directory=directory)[0] >= 0
        assert files.openat("nothing", directory=999) == (-1, errno.EBADF)
        assert files.openat(".")[0] >= 0
        files.chdir("/")
        assert files.openat("etc")[0] >= 0
    assert [r["path"] for r in tool.records() if "lost" not in r] == [
        f"{tmp_path}/a", f"{deep}/here", f"{deep}/../d/here", f"{tmp_path}/a/b c/d/here", f"{tmp_path}/a/b c",
        "nothing", f"{deep}/.", "/etc",
    ]  # fmt: skip


@pytest.fixture
def bind_mount(tmp_path: Path) -> Iterator[Path]:
    """``tmp/place`` is a bind mount of ``tmp/real/inner``, which holds ``deep/file``."""
    inner, place = tmp_path / "real" / "inner", tmp_path / "place"
    (inner / "deep").mkdir(parents=True)
    (inner / "deep" / "file").touch()
    place.mkdir()
    subprocess.run(["mount", "--bind", inner, place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def test_relative_paths_cross_mounts(files: Files, bind_mount: Path) -> None:
    with Tool("opensnoop", "--json", "-p", str(files.pid)) as tool:
        files.chdir(bind_mount / "deep")
        assert files.openat("file")[0] >= 0
        directory, _ = files.openat(bind_mount, os.O_RDONLY | os.O_DIRECTORY)
        assert files.openat("deep/file", directory=directory)[0] >= 0
        files.chdir("/")
        files.close(directory)
        for fd in range(3, 9):
            files.close(fd)
    assert [r["path"] for r in tool.records() if "lost" not in r] == [
        f"{bind_mount}/deep/file", str(bind_mount), f"{bind_mount}/deep/file",
    ]  # fmt: skip


def test_control_characters_do_not_reach_the_terminal(files: Files, tmp_path: Path) -> None:
    nasty = os.fsencode(tmp_path) + b"/esc\x1b[31mred\nline\ttab\xff\xc2\x9b"
    with Tool("opensnoop", "-p", str(files.pid)) as tool:
        files.openat(nasty)
    (row,) = tool.rows()
    assert all(ch.isprintable() for ch in row)
    assert row.endswith("/esc\\x1b[31mred\\nline\\ttab\\xff\\x9b")
    with Tool("opensnoop", "--json", "-p", str(files.pid)) as tool:
        files.openat(nasty)
    assert "esc\x1b[31mred\nline\ttab" in next(r for r in tool.records() if "lost" not in r)["path"]


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--cgroupmap", "/sys/fs/bpf/x"], "use --cgroup PATH"),
        (["--mntnsmap", "/sys/fs/bpf/x"], "use --cgroup PATH"),
        (["-f", "O_NONSENSE"], "there is no flag 'O_NONSENSE'"),
    ],
)
def test_wrong_options_are_one_sentence(args: list[str], text: str) -> None:
    run = osmia("opensnoop", *args)
    assert run.returncode == 2 and run.stdout == ""
    assert text in run.stderr and len(run.stderr.splitlines()) == 1


def lost_of(stderr: str) -> int:
    """How many events the account at the end says were lost."""
    return sum(int(n.replace(",", "")) for n in re.findall(r"([\d,]+) (?:events )?lost", stderr))


def skipped_of(stderr: str) -> int:
    """How many runs of the programs it says the kernel skipped, for whatever process."""
    return sum(int(n.replace(",", "")) for n in re.findall(r"([\d,]+) runs? skipped", stderr))


def storm(seconds: float, rate: int, threads: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [workload("storm"), str(seconds), str(rate), "/x", str(threads)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("threads", [1, os.cpu_count() or 1])
def test_storm_is_accounted_for_exactly(threads: int, tmp_path: Path) -> None:
    """A million opens a second are asked for; where all CPUs open, none is left for the reader, and rows are lost."""
    seconds = float(os.environ.get("OSMIA_STORM_SECONDS", "2"))
    process = storm(seconds, 1_000_000, threads)
    assert process.stdin
    output = tmp_path / "rows"
    with output.open("w+b") as file:
        tool = Tool("opensnoop", "-p", str(process.pid), stdout=file).start()
        made = int(process.communicate("\n", timeout=seconds + patient(30))[0])
        tool.stop()
    rows = output.read_bytes().count(b" /x\n")
    lost = lost_of(tool.stderr)
    assert made > 100_000 * seconds or PATIENCE > 1, "the storm was too slow to mean anything"
    account = f"{made} opens, {rows} rows, {lost} reported lost:\n{tool.stderr}"
    assert 0 <= made - rows - lost <= skipped_of(tool.stderr), account


def test_threads_do_not_mix(names: list[str]) -> None:
    """Opens of eight threads at once: each row has its own thread's path."""

    code = (
        "import os, sys, threading, time\n"
        "sys.stdin.readline()\n"
        "def work(path):\n"
        "    time.sleep(0.01)\n"
        "    os.write(1, f'{threading.get_native_id()} {path}\\n'.encode())\n"
        "    for _ in range(101): os.close(os.open(path, os.O_RDONLY))\n"
        "ts = [threading.Thread(target=work, args=(p,)) for p in sys.argv[1:]]\n"
        "[t.start() for t in ts]; [t.join() for t in ts]\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *names[:8]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with Tool("opensnoop", "--json", "-p", str(process.pid)) as tool:
        out, _ = process.communicate("\n", timeout=patient(30))
    expected = dict(reversed(line.split()) for line in out.splitlines())
    seen: dict[str, list[int]] = {path: [] for path in expected}
    lost: dict[str, int] = {}
    for record in tool.records():
        lost = record.get("lost", lost)
        if record.get("path") in expected:
            seen.setdefault(record["path"], []).append(record["tid"])
    assert all(set(map(str, tids)) <= {expected[path]} for path, tids in seen.items())
    # Kernels that switch tasks inside a program skip the hits of the others meanwhile, and tell how many.
    missing = [101 - len(tids) for tids in seen.values()]
    skipped = sum(n for what, n in lost.items() if "skipped" in what)
    assert min(missing) >= 0 and sum(missing) <= skipped, (missing, lost)


def cgroup2() -> Path:
    """Where the cgroup v2 hierarchy is mounted."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise AssertionError("no cgroup v2 hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup")


@pytest.mark.feature("A6 filters in the kernel")
def test_cgroup_and_what_is_below_it(names: list[str]) -> None:
    group = cgroup2() / f"osmia-test-{os.getpid()}"
    (group / "below").mkdir(parents=True)
    try:
        with Files() as inside, Files() as outside:
            (group / "below" / "cgroup.procs").write_text(str(inside.pid))
            with Tool("opensnoop", "--cgroup", str(group)) as tool:
                opens = open_all(inside, names)
                open_all(outside, names)
        assert [row.split(None, 4) for row in tool.rows()] == as_columns(inside.pid, "files", opens)
    finally:
        (group / "below").rmdir()
        group.rmdir()
    run = osmia("opensnoop", "--cgroup", "/nonexistent")
    assert run.returncode in (1, 2) and len(run.stderr.splitlines()) == 1 and "/nonexistent" in run.stderr
