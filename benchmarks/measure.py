# SPDX-License-Identifier: Apache-2.0
"""What one run of a tracing tool costs: start, exit, memory, and what a storm of events does to it.

Times are taken by the parent's monotonic clock, from before the spawn, so
that the loader, the interpreter and everything else before ``main`` counts.
Tools write to a terminal where the arrival of a row matters, since libc
keeps rows back from a pipe, and to a file in memory where many rows are
written.
"""

from __future__ import annotations

import ctypes
import os
import pty
import re
import select
import signal
import subprocess
import time
from typing import NamedTuple

#: Seconds after which a tool that shows nothing is given up.
PATIENCE = 20.0 * float(os.environ.get("OSMIA_TEST_PATIENCE", "1"))  # emulated CPUs are slower
_LOST = (re.compile(rb"(?:[Ll]ost|LOST) ([\d,]+) events"), re.compile(rb"([\d,]+) (?:event|update)s? lost"))


class Tool(NamedTuple):
    """A command; ``shows`` is in the first output that counts, the marker's name where it is None.

    ``row`` is in each row of a storm; None: the row ends with the name that was opened.
    """

    name: str
    argv: list[str]
    shows: str | None = None
    env: dict[str, str] = {}
    row: str | None = None


class Start(NamedTuple):
    """Milliseconds to the first output, from SIGINT to the end, to the end of all that it started; MB of memory.

    ``cpu`` is the milliseconds of CPU of its whole life: what of the times is the tool's own on a busy machine.
    """

    first: float
    exit: float
    detached: float
    cpu: float
    peak: float
    pss: float


class Storm(NamedTuple):
    """One storm.  ``made`` opens in ``seconds``, of which ``rows`` were shown and ``lost`` reported as lost.

    ``cpu_ns`` is what the tool's own threads ran; ``kernel_ns`` what its programs ran (with statistics on), and
    ``programs`` (name, runs, ns per run).
    """

    made: int
    seconds: float
    rows: int
    lost: int
    cpu_ns: int
    kernel_ns: int = 0
    programs: tuple[tuple[str, int, float], ...] = ()


class Failed(Exception):
    """A tool did not do what it was run for."""


def environment(tool: Tool) -> dict[str, str]:
    """Ours without what only a development machine sets, and the tool's own."""
    out = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "OSMIA"))}
    return {**out, "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **tool.env}


def calm(patience: float, idle: float = 0.7) -> bool:
    """Wait up to ``patience`` seconds for a third of a second in which the CPUs are ``idle``; whether there was one."""
    limit = time.monotonic() + patience
    while True:
        before = _ticks()
        time.sleep(0.35)
        after = _ticks()
        if after[0] - before[0] >= idle * (after[1] - before[1]):
            return True
        if time.monotonic() > limit:
            return False


def _ticks() -> tuple[int, int]:
    with open("/proc/stat") as stat:
        words = [int(word) for word in stat.readline().split()[1:9]]
    return words[3], sum(words)


def adopt() -> None:
    """From now on, what a tool leaves behind becomes our child, so that we see when it has gone."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER, include/uapi/linux/prctl.h


def children() -> set[int]:
    """Our children."""
    own, found = os.getpid(), set()
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat") as stat:
                    parent = int(stat.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == own:
                found.add(int(name))
    return found


class Load:
    """The compiled load program doing one thing in a loop."""

    def __init__(self, program: str, kind: str, path: str, rate: int, seconds: float) -> None:
        argv = [program, kind, path, str(rate), str(seconds)]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

    def result(self) -> tuple[int, int, int]:
        """Wait for its end: what it made, in how many ns, and how many ns of CPU."""
        out, _ = self._process.communicate()
        made, wall, cpu = out.split()
        return int(made), int(wall), int(cpu)

    def stop(self) -> tuple[int, int, int]:
        """End it now."""
        self._process.terminate()
        return self.result()


class Running:
    """A tool on a terminal of its own, started now."""

    def __init__(self, tool: Tool) -> None:
        self.tool = tool
        self.cpu = 0.0  # seconds, known after the end
        self._terminal, inner = pty.openpty()
        silent = os.open(os.devnull, os.O_RDWR)
        env = environment(tool)
        actions = [(os.POSIX_SPAWN_DUP2, silent, 0), (os.POSIX_SPAWN_DUP2, inner, 1), (os.POSIX_SPAWN_DUP2, silent, 2)]
        self.began = time.monotonic()
        self.pid = os.posix_spawn(tool.argv[0], tool.argv, env, file_actions=actions, setsid=True)
        os.close(inner)
        os.close(silent)

    def until(self, shown: bytes) -> float:
        """Seconds from the start until ``shown`` was in the output."""
        seen, limit = b"", self.began + PATIENCE
        while True:
            data = self._read(limit)
            now = time.monotonic()
            if data is None:
                self.kill()
                raise Failed(f"{self.tool.name}: {shown.decode()!r} did not come; it said {seen[-300:]!r}")
            seen += data
            if shown in seen:
                return now - self.began

    def _read(self, limit: float) -> bytes | None:
        """Some output; None when the time is over or the tool has gone."""
        ready, _, _ = select.select([self._terminal], [], [], max(0.0, limit - time.monotonic()))
        if not ready:
            return None
        try:
            return os.read(self._terminal, 1 << 16) or None
        except OSError:  # EIO: the other side is closed
            return None

    def watch(self, seconds: float) -> None:
        """Let it run, reading along so that it never waits for us."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit and self._read(limit) is not None:
            pass

    def end(self) -> float:
        """SIGINT; seconds until the process is gone."""
        before = time.monotonic()
        os.kill(self.pid, signal.SIGINT)
        while True:
            gone, _, used = os.wait4(self.pid, os.WNOHANG)
            if gone:
                self.cpu = used.ru_utime + used.ru_stime
                break
            if time.monotonic() > before + PATIENCE:
                self.kill()
                raise Failed(f"{self.tool.name}: SIGINT did not end it")
            self._read(time.monotonic() + 0.0005)
        took = time.monotonic() - before
        os.close(self._terminal)
        return took

    def kill(self) -> None:
        """After a failure."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._terminal)


def memory(pid: int) -> tuple[float, float]:
    """Peak resident and proportional size, MB.

    Not ``ru_maxrss``: that is never less than what the parent had at the
    time of the spawn, which is more than some of the peers need.
    """
    peak = pss = 0
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                peak = int(line.split()[1])
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        for line in rollup:
            if line.startswith("Pss:"):
                pss = int(line.split()[1])
    return peak / 1024, pss / 1024


def start(tool: Tool, marker: str) -> Start:
    """One start and one end, while the load makes events that name ``marker`` all the time."""
    before = children()
    running = Running(tool)
    first = running.until((tool.shows or marker).encode())
    running.watch(0.3)
    peak, pss = memory(running.pid)
    took = running.end()
    detached = took + left_behind(before)
    time.sleep(0.2)
    return Start(first * 1e3, took * 1e3, detached * 1e3, running.cpu * 1e3, peak, pss)


def left_behind(before: set[int]) -> float:
    """Wait until only the children ``before`` are left, so that nothing of one run is in the next; seconds it took."""
    begin = time.monotonic()
    for pid in children() - before:
        os.waitpid(pid, 0)
    return time.monotonic() - begin


def cpu_ns(pid: int) -> int:
    """Nanoseconds that the threads of ``pid`` have run."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{thread}/schedstat") as stat:
                total += int(stat.read().split()[0])
        except OSError:  # noqa: PERF203 - a thread that has just ended
            continue
    return total


def programs(pid: int) -> dict[int, tuple[int, int]]:
    """BPF programs that ``pid`` holds: id -> (runs, ns), from what the kernel says of its descriptors."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fdinfo"):
        try:
            with open(f"/proc/{pid}/fdinfo/{name}") as info:
                words = dict(line.split(":", 1) for line in info if ":" in line)
        except OSError:
            continue
        if "run_cnt" in words:
            found[int(words["prog_id"])] = (int(words["run_cnt"]), int(words["run_time_ns"]))
    return found


def settled(path: str) -> None:
    """Wait until a file has all but stopped growing: other processes open files, too."""
    limit, before, still = time.monotonic() + PATIENCE, -1, 0
    while still < 2 and time.monotonic() < limit:
        time.sleep(0.25)
        now = os.stat(path).st_size
        still = still + 1 if now - before < 50_000 and before >= 0 else 0
        before = now


def count(path: str, wanted: bytes) -> int:
    """Lines of a file that hold ``wanted``."""
    total, rest = 0, b""
    with open(path, "rb") as stream:
        while block := stream.read(1 << 22):
            block = rest + block
            cut = block.rfind(b"\n") + 1
            rest = block[cut:]
            total += block.count(wanted, 0, cut)
    return total + rest.count(wanted)


def lost(text: bytes) -> int:
    """Events that a tool says it lost."""
    return sum(int(n.replace(b",", b"")) for pattern in _LOST for n in pattern.findall(text))


def storm(tool: Tool, program: str, kind: str, path: str, rate: int, seconds: float, folder: str) -> Storm:
    """``tool`` under a storm of opens or execs of ``path``, its rows going to a file in ``folder``.

    What a tool lost was anybody's, so ``lost`` may hold a few opens that other processes made.
    """
    wanted = tool.row or os.path.basename(path) + (" leaf" if kind == "exec" else "\n")
    rows, said, before = f"{folder}/rows", f"{folder}/said", children()
    with open(rows, "wb") as out, open(said, "wb") as err:
        process = subprocess.Popen(tool.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment(tool))
    pid = process.pid
    try:
        _wait_for_rows(tool, program, kind, rows, process)
        cpu, runs = cpu_ns(pid), programs(pid)
        made, wall, _ = Load(program, kind, path, rate, seconds).result()
        settled(rows)
        cpu, after = cpu_ns(pid) - cpu, programs(pid)
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    with open(said, "rb") as err:
        text = err.read()
    shown = count(rows, wanted.encode())
    gone = lost(text) + (lost(_tail(rows)) if not lost(text) else 0)
    os.unlink(rows)
    ran = [(str(id), n - runs[id][0], ns - runs[id][1]) for id, (n, ns) in after.items() if id in runs]
    detail = tuple((id, n, ns / n) for id, n, ns in ran if n)
    left_behind(before)
    time.sleep(0.2)
    return Storm(made, wall / 1e9, shown, gone, cpu, sum(ns for _, _, ns in ran), detail)


def _tail(path: str) -> bytes:
    """Lines of an output file that are about losses (bpftrace and perf tell them among their rows)."""
    with open(path, "rb") as stream:
        found = [line for line in stream if line.startswith((b"Lost", b"LOST", b"WARNING: Lost"))]
    return b"".join(found)


def _wait_for_rows(tool: Tool, program: str, kind: str, rows: str, process: subprocess.Popen[bytes]) -> None:
    """Until the tool traces: some write nothing before a buffer is full, so enough is opened to fill it.

    None of it may look like a row of the storm: another name is opened, by a process of another name.
    """
    other = f"{os.path.dirname(program)}/osmia-early"
    if not os.path.exists(other):
        os.link(program, other)
    maker = program if not tool.row else other  # a tool that traces by name only must see it
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        Load(maker, "exec" if kind == "exec" else "open", other, 2000, 0.1).result()
        if os.stat(rows).st_size > 4096 or process.poll() is not None:
            break
    if process.poll() is not None or os.stat(rows).st_size <= 4096:
        raise Failed(f"{' '.join(process.args)}: showed nothing")  # type: ignore[arg-type]
    time.sleep(0.3)
