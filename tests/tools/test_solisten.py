# SPDX-License-Identifier: Apache-2.0
"""solisten against sockets that begin to listen here."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from harness import Tool, osmia
from netns import network
from sockets import Server, rows_of

pytestmark = pytest.mark.kernel

ME = os.getpid()
COMM = Path("/proc/self/comm").read_text().strip()
MOST = int(Path("/proc/sys/net/core/somaxconn").read_text())


def listen(host: str, backlog: int) -> int:
    """Listen for a moment; the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as one:
        one.bind((host, 0))
        one.listen(backlog)
        port: int = one.getsockname()[1]
    return port


def test_every_call_has_a_row() -> None:
    """With the backlog that the kernel grants."""
    tool = Tool("solisten", "-p", str(ME)).start()
    expected = []
    for number in range(13):
        host, kind = (("127.0.0.1", "TCPv4"), ("::1", "TCPv6"), ("0.0.0.0", "TCPv4"), ("::", "TCPv6"))[number % 4]
        backlog = (5, 1, MOST, MOST + 7)[number % 4]
        port = listen(host, backlog)
        expected.append([str(ME), COMM, kind, str(min(backlog, MOST)), str(port), host])
    assert rows_of(tool.stop(), 6) == expected
    assert tool.stdout.splitlines()[0].split() == ["PID", "COMM", "PROTO", "BACKLOG", "PORT", "ADDR"]


def test_a_port_of_the_kernels_choice() -> None:
    """Who listens without bind() gets one; and who listens once more changes the backlog."""
    tool = Tool("solisten", "--json", "-p", str(ME)).start()
    with socket.socket() as one:
        one.listen(3)
        one.listen(7)
        port = one.getsockname()[1]
    records = [record for record in tool.stop().records() if "backlog" in record]
    assert [(record["lport"], record["backlog"], record["ret"]) for record in records] == [(port, 3, 0), (port, 7, 0)]
    assert {(record["pid"], record["comm"], record["laddr"], record["proto"]) for record in records} == {
        (ME, COMM, "0.0.0.0", "TCPv4")
    }


def test_what_fails_is_shown() -> None:
    """A socket that is connected cannot listen."""
    with Server() as server:
        with socket.create_connection((server.host, server.port)) as one:
            tool = Tool("solisten", "--json", "-p", str(ME)).start()
            with pytest.raises(OSError, match="22"):
                one.listen(11)
            near = one.getsockname()[1]
        (record,) = [record for record in tool.stop().records() if "backlog" in record]
    assert (record["ret"], record["asked"], record["lport"]) == (-22, 11, near)


def test_other_sockets_have_no_rows() -> None:
    """Unix sockets, datagrams, and what is no socket at all."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    tool = Tool("solisten", "-p", str(ME)).start()
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        one.bind(f"\0osmia-listen-{ME}")
        one.listen(5)
        with pytest.raises(OSError, match="95"):
            other.listen(5)
    with open("/dev/null", encoding="ascii") as file:
        for fd in (file.fileno(), -1, 1_000_000, 2**31 - 1):
            assert libc.listen(fd, 5) == -1
    assert rows_of(tool.stop(), 6) == []


def test_networks() -> None:
    """--show-netns is the number that /proc/PID/ns/net has, -n chooses one."""
    here = Path("/proc/self/ns/net").stat().st_ino
    with network():
        there = Path("/proc/thread-self/ns/net").stat().st_ino
        both = Tool("solisten", "--show-netns", "-p", str(ME)).start()
        one = Tool("solisten", "--show-netns", "--netns", str(there), "-p", str(ME)).start()
        far = listen("0.0.0.0", 5)
    near = listen("0.0.0.0", 5)
    assert [(row[2], row[5]) for row in rows_of(both.stop(), 7)] == [(str(there), str(far)), (str(here), str(near))]
    assert [(row[2], row[5]) for row in rows_of(one.stop(), 7)] == [(str(there), str(far))]
    assert both.stdout.splitlines()[0].split()[2] == "NETNS"


@pytest.mark.parametrize(("words", "count"), [(["--uid", "0"], 1), (["--uid", "65533"], 0), (["-p", "1"], 0)])
def test_others_are_left_out(words: list[str], count: int) -> None:
    tool = Tool("solisten", "--json", *words).start()
    port = listen("127.0.0.1", 5)
    assert len([one for one in tool.stop().records() if one.get("lport") == port]) == count


@pytest.mark.anywhere
def test_bad_input() -> None:
    done = osmia("solisten", "-n", "eth0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "osmia: solisten: option -n: 'eth0' is not a whole number from 1\n"
