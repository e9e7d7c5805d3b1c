# SPDX-License-Identifier: Apache-2.0
"""tcpaccept against connections that are accepted here."""

from __future__ import annotations

import os
import re
import socket
import threading
from pathlib import Path

import pytest
from harness import Tool, osmia
from sockets import FAMILIES, Server, exchange, listening, rows_of

pytestmark = pytest.mark.kernel

ME = os.getpid()
COMM = Path("/proc/self/comm").read_text().strip()
HOSTS = list(FAMILIES)
HEADING = ["PID", "COMM", "IP", "RADDR", "RPORT", "LADDR", "LPORT"]


@pytest.mark.parametrize("host", HOSTS)
def test_every_connection_has_a_row(host: str) -> None:
    tool = Tool("tcpaccept", "-p", str(ME)).start()
    ports = [exchange(host, 3, 5) for _ in range(13)]
    found = rows_of(tool.stop(), 7)
    assert tool.stdout.splitlines()[0].split() == HEADING
    family = "4" if host == HOSTS[0] else "6"
    assert found == [[str(ME), COMM, family, host, str(near), host, str(port)] for near, port in ports]


def test_both_calls_are_seen() -> None:
    """accept() as well as accept4(), whoever of the threads calls it; also where the client has gone meanwhile."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    taken: list[int] = []

    def take(fd: int, newer: int) -> None:
        taken.append(libc.accept4(fd, None, None, socket.SOCK_CLOEXEC) if newer else libc.accept(fd, None, None))
        os.close(taken[-1])

    with listening() as (server, port):
        tool = Tool("tcpaccept", "--json", "-P", str(port)).start()
        expected = []
        for number in range(11):
            with socket.create_connection(("127.0.0.1", port)) as client:
                expected.append(client.getsockname()[1])
                if number % 3:
                    client.close()
                thread = threading.Thread(target=take, args=(server.fileno(), number % 2))
                thread.start()
                thread.join()
        assert len(taken) == 11 and min(taken) >= 0
        records = [one for one in tool.stop().records() if "rport" in one]
    assert [one["rport"] for one in records] == expected
    assert {(one["pid"], one["lport"], one["family"], one["laddr"], one["raddr"]) for one in records} == {
        (ME, port, 2, "127.0.0.1", "127.0.0.1")
    }


def test_what_is_no_connection_of_tcp() -> None:
    """Sockets of other kinds, and calls that get nothing, have no rows."""
    with listening() as (server, _), socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as client:
        tool = Tool("tcpaccept", "-p", str(ME)).start()
        server.setblocking(False)
        for _ in range(5):
            with pytest.raises(BlockingIOError):
                server.accept()
        other.bind(f"\0osmia-test-{ME}")
        other.listen()
        client.connect(f"\0osmia-test-{ME}")
        other.accept()[0].close()
        assert rows_of(tool.stop(), 7) == []


@pytest.mark.parametrize(
    ("words", "count"),
    [(["-4"], 5), (["-6"], 3), (["-P", "PORT"], 2), (["-P", "1,PORT"], 2), (["-P", "1"], 0), (["--uid", "0"], 8),
     (["--uid", "65533"], 0), (["-n", COMM[:4]], 8), (["-n", "nobody"], 0)],
)  # fmt: skip
def test_what_is_shown(words: list[str], count: int) -> None:
    """Two connections to one port, three others, three of IPv6."""
    with listening() as (server, port):
        tool = Tool("tcpaccept", "-p", str(ME), *[word.replace("PORT", str(port)) for word in words]).start()
        for number in range(3):
            exchange("::1")
            exchange("127.0.0.1")
            if number:
                with socket.create_connection(("127.0.0.1", port)):
                    server.accept()[0].close()
        assert len(rows_of(tool.stop(), 7)) == count


def test_others_are_left_out() -> None:
    """-p is who accepts, not who connects."""
    with Server() as server:
        mine = Tool("tcpaccept", "-p", str(ME)).start()
        theirs = Tool("tcpaccept", "-p", str(server.pid)).start()
        near = server.visit()
        assert rows_of(mine.stop(), 7) == []
        assert [(row[0], row[4]) for row in rows_of(theirs.stop(), 7)] == [(str(server.pid), str(near))]


def test_the_times() -> None:
    tool = Tool("tcpaccept", "-T", "-t", "-p", str(ME)).start()
    exchange("127.0.0.1")
    exchange("127.0.0.1")
    found = rows_of(tool.stop(), 9)
    assert tool.stdout.splitlines()[0].split() == ["TIME", "TIME(s)", *HEADING]
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d", row[0]) and re.fullmatch(r"\d+\.\d{3}", row[1]) for row in found)
    assert found[0][1] == "0.000"


def test_ipv4_on_a_socket_for_ipv6() -> None:
    """A server for both has addresses of the long form."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        tool = Tool("tcpaccept", "-6", "-P", str(port)).start()
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()
        (row,) = rows_of(tool.stop(), 7)
    assert (row[2], row[3], row[5]) == ("6", "::ffff:127.0.0.1", "::ffff:127.0.0.1")


@pytest.mark.anywhere
@pytest.mark.parametrize(("words", "says"), [
    (["-4", "-6"], "osmia: tcpaccept: -4 and -6 exclude each other; leave both out for both families\n"),
    (["-P", "22x"], "osmia: tcpaccept: option -P: '22x' is not a port: a number from 1 to 65535\n"),
    (["--mntnsmap", "x"], "osmia: --mntnsmap needs a map that bcc has pinned; use --cgroup PATH\n"),
])  # fmt: skip
def test_bad_input(words: list[str], says: str) -> None:
    done = osmia("tcpaccept", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", says)
