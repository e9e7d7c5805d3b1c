# SPDX-License-Identifier: Apache-2.0
"""tcpstates against the states that a connection goes through."""

from __future__ import annotations

import itertools
import os
import re
import socket
import time
from pathlib import Path

import pytest
from harness import Tool, osmia, osmia_command
from sockets import FAMILIES, Server, closed, exchange, listening, rows_of

pytestmark = pytest.mark.kernel

ME = os.getpid()
HOSTS = list(FAMILIES)
HEADING = ["SKADDR", "C-PID", "C-COMM", "LADDR", "LPORT", "RADDR", "RPORT", "OLDSTATE", "->", "NEWSTATE", "MS"]
CLIENT = ["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE"]
SERVER = ["LISTEN", "SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"]
LISTENER = ["CLOSE", "LISTEN", "CLOSE"]


def changes(tool: Tool, port: str) -> dict[int, list[tuple[str, str]]]:
    """The changes by port, in order."""
    found: dict[int, list[tuple[str, str]]] = {}
    for one in tool.records():
        if port in one:
            found.setdefault(one[port], []).append((one["oldstate"], one["newstate"]))
    return found


def steps(states: list[str]) -> list[tuple[str, str]]:
    return list(itertools.pairwise(states))


@pytest.mark.parametrize("host", HOSTS)
def test_all_states_of_a_connection(host: str) -> None:
    """Each socket's own, one after the other; the port of who connects is not known at first."""
    with Server(host) as server:
        near = Tool("tcpstates", "--json", "-D", str(server.port)).start()
        far = Tool("tcpstates", "--json", "-L", str(server.port)).start()
        ports = [server.visit(3, 5) for _ in range(7)]
        theirs, mine = far.stop(), near.stop()
    assert changes(theirs, "rport") == {port: steps(SERVER) for port in ports}
    found = changes(mine, "lport")
    assert found.pop(0) == steps(CLIENT)[:1] * 7
    assert found == {port: steps(CLIENT)[1:] for port in ports}
    shown = {(one["laddr"], one["raddr"]) for one in mine.records() if one.get("lport")}
    assert shown == {(host, host)}


def test_whose_they_are() -> None:
    """Who connected, and from accept() on who accepted."""
    with Server() as server:
        near = Tool("tcpstates", "--json", "-D", str(server.port)).start()
        far = Tool("tcpstates", "--json", "-L", str(server.port)).start()
        server.visit(3, 5)
        mine, theirs = near.stop().records(), far.stop().records()
    assert {one["pid"] for one in mine if "pid" in one} == {ME}
    owners = [(one["oldstate"], one["pid"]) for one in theirs if "pid" in one]
    assert owners[0] == ("LISTEN", 0) and owners[-3:] == [
        ("ESTABLISHED", server.pid), ("CLOSE_WAIT", server.pid), ("LAST_ACK", server.pid)
    ]  # fmt: skip


def test_how_long() -> None:
    """The time in the old state; 0 where its beginning was not seen."""
    tool = Tool("tcpstates", "--json", "-p", str(ME)).start()
    began = time.monotonic_ns()
    with listening() as (server, port), socket.create_connection(("127.0.0.1", port)) as client:
        near = client.getsockname()[1]
        one = server.accept()[0]
        time.sleep(0.23)
        client.close()
        one.recv(1)
        one.close()
    closed(port)
    took = time.monotonic_ns() - began
    records = [one for one in tool.stop().records() if one.get("lport") == near]
    ns = {one["oldstate"]: one["ns"] for one in records}
    assert 230_000_000 <= ns["ESTABLISHED"] <= took and ns["SYN_SENT"] > 0 and sum(ns.values()) <= took
    (listened,) = [one["ns"] for one in tool.records() if one.get("lport") == port and one["oldstate"] == "LISTEN"]
    assert 230_000_000 < listened <= took


def test_the_table() -> None:
    tool = Tool("tcpstates", "-p", str(ME)).start()
    near, port = exchange("127.0.0.1")
    rows = rows_of(tool.stop(), 11)
    assert tool.stdout.splitlines()[0].split() == HEADING
    comm = Path("/proc/self/comm").read_text().strip()
    found = [row[1:10] for row in rows if row[4] == str(near)]
    who = [str(ME), comm, "127.0.0.1", str(near), "127.0.0.1", str(port)]
    assert found == [[*who, old, "->", new] for old, new in steps(CLIENT)[1:]]
    assert [(row[7], row[9]) for row in rows if row[6] == "0"] == steps(LISTENER)
    assert all(re.fullmatch(r"[0-9a-f]{16}", row[0]) and re.fullmatch(r"\d+\.\d{3}", row[10]) for row in rows)


@pytest.mark.parametrize(("words", "hosts"), [(["-4"], {"127.0.0.1"}), (["-6"], {"::1"}), ([], set(HOSTS))])
def test_one_family(words: list[str], hosts: set[str]) -> None:
    tool = Tool("tcpstates", "-p", str(ME), *words).start()
    for host in HOSTS:
        exchange(host)
    assert {row[3] for row in rows_of(tool.stop(), 11)} == hosts


def test_datagrams_have_no_states() -> None:
    tool = Tool("tcpstates", "-p", str(ME)).start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("127.0.0.1", 9))
    assert rows_of(tool.stop(), 11) == []


def test_the_times_and_forms() -> None:
    tool = Tool("tcpstates", "-t", "-w", "-p", str(ME)).start()
    as_csv = Tool("tcpstates", "-stT", "-p", str(ME)).start()
    exchange("::1")
    first = tool.stop().rows()[0]
    assert re.match(r"^0\.0{6}  [0-9a-f]{16} \d+ +\S+ +6  ::1 {37}\d+ +:: {38}0 +CLOSE {7}-> LISTEN {6}0\.000$", first)
    lines = [line.split(",") for line in as_csv.stop().stdout.splitlines()]
    assert lines[0] == ["TIME", "TIME(s)", *HEADING[:3], "IP", *HEADING[3:8], *HEADING[9:]]
    assert lines[1][10:12] == ["CLOSE", "LISTEN"] and {len(line) for line in lines} == {13}


def test_the_journal(tmp_path: Path) -> None:
    """What is in the table is in the journal, too, under bcc's names."""
    (tmp_path / "systemd" / "journal").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as here:
        here.bind(str(tmp_path / "systemd" / "journal" / "socket"))
        here.settimeout(20)
        words = osmia_command("tcpstates", "-Y", "-p", str(ME))
        tool = Tool(command=["unshare", "-m", "sh", "-c", f'mount --bind {tmp_path} /run; exec "$@"', "sh", *words])
        tool.start()
        near, port = exchange("127.0.0.1")
        count = len(rows_of(tool.stop(), 11))
        entries = [here.recv(4096).decode() for _ in range(count)]
        here.setblocking(False)
        with pytest.raises(BlockingIOError):
            here.recv(1)
    fields = [dict(line.split("=", 1) for line in entry.splitlines()) for entry in entries]
    (one,) = [field for field in fields if field["OBJECT_TCP_SOURCE_PORT"] == str(near) and
              field["OBJECT_TCP_NEW_STATE"] == "FIN_WAIT1"]  # fmt: skip
    comm = Path("/proc/self/comm").read_text().strip()
    assert one["MESSAGE"] == f"{comm} 127.0.0.1 {near} → 127.0.0.1 {port} ESTABLISHED → FIN_WAIT1"
    assert one["SYSLOG_IDENTIFIER"] == "tcpstates" and one["OBJECT_PID"] == str(ME)
    assert one["OBJECT_IPV4_DESTINATION_ADDRESS"] == "127.0.0.1" and int(one["OBJECT_TCP_SPAN_TIME"]) > 0


@pytest.mark.anywhere
@pytest.mark.skipif(Path("/run/systemd/journal/socket").exists(), reason="there is a journal")
def test_there_is_no_journal() -> None:
    done = osmia("tcpstates", "-Y")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "osmia: tcpstates: there is no journal here: nobody listens at /run/systemd/journal/socket; leave -Y out\n"
    )
