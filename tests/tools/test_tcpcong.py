# SPDX-License-Identifier: Apache-2.0
"""tcpcong against the kernel's own trace of the same changes of state, on a cable that loses segments."""

from __future__ import annotations

import os
import re
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import Tool, osmia
from needs import needs_tracepoint
from tunnel import FAR, FAR6, Cable, cable
from wired import ENDS, PORT, arrived, lose_some, server

from osmia.kernel import tracefs

pytestmark = pytest.mark.kernel

NAMES = ("open", "disorder", "cwr", "recovery", "loss")
EVENT = re.compile(r" (\d+\.\d+): tcp_cong_state_set:.* sport=(\d+) dport=(\d+) .*cong_state=(\d)")


@pytest.fixture(autouse=True)
def _needed() -> None:
    needs_tracepoint("tcp:tcp_cong_state_set", "5.19")


@pytest.fixture
def wire() -> Iterator[Cable]:
    with cable(0.004) as made:
        yield made


class Log:
    """What the kernel writes into a trace buffer of our own about connections to the server's port."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def spent(self, port: int) -> tuple[Counter[str], int]:
        """Microseconds by state from the first change on, and how many changes followed it."""
        out: Counter[str] = Counter()
        state, since, changes = 0, 0.0, 0
        for found in map(EVENT.search, (self.place / "trace").read_text().splitlines()):
            if not found or int(found[2]) != port or int(found[4]) == state:
                continue
            if since:
                out[NAMES[state]] += round((float(found[1]) - since) * 1e6)
                changes += 1
            state, since = int(found[4]), float(found[1])
        return out, changes


@contextmanager
def log() -> Iterator[Log]:
    place = Path(tracefs.root()) / "instances" / f"osmia-{os.getpid()}"
    place.mkdir()
    try:
        (place / "trace_clock").write_text("mono")
        event = place / "events" / "tcp" / "tcp_cong_state_set"
        (event / "filter").write_text(f"dport == {PORT}")
        (event / "enable").write_text("1")
        yield Log(place)
        (event / "enable").write_text("0")
    finally:
        place.rmdir()


def suffer(wire: Cable, host: str = FAR) -> int:
    """A connection that loses some segments, and then the last one twice; its port."""
    with lose_some(wire, host) as client:
        wire.lose(2, lambda one: one.size > 0)
        client.sendall(b"1")
        arrived(client)
        port: int = client.getsockname()[1]
        return port


def rows(tool: Tool, port: int) -> list[dict[str, Any]]:
    assert tool.status == 0 and tool.stderr == ""
    return [row for record in tool.records() for row in record.get("rows", []) if row["lport"] == port]


@pytest.mark.parametrize("host", [FAR, FAR6])
def test_what_the_kernel_traces(wire: Cable, host: str) -> None:
    """As many changes, and as long in each state, to a part of a millisecond each."""
    with log() as seen, server(wire, host):
        tool = Tool("tcpcong", "--json").start()
        port = suffer(wire, host)
        (row,) = rows(tool.stop(), port)
        spent, changes = seen.spent(port)
    assert (row["laddr"], row["raddr"], row["rport"]) == (ENDS[host], host, PORT)
    assert row["changes"] == changes >= 4 and row["recovery"] > 0 and row["loss"] > 0
    for name in NAMES:
        assert abs(row[name] / 1e3 - spent[name]) <= 2000 * changes, (name, row, spent)
        assert bool(row[name]) == bool(spent[name])


def test_intervals_add_up(wire: Cable) -> None:
    with log() as seen, server(wire):
        tool = Tool("tcpcong", "--json", "0.2").start()
        port = suffer(wire)
        found = rows(tool.stop(), port)
        _, changes = seen.spent(port)
    assert sum(row["changes"] for row in found) == changes


@pytest.mark.parametrize("host", [FAR, FAR6])
def test_the_table(wire: Cable, host: str) -> None:
    """As bcc shows it, in microseconds."""
    with log() as seen, server(wire, host):
        tool = Tool("tcpcong", "-u", "-T").start()
        port = suffer(wire, host)
        tool.stop()
        spent, changes = seen.spent(port)
    assert tool.status == 0 and tool.stderr == ""
    lines = tool.stdout.splitlines()
    assert lines[0] == "Tracing tcp congestion control status duration... Hit Ctrl-C to end."
    assert any(re.fullmatch(r"\d\d:\d\d:\d\d", line) for line in lines)
    suffix = "6" if host == FAR6 else ""
    heads = [f"LAddrPort{suffix}", f"RAddrPort{suffix}", "Open_us", "Dod_us", "Rcov_us", "Cwr_us", "Los_us", "Chgs"]
    assert heads in [line.split() for line in lines]
    (row,) = [line.split() for line in lines if line.startswith(f"{ENDS[host]}/{port} ")]
    assert row[1] == f"{host}/{PORT}" and int(row[7]) == changes
    for name, shown in zip(("open", "disorder", "recovery", "cwr", "loss"), row[2:7], strict=True):
        assert abs(int(shown) - spent[name]) <= 2000 * changes


def test_histograms(wire: Cable) -> None:
    """-d: each time in a state is one in its histogram."""
    with log() as seen, server(wire):
        tool = Tool("tcpcong", "-d", "-u", "-R", str(PORT), "--json").start()
        ports = [suffer(wire), suffer(wire)]
        tool.stop()
        spent = [seen.spent(port) for port in ports]
    assert tool.status == 0 and tool.stderr == ""
    found = {one["label"]: one for record in tool.records() for one in record.get("histograms", [])}
    assert sum(one["count"] for one in found.values()) == sum(changes for _, changes in spent)
    for name, one in found.items():
        assert abs(one["sum"] - sum(times[name] for times, _ in spent)) <= 2000 * one["count"]


@pytest.mark.parametrize(
    ("words", "shown"),
    [(["-R", str(PORT)], True), (["-R", "7000-7010"], True), (["-R", "7010-7000"], True), (["-R", "7008-7010"], False),
     (["-L", "1-1023"], False), (["-L", "1024-65535"], True), (["-L", str(PORT), "-R", str(PORT)], False)],
)  # fmt: skip
def test_ports(wire: Cable, words: list[str], shown: bool) -> None:
    with server(wire):
        tool = Tool("tcpcong", "--json", *words).start()
        port = suffer(wire)
        assert bool(rows(tool.stop(), port)) == shown


def test_a_connection_without_losses(wire: Cable) -> None:
    """bcc has no rows for those that do not change."""
    with server(wire), socket.create_connection((FAR, PORT)) as client:
        tool = Tool("tcpcong", "--json").start()
        client.sendall(bytes(200_000))
        arrived(client)
        assert rows(tool.stop(), client.getsockname()[1]) == []


@pytest.mark.parametrize("word", ["0", "x", "1-", "70000"])
def test_mistakes(word: str) -> None:
    done = osmia("tcpcong", "-L", word)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"osmia: tcpcong: option -L: '\w*' is not a port: a number from 1 to 65535\n", done.stderr)
