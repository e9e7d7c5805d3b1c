# SPDX-License-Identifier: Apache-2.0
"""``osmia bench TOOL``: what a tool costs the program that it traces.

A workload makes a known number of events, in turn with and without the tool;
the difference of the medians, for each event, is the slow-down.  One more
round with the kernel's counters on (they cost time themselves) says what the
programs, the reader and the maps took, and what was lost.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from osmia.cli import catalog
from osmia.cli.args import Parser
from osmia.errors import OptionError, UserError
from osmia.lang.options import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Which workload a tool is measured with, if none is named; ``opens`` for all others.
BY_TOOL = {
    "execsnoop": "execs", "exitsnoop": "execs", "biolatency": "reads", "biostacks": "reads", "runqlat": "switches",
    "runqslower": "switches", "cpudist": "switches", "cpuwalk": "switches", "offcputime": "switches",
    "offwaketime": "switches", "wakeuptime": "switches", "runqlen": "switches",
}  # fmt: skip
#: How many events each makes by default: about a second's worth.
EVENTS = {"opens": 200_000, "execs": 400, "reads": 5_000, "switches": 50_000}
_BLOCK = 4096
_READY_SECONDS = 60.0


def opens(number: int, folder: str) -> None:
    """Open a file."""
    path = os.path.join(folder, "opened")
    with open(path, "wb"):
        pass
    _start()
    for _ in range(number):
        os.close(os.open(path, os.O_RDONLY))


def execs(number: int, folder: str) -> None:
    """Start a program and wait for its end."""
    _start()
    for _ in range(number):
        os.waitpid(os.posix_spawn("/bin/true", ["true"], os.environ), 0)


def reads(number: int, folder: str) -> None:
    """Read a block of a file, past the page cache."""
    import mmap

    path, page, blocks = os.path.join(folder, "read"), mmap.mmap(-1, _BLOCK), 256
    with open(path, "wb") as file:
        file.write(os.urandom(_BLOCK * blocks))
        os.fsync(file.fileno())
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    _start()
    for i in range(number):
        os.preadv(fd, [page], i % blocks * _BLOCK)


def switches(number: int, folder: str) -> None:
    """Wake another process on the same CPU, and sleep until it answers: two switches are two events."""
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    to_child, ask = os.pipe()
    answer, to_parent = os.pipe()
    if not os.fork():
        os.close(ask)
        while os.read(to_child, 1):
            os.write(to_parent, b"x")
        os._exit(0)
    _start()
    for _ in range(number // 2):
        os.write(ask, b"x")
        os.read(answer, 1)


WORKLOADS: dict[str, Callable[[int, str], None]] = {
    "opens": opens, "execs": execs, "reads": reads, "switches": switches,
}  # fmt: skip


def _start() -> None:
    global _began
    os.write(1, b"ready\n")
    os.read(0, 1)
    _began = time.perf_counter_ns()


_began = 0


def work(name: str, number: int, folder: str) -> None:
    """The workload's process: be ready, wait for a byte, make the events, say how many nanoseconds it took."""
    WORKLOADS[name](number, folder)
    os.write(1, b"%d\n" % (time.perf_counter_ns() - _began))


class Bench:
    """The measurements of one tool: ``words`` are the tool and its own options."""

    def __init__(self, words: list[str], workload: str, number: int, folder: str) -> None:
        self.words = words
        self.workload = workload
        self.number = number
        self.folder = folder
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        self.env = {**os.environ, "PYTHONPATH": root}

    def plain(self) -> int:
        """Nanoseconds without the tool."""
        return self._go(self._worker())

    def _worker(self) -> subprocess.Popen[bytes]:
        """The workload's process, which waits."""
        code = f"from osmia.cli.bench import work; work({self.workload!r}, {self.number}, {self.folder!r})"
        process = subprocess.Popen([sys.executable, "-c", code], env=self.env, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        return process

    def _go(self, process: subprocess.Popen[bytes]) -> int:
        """Let it make its events; the nanoseconds that these took."""
        out, err = process.communicate(b"x")
        if process.returncode or not out.strip().isdigit():
            last = (err.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"])[-1]
            raise UserError(f"the workload {self.workload} failed: {last}", where="bench")
        return int(out)

    def traced(self, counted: bool = False) -> tuple[int, int, list[dict[str, Any]]]:
        """Nanoseconds with the tool attached, the workload's process, and (``counted``) what the tool wrote."""
        rows = os.path.join(self.folder, "rows")
        read, write = os.pipe()
        worker = self._worker()  # before the tool: what Python opens when it starts is none of the events
        command = [sys.executable, "-m", "osmia.cli.main", *self.words, "--json", "-o", rows]
        tool = subprocess.Popen([*command, "--stats"] if counted else command, pass_fds=(write,),
                                env={**self.env, "OSMIA_READY_FD": str(write)}, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE)  # fmt: skip
        os.close(write)
        try:
            if os.read(read, 1) != b"x":
                said = tool.communicate(timeout=_READY_SECONDS)[1].decode("utf-8", "replace").strip()
                if not said:  # --help, for example
                    raise UserError("the tool ended before it traced anything", where="bench",
                                    fix=f"run it by itself: osmia {' '.join(self.words)}")  # fmt: skip
                raise UserError(f"the tool did not start: {said.removeprefix('osmia: ')}", where="bench")
            ns = self._go(worker)
        finally:
            os.close(read)
            worker.kill()  # if it has not ended
            if tool.poll() is None:
                tool.send_signal(signal.SIGINT)
            tool.communicate(timeout=_READY_SECONDS)
        if not counted:
            return ns, worker.pid, []
        with open(rows, encoding="utf-8", errors="replace") as file:
            return ns, worker.pid, [json.loads(line) for line in file if line.strip()]

    def measure(self, rounds: int) -> dict[str, Any]:
        """All rounds; the numbers, named as in :data:`ROWS`."""
        pairs = [(self.plain(), self.traced()[0]) for _ in range(rounds)]
        plain, traced = (statistics.median(column) for column in zip(*pairs, strict=True))
        _, pid, records = self.traced(counted=True)
        cost = next(record["cost"] for record in records if "cost" in record)
        number = self.number
        out = {
            "tool": " ".join(self.words), "workload": self.workload, "events": number, "rounds": rounds,
            "plain_ns": plain / number, "traced_ns": traced / number, "slowdown_ns": (traced - plain) / number,
            "slowdown_percent": (traced - plain) / plain * 100, "events_per_second": number / traced * 1e9,
            "programs_ns": sum(one["ns"] for one in cost["programs"]) / number,
            "program_runs": sum(one["runs"] for one in cost["programs"]),
            "reader_ns": cost["own_cpu_ns"] / number, "lost": cost["lost"],
            "peak_memory_bytes": cost["peak_memory_bytes"], "map_bytes": cost["map_bytes"],
        }  # fmt: skip
        rows = [record for record in records if "cost" not in record and "lost" not in record]
        if rows and all("pid" in record and "ts" in record for record in rows):
            out["rows"] = sum(pid in (record["pid"], record.get("ppid")) for record in rows)
        return {name: round(value, 1) if isinstance(value, float) else value for name, value in out.items()}


#: What the table shows: name of the number, what it is, its form.
ROWS = (
    ("plain_ns", "one event, not traced", "{:,.0f} ns"), ("traced_ns", "one event, traced", "{:,.0f} ns"),
    ("slowdown_ns", "slow-down of one event", "{:,.0f} ns"), ("slowdown_percent", "that is", "{:.1f} %"),
    ("events_per_second", "events a second, traced", "{:,.0f}"), ("rows", "rows about the workload", "{:,}"),
    ("lost", "lost", "{:,}"), ("program_runs", "runs of BPF programs", "{:,}"),
    ("programs_ns", "time in BPF programs, an event", "{:,.0f} ns"),
    ("reader_ns", "CPU time of osmia, an event", "{:,.0f} ns"),
    ("peak_memory_bytes", "peak memory of osmia", "{:,} bytes"), ("map_bytes", "memory of maps", "{:,} bytes"),
)  # fmt: skip


def table(numbers: dict[str, Any]) -> str:
    """The numbers for people."""
    head = f"{numbers['tool']}: {numbers['events']:,} {numbers['workload']}, {numbers['rounds']} rounds\n"
    return head + "".join(
        f"  {what:<32}{form.format(numbers[name]):>20}\n" for name, what, form in ROWS if name in numbers
    )


class Options:
    """The command line."""

    def __init__(self) -> None:
        names = tuple(WORKLOADS)
        self.workload = Option("-w", "--workload", type=str, metavar="NAME", choices=names, help="what is traced")
        self.number = Option("-n", "--events", type=int, metavar="N", help="how many events, in each round")
        self.rounds = Option("-r", "--rounds", type=int, default=5, metavar="N", help="rounds with and without (5)")
        self.json = Option("--json", help="one JSON object")
        self.tool = Option("tool", type=str, metavar="TOOL", help="a tool, and then its options")

    def parser(self, shown: bool = False) -> Parser:
        """For ``osmia bench``, whose words end at the tool; ``shown``: for its help."""
        own = [self.workload, self.number, self.rounds, self.json]
        return Parser("bench", own, required=[self.tool] if shown else (), rest=not shown)


def run(options: Options, words: list[str]) -> None:
    """Measure the tool that ``words`` begin with, by the rest of them, and print.  Raises UserErrors."""
    if not words:
        raise OptionError("TOOL is missing", where="bench")
    tool, rest = words[0], words[1:]
    if not catalog.exists(tool):
        raise catalog.unknown(tool)
    workload = options.workload.value or BY_TOOL.get(tool, "opens")
    number = options.number.value if options.number.given else EVENTS[workload]
    for value, flag in ((number, "--events"), (options.rounds.value, "--rounds")):
        if value < 1:
            raise OptionError(f"option {flag}: {value} is not a number from 1", where="bench")
    number += number % 2 if workload == "switches" else 0
    # Not in /tmp, which is often in memory: there is nothing to read from a disk there.
    with tempfile.TemporaryDirectory(prefix="osmia-bench-", dir="/var/tmp") as folder:
        numbers = Bench([tool, *rest], workload, number, folder).measure(options.rounds.value)
    sys.stdout.write(json.dumps(numbers) + "\n" if options.json else table(numbers))
