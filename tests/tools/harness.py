# SPDX-License-Identifier: Apache-2.0
"""Running tools and workloads whose truth is known.

A tool runs in a process of its own, as users run it; it says over a pipe
(``OSMIA_READY_FD``) when its probes are attached, and only then does the
workload begin.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Union

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import prebuilt
import pytest
from patience import patient

REPO = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((REPO / "examples").glob("*.py"))
#: Tools whose rows, and whose letters for common options, are so much their own that their tests alone look at them.
APART = [
    "argdist", "biolatpcts", "biosnoop", "compactsnoop", "cpufreq", "criticalstat", "deadlock", "drsnoop",
    "funccount", "funcinterval", "funclatency", "funcslower", "inject", "klockstat", "ksnoop", "kvmexit", "llcstat",
    "mdflush", "memleak", "netqtop", "numasched", "oomkill", "pythongc", "sslsniff", "stackcount", "tcpcong",
    "trace", "ttysnoop", "virtiostat",
]  # fmt: skip
#: Of these, those whose programs are made of what the command line says.
SPECIFIED = ["argdist", "inject", "ksnoop", "trace"]
#: Tools that trace nothing.
LISTS = ["bpflist", "loads", "tplist"]
TOOLS = sorted({path.stem for path in (REPO / "src" / "osmia" / "tools").glob("[a-z]*.py")} - {*APART, *LISTS})
#: How many programs a run loads at least: three, but for these.
FEW_PROGRAMS = {
    "bashreadline": 2, "bindsnoop": 2, "biopattern": 1, "biostacks": 2, "capable": 1, "cpudist": 1, "cpuunclaimed": 1,
    "cpuwalk": 1, "exitsnoop": 1, "hardirqs": 2, "killsnoop": 2, "naptime": 3, "pidpersec": 1, "runqlen": 1,
    "sigsnoop": 1, "slabratetop": 2, "softirqs": 2, "solisten": 2, "ssllatency": 2, "swapin": 1, "syscount": 1,
    "tcpaccept": 1, "tcpconnect": 1, "tcpconnlat": 1, "tcpdrop": 1, "tcplife": 2, "tcppktlat": 2, "tcpretrans": 2,
    "tcprtt": 1, "tcpstates": 2, "tcpsubnet": 1, "tcptop": 2, "tcptracer": 2, "threadsnoop": 1, "wakeuptime": 2,
    "wqlat": 2, "writeback": 2,
}  # fmt: skip
#: One tool of each kind: what says of these something on a kernel says it of the others, too.
OF_EACH_KIND = ("biolatency", "opensnoop", "profile", "syscount")
READY_SECONDS = patient(30.0)
END_SECONDS = patient(20.0)


def each_kind(tools: Sequence[str]) -> list[Any]:
    """Cases of all ``tools``, of which guests of the kernel matrix run those :data:`OF_EACH_KIND`."""
    return [pytest.param(tool, marks=() if tool in OF_EACH_KIND else pytest.mark.anywhere) for tool in tools]


def environment() -> dict[str, str]:
    """The environment of osmia: this checkout's sources first."""
    return {**os.environ, "PYTHONPATH": str(REPO / "src"), "OSMIA_DEBUG": "1"}


def osmia_command(*args: str) -> list[str]:
    return [sys.executable, "-m", "osmia.cli.main", *args]


def osmia(*args: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run osmia to its end."""
    return subprocess.run(
        osmia_command(*args), env=environment(), capture_output=True, text=True, timeout=patient(timeout), check=False
    )


_tools: list[Tool] = []


def end_all() -> None:
    """Kill what a failed test has left running: a forgotten tracer slows everything down."""
    while _tools:
        process = _tools.pop().process
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()


class Tool:
    """``osmia NAME ARGS`` running: ``start()`` waits until it is attached, ``stop()`` ends it as Ctrl-C does."""

    def __init__(self, *args: str, command: list[str] | None = None, stdout: Any = None) -> None:
        self.command = command or osmia_command(*args)
        # Files and not pipes: a tool never waits for a test that is slow to read.
        self.out = tempfile.TemporaryFile() if stdout is None else stdout  # noqa: SIM115
        self.err = tempfile.TemporaryFile()  # noqa: SIM115
        self.stdout = self.stderr = ""
        self.process: subprocess.Popen[bytes] | None = None
        _tools.append(self)

    def start(self) -> Tool:
        read, write = os.pipe()
        env = {**environment(), "OSMIA_READY_FD": str(write)}
        try:
            self.process = subprocess.Popen(
                self.command, env=env, stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err, pass_fds=(write,)
            )
            os.close(write)
            ready = select.select([read], [], [], READY_SECONDS)[0]
            if not ready or os.read(read, 1) == b"":
                self._collect(kill=True)
                raise AssertionError(f"{self.command} did not get ready (status {self.status}):\n{self.stderr}")
        finally:
            os.close(read)
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self, sig: int = signal.SIGINT) -> Tool:
        """Send ``sig``, wait for the end, and read what it wrote."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.wait()

    def wait(self, timeout: float = END_SECONDS) -> Tool:
        assert self.process is not None
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._collect(kill=True)
            raise AssertionError(f"{self.command} did not end:\n{self.stderr}") from None
        self._collect()
        return self

    def _collect(self, kill: bool = False) -> None:
        assert self.process is not None
        if kill and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for name, file in (("stdout", self.out), ("stderr", self.err)):
            if hasattr(file, "seek") and not file.closed:
                file.seek(0)
                setattr(self, name, file.read().decode("utf-8", "surrogateescape"))

    @property
    def status(self) -> int | None:
        return self.process.returncode if self.process else None

    def rows(self) -> list[str]:
        """The lines written, heading and blank ones left out."""
        return [line for line in self.stdout.splitlines()[1:] if line.strip()]

    def records(self) -> list[dict[str, Any]]:
        """The lines of a run with ``--json``; the last one may be the account of losses."""
        return [json.loads(line) for line in self.stdout.splitlines() if line.strip()]

    def __enter__(self) -> Tool:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()


def workload(name: str) -> str:
    """Path of the compiled ``tests/workloads/NAME.c``, linked statically (compiled once per test run)."""
    return prebuilt.workload(name)


def user_program(name: str) -> str:
    """Path of the compiled ``tests/fixtures/user/NAME.c``, with the C library as a shared one."""
    return prebuilt.user(name)


class Commanded:
    """The program ``NAME`` of ``tests/fixtures/user``, which does what it is told, line by line."""

    def __init__(self, name: str, ends: bool = True) -> None:
        self.ends = ends  # when there is nothing more to do; else it is killed
        self.process = subprocess.Popen(
            [user_program(name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.pid = str(self.process.pid)

    def ask(self, *words: object) -> None:
        """One command, done when this returns."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def __enter__(self) -> Commanded:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.process.poll() is None and not self.ends:
            self.process.kill()
        self.process.communicate()


class Told:
    """A program that does what a line says, and answers with a line."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.pid = str(self.process.pid)

    def tell(self, line: str) -> str:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def __enter__(self) -> Told:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.communicate()


def told(stderr: str) -> list[str]:
    """The lines of ``stderr`` but those about what the kernel did not give.

    Stacks: it has few buffers, all in use.  Ends of requests to disks: there are machines that run no BPF
    program in some of their interrupts.
    """
    kept_back = ("could not be read", "which the kernel did not show")
    return [line for line in stderr.splitlines() if not any(words in line for words in kept_back)]


def skipped(tool: Tool) -> int:
    """With ``--json``: hits that the kernel skipped, because the program was running on that CPU already."""
    lost: dict[str, int] = {}
    for record in tool.records():
        lost = record.get("lost", lost)
    return sum(n for what, n in lost.items() if "skipped" in what)


AnyPath = Union[str, bytes, "os.PathLike[str]"]


def spelled(path: AnyPath) -> str:
    """A path as ``files.c`` wants it; the empty one is a NUL."""
    return os.fsencode(path).hex() or "00"


class Files:
    """The workload ``files.c``: opens what it is told, and says what the kernel answered.

    ``prefix``: a command that runs it, somewhere else for example; ``pid`` is that command's then.
    """

    def __init__(self, name: str = "files", cwd: str | None = None, prefix: Sequence[str] = ()) -> None:
        program = workload("files")
        if name != "files":  # a command name of its own
            copy = Path(tempfile.mkdtemp(prefix="osmia-workload-")) / name
            shutil.copy(program, copy)
            program = str(copy)
        self.process = subprocess.Popen(
            [*prefix, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=cwd
        )
        self.pid = self.process.pid

    def ask(self, *words: object) -> tuple[int, int]:
        """One command; ``(result, errno)``."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        result, error = self.process.stdout.readline().split()
        return int(result), int(error)

    def open(self, path: AnyPath, flags: int = 0, mode: int = 0) -> tuple[int, int]:
        return self.ask("open", spelled(path), flags, mode)

    def openat(self, path: AnyPath, flags: int = 0, mode: int = 0, directory: int = -100) -> tuple[int, int]:
        return self.ask("openat", directory, spelled(path), flags, mode)

    def openat2(self, path: AnyPath, flags: int = 0, mode: int = 0, directory: int = -100) -> tuple[int, int]:
        return self.ask("openat2", directory, spelled(path), flags, mode)

    def chdir(self, path: AnyPath) -> tuple[int, int]:
        return self.ask("chdir", spelled(path))

    def close(self, fd: int) -> None:
        self.ask("close", fd)

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(patient(10))


def eventually(check: Any, seconds: float = 3.0) -> Any:
    """Call ``check`` until it gives something true, for ``seconds`` at most; what it gave last."""
    end = time.monotonic() + patient(seconds)
    while True:
        found = check()
        if found or time.monotonic() > end:
            return found
        time.sleep(0.02)


def programs_of(pid: int) -> set[int]:
    """Ids of the BPF programs that process ``pid`` holds by file descriptors."""
    out = set()
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            out |= {int(line.split()[1]) for line in info.read_text().splitlines() if line.startswith("prog_id:")}
    return out


def program_ids() -> set[int]:
    """Ids of all BPF programs in the kernel."""
    shown = subprocess.run(["bpftool", "-j", "prog", "show"], capture_output=True, text=True, check=True).stdout
    return {p["id"] for p in json.loads(shown)}


@contextmanager
def bpffs() -> Iterator[str]:
    """A private BPF file system, unmounted (with everything pinned in it) at the end."""
    place = tempfile.mkdtemp(prefix="osmia-bpffs-")
    subprocess.run(["mount", "-t", "bpf", "osmia-test", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        os.rmdir(place)


@contextmanager
def loop_device(megabytes: int = 8) -> Iterator[str]:
    """The name (``loop3``) of a loop device over a temporary file."""
    with tempfile.NamedTemporaryFile(prefix="osmia-loop-") as backing:
        backing.truncate(megabytes << 20)
        device = subprocess.run(
            ["losetup", "-f", "--show", backing.name], capture_output=True, text=True, check=True
        ).stdout.strip()
        try:
            yield os.path.basename(device)
        finally:
            subprocess.run(["losetup", "-d", device], check=True)


def in_background(work: Any, *args: Any) -> threading.Thread:
    thread = threading.Thread(target=work, args=args, daemon=True)
    thread.start()
    return thread
