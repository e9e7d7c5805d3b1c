# SPDX-License-Identifier: Apache-2.0
"""softirqslower against datagrams on the loopback device, each of which is one soft interrupt, and /proc/softirqs.

The times are the kernel half's own, run as plain Python: no machine makes a
soft interrupt wait on demand.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from harness import Told, Tool, osmia
from test_irqs import less, soft
from test_runqlat import ATTEMPTS

from osmia import machine
from osmia.kernel import cpus
from osmia.tools import _irqs, softirqslower

PACKETS = 101
CPU = max(os.sched_getaffinity(0))
ROW = re.compile(r"^\d\d:\d\d:\d\d (irq\(hard\) to softirq|softirq runtime {5}) (\w+) +(\d+) +(\d+) +(\S.*)$")
#: A process that sends itself a datagram a number of times, and waits for each.
SENDER = f"""
import os, socket, sys
os.sched_setaffinity(0, [{CPU}])
open('/proc/self/comm', 'w').write('datagrams')
out, into = socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_DGRAM)
into.bind(('127.0.0.1', 0))
for line in sys.stdin:
    for _ in range(int(line)):
        out.sendto(b'x', into.getsockname())
        into.recv(1)
    print('done', flush=True)
"""


def rows(tool: Tool) -> list[tuple[str, str, int, int, str]]:
    """Stage, kind, microseconds, CPU and thread of all rows, which have the form that they should have."""
    head, *lines = tool.rows()
    assert head.split() == ["TIME", "STAGE", "SOFTIRQ", "LAT(us)", "CPU", "COMM"]
    found = [ROW.match(line) for line in lines]
    assert all(found), tool.stdout
    return [(row[1].strip(), row[2], int(row[3]), int(row[4]), row[5]) for row in found if row]


@pytest.mark.kernel
def test_each_one_has_both_stages(record_property: Any) -> None:
    """0 shows all: those of one CPU are as many as the kernel counts, one for each datagram among them."""
    record_property("row", "tool:softirqslower")
    with Told(sys.executable, "-c", SENDER) as sender:
        sender.tell("1")
        for _ in range(ATTEMPTS):
            before = soft(CPU)
            tool = Tool("softirqslower", "-c", str(CPU), "0").start()
            inner = soft(CPU)
            sender.tell(str(PACKETS))
            inner = less(soft(CPU), inner)
            tool.stop()
            outer = less(soft(CPU), before)
            assert tool.status == 0 and tool.stderr == ""
            banner = "Tracing softirq latency higher than 0 us... Hit Ctrl-C to end.\n"
            assert tool.stdout.startswith(banner + "TIME     STAGE ")
            found = rows(tool)
            assert {row[3] for row in found} == {CPU}
            ran = [row[1] for row in found if row[0] == "softirq runtime"]
            for kind in {*ran, "net_rx"}:
                assert 0.8 * inner[kind] - 5 <= ran.count(kind) <= outer[kind], kind
            waits = [row for row in found if row[:2] == ("irq(hard) to softirq", "net_rx")]
            mine = [row for row in found if row[:2] == ("softirq runtime", "net_rx") and row[4] == "datagrams"]
            # Whoever else is interrupted may do the work of a datagram or two; one of other programs comes besides.
            if ran.count("net_rx") >= PACKETS <= len(waits) and len(mine) >= 0.9 * PACKETS:
                return
    pytest.fail(f"{len(mine)} of {ran.count('net_rx')} for {PACKETS} datagrams")


@pytest.mark.kernel
def test_only_long_ones() -> None:
    """Two runs at the same time: the one with a limit shows those that are longer, whatever else is there."""
    with Told(sys.executable, "-c", SENDER) as sender:
        sender.tell("1")
        every, some = [Tool("softirqslower", "--json", *words).start() for words in (["0"], ["40"])]
        sender.tell("1009")
        times = [[one["delta_us"] for one in tool.stop().records() if "delta_us" in one] for tool in (every, some)]
    assert all(n >= 40 for n in times[1])
    # Each has its own clock readings, some microseconds apart.
    assert sum(n >= 100 for n in times[0]) * 0.5 <= len(times[1]) <= sum(n >= 10 for n in times[0]) + 5


@pytest.mark.kernel
def test_json_has_names_and_numbers() -> None:
    with Told(sys.executable, "-c", SENDER) as sender:
        tool = Tool("softirqslower", "0", "--json").start()
        sender.tell("23")
        records = [one for one in tool.stop().records() if "vec" in one]
    assert {one["cpu"] for one in records} <= set(cpus.online())
    assert {(one["stage_number"], one["stage"]) for one in records} == {
        (1, "irq(hard) to softirq"), (2, "softirq runtime")
    }  # fmt: skip
    assert (3, "net_rx") in {(one["vec"], one["softirq"]) for one in records}


@pytest.mark.kernel
@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["x"], "min_us: 'x' is not a whole number of microseconds"),
        (["-c", "x"], "option -c: there is no CPU 'x' that is online: " + ", ".join(map(str, cpus.online()))),
        (["-p", "1"], "unknown option -p; see osmia softirqslower --help"),
    ],
)
def test_mistakes(words: list[str], text: str) -> None:
    done = osmia("softirqslower", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"osmia: softirqslower: {text}\n")


# --- the kernel half as plain Python ------------------------------------------------------------------------------

NET_RX, TIMER = 3, 1


@pytest.fixture
def seen() -> Iterator[list[Any]]:
    """What the kernel half sends."""
    yield softirqslower.slow.sent
    softirqslower.slow.sent.clear()
    softirqslower.min_us.value, _irqs.only.value = 10_000, -1
    for table in (softirqslower.raised, softirqslower.starts):
        table.clear()
    machine.ktime = machine.cpu = 0


def at(usecs: int, program: Any, vec: int, cpu: int = 0) -> None:
    machine.ktime, machine.cpu = usecs * 1000, cpu
    program(vec)


def told(seen: list[Any]) -> list[tuple[int, int, int, int]]:
    return [(e.stage_number, e.vec, e.delta_us, e.cpu) for e in seen]


def test_both_stages_are_measured(seen: list[Any]) -> None:
    at(100, softirqslower.due, NET_RX)
    at(9000, softirqslower.due, NET_RX)  # once more while it waits: it is still due since 100
    at(20_000, softirqslower.due, TIMER)
    at(23_100, softirqslower.enter, NET_RX)
    at(53_100, softirqslower.leave, NET_RX)
    at(53_200, softirqslower.enter, TIMER)
    at(53_300, softirqslower.leave, TIMER)
    assert told(seen) == [(1, NET_RX, 23_000, 0), (2, NET_RX, 30_000, 0), (1, TIMER, 33_200, 0)]


def test_the_limit_is_shown_too(seen: list[Any]) -> None:
    for end in (9_999, 10_000):
        at(1000, softirqslower.enter, NET_RX)
        at(1000 + end, softirqslower.leave, NET_RX)
    assert told(seen) == [(2, NET_RX, 10_000, 0)]


def test_what_began_before_the_trace_has_no_time(seen: list[Any]) -> None:
    """bcc's first rows are as long as the machine is up."""
    at(10**9, softirqslower.leave, NET_RX)
    at(10**9, softirqslower.enter, NET_RX)
    assert told(seen) == []
    at(10**9 + 17_000, softirqslower.leave, NET_RX)
    assert told(seen) == [(2, NET_RX, 17_000, 0)]


def test_one_cpu(seen: list[Any]) -> None:
    _irqs.only.value = 1
    for cpu in (0, 1):
        at(1, softirqslower.enter, NET_RX, cpu)
        at(13_001, softirqslower.leave, NET_RX, cpu)
    assert told(seen) == [(2, NET_RX, 13_000, 1)]


def test_kinds_that_nobody_knows_yet(seen: list[Any]) -> None:
    at(1, softirqslower.enter, 15)
    at(13_001, softirqslower.leave, 15)
    at(1, softirqslower.enter, 16)
    at(13_001, softirqslower.leave, 16)
    assert told(seen) == [(2, 15, 13_000, 0)] and _irqs.softirq_name(15) == "15"
