# SPDX-License-Identifier: Apache-2.0
"""tcpretrans against segments that were sent twice over a cable that loses what it is told to."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Iterator

import pytest
from harness import Tool, osmia
from patience import patient
from tunnel import ACK, FAR, FAR6, NEAR, SYN, Cable, cable
from wired import ENDS, PORT, arrived, lose_some, server, snmp

pytestmark = pytest.mark.kernel

ROW = re.compile(r"^\d\d:\d\d:\d\d +(\d+) +([46]) +(\S+) +([RLS])> (\S+) +(\S+?)(?: +(\d+))?$")


@pytest.fixture
def wire() -> Iterator[Cable]:
    with cable(0.004) as made:
        yield made


def rows(tool: Tool, host: str = FAR) -> list[tuple[str, str, str, str, str]]:
    """LADDR:LPORT, T, RADDR:RPORT, STATE and SEQ (or nothing) of the rows about the cable."""
    assert tool.status == 0 and tool.stderr == ""
    lines = tool.stdout.splitlines()
    assert lines[0] == "Tracing retransmits ... Hit Ctrl-C to end"
    assert lines[1].split()[:7] == ["TIME", "PID", "IP", "LADDR:LPORT", "T>", "RADDR:RPORT", "STATE"]
    found = [ROW.match(line.rstrip()) for line in lines[2:]]
    assert all(found), tool.stdout
    mine = [one for one in found if one and host in (one[3].rpartition(":")[0], one[5].rpartition(":")[0])]
    assert {one[2] for one in mine} <= {"4" if host == FAR else "6"}
    return [(one[3], one[4], one[5], one[6], one[7]) for one in mine]


@pytest.mark.parametrize("host", [FAR, FAR6])
def test_every_retransmission_has_a_row(wire: Cable, host: str) -> None:
    """By sequence numbers, and as many as the kernel itself has counted."""
    with server(wire, host):
        tool = Tool("tcpretrans", "-s").start()
        before = snmp("RetransSegs")
        with lose_some(wire, host) as client:
            port = client.getsockname()[1]
            counted = snmp("RetransSegs") - before
            again = [one for one in wire.again() if one.outward and one.sport == port]
        found = rows(tool.stop(), host)
    mine = [one for one in found if one[1] == "R" and one[0] == f"{ENDS[host]}:{port}" and one[2] == f"{host}:{PORT}"]
    assert len(again) >= 11 and counted == len(again)
    assert Counter(int(one[4]) for one in mine) == Counter(one.seq for one in again)
    assert {one[3] for one in mine} == {"ESTABLISHED"}


def test_json_has_segments(wire: Cable) -> None:
    with server(wire):
        tool = Tool("tcpretrans", "--json").start()
        before = snmp("RetransSegs")
        with lose_some(wire, FAR) as client:
            port = client.getsockname()[1]
            counted = snmp("RetransSegs") - before
        found = [one for one in tool.stop().records() if one.get("lport") == port]
    assert sum(one["segs"] for one in found) == counted
    (row,) = {(one["laddr"], one["raddr"], one["rport"], one["family"], one["type"], one["state"]) for one in found}
    assert row == (NEAR, FAR, PORT, 2, "R", "ESTABLISHED")


def test_a_connection_that_is_slow_to_begin(wire: Cable) -> None:
    """The SYN gets lost, and then the answer to one: another SYN is sent, and, with -S, another answer."""
    tools = [Tool("tcpretrans", "-S").start(), Tool("tcpretrans").start()]
    with server(wire):
        wire.lose(1, lambda one: bool(one.flags & SYN) and not one.flags & ACK)
        first = socket.create_connection((FAR, PORT), patient(20))
        wire.lose(1, lambda one: bool(one.flags & SYN) and bool(one.flags & ACK))
        second = socket.create_connection((FAR, PORT), patient(20))
        near = [f"{NEAR}:{one.getsockname()[1]}" for one in (first, second)]
        found, short = (rows(tool.stop()) for tool in tools)
        answers = [one for one in wire.again() if not one.outward and one.flags & SYN]
        first.close()
        second.close()
    expected = [(one, "R", f"{FAR}:{PORT}", "SYN_SENT") for one in near]
    assert [one[:4] for one in found if one[3] == "SYN_SENT"] == expected
    late = [one[:4] for one in found if one[1] == "S"]
    assert late == [(f"{FAR}:{PORT}", "S", near[1], "NEW_SYN_RECV")] * len(answers) and answers
    assert [one[:4] for one in short] == expected


def test_loss_probes(wire: Cable) -> None:
    """The last segment gets lost: with -l the probe is there, which repeats it."""
    with server(wire), socket.create_connection((FAR, PORT)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(5):  # until the kernel knows how long an answer takes
            client.sendall(bytes(100))
            arrived(client)
        tools = [Tool("tcpretrans", "-l").start(), Tool("tcpretrans").start()]
        probes = snmp("TCPLossProbes")
        for _ in range(3):
            wire.lose(1, lambda one: one.size > 0)
            client.sendall(bytes(100))
            arrived(client)
        counted = snmp("TCPLossProbes") - probes
        found, short = (rows(tool.stop()) for tool in tools)
    kinds = Counter(one[1] for one in found)
    assert kinds["L"] == counted and kinds["R"] >= 3
    assert Counter(one[1] for one in short) == {"R": kinds["R"]}


@pytest.mark.parametrize(("host", "flag"), [(FAR, "-4"), (FAR6, "-6"), (FAR, "-6"), (FAR6, "-4")])
def test_families(wire: Cable, host: str, flag: str) -> None:
    with server(wire, host):
        tool = Tool("tcpretrans", flag).start()
        lose_some(wire, host).close()
        found = rows(tool.stop(), host)
    assert bool(found) == ((host == FAR) == (flag == "-4"))


@pytest.mark.parametrize("host", [FAR, FAR6])
def test_count(wire: Cable, host: str) -> None:
    """-c: by connection, the fewest first."""
    with server(wire, host):
        tool = Tool("tcpretrans", "-c").start()
        clients = [lose_some(wire, host), lose_some(wire, host, 500_000)]
        ports = [one.getsockname()[1] for one in clients]
        for one in clients:
            one.close()
        tool.stop()
        again = Counter(one.sport for one in wire.again() if one.outward and one.sport in ports)
    assert tool.status == 0 and tool.stderr == ""
    lines = tool.stdout.splitlines()
    assert lines[0] == "Tracing retransmits ... Hit Ctrl-C to end"
    assert lines[2].split() == ["LADDR:LPORT", "RADDR:RPORT", "RETRANSMITS"]
    found = {}
    for line in lines[3:]:
        local, arrow, remote, number = line.split()
        assert arrow == "<->"
        if remote == f"[{host}]#{PORT}" and local.startswith(f"[{ENDS[host]}]#"):
            found[int(local.rpartition("#")[2])] = int(number)
    assert {port: found.get(port, 0) for port in ports} == {port: again[port] for port in ports}


@pytest.mark.anywhere
@pytest.mark.parametrize("words", [["-4", "-6"]])
def test_mistakes(words: list[str]) -> None:
    done = osmia("tcpretrans", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "osmia: tcpretrans: -4 and -6 exclude each other; leave both out for both families\n"
