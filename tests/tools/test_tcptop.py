# SPDX-License-Identifier: Apache-2.0
"""tcptop against transfers of known numbers of bytes."""

from __future__ import annotations

import os
import re
import socket
import tempfile
import time
from pathlib import Path

import pytest
from harness import Tool, osmia
from needs import needs
from sockets import FAMILIES, Server, exchange, listening, receive

pytestmark = pytest.mark.kernel

ME = os.getpid()
COMM = Path("/proc/self/comm").read_text().strip()
HOSTS = list(FAMILIES)


def bytes_of(tool: Tool) -> dict[tuple[int, int], tuple[int, int]]:
    """Bytes sent and received, by local and remote port, of all intervals together."""
    assert (tool.status, tool.stderr) == (0, "")
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for record in tool.records():
        for one in record.get("rows", []):
            tx, rx = found.get((one["lport"], one["rport"]), (0, 0))
            found[one["lport"], one["rport"]] = tx + one["tx"], rx + one["rx"]
    return found


def tried(one: socket.socket, count: int) -> int:
    """How many bytes the kernel takes."""
    try:
        return one.send(bytes(count))
    except BlockingIOError:
        return 0


@pytest.mark.parametrize("words", [[], ["0.2"]])
@pytest.mark.parametrize("host", HOSTS)
def test_bytes_both_ways(host: str, words: list[str]) -> None:
    """At both ends, whatever the intervals; each byte once."""
    tool = Tool("tcptop", "--json", "-p", str(ME), *words).start()
    expected = {}
    for up, down in ((1009, 2003), (1_000_003, 3_000_017), (1, 0)):
        near, port = exchange(host, up, down)
        expected |= {(near, port): (up, down), (port, near): (down, up)}
    assert bytes_of(tool.stop()) == expected


def test_sends_that_fail_carry_nothing() -> None:
    """A full connection takes a part, and then nothing (EAGAIN): neither counts but what was taken."""
    with listening() as (server, port), socket.create_connection(("127.0.0.1", port)) as client:
        one, (_, near) = server.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        client.setblocking(False)
        tool = Tool("tcptop", "--json", "-p", str(ME)).start()
        sent = failed = 0
        while failed < 101:
            taken = tried(client, 50_021)
            sent, failed = sent + taken, failed + (taken == 0)
        client.setblocking(True)
        client.shutdown(socket.SHUT_WR)
        for _ in range(7):
            with pytest.raises(BrokenPipeError):
                client.send(b"x")
        receive(one, sent)
        assert one.recv(10) == b""
        found = bytes_of(tool.stop())
        one.close()
    assert found == {(near, port): (sent, 0), (port, near): (0, sent)}


def test_what_is_looked_at_is_not_received() -> None:
    with listening() as (server, port), socket.create_connection(("127.0.0.1", port)) as client:
        one, (_, near) = server.accept()
        tool = Tool("tcptop", "--json", "-p", str(ME)).start()
        client.sendall(bytes(4001))
        for _ in range(13):
            assert one.recv(4001, socket.MSG_PEEK | socket.MSG_WAITALL)
        one.setblocking(False)
        receive(one, 4001)
        with pytest.raises(BlockingIOError):
            one.recv(1)
        found = bytes_of(tool.stop())
        one.close()
    assert found == {(near, port): (4001, 0), (port, near): (0, 4001)}


def test_any_call() -> None:
    """write, sendmsg and sendfile send; read, recvmsg and recv_into receive."""
    with listening() as (server, port), socket.create_connection(("127.0.0.1", port)) as client:
        one, (_, near) = server.accept()
        with tempfile.TemporaryFile() as file:
            file.write(bytes(30_011))
            file.flush()
            tool = Tool("tcptop", "--json", "-p", str(ME)).start()
            assert os.write(client.fileno(), bytes(101)) == 101
            assert client.sendmsg([bytes(103), bytes(107)]) == 210
            assert os.sendfile(client.fileno(), file.fileno(), 0, 30_011) == 30_011
        got = len(os.read(one.fileno(), 50)) + len(one.recvmsg(60)[0]) + one.recv_into(bytearray(70))
        assert got == 180
        receive(one, 101 + 210 + 30_011 - got)
        found = bytes_of(tool.stop())
        one.close()
    assert found == {(near, port): (30_322, 0), (port, near): (0, 30_322)}


def test_splice() -> None:
    """From a connection into a pipe: only functions of the kernel see it."""
    needs("kprobe")
    with listening() as (server, port), socket.create_connection(("127.0.0.1", port)) as client:
        one, (_, near) = server.accept()
        out, into = os.pipe()
        tool = Tool("tcptop", "--json", "-p", str(ME)).start()
        client.sendall(bytes(7001))
        left = 7001
        while left:
            moved = os.splice(one.fileno(), into, left)
            os.read(out, moved)
            left -= moved
        found = bytes_of(tool.stop())
        one.close()
        os.close(out)
        os.close(into)
    assert found == {(near, port): (7001, 0), (port, near): (0, 7001)}


def test_the_table() -> None:
    """Largest first, IPv4 above IPv6; kilobytes are rounded down."""
    tool = Tool("tcptop", "-C", "-p", str(ME)).start()
    small = exchange("127.0.0.1", 1024, 2047)
    large = exchange("127.0.0.1", 100_003, 1023)
    wide = exchange("::1", 5003, 0)
    tool.stop()
    lines = tool.stdout.splitlines()
    assert lines[0] == "Tracing... Hit Ctrl-C to end" and tool.stderr == ""
    assert re.fullmatch(r"\d\d:\d\d:\d\d loadavg: [\d.]+ [\d.]+ [\d.]+ \d+/\d+ \d+", lines[2])
    rows = [line.split() for line in lines[4:] if line]
    heads = [row for row in rows if row[0] == "PID"]
    assert heads[0] == ["PID", "COMM", "LADDR", "RADDR", "RX_KB", "TX_KB"]
    assert ["PID", "COMM", "LADDR6", "RADDR6", "RX_KB", "TX_KB"] in heads
    found = {tuple(row[2:4]): (row[0], row[1], int(row[4]), int(row[5])) for row in rows if row[0] != "PID"}

    def both(host: str, ports: tuple[int, int]) -> tuple[tuple[str, str], tuple[str, str]]:
        near, far = (f"{host}:{port}" for port in ports)
        return (near, far), (far, near)

    # Where an interval ends meanwhile there are two rows for one connection, each rounded down.
    for ports, host, up, down in ((small, "127.0.0.1", 1, 1), (large, "127.0.0.1", 97, 0), (wide, "::1", 4, 0)):
        one, other = both(host, ports)
        assert found[one][:2] == (str(ME), COMM)
        if lines.count(lines[3]) == 1 or len(heads) == 2:
            assert found[one][2:] == (down, up) and found[other][2:] == (up, down)


def test_pages() -> None:
    """As many as asked for, of the length that is asked for."""
    began = time.monotonic()
    done = osmia("tcptop", "-C", "-p", str(ME), "0.3", "3")
    assert done.returncode == 0 and time.monotonic() - began >= 0.9
    assert len(re.findall(r"loadavg", done.stdout)) == 3
    done = osmia("tcptop", "-S", "-C", "-p", str(ME), "0.2", "2")
    assert "loadavg" not in done.stdout and done.stdout.count("RX_KB") == 2


def test_rows_of_a_page() -> None:
    tool = Tool("tcptop", "-r", "3", "--json", "-p", str(ME)).start()
    for number in range(7):
        exchange("127.0.0.1", 1000 + number)
    tool.stop()
    assert max(len(record["rows"]) for record in tool.records() if "rows" in record) == 3


@pytest.mark.parametrize(("words", "hosts"), [(["-4"], HOSTS[:1]), (["-6"], HOSTS[1:]), ([], HOSTS),
                                              (["-n", "nobody"], []), (["--uid", "65533"], [])])  # fmt: skip
def test_what_is_counted(words: list[str], hosts: list[str]) -> None:
    tool = Tool("tcptop", "--json", "-p", str(ME), *words).start()
    expected = {}
    for host in HOSTS:
        near, port = exchange(host, 101, 103)
        if host in hosts:
            expected |= {(near, port): (101, 103), (port, near): (103, 101)}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"x", ("127.0.0.1", 9))
    assert bytes_of(tool.stop()) == expected


def test_each_process_has_its_own() -> None:
    """-p is who calls."""
    with Server() as server:
        mine = Tool("tcptop", "--json", "-p", str(ME)).start()
        theirs = Tool("tcptop", "--json", "-p", str(server.pid)).start()
        near = server.visit(10_007, 20_011)
        assert bytes_of(mine.stop()) == {(near, server.port): (10_007, 20_011)}
        assert bytes_of(theirs.stop()) == {(server.port, near): (20_011, 10_007)}


@pytest.mark.anywhere
def test_bad_input() -> None:
    done = osmia("tcptop", "-4", "-6")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "osmia: tcptop: -4 and -6 exclude each other; leave both out for both families\n"
