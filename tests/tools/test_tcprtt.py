# SPDX-License-Identifier: Apache-2.0
"""tcprtt against a cable of known length, and what each socket itself says of its round-trip time."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from harness import Tool, osmia
from tunnel import FAR, FAR6, NEAR, NEAR6, SYN, Cable, cable
from wired import PORT, arrived, server

pytestmark = pytest.mark.kernel

DELAY = 0.011  # seconds in each direction
TIMES = 13


@pytest.fixture
def wire() -> Iterator[Cable]:
    with cable(DELAY) as made:
        yield made


@contextmanager
def connected(wire: Cable, host: str = FAR) -> Iterator[socket.socket]:
    with server(wire, host), socket.create_connection((host, PORT)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        send(client, 1)
        yield client


def send(client: socket.socket, times: int = TIMES) -> None:
    """So many segments, each of which is acknowledged before the next one is sent."""
    for _ in range(times):
        client.sendall(b"0123456789")
        arrived(client)


def rtt_of(client: socket.socket) -> int:
    """The socket's round-trip time in microseconds: tcpi_rtt of struct tcp_info, which ss shows."""
    (found,) = struct.unpack_from("I", client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 68)
    return int(found)


def histograms(tool: Tool) -> list[dict[str, Any]]:
    assert tool.status == 0 and tool.stderr == ""
    return [one for record in tool.records() for one in record.get("histograms", [])]


def traced(client: socket.socket, *words: str, times: int = TIMES) -> Tool:
    """The tool while so many segments are sent and acknowledged."""
    tool = Tool("tcprtt", *words).start()
    send(client, times)
    return tool.stop()


@pytest.mark.parametrize("host", [FAR, FAR6])
def test_what_the_socket_itself_says(wire: Cable, host: str) -> None:
    """With each segment that comes in, the time that was known before."""
    with connected(wire, host) as client:
        port = str(client.getsockname()[1])
        for _ in range(3):
            known = rtt_of(client)
            (found,) = histograms(traced(client, "-p", port, "-A", host, "--json", times=1))
            assert known in (found["min"], found["max"]) and known >= 2 * DELAY * 1e6
            if found["count"] == 1:  # else it was late, and sent twice
                assert found["sum"] == known


def test_every_segment_counts(wire: Cable) -> None:
    """Those that the cable has brought, no others."""
    with connected(wire) as client:
        before = len(wire.seen)
        (found,) = histograms(traced(client, "-p", str(client.getsockname()[1]), "-A", FAR, "--json"))
        came = [one for one in wire.seen[before:] if not one.outward and one.tcp and not one.flags & SYN]
    assert found["count"] == len(came) >= TIMES
    assert found["min"] >= 2 * DELAY * 1e6 and found["sum"] >= found["count"] * found["min"]


@pytest.mark.parametrize(
    ("words", "side"),
    [(["-A", FAR], "near"), (["-A", NEAR], "far"), (["-a", NEAR], "near"), (["-a", FAR], "far"),
     (["-P", str(PORT)], "near"), (["-p", str(PORT)], "far"), (["-p", f"1,{PORT}"], "far"), (["-p", "7008"], ""),
     (["-A", "10.80.0.3"], ""), (["-a", NEAR, "-A", FAR, "-P", str(PORT), "-4"], "near"), (["-6", "-A", FAR], ""),
     (["--laddr", FAR, "--raddr", NEAR, "--lport", str(PORT), "--ipv4"], "far"), (["-A", FAR6], "")],
)  # fmt: skip
def test_filters(wire: Cable, words: list[str], side: str) -> None:
    """Each end has its own socket: which one is seen, by the addresses of a histogram."""
    with connected(wire) as client:
        found = histograms(traced(client, "-b", "--json", *words))
        found += histograms(traced(client, "-B", "--json", *words))
    near, far = {"near": (NEAR, FAR), "far": (FAR, NEAR), "": ("", "")}[side]
    mine = [one["label"] for one in found if one["label"] in (NEAR, FAR)]
    assert mine == ([near, far] if side else [])
    assert all(one["count"] >= TIMES for one in found if one["label"] in mine)


def test_ipv6(wire: Cable) -> None:
    with connected(wire, FAR6) as client:
        for words, count in ((["-6", "-A", FAR6], 1), (["-a", FAR6, "-A", NEAR6], 1), (["-4", "-A", FAR6], 0),
                             (["-A", NEAR6, "-a", NEAR6], 0)):  # fmt: skip
            assert len(histograms(traced(client, "--json", *words))) == count


def test_a_server_for_both_families(wire: Cable) -> None:
    """The addresses of its IPv4 connections are IPv6 ones that say so."""
    with wire.net.other_end():
        both = socket.socket(socket.AF_INET6)
        both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        both.bind(("::", PORT))
        both.listen()
    with both, socket.create_connection((FAR, PORT)) as client, both.accept()[0] as one:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        (found,) = histograms(traced(client, "-a", FAR, "-A", NEAR, "-B", "--json"))
        assert found["count"] >= TIMES and found["label"] == f"::ffff:{NEAR}"
        assert one.recv(1000)


def test_milliseconds_and_averages(wire: Cable) -> None:
    """-m and -e, as bcc prints them."""
    with connected(wire) as client:
        tool = traced(client, "-m", "-e", "-B", "-A", FAR)
        assert tool.status == 0 and tool.stderr == ""
        lines = [line for line in tool.stdout.splitlines() if line]
        known = rtt_of(client)
    assert lines[0] == "Tracing TCP RTT... Hit Ctrl-C to end."
    head = re.fullmatch(rf"Remote Address = {FAR} \[AVG (\d+)\]", lines[1])
    assert head and 2 * DELAY * 1e3 <= int(head[1]) <= known / 1e3 * 10
    assert lines[2].split() == ["msecs", ":", "count", "distribution"]
    with connected(wire) as client:
        lines = traced(client, "-e", "-A", FAR).stdout.splitlines()
    assert any(re.fullmatch(r"All Addresses = \*{7} \[AVG \d+\]", line) for line in lines)


def test_the_program() -> None:
    """-D."""
    done = osmia("tcprtt", "-D", "--duration", "0.1")
    assert done.returncode == 0 and "def received(sk, skb):" in done.stdout
    assert "Tracing TCP RTT... Hit Ctrl-C to end." in done.stdout


def test_intervals(wire: Cable) -> None:
    done = osmia("tcprtt", "-i", "0.3", "-T", "-d", "1", "-p", "7099")
    assert done.returncode == 0 and len(re.findall(r"^\d\d:\d\d:\d\d$", done.stdout, re.M)) >= 2


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "said"),
    [(["-4", "-6"], "tcprtt: -4 and -6 exclude each other; leave both out for both families"),
     (["-b", "-B"], "tcprtt: -b and -B exclude each other; give one of them"),
     (["-a", "10.0.0"], "tcprtt: option -a: '10.0.0' is not an address: as in 10.0.0.1, or 2001:db8::1"),
     (["-p", "0"], "tcprtt: option -p: '0' is not a port: a number from 1 to 65535")],
)  # fmt: skip
def test_mistakes(words: list[str], said: str) -> None:
    done = osmia("tcprtt", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"osmia: {said}\n")


