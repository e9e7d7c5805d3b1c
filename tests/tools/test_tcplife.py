# SPDX-License-Identifier: Apache-2.0
"""tcplife against connections whose ends, bytes and owners are known."""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from pathlib import Path

import pytest
from harness import Tool, osmia
from sockets import FAMILIES, Server, closed, exchange, listening, rows_of

pytestmark = pytest.mark.kernel

ME = os.getpid()
HOSTS = list(FAMILIES)
HEADING = ["PID", "COMM", "LADDR", "LPORT", "RADDR", "RPORT", "TX_KB", "RX_KB", "MS"]


def ends(tool: Tool) -> set[tuple[int, int, int, int]]:
    """Local port, remote port, bytes sent and received of each record, which are all different."""
    records = [one for one in tool.records() if "lport" in one]
    found = {(one["lport"], one["rport"], one["tx"], one["rx"]) for one in records}
    assert len(found) == len(records)
    return found


def both(near: int, port: int, up: int, down: int) -> set[tuple[int, int, int, int]]:
    return {(near, port, up, down), (port, near, down, up)}


@pytest.mark.parametrize("host", HOSTS)
def test_every_connection_has_a_row_at_both_ends(host: str) -> None:
    """Bytes are those of the program: the two that each end's SYN and FIN take are none of them."""
    tool = Tool("tcplife", "--json", "-p", str(ME)).start()
    expected = set()
    for number in range(1, 14):
        near, port = exchange(host, 1009 * number, 2003 * number)
        expected |= both(near, port, 1009 * number, 2003 * number)
    assert ends(tool.stop()) == expected
    (address,) = {(one["laddr"], one["raddr"], one["pid"], one["family"]) for one in tool.records() if "pid" in one}
    assert address == (host, host, ME, FAMILIES[host])


@pytest.mark.parametrize("host", HOSTS)
def test_much(host: str) -> None:
    tool = Tool("tcplife", "--json", "-p", str(ME)).start()
    near, port = exchange(host, 5_000_011, 3_000_017)
    assert ends(tool.stop()) == both(near, port, 5_000_011, 3_000_017)


def test_the_table() -> None:
    tool = Tool("tcplife", "-p", str(ME)).start()
    began = time.monotonic()
    with listening() as (server, port), socket.create_connection(("127.0.0.1", port)) as client:
        one, (_, near) = server.accept()
        client.sendall(bytes(7001))
        assert one.recv(7001, socket.MSG_WAITALL)
        time.sleep(0.31)
        client.close()
        one.recv(1)
        one.close()
    closed(port)
    took = (time.monotonic() - began) * 1000
    found = {row[3]: row for row in rows_of(tool.stop(), 9)}
    assert tool.stdout.splitlines()[0].split() == HEADING
    comm = Path("/proc/self/comm").read_text().strip()
    assert found[str(near)][:-1] == [str(ME), comm, "127.0.0.1", str(near), "127.0.0.1", str(port), "6", "0"]
    assert found[str(port)][:-1] == [str(ME), comm, "127.0.0.1", str(port), "127.0.0.1", str(near), "0", "6"]
    assert all(re.fullmatch(r"\d+\.\d\d", row[-1]) and 310 <= float(row[-1]) <= took for row in found.values())


def test_each_end_belongs_to_who_made_it() -> None:
    """Whoever connected and whoever accepted, although most changes of a state happen on top of somebody else."""
    with Server() as server:
        tool = Tool("tcplife", "--json", "-L", str(server.port)).start()
        other = Tool("tcplife", "--json", "-D", str(server.port)).start()
        near = [server.visit(101, 211) for _ in range(11)]
        theirs, mine = tool.stop().records(), other.stop().records()
    assert [(one["pid"], one["rport"], one["tx"], one["rx"]) for one in theirs] == [
        (server.pid, port, 211, 101) for port in near
    ]
    assert [(one["pid"], one["lport"], one["tx"], one["rx"]) for one in mine] == [(ME, port, 101, 211) for port in near]


@pytest.mark.parametrize(
    ("words", "count"),
    [(["-4"], 14), (["-6"], 6), (["-L", "PORT"], 3), (["-D", "PORT"], 3), (["-L", "PORT,1"], 3), (["-D", "1,2"], 0),
     (["-L", "PORT", "-6"], 0), (["-L", "PORT", "-D", "PORT"], 0)],
)  # fmt: skip
def test_what_is_shown(words: list[str], count: int) -> None:
    """Three connections to one port, four others, three of IPv6; each has two ends."""
    with listening() as (server, port):
        tool = Tool("tcplife", "-p", str(ME), *[word.replace("PORT", str(port)) for word in words]).start()
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port)):
                server.accept()[0].close()
            exchange("::1", 17, 19)
        for _ in range(4):
            exchange("127.0.0.1", 23, 29)
        closed(port)
        assert len(rows_of(tool.stop(), 9)) == count


def test_others_are_left_out() -> None:
    """-p is about the owner: each end has its own."""
    with Server() as server:
        tool = Tool("tcplife", "-p", str(server.pid)).start()
        others = Tool("tcplife", "-p", "1", "-L", str(server.port)).start()
        near = [server.visit(13) for _ in range(5)]
        assert [(row[0], row[5]) for row in rows_of(tool.stop(), 9)] == [(str(server.pid), str(port)) for port in near]
        assert rows_of(others.stop(), 9) == []


def test_what_comes_to_nothing() -> None:
    """A connection that was refused lived, too; datagrams and sockets that listen are none."""
    with listening() as (_, port):
        pass
    tool = Tool("tcplife", "--json", "-p", str(ME)).start()
    began = time.monotonic_ns()
    for _ in range(7):
        with socket.socket() as one, pytest.raises(ConnectionRefusedError):
            one.connect(("127.0.0.1", port))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, listening():
        one.connect(("127.0.0.1", port))
        one.send(b"x")
    took = time.monotonic_ns() - began
    records = [one for one in tool.stop().records() if "rport" in one]
    assert [(one["rport"], one["tx"], one["rx"]) for one in records] == [(port, 0, 0)] * 7
    assert 0 < sum(one["ns"] for one in records) <= took


def test_a_reset_connection() -> None:
    """It ends at once, without a FIN: what had been received is known at each end."""
    tool = Tool("tcplife", "--json", "-p", str(ME)).start()
    with listening() as (server, port), socket.create_connection(("127.0.0.1", port)) as client:
        one, (_, near) = server.accept()
        client.sendall(bytes(4001))
        assert one.recv(4001, socket.MSG_WAITALL)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        with pytest.raises(ConnectionResetError):
            one.recv(1)
        one.close()
    closed(port)
    found = {one["lport"]: one["rx"] for one in tool.stop().records() if "lport" in one}
    assert found == {near: 0, port: 4001}


def test_the_times_and_forms() -> None:
    tool = Tool("tcplife", "-T", "-t", "-w", "-p", str(ME)).start()
    as_csv = Tool("tcplife", "-stT", "-p", str(ME)).start()
    near, port = exchange("::1", 1, 1)
    tool.stop()
    assert tool.stdout.splitlines()[0].split() == ["TIME", "TIME(s)", *HEADING[:2], "IP", *HEADING[2:]]
    first = tool.rows()[0]
    assert re.match(r"^\d\d:\d\d:\d\d 0\.000000  \d+ +\S+ +6  ::1 {37}\d+ ", first), first
    lines = as_csv.stop().stdout.splitlines()
    assert lines[0].split(",") == ["TIME", "TIME(s)", *HEADING[:2], "IP", *HEADING[2:]]
    assert {(line.split(",")[6], line.split(",")[8]) for line in lines[1:]} == {
        (str(near), str(port)), (str(port), str(near))
    }  # fmt: skip


@pytest.mark.anywhere
@pytest.mark.parametrize(("words", "says"), [
    (["-4", "-6"], "-4 and -6 exclude each other; leave both out for both families"),
    (["-L", "80,x"], "option -L: 'x' is not a port: a number from 1 to 65535"),
    (["-D", "65536"], "option -D: '65536' is not a port: a number from 1 to 65535"),
    (["-D", "0"], "option -D: '0' is not a port: a number from 1 to 65535"),
])  # fmt: skip
def test_bad_input(words: list[str], says: str) -> None:
    done = osmia("tcplife", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"osmia: tcplife: {says}\n")
