# SPDX-License-Identifier: Apache-2.0
"""Scenes of files, processes, CPUs, stacks and of the tools that look at anything."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness import REPO, Files, Tool, loop_device, user_program, workload
from terminal import Terminal
from wakes import Wakes

from scenes.stage import Scene, Stage

TRUE = shutil.which("true") or "/bin/true"


class FileStage(Stage):
    """A process that opens what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="demo-"))
        (self.directory / "data").mkdir()
        for name in ("config", "data/one", "data/two"):
            (self.directory / name).write_text("x\n")
        self.files = Files("server")
        self.names["pid"] = str(self.files.pid)

    def close(self) -> None:
        self.files.__exit__()
        shutil.rmtree(self.directory)


class DiskStage(Stage):
    """A loop device."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = loop_device(16)
        self.names["disk"] = self._loop.__enter__()
        time.sleep(0.2)

    def close(self) -> None:
        self._loop.__exit__(None, None, None)


class PairStage(Stage):
    """Two processes that want CPU 0, and one of them spins all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = []
        for rounds, usecs, spin in ((1, 0, 900_000), (150, 2000, 500)):
            self.pair.append(subprocess.Popen(
                ["taskset", "-c", "0", workload("sleeper"), str(rounds), str(usecs), str(spin)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            ))  # fmt: skip
        time.sleep(0.1)
        self.names.update(spinner=str(self.pair[0].pid), pid=str(self.pair[1].pid))

    def close(self) -> None:
        for process in self.pair:
            process.communicate()


class CrowdStage(Stage):
    """Four processes that compute on one CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.crowd = [
            subprocess.Popen(["taskset", "-c", "0", "timeout", "20", "sh", "-c", "while :; do :; done"])
            for _ in range(4)
        ]
        time.sleep(0.3)

    def close(self) -> None:
        for process in self.crowd:
            process.terminate()
            process.wait()


class ThreadStage(Stage):
    """A program of four threads."""

    def __init__(self) -> None:
        super().__init__()
        self.program = Path("/tmp/demo-threads")
        lines = [f"#!{sys.executable}", "import ctypes, threading, time", "ctypes.CDLL(None).prctl(15, b'threads')",
                 "for number in range(3):",
                 "    threading.Thread(target=time.sleep, args=(number / 10,)).start()"]  # fmt: skip
        self.program.write_text("\n".join(lines) + "\n")
        self.program.chmod(0o755)

    def close(self) -> None:
        self.program.unlink()


class WorkloadStage(Stage):
    """A workload that begins when it is told to; ``line`` is what it is told."""

    def __init__(self, command: list[str], line: str) -> None:
        super().__init__()
        self.line = line
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        time.sleep(0.1)
        self.names["pid"] = str(self.process.pid)

    def close(self) -> None:
        self.process.communicate()


def burning() -> Stage:
    """A program that computes in three functions, for some seconds."""
    return WorkloadStage([workload("burn"), "400"], "")


def without_frames(name: str) -> str:
    """A workload without frame pointers."""
    program = tempfile.mkdtemp(prefix="demo-") + "/" + name
    source = REPO / "tests" / "workloads" / f"{name}.c"
    subprocess.run(["gcc", "-O2", "-DPLAIN", "-o", program, str(source)], check=True)
    return program


def plain() -> Stage:
    """The same without frame pointers."""
    return WorkloadStage([without_frames("burn"), "400"], "")


def napping() -> Stage:
    """A program that sleeps ten times for 50 ms."""
    return WorkloadStage([workload("naps")], "10 50000")


def plainly_napping() -> Stage:
    """The same without frame pointers, in the C library's nanosleep()."""
    return WorkloadStage([without_frames("naps")], "10 50000")


def calling() -> Stage:
    """A program that calls a function from two others."""
    stage = WorkloadStage([workload("calls")], "6000 4000")
    stage.names["program"] = workload("calls")
    return stage


def specified(line: str) -> Callable[[], Stage]:
    """A program whose functions are given numbers, texts and structures."""

    def stage() -> Stage:
        made = WorkloadStage([user_program("specs")], line)
        made.names["program"] = user_program("specs")
        return made

    return stage


class LibraryStage(Stage):
    """A library with a static probe."""

    def __init__(self) -> None:
        super().__init__()
        self.names["library"] = user_program("libtarget")


class CountingStage(Stage):
    """Another run of osmia."""

    def __init__(self) -> None:
        super().__init__()
        self.tool = Tool("funccount", f"{workload('calls')}:by_*").start()

    def close(self) -> None:
        self.tool.stop()


def nothing(stage: Stage) -> None:
    """What is to be seen is there already."""


def nesting(line: str) -> Callable[[], Stage]:
    """A program whose functions sleep."""

    def stage() -> Stage:
        made = WorkloadStage([workload("nested")], line)
        made.names["program"] = workload("nested")
        return made

    return stage


def opening(stage: Stage) -> None:
    assert isinstance(stage, FileStage)
    for name in ("config", "data/one", "data/two", "data/three"):
        stage.files.openat(stage.directory / name)


def climbing() -> Stage:
    """A program that makes a system call, five functions deep."""
    return WorkloadStage([workload("stairs")], "5 1000")


def reading() -> Stage:
    """A program that reads."""
    script = (
        "import os; f, b = os.open('/dev/zero', 0), [bytearray(1 << 20)]; input(); "
        "[os.readv(f, b) for _ in range(9000)]; print()"
    )
    return WorkloadStage([sys.executable, "-c", script], "")


class WakingStage(Stage):
    """A program that sleeps, and one that wakes it ten times after 50 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Wakes()
        self.names.update(pid=self.pair.sleeper, waker=self.pair.waker)

    def close(self) -> None:
        self.pair.__exit__()


def wake(stage: Stage) -> None:
    assert isinstance(stage, WakingStage)
    stage.pair.wake(10, 50_000)


def go(stage: Stage) -> None:
    assert isinstance(stage, WorkloadStage) and stage.process.stdin and stage.process.stdout
    stage.process.stdin.write(stage.line + "\n")
    stage.process.stdin.flush()
    stage.process.stdout.readline()


def leaking() -> Stage:
    """A program that allocates thousands of times and keeps 13 of them, and 40 of another size."""
    return WorkloadStage([user_program("leaks")], "churn 1000\ntwo 13 512\nposix_memalign 40 4000\nfree")


class TerminalStage(Stage):
    """Two processes that read one terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.terminal = Terminal()
        self.names["pid"] = self.terminal.second.pid

    def close(self) -> None:
        self.terminal.close()


def read_terminal(stage: Stage) -> None:
    assert isinstance(stage, TerminalStage)
    stage.terminal.rounds(7, 0.05)


def ordering() -> Stage:
    """A program whose threads take two mutexes in different orders, one thread after the other."""
    return WorkloadStage([user_program("orders")], "forward 0 1\nbackward 1 0")


def go_on(stage: Stage) -> None:
    """What is to be seen is looked for once a second."""
    go(stage)
    time.sleep(2)


def serve(stage: Stage) -> None:
    """A small server starts: its configuration, a missing file, its data by relative names."""
    assert isinstance(stage, FileStage)
    files, place = stage.files, stage.directory
    files.openat(place / "config")
    files.openat(place / "config.local")
    files.chdir(place / "data")
    files.openat("one")
    directory, _ = files.openat(place, os.O_RDONLY | os.O_DIRECTORY)
    files.openat("data/two", os.O_RDWR, directory=directory)
    files.openat2("log", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o640)
    files.openat(b"\x1b[31mred\n")


def programs(stage: Stage) -> None:
    """A shell command line, and one that fails."""
    line = "ls / | wc -l; grep -c processor /proc/cpuinfo"
    subprocess.run(["/bin/sh", "-c", line], stdout=subprocess.DEVNULL, check=False)
    child = os.fork()
    if child == 0:
        try:
            os.execv("/usr/local/bin/no-such-program", ["no-such-program", "--help"])
        finally:
            os._exit(127)
    os.waitpid(child, 0)


def many_arguments(stage: Stage) -> None:
    subprocess.run([TRUE, *[f"argument-{n}" for n in range(30)], "with blanks"], check=False)


def disk_io(stage: Stage) -> None:
    """Direct reads and writes of 4 KiB."""
    buffer = mmap.mmap(-1, 4096)
    fd = os.open(f"/dev/{stage.names['disk']}", os.O_RDWR | os.O_DIRECT)
    for number in range(1000):
        os.preadv(fd, [buffer], number % 1024 * 4096)
        if number % 4 == 0:
            os.pwritev(fd, [buffer], number % 1024 * 4096)
    os.fsync(fd)
    os.close(fd)


def compete(stage: Stage) -> None:
    assert isinstance(stage, PairStage)
    for process in stage.pair:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    for process in stage.pair:
        assert process.stdout
        process.stdout.readline()


def reads_and_writes(stage: Stage) -> None:
    """Direct reads and writes of 4 KiB, one after the other."""
    fd = os.open(f"/dev/{stage.names['disk']}", os.O_RDWR | os.O_DIRECT)
    buffer = mmap.mmap(-1, 4096)
    for number in range(1000):
        os.preadv(fd, [buffer], number * 4096)
    for number in range(250):
        os.pwritev(fd, [buffer], number * 4096)
    os.close(fd)


def bursts(stage: Stage) -> None:
    """Three times, for a second, four programs that compute; a quiet second after each."""
    for _ in range(3):
        loops = [subprocess.Popen(["timeout", "1", "sh", "-c", "while :; do :; done"]) for _ in range(4)]
        for loop in loops:
            loop.wait()
        time.sleep(1)


def forks(stage: Stage) -> None:
    """For three seconds a program after the other."""
    end = time.monotonic() + 3
    while time.monotonic() < end:
        subprocess.run([TRUE], check=False)


def kills(stage: Stage) -> None:
    """A signal to a process, one that only looks whether it is there, and one to nobody."""
    script = "sleep 60 & kill -0 $!; kill -TERM $!; kill -9 4194304"
    subprocess.run(["sh", "-c", script], stderr=subprocess.DEVNULL, check=False)


def interrupts(stage: Stage) -> None:
    """Some disk, timers and network, for a second."""
    with tempfile.TemporaryFile(dir="/var/tmp") as file:
        for _ in range(100):
            file.write(bytes(1 << 16))
            file.flush()
            os.fsync(file.fileno())
            time.sleep(0.01)


SCRIPT = "'sh -c \"/bin/true; ls /no/such; timeout -s KILL 0.3 sleep 60\"'"

SCENES = {
    "opensnoop": Scene("opensnoop -p {pid}", serve, FileStage),
    "opensnoop-failed": Scene("opensnoop -x -p {pid}", serve, FileStage),
    "opensnoop-extended": Scene("opensnoop -Te -f O_WRONLY -f O_RDWR -p {pid}", serve, FileStage),
    "opensnoop-json": Scene("opensnoop --json -p {pid}", lambda stage: one_open(stage), FileStage),
    "execsnoop": Scene("execsnoop -T", programs),
    "execsnoop-fails": Scene("execsnoop -x -t", programs),
    "execsnoop-args": Scene("execsnoop -q", many_arguments),
    "biolatency": Scene("biolatency", disk_io, DiskStage),
    "biolatency-disks": Scene("biolatency -D -d {disk} 1 1", disk_io, DiskStage),
    "biolatency-flags": Scene("biolatency -F -d {disk}", disk_io, DiskStage),
    "biolatency-extension": Scene("biolatency -Qe -d {disk}", disk_io, DiskStage),
    "cpudist": Scene("cpudist", compete, PairStage),
    "cpudist-pid": Scene("cpudist -p {pid}", compete, PairStage),
    "cpudist-offcpu": Scene("cpudist -O -e -p {pid}", compete, PairStage),
    "cpudist-pids": Scene("cpudist -mPT -n sleeper 1 1", compete, PairStage),
    "cpudist-json": Scene("cpudist -j -p {spinner}", compete, PairStage),
    "cpuwalk": Scene("cpuwalk 1 1", lambda _: time.sleep(1), CrowdStage),
    "cpuwalk-name": Scene("cpuwalk -n sh 1 1", lambda _: time.sleep(1), CrowdStage),
    "exitsnoop": Scene("exitsnoop -c " + SCRIPT, lambda _: None),
    "exitsnoop-failed": Scene("exitsnoop -x -t -c " + SCRIPT, lambda _: None),
    "exitsnoop-threads": Scene("exitsnoop --per-thread -n threads -c /tmp/demo-threads", lambda _: None, ThreadStage),
    "runqlen": Scene("runqlen -d 2", lambda _: time.sleep(2), CrowdStage),
    "runqlen-cpus": Scene("runqlen -C 1 1", lambda _: time.sleep(1), CrowdStage),
    "runqlen-occupancy": Scene("runqlen -O 1 1", lambda _: time.sleep(1), CrowdStage),
    "runqlen-occupancy-cpus": Scene("runqlen -TOC 1 1", lambda _: time.sleep(1), CrowdStage),
    "runqslower": Scene("runqslower -P -n sleeper 15000", compete, PairStage),
    "runqslower-pid": Scene("runqslower -p {pid}", compete, PairStage),
    "runqslower-json": Scene("runqslower --json -p {pid} 20000", compete, PairStage),
    "syscount": Scene("syscount -d 1", lambda _: time.sleep(1)),
    "syscount-latency": Scene("syscount -mL -p {pid}", compete, PairStage),
    "syscount-processes": Scene("syscount -P -T 4 1 2", lambda _: time.sleep(2)),
    "syscount-failures": Scene("syscount -x -c 'ls /no/such'", lambda _: None),
    "pidpersec": Scene("pidpersec 1 3", forks),
    "pidpersec-json": Scene("pidpersec --json 1 1", forks),
    "killsnoop": Scene("killsnoop -n sh", kills),
    "killsnoop-failed": Scene("killsnoop -x -n sh", kills),
    "hardirqs": Scene("hardirqs 1 1", interrupts),
    "hardirqs-count": Scene("hardirqs -C 1 1", interrupts),
    "hardirqs-dist": Scene("hardirqs -d -T 1 1", interrupts),
    "softirqs": Scene("softirqs 1 1", interrupts),
    "softirqs-count": Scene("softirqs -C -c 0 1 1", interrupts),
    "softirqs-dist": Scene("softirqs -d -N 1 1", interrupts),
    "profile": Scene("profile -F 99 -p {pid} -U", go, burning),
    "profile-folded": Scene("profile -fa -F 99 -p {pid}", go, burning),
    "profile-plain": Scene("profile -f -F 99 -U -p {pid}", go, plain),
    "profile-dwarf": Scene("profile -f -F 99 -U --dwarf -p {pid}", go, plain),
    "profile-kernel": Scene("profile -K -f -F 199 -p {pid}", go, reading),
    "deadlock": Scene("deadlock {pid}", go_on, ordering),
    "klockstat": Scene("klockstat -n 12", read_terminal, TerminalStage),
    "klockstat-pid": Scene("klockstat -p {pid} -s 5", read_terminal, TerminalStage),
    "memleak": Scene("memleak -o 0 -p {pid}", go, leaking),
    "memleak-top": Scene("memleak -o 0 -a -z 1000 -Z 1100 -p {pid}", go, leaking),
    "memleak-trace": Scene("memleak -t -o 0 -p {pid}", go, lambda: WorkloadStage([user_program("leaks")],
                                                                                 "realloc 2 100")),
    "offcputime": Scene("offcputime -p {pid}", go, napping),
    "offcputime-plain": Scene("offcputime -f -m 20000 -p {pid}", go, plainly_napping),
    "offcputime-dwarf": Scene("offcputime -f -m 20000 --dwarf -p {pid}", go, plainly_napping),
    "offwaketime": Scene("offwaketime -p {pid}", wake, WakingStage),
    "offwaketime-folded": Scene("offwaketime -f -m 20000 -p {pid}", wake, WakingStage),
    "wakeuptime": Scene("wakeuptime -p {pid}", wake, WakingStage),
    "wakeuptime-folded": Scene("wakeuptime -f -m 20000 -p {pid}", wake, WakingStage),
    "trace": Scene("""trace -p {pid} 'sys_openat "%s", arg2'""", opening, FileStage),
    "trace-tracepoint": Scene("""trace -t -p {pid} 't:syscalls:sys_enter_openat ("/data/" in args->filename) "%s", """
                              """args->filename'""", opening, FileStage),
    "trace-structure": Scene(
        """trace -p {pid} '{program}:visit (STRCMP("place-2", where->name)) "%s is number %d, below it %s", """
        """where->name, where->number, where->next->name'""", go, specified("visit 10"),
    ),
    "trace-return": Scene(
        """trace -p {pid} 'r:{program}:slow(int turn) ($latency > 1000) "%d took %d us", $entry(turn), """
        """$latency / 1000'""", go, specified("slow 7"),
    ),
    "trace-stack": Scene("trace -U -A -M 10000 -p {pid} {program}:counted_function", go, calling),
    "argdist": Scene("argdist -p {pid} -C 'p:{program}:size_of(size_t size):size_t:size'", go, specified("sizes 23")),
    "argdist-latency": Scene(
        "argdist -p {pid} -H 'r:{program}:slow():u64:$latency/1000000#milliseconds' "
        "-C 'r:{program}:slow(int turn):int:$entry(turn):$latency > 15000000'", go, specified("slow 7"),
    ),
    "argdist-structure": Scene(
        "argdist -p {pid} -C 'p:{program}:visit():char*,int:where->name,where->inner.depth:where->number < 5'",
        go, specified("visit 10"),
    ),
    "funccount": Scene("funccount -p {pid} '{program}:counted_*'", go, calling),
    "funccount-tracepoints": Scene("funccount -i 1 -d 2 't:sched:sched_process_*'", forks),
    "funclatency": Scene("funclatency -m -p {pid} {program}:nest", go, nesting("3 10 20000")),
    "funcinterval": Scene("funcinterval -m -p {pid} {program}:nest", go, nesting("1 24 15000")),
    "funcslower": Scene("funcslower -a 6 -p {pid} {program}:six", go, nesting("args 3")),
    "funcslower-stacks": Scene("funcslower -U -T -p {pid} {program}:six", go, nesting("args 2")),
    "tplist": Scene("tplist 'block:*issue*'", nothing),
    "tplist-fields": Scene("tplist -v block:block_rq_issue", nothing),
    "tplist-static": Scene("tplist -vv -l {library}", nothing, LibraryStage),
    "ksnoop": Scene("ksnoop info vfs_read ip_send_skb", nothing),
    "inject": Scene("inject kmalloc 'd_alloc_parallel()'", nothing),
    "bpflist": Scene("bpflist", nothing, CountingStage),
    "bpflist-probes": Scene("bpflist -vv", nothing, CountingStage),
    "stackcount": Scene("stackcount -p {pid} {program}:counted_function", go, calling),
    "stackcount-tracepoint": Scene("stackcount -f -P t:syscalls:sys_enter_getpgid", go, climbing),
    "biostacks": Scene("biostacks -d {disk}", reads_and_writes, DiskStage, lines=60),
    "offcputime-folded": Scene("offcputime -f -m 20000 -p {pid}", go, napping),
    "runqlat": Scene("runqlat", compete, PairStage),
    "runqlat-pid": Scene("runqlat -p {pid}", compete, PairStage),
    "runqlat-heatmap": Scene("runqlat --heatmap 0.2", bursts),
    "runqlat-milliseconds": Scene("runqlat -mT -p {spinner} 1 1", compete, PairStage),
}


def one_open(stage: Stage) -> None:
    assert isinstance(stage, FileStage)
    stage.files.openat(stage.directory / "config")
