# SPDX-License-Identifier: Apache-2.0
"""tcptracer against connections that are opened, accepted and closed here."""

from __future__ import annotations

import os
import re
import socket
import struct
from pathlib import Path

import pytest
from harness import Tool, osmia
from netns import network
from sockets import FAMILIES, Server, closed, exchange, listening

pytestmark = pytest.mark.kernel

ME = os.getpid()
COMM = Path("/proc/self/comm").read_text().strip()
HOSTS = list(FAMILIES)
HEADING = ["T", "PID", "COMM", "IP", "SADDR", "DADDR", "SPORT", "DPORT"]
BANNER = "Tracing TCP established connections. Ctrl-C to end."


def table(tool: Tool) -> list[list[str]]:
    """Heading and rows, behind the banner."""
    assert tool.status == 0
    lines = tool.stdout.splitlines()
    assert lines[0] == BANNER
    return [line.split() for line in lines[1:]]


def steps(tool: Tool) -> list[tuple[str, int, int]]:
    """What happened, and to which ports, in order."""
    assert (tool.status, tool.stderr) == (0, "")
    return [(one["type"], one["lport"], one["rport"]) for one in tool.records() if "type" in one]


@pytest.mark.parametrize("host", HOSTS)
def test_the_life_of_connections(host: str) -> None:
    """Each end is opened once and closed once."""
    tool = Tool("tcptracer", "-p", str(ME)).start()
    ports = [exchange(host, 3, 5) for _ in range(11)]
    found = table(tool.stop())
    assert found[0] == HEADING and tool.stderr == ""
    family, address = ("4", host) if host == HOSTS[0] else ("6", f"[{host}]")
    expected = []
    for near, far in ports:
        here, there = [str(near), str(far)], [str(far), str(near)]
        expected += [["C", *here], ["A", *there], ["X", *here], ["X", *there]]
    assert [[row[0], *row[6:]] for row in found[1:]] == expected
    assert {tuple(row[1:6]) for row in found[1:]} == {(str(ME), COMM, family, address, address)}


def test_whose_they_are() -> None:
    with Server() as server:
        tool = Tool("tcptracer", "--json").start()
        near = server.visit(3, 5)
        records = [one for one in tool.stop().records() if server.port in (one.get("lport"), one.get("rport"))]
    assert [(one["type"], one["pid"], one["lport"]) for one in records] == [
        ("connect", ME, near), ("accept", server.pid, server.port), ("close", ME, near),
        ("close", server.pid, server.port),
    ]  # fmt: skip
    assert {(one["laddr"], one["raddr"], one["family"]) for one in records} == {("127.0.0.1", "127.0.0.1", 2)}


def test_the_one_who_closes_is_shown() -> None:
    """A child that has the accepted connection from its parent."""
    with listening() as (server, port), socket.create_connection(("127.0.0.1", port)) as client:
        tool = Tool("tcptracer", "--json").start()
        one = server.accept()[0]
        child = os.fork()
        if not child:
            client.close()
            one.recv(1)
            os._exit(0)
        one.close()
        client.close()
        os.waitpid(child, 0)
        closed(port)
        records = [record for record in tool.stop().records() if record.get("lport") == port]
    assert [(record["type"], record["pid"]) for record in records] == [("accept", ME), ("close", child)]


def test_what_never_was_a_connection() -> None:
    """Refused ones, datagrams, and a server that nobody visits."""
    tool = Tool("tcptracer", "--json", "-p", str(ME)).start()
    with listening() as (_, port):
        pass
    for _ in range(5):
        with socket.socket() as one, pytest.raises(ConnectionRefusedError):
            one.connect(("127.0.0.1", port))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("127.0.0.1", port))
    assert steps(tool.stop()) == []


def test_one_that_was_there_before() -> None:
    """Its end is seen, once at each end."""
    with listening() as (server, port), socket.create_connection(("127.0.0.1", port)) as client:
        one, (_, near) = server.accept()
        tool = Tool("tcptracer", "--json", "-p", str(ME)).start()
        client.close()
        one.recv(1)
        one.close()
        closed(port)
        assert steps(tool.stop()) == [("close", near, port), ("close", port, near)]


@pytest.mark.parametrize("early", [False, True])
def test_half_a_close_is_none(early: bool) -> None:
    """shutdown(SHUT_WR) leaves the other direction open."""
    with listening() as (server, port):
        tool = Tool("tcptracer", "--json", "-p", str(ME)).start() if early else None
        client = socket.create_connection(("127.0.0.1", port))
        one, (_, near) = server.accept()
        tool = tool or Tool("tcptracer", "--json", "-p", str(ME)).start()
        client.shutdown(socket.SHUT_WR)
        one.recv(1)
        one.sendall(bytes(5003))
        assert len(client.recv(5003, socket.MSG_WAITALL)) == 5003
        one.close()
        client.close()
        closed(port)
        found = steps(tool.stop())
    ends = [step for step in found if step[0] == "close"]
    assert sorted(ends) == sorted([("close", near, port), ("close", port, near)])
    assert len(found) == (4 if early else 2)


def test_a_reset_ends_both() -> None:
    tool = Tool("tcptracer", "--json", "-p", str(ME)).start()
    with listening() as (server, port), socket.create_connection(("127.0.0.1", port)) as client:
        one, (_, near) = server.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        with pytest.raises(ConnectionResetError):
            one.recv(1)
        one.close()
    closed(port)
    found = steps(tool.stop())
    assert found[:2] == [("connect", near, port), ("accept", port, near)]
    assert sorted(found[2:]) == sorted([("close", near, port), ("close", port, near)])


@pytest.mark.parametrize(("words", "count"), [(["-4"], 4), (["-6"], 8), (["-n", "nobody"], 0), (["--uid", "0"], 12)])
def test_what_is_shown(words: list[str], count: int) -> None:
    tool = Tool("tcptracer", "-p", str(ME), *words).start()
    for host in ("127.0.0.1", "::1", "::1"):
        exchange(host)
    assert len(table(tool.stop())) == count + 1


def test_one_network() -> None:
    """-N is the number that /proc/PID/ns/net has."""
    with network() as made:
        number = Path("/proc/thread-self/ns/net").stat().st_ino
        tool = Tool("tcptracer", "--json", "-N", str(number)).start()
        with made.other_end():
            server = socket.create_server(("10.77.0.2", 0))
        port = server.getsockname()[1]
        with socket.create_connection(("10.77.0.2", port)) as client:
            near = client.getsockname()[1]
            server.accept()[0].close()
            client.recv(1)
        closed(port)
        server.close()
        records = [one for one in tool.stop().records() if "type" in one]
    assert [(one["type"], one["lport"], one["netns"]) for one in records] == [
        ("connect", near, number), ("close", near, number)
    ]  # fmt: skip


def test_whole_lines() -> None:
    """-v: words, nanoseconds and the network's number; and what other tools say with it."""
    tool = Tool("tcptracer", "-v", "-t", "-p", str(ME)).start()
    exchange("127.0.0.1")
    found = table(tool.stop())
    number = Path("/proc/self/ns/net").stat().st_ino
    assert found[0] == ["TIME(ns)", "TYPE", *HEADING[1:], "NETNS"]
    assert [row[1] for row in found[1:]] == ["connect", "accept", "close", "close"]
    assert [row[-1] for row in found[1:]] == [str(number)] * 4
    times = [int(row[0]) for row in found[1:]]
    assert times[0] == 0 and times == sorted(times) and len(set(times)) == 4
    assert ": attached to " in tool.stderr


def test_seconds() -> None:
    tool = Tool("tcptracer", "-t", "-p", str(ME)).start()
    exchange("127.0.0.1")
    found = table(tool.stop())
    assert found[0] == ["TIME(s)", *HEADING] and found[1][0] == "0.000"
    assert all(re.fullmatch(r"\d+\.\d{3}", row[0]) for row in found[1:])


@pytest.mark.anywhere
@pytest.mark.parametrize(("words", "says"), [
    (["-4", "-6"], "tcptracer: -4 and -6 exclude each other; leave both out for both families"),
    (["-N", "x"], "tcptracer: option -N: 'x' is not a whole number from 1"),
])  # fmt: skip
def test_bad_input(words: list[str], says: str) -> None:
    done = osmia("tcptracer", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"osmia: {says}\n")
