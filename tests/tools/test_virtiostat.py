# SPDX-License-Identifier: Apache-2.0
"""virtiostat: its kernel half as plain Python, and live where functions can be traced and there is a virtio console.

A port of the console is a file: what is written to it at once is one request of one entry, what is spliced to it has an
entry for each page.  Ports have two queues each, and their numbers are in the standard (Virtual I/O Device, 5.3.2).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness import REPO, Tool, osmia
from needs import needs, skip_unbuilt

from osmia import machine
from osmia.errors import NotSupported
from osmia.kernel import features
from osmia.tools import _virtqueues as kernel
from osmia.tools import virtiostat

COMMANDS = (REPO / "tests" / "fixtures" / "bcc" / "virtiostat.txt").read_text().splitlines()
WRITES, SIZE = 17, 1000
PAGES, PAGE = 7, 4096
LOOKUPS = 23
LINE = (b"." * 63 + b"\n") * 64  # the host writes it into its log
CONTROL = 8  # bytes of struct virtio_console_control: each open, and each close, is told to the host
HEAD = "        Driver   Device    VQ Name  In SGs Out SGs          In BW         Out BW  VQ"
REFUSED = ("osmia: virtiostat: virtio has no tracepoints, and this kernel lets nobody trace its functions; "
           "a kernel with kprobes or fentry is needed\n")  # fmt: skip
PORTS = Path("/sys/class/virtio-ports")
ENTRY = 32  # bytes of a simulated struct scatterlist


class Memory:
    """Scatter-gather lists at simulated addresses."""

    def __init__(self) -> None:
        self.entries: dict[int, SimpleNamespace] = {}
        self.next = 0x1000

    def array(self, *lengths: int, chained: int = 0, end: bool = True) -> int:
        """A piece of a list; its last entry ends the list, or leads on to ``chained``."""
        start = self.next
        self.next += 0x100000
        for i, length in enumerate(lengths):
            self.entries[start + ENTRY * i] = SimpleNamespace(page_link=0xF000, length=length, dma_length=length + 1)
        last = start + ENTRY * (len(lengths) - 1)
        if chained:
            self.entries[last + ENTRY] = SimpleNamespace(page_link=chained | 1, length=0, dma_length=0)
        elif end:
            self.entries[last].page_link |= 2
        return start

    def cast(self, pointer: Any, kind: str) -> Any:
        nothing = SimpleNamespace(page_link=0, length=0, dma_length=0)
        return self.entries.get(pointer, nothing) if kind == "struct scatterlist" else pointer


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    made = Memory()
    monkeypatch.setattr(kernel, "cast", made.cast)
    monkeypatch.setattr(kernel, "sizeof", lambda _: ENTRY)
    yield made
    kernel.sums.clear()
    machine.memory.clear()
    machine.lost.clear()
    kernel.driver.value, kernel.device.value, kernel.lists.value = "", -1, False


def queue(number: int = 3, driver: str = "virtio_blk", name: str = "req.0", index: int = 0) -> Any:
    device = SimpleNamespace(index=number, dev=SimpleNamespace(driver=SimpleNamespace(name=driver)))
    return SimpleNamespace(vdev=device, name=name, index=index)


def several(memory: Memory, outs: list[int], ins: list[int], **words: Any) -> None:
    """A request of several lists."""
    at = 0x900000000
    machine.memory.update({at + 8 * i: first for i, first in enumerate([*outs, *ins])})
    kernel.add_sgs(queue(**words), at, len(outs), len(ins))


def found() -> list[tuple[Any, ...]]:
    return [(f"virtio{k.device}", k.driver, k.queue, k.index, v.in_sgs, v.out_sgs, v.in_bytes, v.out_bytes)
            for k, v in kernel.sums.items()]  # fmt: skip


@pytest.mark.anywhere
def test_entries_of_chains_are_counted(memory: Memory) -> None:
    """A list goes on where it is chained to another array; what the device writes comes behind what it reads."""
    tail = memory.array(100, 1000)
    chained = memory.array(1, 10, chained=tail)
    several(memory, [memory.array(16), chained], [memory.array(512, 512, 512), memory.array(1)])
    assert found() == [("virtio3", "virtio_blk", "req.0", 0, 4, 5, 1537, 1127)] and not machine.lost
    kernel.lists.value = True
    several(memory, [memory.array(16), chained], [memory.array(1)], number=4)
    assert found()[1] == ("virtio4", "virtio_blk", "req.0", 0, 1, 2, 1, 1127)


@pytest.mark.anywhere
def test_each_function(memory: Memory) -> None:
    one = memory.array(1500, 36)
    kernel.add_outbuf(queue(index=1), one)
    for add in (kernel.add_inbuf, kernel.add_inbuf_ctx):
        add(queue(index=2), one)
    kernel.add_outbuf_premapped(queue(index=3), one)
    kernel.add_inbuf_premapped(queue(index=4), one)
    assert [row[3:] for row in found()] == [
        (1, 0, 2, 0, 1536), (2, 4, 0, 3072, 0), (3, 0, 2, 0, 1538), (4, 2, 0, 1538, 0)
    ]  # fmt: skip


@pytest.mark.anywhere
def test_what_has_too_many_entries_is_counted_as_lost(memory: Memory) -> None:
    kernel.add_outbuf(queue(), memory.array(*[2] * kernel.MOST))
    assert not machine.lost and found()[0][5:] == (kernel.MOST, 0, 2 * kernel.MOST)
    kernel.add_outbuf(queue(), memory.array(*[2] * (kernel.MOST + 1)))
    assert machine.lost == {"ends of requests that have too many entries": 1}
    assert found()[0][5:] == (2 * kernel.MOST, 0, 4 * kernel.MOST)


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("driver", "device", "seen"),
    [("virtio_blk", -1, [3]), ("virtio_net", -1, [0, 11]), ("virtio", -1, []), ("", 0, [0]), ("", 1, []),
     ("virtio_net", 3, []), ("virtio_net", 11, [11])],
)  # fmt: skip
def test_filters_in_the_kernel(memory: Memory, driver: str, device: int, seen: list[int]) -> None:
    kernel.driver.value, kernel.device.value = driver, device
    for number, name in ((3, "virtio_blk"), (0, "virtio_net"), (11, "virtio_net")):
        kernel.add_outbuf(queue(number, name), memory.array(1))
    assert sorted(key.device for key, _ in kernel.sums.items()) == seen


@pytest.mark.anywhere
def test_no_virtio_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "isdir", lambda _: False)
    with pytest.raises(NotSupported, match="this machine has no virtio devices"):
        virtiostat.prepare()


def locked() -> bool:
    return features.has("kprobe") is False and not features.has("fentry")


@pytest.mark.kernel
@pytest.mark.anywhere
def test_where_functions_cannot_be_traced() -> None:
    """Nothing else tells what goes into the queues: there are no tracepoints."""
    assert {path.name for path in Path("/sys/kernel/tracing/events").glob("virtio*")} <= {"virtio_gpu"}
    if not os.path.isdir("/sys/bus/virtio"):
        pytest.skip("a machine without virtio")
    done = osmia("virtiostat", "--duration", "0.2")
    if locked():
        assert (done.returncode, done.stdout, done.stderr) == (1, "", REFUSED)
    else:
        assert done.returncode == 0 and done.stderr == ""


@pytest.fixture
def traced() -> None:
    needs("kprobe")
    if not os.path.isdir("/sys/bus/virtio"):
        skip_unbuilt("VIRTIO", "virtio", "a kernel without virtio")


class Port:
    """A port of a virtio console that nobody else uses: its file, its device, and the queues that go out."""

    def __init__(self, place: Path) -> None:
        self.file = f"/dev/{place.name}"
        self.device = (place / "device").resolve().name
        number = int(place.name.rpartition("p")[2])
        self.control, self.out = 3, 2 * number + 3 if number else 1

    def use(self) -> None:
        """So many writes, and pages that are spliced to it at once."""
        read, write = os.pipe()
        for _ in range(PAGES):
            os.write(write, LINE[:PAGE])
        fd = os.open(self.file, os.O_WRONLY | os.O_NONBLOCK)
        for _ in range(WRITES):
            assert os.write(fd, LINE[:SIZE]) == SIZE
        assert os.splice(read, fd, PAGES * PAGE) == PAGES * PAGE  # type: ignore[attr-defined]
        for one in (read, write, fd):
            os.close(one)

    def row(self, queue: str, index: int, sgs: int, octets: int) -> dict[str, Any]:
        """What went out."""
        return {"driver": "virtio_console", "device": self.device, "queue": queue, "in_sgs": 0, "out_sgs": sgs,
                "in_bytes": 0, "out_bytes": octets, "index": index}  # fmt: skip


@pytest.fixture
def port(traced: None) -> Port:
    subprocess.run(["modprobe", "-q", "virtio_console"], check=False)
    for name in ("virtme.dev_stderr", "virtme.dev_stdout"):
        for place in sorted(PORTS.glob("vport*")):
            if (place / "name").read_text().strip() == name:
                return Port(place)
    pytest.skip("a machine that is no guest of the kernel matrix has no port of a virtio console that nobody uses")


def rows(tool: Tool) -> list[dict[str, Any]]:
    """Of a run with ``--json`` and one summary, where nothing was lost."""
    assert tool.status == 0 and tool.stderr == "", tool.stderr
    (record,) = [record for record in tool.records() if "rows" in record]
    found: list[dict[str, Any]] = record["rows"]
    return found


def look_up() -> None:
    """Names that are not there, each of which costs 9p a request (Twalk)."""
    top = os.open("/", os.O_RDONLY)
    for number in range(LOOKUPS):
        with pytest.raises(FileNotFoundError):
            os.stat(f"{'x' * 101}{number:02}", dir_fd=top)
    os.close(top)


@pytest.mark.kernel
@pytest.mark.feature("B13 tools")
def test_what_goes_out_and_in(port: Port) -> None:
    """Each write is an entry, and so is each page of what is spliced, in one list.

    Open and close are told through another queue.  Of 9p's root there is more than what is done here: a list of a
    request goes out, one for the answer comes in.
    """
    assert Path(f"/sys/bus/virtio/devices/{port.device}/driver").resolve().name == "virtio_console"
    everything = Tool("virtiostat", "--json", "-i", "9999").start()
    lists = Tool("virtiostat", "--csv", "--lists", "-d", "virtio_console", "9999").start()
    nothing = Tool("virtiostat", "--json", "-i", "9999", "-n", port.device, "-d", "9pnet_virtio").start()
    table = Tool("virtiostat", "-n", port.device, "-T", "9999").start()
    port.use()
    look_up()
    for tool in (everything, lists, nothing, table):
        tool.stop()
    sgs, octets = WRITES + PAGES, WRITES * SIZE + PAGES * PAGE
    found = rows(everything)
    seen = {row["index"]: row for row in found if row["device"] == port.device}
    assert seen[port.out] == port.row("output", port.out, sgs, octets)
    assert seen[port.control] == port.row("control-o", port.control, 2, 2 * CONTROL)
    order = [(int(row["device"].removeprefix("virtio")), row["index"]) for row in found]
    assert order == sorted(order)
    if " / 9p " in Path("/proc/mounts").read_text():
        root = max(found, key=lambda row: row["out_bytes"] * (row["driver"] == "9pnet_virtio"))
        assert (root["queue"], root["index"]) == ("requests", 0)
        assert root["out_sgs"] >= LOOKUPS and root["in_sgs"] >= LOOKUPS
        # size, type, tag, two fids, how many names, the name's length; at least the first three and a number back
        assert root["out_bytes"] >= LOOKUPS * (4 + 1 + 2 + 4 + 4 + 2 + 2 + 103) and root["in_bytes"] >= LOOKUPS * 11
    assert rows(nothing) == []
    first, *cells = lists.stdout.splitlines()
    assert first == "Driver,Device,VQ Name,In SGs,Out SGs,In BW,Out BW,VQ"
    assert f"virtio_console,{port.device},output,0,{WRITES + 1},0,{octets},{port.out}" in cells
    assert all(cell.startswith("virtio_console,") for cell in cells)
    banner, empty, time, head, *lines = table.stdout.splitlines()
    assert (banner, empty, head) == ("Tracing virtio devices statistics ... Hit Ctrl-C to end.", "", HEAD)
    assert re.fullmatch(r"\d\d:\d\d:\d\d", time) and any("control-o" in line for line in lines)
    assert lines[-1] == (f"virtio_console {port.device:>8}     output       0 {sgs:>7}              0 "
                         f"{octets:>14} {port.out:>3}")  # fmt: skip


@pytest.mark.kernel
def test_how_it_is_attached(traced: None) -> None:
    done = osmia("virtiostat", "-D", "0.2", "2")
    assert done.returncode == 0 and done.stdout.count(HEAD) == 2 and "rejects" not in done.stderr, done.stderr
    for function in ("sgs", "outbuf", "inbuf", "inbuf_ctx"):
        where = rf"add_{function}: attached to (fentry|kprobe):virtqueue_add_{function}\b"
        assert re.search(where, done.stderr), done.stderr


@pytest.mark.kernel
@pytest.mark.anywhere
@pytest.mark.parametrize("command", COMMANDS)
def test_what_bcc_documents_is_taken(command: str) -> None:
    """Where functions cannot be traced, it is that what is said, and nothing about the command."""
    if locked():
        done = osmia(*shlex.split(command))
        assert (done.returncode, done.stdout, done.stderr) == (1, "", REFUSED)
        return
    tool = Tool(*shlex.split(command)).start().stop()
    assert tool.status == 0 and tool.stdout.startswith("Tracing virtio devices statistics")
    assert all(line.startswith("osmia: ") for line in tool.stderr.splitlines())
    assert bool(tool.stderr) == ("-D" in command)


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-d", "5"], "option -d: '5' is no driver (seconds are for --duration)"),
        (["-d", "x" * 32], f"option -d: '{'x' * 32}' is no driver: names have 1 to 31 bytes"),
        (["-n", "eth0"], "option -n: 'eth0' is no virtio device: /sys/bus/virtio/devices has them, as in virtio0"),
        (["x"], "interval: 'x' is not a number of seconds"),
    ],
)  # fmt: skip
def test_mistakes(words: list[str], text: str) -> None:
    done = osmia("virtiostat", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"osmia: virtiostat: {text}\n")
