# SPDX-License-Identifier: Apache-2.0
"""tcpconnlat against the time that connect() takes."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from pathlib import Path

import pytest
from harness import Tool, osmia
from netns import network
from sockets import FAMILIES, Server, exchange, listening

pytestmark = pytest.mark.kernel

ME = os.getpid()
COMM = Path("/proc/self/comm").read_text().strip()
HOSTS = list(FAMILIES)
HEADING = ["PID", "COMM", "IP", "SADDR", "DADDR", "DPORT", "LAT(ms)"]


def table(tool: Tool) -> list[list[str]]:
    assert (tool.status, tool.stderr) == (0, "")
    return [line.split() for line in tool.stdout.splitlines()]


def connected(host: str, port: int) -> tuple[socket.socket, int]:
    """A connection, and the nanoseconds that connect() took."""
    client = socket.socket(FAMILIES[host])
    began = time.monotonic_ns()
    client.connect((host, port))
    return client, time.monotonic_ns() - began


@pytest.mark.parametrize("host", HOSTS)
def test_every_connection_has_a_row(host: str) -> None:
    """No later than connect() has returned."""
    tool = Tool("tcpconnlat", "--json", "-p", str(ME)).start()
    expected = []
    with listening(host) as (server, port):
        for _ in range(13):
            client, ns = connected(host, port)
            expected.append((client.getsockname()[1], ns))
            client.close()
            server.accept()[0].close()
    records = [one for one in tool.stop().records() if "ns" in one]
    assert [one["lport"] for one in records] == [near for near, _ in expected]
    assert all(0 < one["ns"] < ns for one, (_, ns) in zip(records, expected, strict=True))
    assert {(one["pid"], one["comm"], one["family"], one["laddr"], one["raddr"], one["rport"], one["err"])
            for one in records} == {(ME, COMM, FAMILIES[host], host, host, port, 0)}  # fmt: skip


def test_an_answer_that_takes_long() -> None:
    """A server whose queue is full says nothing; the kernel asks again after a second."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        tool = Tool("tcpconnlat", "-L", "-p", str(ME), "500").start()
        first, _ = connected("127.0.0.1", port)
        held: list[tuple[socket.socket, int]] = []
        thread = threading.Thread(target=lambda: held.append(connected("127.0.0.1", port)))
        thread.start()
        time.sleep(0.5)
        server.accept()[0].close()
        thread.join()
        (client, ns) = held[0]
        near = client.getsockname()[1]
        client.close()
        first.close()
        found = table(tool.stop())
    assert found[0] == [*HEADING[:4], "LPORT", *HEADING[4:]]
    (row,) = found[1:]
    assert (row[0], row[4], row[6]) == (str(ME), str(near), str(port))
    assert 500 <= float(row[7]) <= ns / 1e6 and re.fullmatch(r"\d+\.\d\d", row[7])


def test_a_refusal_is_an_answer() -> None:
    with listening() as (_, port):
        pass
    tool = Tool("tcpconnlat", "--json", "-p", str(ME)).start()
    for _ in range(7):
        with socket.socket() as one, pytest.raises(ConnectionRefusedError):
            one.connect(("127.0.0.1", port))
    assert [(one["rport"], one["err"]) for one in tool.stop().records() if "ns" in one] == [(port, 111)] * 7


def test_silence_is_none() -> None:
    """Nobody is at that address: the program gives up, and there was no answer."""
    with network():
        tool = Tool("tcpconnlat", "--json", "-p", str(ME)).start()
        with socket.socket() as one:
            one.settimeout(0.1)
            with pytest.raises(OSError, match=r"timed out|route"):
                one.connect(("10.77.0.99", 81))
        assert [one for one in tool.stop().records() if "ns" in one] == []


def test_connects_that_do_not_wait() -> None:
    """The program goes on; the answer's time is measured all the same."""
    tool = Tool("tcpconnlat", "--json", "-p", str(ME)).start()
    with listening() as (server, port), socket.socket() as client:
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
        server.accept()[0].close()
        near = client.getsockname()[1]
    assert [one["lport"] for one in tool.stop().records() if "ns" in one] == [near]


@pytest.mark.parametrize(
    ("words", "count"),
    [(["-4"], 3), (["-6"], 2), ([], 5), (["0"], 5), (["100000"], 0), (["-n", "nobody"], 0), (["--uid", "0"], 5)],
)
def test_what_is_shown(words: list[str], count: int) -> None:
    tool = Tool("tcpconnlat", "-p", str(ME), *words).start()
    for host in ("127.0.0.1", "::1", "127.0.0.1", "::1", "127.0.0.1"):
        exchange(host)
    found = table(tool.stop())
    assert found[0] == HEADING and len(found) == count + 1


def test_others_are_left_out() -> None:
    """-p is who connects."""
    with Server() as server:
        tool = Tool("tcpconnlat", "-p", str(server.pid)).start()
        server.visit()
        assert len(table(tool.stop())) == 1


def test_the_time() -> None:
    tool = Tool("tcpconnlat", "-t", "-p", str(ME)).start()
    exchange("127.0.0.1")
    exchange("127.0.0.1")
    found = table(tool.stop())
    assert found[0] == ["TIME(s)", *HEADING] and found[1][0] == "0.000" and float(found[2][0]) >= 0


@pytest.mark.anywhere
@pytest.mark.parametrize(("words", "says"), [
    (["-4", "-6"], "-4 and -6 exclude each other; leave both out for both families"),
    (["-1"], "unknown option -1; see osmia tcpconnlat --help"),
    (["nan"], "duration_ms: nan is not a time: 0 milliseconds or more are needed"),
])  # fmt: skip
def test_bad_input(words: list[str], says: str) -> None:
    done = osmia("tcpconnlat", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"osmia: tcpconnlat: {says}\n")
