# SPDX-License-Identifier: Apache-2.0
"""Every example of the reference guide compiles, loads, attaches, and does what it says: FEATURES B12 and B15.

The examples are those of the docstrings, as ``scripts/gen_reference.py``
puts them into ``docs/reference``.  Each runs as a tool does; its check makes
a known number of calls and looks for exactly these.
"""

from __future__ import annotations

import ast
import ctypes
import importlib.util
import itertools
import mmap
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from kernel_code import compile_module, wait_for
from needs import needs

from osmia.cli import stacks as _stacks  # noqa: F401 - importing reads files, which is not to be counted
from osmia.cli import summaries  # noqa: F401 - importing reads files, which is not to be counted
from osmia.cli.common import Common, parser_of
from osmia.cli.session import Session
from osmia.cli.templates import view_of
from osmia.events.decode import Decoder
from osmia.events.prints import RING as PRINT_RING
from osmia.events.prints import Printer
from osmia.events.transport import TRACE_PIPE
from osmia.lang.unit import Unit
from osmia.load.pin import pin, unpin

pytestmark = [pytest.mark.kernel, pytest.mark.vm]


def reference() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "scripts" / "gen_reference.py"
    spec = importlib.util.spec_from_file_location("gen_reference", path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


REFERENCE = reference()
EXAMPLES: dict[str, str] = REFERENCE.examples() | {"filters": REFERENCE.FILTERED}
#: Without a kernel half.
PACKET = EXAMPLES.pop("Packet")
ME, READS, SIZE = os.getpid(), 23, 4099
COMM = f"refs-{ME}"  # examples that count by name must not meet others of this name
LIBC = ctypes.CDLL(None)


@pytest.fixture(scope="module", autouse=True)
def own_name() -> Iterator[None]:
    """This thread is called COMM while the examples run."""
    place = Path("/proc/self/task") / str(ME) / "comm"
    before = place.read_text(encoding="utf-8")
    place.write_text(COMM, encoding="utf-8")
    yield
    place.write_text(before.rstrip("\n"), encoding="utf-8")


class Example:
    """A running example."""

    def __init__(self, made: ModuleType, session: Session) -> None:
        self.module = made
        self.session = session
        self._printed: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    def printed(self) -> list[str]:
        ring = self.session.rings[PRINT_RING]
        while span := ring.take():
            self._printed += Printer(self.session.records).lines(span)
        return self._printed

    def says(self, line: str) -> bool:
        """Whether the line has been printed, once it has had the time."""
        return bool(wait_for(lambda: line in self.printed()))

    def events(self, name: str) -> list[Any]:
        kind, span = getattr(self.module, name).event, b""
        while part := self.session.rings[name].take():
            span += part
        fields = [field.name for field in kind.layout()]
        return [kind(**dict(zip(fields, row, strict=True))) for row in Decoder(kind).rows(span)]

    def shown(self) -> str:
        """What the user sees now."""
        view = view_of(self.session)
        rows = [show(self.session.rings[name].take() or b"") for name, show in view.readers()]
        return view.begin() + "".join(rows) + view.summary(True)


def imported(name: str, folder: Path) -> ModuleType:
    """The example as the reference shows it, imports included, as a module of its own."""
    code = EXAMPLES[name]
    path = folder / f"example_{name}.py"
    path.write_text(code if name == "filters" else REFERENCE.with_imports(code), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    made = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@contextmanager
def running(name: str, folder: Path, *words: str) -> Iterator[Example]:
    made = imported(name, folder)
    unit = Unit(name, vars(made))
    common = Common()
    parser_of(unit, common).parse(list(words))
    session = Session(unit, common)
    try:
        session.start()
        yield Example(made, session)
    finally:
        for link in session.close():
            link.close()
        del sys.modules[made.__name__]


def reads(times: int = READS, size: int = SIZE) -> int:
    """Read from /dev/zero; how many bytes in all."""
    fd = os.open("/dev/zero", os.O_RDONLY)
    total = sum(len(os.read(fd, size)) for _ in range(times))
    os.close(fd)
    return total


def executed(*words: str) -> int:
    """Run a program; its process id."""
    process = subprocess.Popen([shutil.which("true") or "/bin/true", *words])
    process.wait()
    return process.pid


# --------------------------------------------------------------------------
# One check for each example; `it` is the running example.

CHECKS: dict[str, Callable[..., None]] = {}
#: What the kernel must have, and the words on the command line.
NEEDS = {
    "Bloom": "bloom_filter", "kprobe": "kprobe", "kretprobe": "kprobe", "kprobe_multi": "kprobe_multi",
    "kretprobe_multi": "kprobe_multi", "func_ip": "kprobe_multi", "fentry": "fentry", "fexit": "fentry",
    "fmod_ret": "fentry", "lsm": "fentry", "syscall_prog": "syscall_prog", "tc": "tcx", "xdp": "xdp_load_bytes",
    "cgroup_under": "cgroup_under",
}  # fmt: skip
WORDS = {
    **dict.fromkeys(("option", "filters", "fmod_ret"), ("-p", str(ME))),
    "before_attach": ("--uids", f"0,{os.getuid()}"),
}


def check(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def add(function: Callable[..., None]) -> Callable[..., None]:
        CHECKS.update(dict.fromkeys(names, function))
        return function

    return add


def counts_reads(variable: str, key: Callable[[], Any] = lambda: ME, each: int = 1) -> Callable[[Example], None]:
    """The map counts what this process reads, and nothing but that."""

    def look(it: Example) -> None:
        reads()
        assert getattr(it, variable)[key()] == READS * each

    return look


CHECKS |= {
    "Hash": counts_reads("reads"),
    "LruPerCpuHash": counts_reads("recent"),
    "PerCpuHash": counts_reads("asked", each=SIZE),
    "option": counts_reads("reads"),
    "filters": counts_reads("reads"),
    "run": counts_reads("reads", lambda: COMM),
    "fls": counts_reads("lengths", lambda: (ME, SIZE.bit_length())),
    "tail_program": counts_reads("long"),
    "tail_call": counts_reads("long"),
    "cgroup_under": counts_reads("tasks"),
    "current": counts_reads("reads", lambda: (ME, os.getuid(), COMM)),
}


@check("LruHash")
def _(it: Example) -> None:
    before = time.monotonic_ns()
    reads(1)
    assert before < it.opened[ME] < time.monotonic_ns()


@check("Array")
def _(it: Example) -> None:
    before = it.by_length[13]
    reads()
    assert READS <= it.by_length[13] - before <= READS + 1000


@check("PerCpuArray")
def _(it: Example) -> None:
    before = it.switches[0]
    for _ in range(20):
        time.sleep(0.001)
    assert it.switches[0] - before >= 20


@check("Ring", "event_table")
def _(it: Example) -> None:
    child = executed()
    if it.session.unit.template is None:
        assert [e.comm for e in it.events("starts") if e.pid == child] == ["true"]
    else:
        lines = it.shown().splitlines()
        assert lines[0].split() == ["PID", "COMM"] and [str(child), "true"] in [line.split() for line in lines]


@check("pinned")
def _(it: Example) -> None:
    try:
        reads()
        assert it.reads[ME] == READS and os.path.exists("/sys/fs/bpf/reads")
    finally:
        assert unpin("/sys/fs/bpf/reads")


@check("open_map")
def _(it: Example) -> None:
    path = f"/sys/fs/bpf/osmia-docs-{ME}"
    pin(it.session.live.maps["counted"], path)
    try:
        reads(200_003, 1)  # more than any other process may read meanwhile
        assert it.busiest(path) == (ME, 200_003)
    finally:
        assert unpin(path)


@check("LpmTrie")
def _(it: Example) -> None:
    for last in (1, 2, 3, 4, 5):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.connect((f"127.0.0.{last}", 9))
    assert (it.nets["127.0.0.1"], it.nets["127.0.0.9"]) == (3, 2)


@check("Queue", "Stack")
def _(it: Example) -> None:
    first, second = executed(), executed()
    queue = getattr(it.module, "last", None) or it.ids
    mine = [pid for pid in queue.drain() if pid in (first, second)]
    assert mine == ([first, second] if queue.map_type == 22 else [second, first])


@check("Bloom")
def _(it: Example) -> None:
    reads()
    assert ME in it.seen and it.news[ME] == 1


@check("ArrayOfMaps")
def _(it: Example) -> None:
    reads()
    old = it.reads.swap(0)
    reads(2)
    new = it.reads.swap(0)
    assert (old[ME], new[ME]) == (READS, 2)
    old.close(), new.close()


@check("HashOfMaps")
def _(it: Example) -> None:
    inner = it.watched.new(ME)
    reads()
    assert inner[SIZE] == READS
    inner.close()


@check("ProgArray")
def _(it: Example) -> None:
    reads(READS, 8209)
    reads(READS, 4096)
    shot = it.sizes.snapshots()[None]
    assert shot.counts[14] >= READS and not any(shot.counts[:13])  # what is smaller did not jump


@check("StackTraces")
def _(it: Example) -> None:
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        reads(1, 1 << 20)
    stacks = [it.stacks[number] for number in it.counts]
    assert sum(it.counts.values()) >= 20 and all(one >> 63 for stack in stacks for one in stack)
    assert any(len(stack) > 3 for stack in stacks)


@check("Stacks")
def _(it: Example) -> None:
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        reads(1, 1 << 20)
    mine = {(user, kernel): n for (tgid, user, kernel), n in it.counts.items() if tgid == ME}
    assert sum(mine.values()) >= 20
    for user, kernel in mine:
        assert not user or it.stacks[user].user
        assert not kernel or all(address >> 63 for address in it.stacks[kernel])
    assert any(kernel and it.stacks[kernel].depth > 3 for _, kernel in mine)


@check("Counters")
def _(it: Example) -> None:
    reads()
    assert it.spent.snapshots()[None].count >= READS


@check("PerThread")
def _(it: Example) -> None:
    reads()
    assert it.slow.snapshots()[None].count >= READS


@check("ktime", "loglin_hist")
def _(it: Example) -> None:
    start = time.monotonic_ns()
    reads()
    shot = it.took.snapshots()[None]
    assert shot.count >= READS and 0 < shot.min <= time.monotonic_ns() - start


@check("Global")
def _(it: Example) -> None:
    before = it.total.value
    assert it.total.value - before + reads() >= READS * SIZE
    assert it.total.value - before >= READS * SIZE


@check("FlightRecorder")
def _(it: Example) -> None:
    for _ in range(20):
        time.sleep(0.001)
    times = [e.ts for e in it.last.dump()]
    assert len(times) >= 20
    # In the order of their ends: two CPUs may have begun the other way round.
    assert all(later > earlier - 1_000_000 for earlier, later in itertools.pairwise(times))


@check("log2_hist", "histogram")
def _(it: Example) -> None:
    reads()
    shot = it.sizes.snapshots()[COMM]
    count = shot.counts[SIZE.bit_length()]
    assert READS <= count <= READS + 1000 and shot.max >= SIZE  # other programs of this name read, too
    if it.session.unit.template is not None:
        _, _, block = it.shown().partition(f"program = {COMM}\n")
        shown = re.search(r"4096 -> 8191 +: (\d+) ", block)
        assert shown and int(shown[1]) >= count


@check("linear_hist")
def _(it: Example) -> None:
    fds = [os.open("/dev/zero", os.O_RDONLY) for _ in range(40)]
    low = [fd for fd in fds if fd < 64]
    before = it.descriptors.snapshots().get(None)
    for fd in low:
        os.read(fd, 1)
    after = it.descriptors.snapshots()[None]
    for slot in {fd // 4 + 1 for fd in low}:
        expected = sum(fd // 4 + 1 == slot for fd in low)
        assert after.counts[slot] - (before.counts[slot] if before else 0) >= expected
    for fd in fds:
        os.close(fd)


# -- hooks


@check("tracepoint", "raw_tracepoint", "first_of")
def _(it: Example) -> None:
    assert it.says(f"true started as {executed()}")


@check("tp_btf")
def _(it: Example) -> None:
    assert it.says(f"{COMM} started {executed()}")


@check("perf_event")
def _(it: Example) -> None:
    pages = mmap.mmap(-1, 64 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.madvise(mmap.MADV_NOHUGEPAGE)
    first = ctypes.addressof(ctypes.c_char.from_buffer(pages)) // 4096
    for at in range(64):
        pages[at * mmap.PAGESIZE] = 1
    assert all(it.hot[first + at * mmap.PAGESIZE // 4096] >= 1 for at in range(64))


def sent(times: int = READS) -> None:
    """Datagrams of 181 bytes on the loopback device, Ethernet, IP and UDP headers included."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as by:
        to.bind(("127.0.0.1", 0))
        for _ in range(times):
            by.sendto(bytes(181 - 14 - 20 - 8), to.getsockname())
        for _ in range(times):
            to.recv(181)


@check("socket_filter")
def _(it: Example) -> None:
    before = it.bytes_by_protocol.get(0x0800, 0)
    sent()
    # Seen twice on the loopback device: as it leaves, and as it comes in.
    assert it.bytes_by_protocol[0x0800] - before >= 2 * READS * 181


@check("xdp")
def _(it: Example) -> None:
    before = it.count[0]
    sent()
    assert READS <= it.count[0] - before <= READS + 1000


@check("tc")
def _(it: Example) -> None:
    before = it.sent[0], it.sent[1]
    sent()
    assert it.sent[0] - before[0] >= READS and it.sent[1] - before[1] >= READS * 181


@check("iterator")
def _(it: Example) -> None:
    reads()
    for link in it.session.links:
        if hasattr(link, "read"):
            link.read()
    assert it.total[0] >= READS
    assert f"{ME} {COMM}" in it.printed()


@check("syscall_prog")
def _(it: Example) -> None:
    words = it.session.live.progs["double"].test_run((181).to_bytes(8, "little") + bytes(8 * 31))[1]
    assert int.from_bytes(words[8:16], "little") == 362


@check("kprobe")
def _(it: Example) -> None:
    name = f"osmia-{ME}"
    os.close(os.memfd_create("x"))
    Path("/tmp", name).write_bytes(b"")
    assert it.says(f"{COMM} opens {name}")
    Path("/tmp", name).unlink()


@check("kretprobe")
def _(it: Example) -> None:
    reads()
    assert it.results[ME, SIZE] == READS


@check("fentry")
def _(it: Example) -> None:
    before = it.asked.get(ME, 0)
    reads()
    assert it.asked[ME] - before == READS * SIZE


@check("fexit")
def _(it: Example) -> None:
    fd = os.memfd_create("osmia")
    os.write(fd, bytes(100))
    for _ in range(READS):
        os.pread(fd, 181, 0)
    os.close(fd)
    assert it.missing[ME] == READS * 81


@check("fmod_ret")
def _(it: Example) -> None:
    with pytest.raises(PermissionError):
        os.open("/dev/zero", os.O_RDONLY)
    executed()


@check("lsm")
def _(it: Example) -> None:
    before = it.opens.get(ME, 0)
    for _ in range(READS):
        os.close(os.open("/dev/zero", os.O_RDONLY))
    assert it.opens[ME] - before == READS


@check("kprobe_multi", "func_ip")
def _(it: Example) -> None:
    from osmia.kernel.kallsyms import symbol

    before = {key: n for key, n in it.calls.items() if symbol(key[1]) == "vfs_read"}
    key = next(iter(before), None)
    reads(READS, SIZE)
    after = {key: n for key, n in it.calls.items() if symbol(key[1]) == "vfs_read" and key[0] == ME}
    assert len(after) == 1
    key = next(iter(after))
    assert READS <= after[key] - before.get(key, 0) <= READS + 1000  # looking up symbols reads, too


@check("kretprobe_multi")
def _(it: Example) -> None:
    read, write = os.pipe()
    for _ in range(READS):
        with pytest.raises(OSError):
            os.pread(read, 1, 0)  # refused before vfs_read
        with pytest.raises(OSError):
            os.read(write, 1)  # EBADF: not open for reading
    os.close(read), os.close(write)
    assert sum(n for key, n in it.failures.items() if key[0] == ME) == READS


@check("uprobe")
def _(it: Example) -> None:
    for _ in range(5):
        LIBC.getenv(b"OSMIA_DOCS")
    line = f"{ME} asks for OSMIA_DOCS"
    assert it.says(line) and wait_for(lambda: it.printed().count(line) == 5)


@check("uretprobe")
def _(it: Example) -> None:
    for _ in range(5):
        LIBC.usleep(1)
    assert it.slept[ME, 0] == 5


@check("usdt")
def _(it: Example) -> None:
    code = "import gc, os\ngc.disable()\nfor _ in range(7): gc.collect(1)\nos._exit(0)"
    child = subprocess.Popen(["/usr/bin/python3", "-I", "-c", code])
    child.wait()
    # Starting up collects a few times as well; that is measured, not guessed.
    plain = subprocess.Popen(["/usr/bin/python3", "-I", "-c", code.replace("range(7)", "range(0)")])
    plain.wait()
    assert it.collections.get((child.pid, 1), 0) - it.collections.get((plain.pid, 1), 0) == 7


# -- built-ins


@check("boot_ktime")
def _(it: Example) -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    child = executed()
    assert before < it.started[child] < time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@check("cpu")
def _(it: Example) -> None:
    allowed = os.sched_getaffinity(0)
    try:
        for one in sorted(allowed):
            os.sched_setaffinity(0, {one})
            reads(READS + one)
    finally:
        os.sched_setaffinity(0, allowed)
    assert {key[1]: n for key, n in it.runs.items() if key[0] == ME} == {one: READS + one for one in allowed}


@check("random")
def _(it: Example) -> None:
    reads(4000, 1)
    assert it.seen[0] >= 4000 and 0.2 < it.seen[1] / it.seen[0] < 0.3


@check("user_str")
def _(it: Example) -> None:
    os.chdir(os.getcwd())
    assert it.says(f"{ME} changes to {os.getcwd()}"[: len(f"{ME} changes to ") + 63])


@check("kernel_str")
def _(it: Example) -> None:
    assert it.says(f"{executed()} runs {shutil.which('true') or '/bin/true'}")


@check("read_user")
def _(it: Example) -> None:
    LIBC.usleep(12345)
    assert it.asked[ME] == 12345000


@check("read_kernel")
def _(it: Example) -> None:
    assert it.says(f"{executed()} has an absolute path")


@check("cast")
def _(it: Example) -> None:
    LIBC.usleep(12345)
    assert it.says(f"{ME} sleeps 0 s and 12345000 ns")


@check("container_of")
def _(it: Example) -> None:
    child = executed()
    assert it.says(f"{child} is {child}")


@check("exists")
def _(it: Example) -> None:
    executed()
    folios = " folio_wait_bit\n" in Path("/proc/kallsyms").read_text(encoding="ascii", errors="replace")
    if folios:
        assert it.says("this kernel has folios")
    else:
        assert not it.printed()


@check("sizeof")
def _(it: Example) -> None:
    assert it.says(f"{executed()}: a name has 16 bytes")


@check("enum_value")
def _(it: Example) -> None:
    assert it.says(f"{executed()}: the helper has number 5")  # BPF_FUNC_ktime_get_ns in include/uapi/linux/bpf.h


@check("enum_exists")
def _(it: Example) -> None:
    assert it.says(f"{executed()} runs on a kernel with maps")


@check("attach_cookie")
def _(it: Example) -> None:
    for _ in range(5):
        LIBC.getenv(b"OSMIA_DOCS")
    LIBC.setenv(b"OSMIA_DOCS", b"1", 1)
    assert "getenv" in it.called.names[0]
    assert {key[1]: n for key, n in it.calls.items() if key[0] == ME} == {0: 5, 1: 1}


@check("lost")
def _(it: Example) -> None:
    reads()
    assert sum(n for slot, n in it.session.losses.read() if slot.what == "the beginning of a read") >= READS


@check("subprogram")
def _(it: Example) -> None:
    reads()
    assert it.squares[ME] == SIZE * SIZE


@check("machine")
def _(it: Example) -> None:
    reads()
    assert it.reads[ME] == READS


@check("trace_printk")
def _(it: Example) -> None:
    pipe, seen = it.session.rings[TRACE_PIPE], []
    for _ in range(20):  # the pipe is everybody's: another reader may have taken the line
        child = executed()
        pipe.wait(1.0)
        seen += [line.message for line in pipe.fields()]
        if f"true runs as {child}" in seen:
            return
    pytest.fail(f"not in the pipe: {seen}")


# -- types


@check("Str")
def _(it: Example) -> None:
    name = f"/nowhere/osmia-{ME}"
    for _ in range(READS):
        with pytest.raises(FileNotFoundError):
            os.open(name, os.O_RDONLY)
    assert [e.path for e in it.events("opens")].count(name) == READS


@check("Bytes")
def _(it: Example) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("127.0.0.181", 40123))
    addresses = [bytes(e.address)[2:8] for e in it.events("connects")]
    assert addresses.count((40123).to_bytes(2, "big") + bytes((127, 0, 0, 181))) == 1


@check("Data")
def _(it: Example) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        for text in (b"a\0\xff181", b"", bytes(5003)):
            one.sendto(text, ("127.0.0.181", 40181))
    found = [(e.size, e.data) for e in it.events("packets")]
    assert found.count((6, b"a\0\xff181")) == 1 and (0, b"") in found and found.count((5003, bytes(4096))) == 1


@check("FixedArray")
def _(it: Example) -> None:
    fd = os.open("/dev/zero", os.O_RDONLY)
    for _ in range(READS):
        os.read(fd, 40129)
    os.close(fd)
    assert [list(e.args) for e in it.events("reads")].count([fd, 40129]) == READS


@check("User")
def _(it: Example) -> None:
    fd = os.open("/dev/zero", os.O_RDONLY)
    os.close(fd)
    assert it.says(f"/dev/zero: {fd}")


@check("Kernel")
def _(it: Example) -> None:
    first, second = executed(), executed()
    assert it.parents[first] == it.parents[second] and it.parents[first] >> 63  # this process, in the kernel's half


@check("Strs")
def _(it: Example) -> None:
    executed("one", "", "two")
    assert [e.words[1:] for e in it.events("starts")].count(["one", "", "two"]) == 1


@check("Path")
def _(it: Example, folder: Path) -> None:
    (folder / "below").mkdir()
    before = os.getcwd()
    os.chdir(folder)
    os.chdir("below")
    os.chdir(before)
    assert [e.path for e in it.events("opens")].count(f"/{folder.name}/below") == 1


@check("Event")
def _(it: Example) -> None:
    child = subprocess.Popen(["/bin/sh", "-c", "exit 3"])
    child.wait()
    assert [(e.code, e.comm) for e in it.events("exits") if e.pid == child.pid] == [(3, "sh")]


@check("KStruct")
def _(it: Example) -> None:
    executed()
    new = tuple(map(int, os.uname().release.split(".")[:2])) >= (5, 14)
    assert it.says("this kernel is 5.14 or newer" if new else "this kernel is older than 5.14")


# -- templates


@check("before_attach")
def _(it: Example) -> None:
    assert dict(it.wanted) == {0: 1, os.getuid(): 1}
    reads()
    assert it.opens[COMM] >= 1


@check("count_table")
def _(it: Example) -> None:
    reads()
    assert re.search(rf"^ *{ME} +{READS}$", it.shown(), re.M)


@check("stack_table")
def _(it: Example) -> None:
    reads()
    blocks = re.findall(rf"((?:^    .*\n)+)    - +{re.escape(COMM)} \({ME}\)\n +(\d+)\n", it.shown(), re.M)
    assert sum(int(n) for _, n in blocks) == READS


@check("Col")
def _(it: Example) -> None:
    reads()
    assert re.search(rf"^{ME} +{re.escape(COMM.upper())} +{READS}$", it.shown(), re.M)


# --------------------------------------------------------------------------


def test_every_example_has_a_check() -> None:
    assert (set(EXAMPLES) - set(CHECKS), set(CHECKS) - set(EXAMPLES)) == (set(), set())


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_it_compiles(name: str, tmp_path: Path) -> None:
    made = imported(name, tmp_path)
    assert compile_module(made)[:4] == b"\x7fELF"


@pytest.mark.feature("B15 reference guide", "B12 examples")
@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_it_does_what_it_says(name: str, tmp_path: Path) -> None:
    if name in NEEDS:
        needs(NEEDS[name])
    if name == "lsm" and "bpf" not in Path("/sys/kernel/security/lsm").read_text(encoding="ascii").split(","):
        pytest.skip("bpf is not among the active security modules")
    if name == "pinned" and os.path.exists("/sys/fs/bpf/reads"):
        pytest.skip("somebody else has pinned something under that name")
    with running(name, tmp_path, *WORDS.get(name, ())) as it:
        CHECKS[name](*((it, tmp_path) if name == "Path" else (it,)))


def test_a_kernel_function_runs_as_python(tmp_path: Path) -> None:
    imported("machine", tmp_path).test_a_read_is_counted()


def test_a_packet_is_made_in_python() -> None:
    space: dict[str, Any] = {}
    line, _, expression = REFERENCE.with_imports(PACKET).partition("\n\n")
    exec(line, space)
    assert eval(expression, space) == 0x0800


def test_the_imports_are_all_that_is_needed() -> None:
    for name, code in EXAMPLES.items():
        if name != "filters":
            tree = ast.parse(REFERENCE.with_imports(code))
            assert isinstance(tree.body[0], ast.ImportFrom), name
