# SPDX-License-Identifier: Apache-2.0
"""tcpdrop against packets that must be dropped: to nobody, received twice, damaged."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator

import pytest
from harness import Tool, osmia
from needs import older_than
from tunnel import FAR, FAR6, Cable, Segment, cable
from wired import ENDS, FAMILY, PORT, arrived, server, snmp

from osmia.tools import _drops

pytestmark = pytest.mark.kernel

ROW = re.compile(r"^(\d\d:\d\d:\d\d) +(\d+) +([46]) +(\S+) +> (\S+) +(\S+) \((\S*)\) +(\w+) \((\d+)\)$")
CLOSED = 7013  # a port on which nobody listens


@pytest.fixture
def wire() -> Iterator[Cable]:
    with cable() as made:
        yield made


@pytest.fixture(autouse=True)
def _reasons() -> None:
    if not _drops.names():
        assert older_than("5.17")
        pytest.skip("reasons since 5.17")


def drops(tool: Tool) -> list[tuple[re.Match[str], list[str]]]:
    """The rows, each with the functions below it, innermost first."""
    assert tool.status == 0 and tool.stderr == ""
    lines = tool.stdout.splitlines()
    head = ["TIME", "PID", "IP", "SADDR:SPORT", ">", "DADDR:DPORT", "STATE", "(FLAGS)", "REASON", "(CODE)"]
    assert lines[0].split() == head
    found: list[tuple[re.Match[str], list[str]]] = []
    for line in lines[1:]:
        if line.startswith("    "):
            found[-1][1].append(line.strip())
        else:
            row = ROW.match(line)
            assert row, line
            found.append((row, []))
    return found


def knock(host: str, times: int) -> list[int]:
    """Connect to where nobody listens; the local ports."""
    ports = []
    for _ in range(times):
        with socket.socket(FAMILY[host]) as client, pytest.raises(ConnectionRefusedError):
            client.bind((ENDS[host], 0))
            ports.append(client.getsockname()[1])
            client.connect((host, CLOSED))
    return ports


def to_nobody(tool: Tool, host: str) -> list[str]:
    """The sources of the SYNs that found no socket."""
    return [row[4] for row, _ in drops(tool) if row[5] == f"{host}:{CLOSED}" and row[8] == "NO_SOCKET"]


def source(host: str, port: int) -> str:
    return f"{ENDS[host]}:{port}"


@pytest.mark.parametrize("host", [FAR, FAR6])
def test_to_nobody(wire: Cable, host: str) -> None:
    tool = Tool("tcpdrop").start()
    ports = knock(host, 13)
    found = drops(tool.stop())
    mine = [(row, stack) for row, stack in found if row[5] == f"{host}:{CLOSED}"]
    assert [row[4] for row, _ in mine] == [source(host, port) for port in ports]
    for row, stack in mine:
        assert (row[3], row[6], row[7], row[8]) == ("4" if host == FAR else "6", "-", "SYN", "NO_SOCKET")
        assert _drops.names()[int(row[9])] == "NO_SOCKET"
        assert ("tcp_v4_rcv" if host == FAR else "tcp_v6_rcv") in stack[:3]


def changed(wire: Cable, times: int, how: list[bytes] | None) -> list[Segment]:
    """Each of the next segments with data arrives twice, or (``how`` is given) damaged and then whole."""
    out: list[Segment] = []

    def deliver(segment: Segment) -> list[bytes]:
        if len(out) == times or not segment.outward or not segment.size:
            return [segment.data]
        out.append(segment)
        if how is None:
            return [segment.data, segment.data]
        return [segment.data[:-1] + bytes([segment.data[-1] ^ 1]), segment.data]

    wire.deliver = deliver
    return out


@pytest.mark.parametrize("host", [FAR, FAR6])
@pytest.mark.parametrize(("damaged", "reason"), [(False, "TCP_OLD_DATA"), (True, "TCP_CSUM")])
def test_of_a_connection(wire: Cable, host: str, damaged: bool, reason: str) -> None:
    """What arrives once more, and what does not have its checksum, which the kernel counts, too."""
    if reason not in _drops.names().values():
        assert older_than("5.18")
        pytest.skip(f"{reason} since 5.18")
    with server(wire, host), socket.create_connection((host, PORT)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        local = source(host, client.getsockname()[1])
        with wire.net.other_end():
            before = snmp("InCsumErrors")
        tool = Tool("tcpdrop").start()
        sent = changed(wire, 7, [] if damaged else None)
        for _ in range(11):
            client.sendall(b"0123456789")
            arrived(client)
        with wire.net.other_end():
            damages = snmp("InCsumErrors") - before
        found = [(row, stack) for row, stack in drops(tool.stop()) if row[4] == local and row[5] == f"{host}:{PORT}"]
    # On a busy machine an acknowledgement may be so late that the kernel sends a segment once more.
    late = 0 if damaged else len([one for one in wire.again() if one.outward and one.size])
    found = [(row, stack) for row, stack in found if row[8] == reason]
    assert len(sent) == 7 and damages == 7 * damaged and len(found) == 7 + late
    for row, stack in found:
        assert row[7] == "PSH|ACK" and stack
        assert row[6] == "ESTABLISHED" or (older_than("6.11") and row[6] == "-")


def test_nothing_is_dropped(wire: Cable) -> None:
    """Connections that are made, used and closed without a fault have no row."""
    tool = Tool("tcpdrop").start()
    with server(wire):
        for _ in range(23):
            with socket.create_connection((FAR, PORT)) as client:
                client.sendall(bytes(30_000))
                arrived(client)
    found = [row[8] for row, _ in drops(tool.stop()) if FAR in row[0]]
    assert found == ["TCP_OLD_DATA"] * len(found) and len(found) <= len(wire.again())  # what was late, and sent twice


@pytest.mark.parametrize(("host", "flag", "shown"), [(FAR, "-4", True), (FAR6, "-4", False), (FAR, "-6", False),
                                                      (FAR6, "-6", True)])  # fmt: skip
def test_families(wire: Cable, host: str, flag: str, shown: bool) -> None:
    tool = Tool("tcpdrop", flag).start()
    ports = knock(host, 3)
    assert to_nobody(tool.stop(), host) == [source(host, port) for port in ports if shown]


def test_namespaces(wire: Cable) -> None:
    """The SYN is dropped at the far end: by the number of its namespace, and by a process in it."""
    number = os.stat(f"/run/netns/{wire.net.far}").st_ino
    here = os.stat(f"/run/netns/{wire.net.name}").st_ino
    with wire.net.other_end():
        resident = subprocess.Popen(["sleep", "60"])
    try:
        both = (number, True), (here, False)
        pids = (resident.pid, True), (os.getpid(), False)
        for words, shown in [*((["--netns-id", str(one)], shown) for one, shown in both),
                             *((["--pid-netns", str(one)], shown) for one, shown in pids)]:  # fmt: skip
            tool = Tool("tcpdrop", *words).start()
            ports = knock(FAR, 5)
            assert to_nobody(tool.stop(), FAR) == [source(FAR, port) for port in ports if shown], words
    finally:
        resident.kill()
        resident.wait()


def test_json(wire: Cable) -> None:
    tool = Tool("tcpdrop", "--json").start()
    (port,) = knock(FAR, 1)
    (record,) = [one for one in tool.stop().records() if one.get("dport") == CLOSED and one["sport"] == port]
    assert (record["saddr"], record["daddr"], record["family"]) == (ENDS[FAR], FAR, 2)
    assert record["state"] == "- (SYN)" and record["why"] == f"NO_SOCKET ({record['reason']})"
    assert any(frame["label"] == "tcp_v4_rcv" for frame in record["kernel_stack"])


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "said"),
    [(["-4", "-6"], "tcpdrop: -4 and -6 exclude each other; leave both out for both families"),
     (["--netns-id", "1", "--pid-netns", str(os.getpid())],
      "tcpdrop: --netns-id and --pid-netns exclude each other; give one of them")],
)  # fmt: skip
def test_mistakes(words: list[str], said: str) -> None:
    done = osmia("tcpdrop", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"osmia: {said}\n")
