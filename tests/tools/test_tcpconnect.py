# SPDX-License-Identifier: Apache-2.0
"""tcpconnect against connections that are opened here, and DNS answers that are made up here."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
from harness import Tool, eventually, osmia
from netns import network
from sockets import FAMILIES, Server, exchange, listening, states

from osmia.tools import _dns

pytestmark = pytest.mark.kernel

ME = os.getpid()
COMM = Path("/proc/self/comm").read_text().strip()
HOSTS = list(FAMILIES)
HEADING = ["PID", "COMM", "IP", "SADDR", "DADDR", "DPORT"]
#: A process that connects, and waits as long as that takes.
WAITS = "import socket, sys; socket.socket().connect((sys.argv[1], int(sys.argv[2])))"


def table(tool: Tool) -> list[list[str]]:
    """Heading and rows, behind the banner."""
    assert (tool.status, tool.stderr) == (0, "")
    lines = tool.stdout.splitlines()
    assert lines[0] == "Tracing connect ... Hit Ctrl-C to end"
    return [line.split() for line in lines[1:]]


@pytest.mark.parametrize("host", HOSTS)
def test_every_connection_has_a_row(host: str) -> None:
    tool = Tool("tcpconnect", "-p", str(ME)).start()
    ports = [exchange(host, 3, 5)[1] for _ in range(13)]
    found = table(tool.stop())
    assert found[0] == HEADING
    family = "4" if host == HOSTS[0] else "6"
    assert found[1:] == [[str(ME), COMM, family, host, host, str(port)] for port in ports]


@pytest.mark.parametrize("host", HOSTS)
def test_local_ports(host: str) -> None:
    """The kernel chooses them after the state has changed."""
    tool = Tool("tcpconnect", "-L", "-p", str(ME)).start()
    ports = [exchange(host, 3, 5) for _ in range(7)]
    found = table(tool.stop())
    assert found[0] == [*HEADING[:4], "LPORT", *HEADING[4:]]
    assert [(row[4], row[6]) for row in found[1:]] == [(str(near), str(far)) for near, far in ports]


def test_failures_have_rows_and_datagrams_none() -> None:
    with listening() as (_, port):
        pass
    for words, column in (([], 5), (["-L"], 6)):
        tool = Tool("tcpconnect", "-p", str(ME), *words).start()
        for _ in range(11):
            with socket.socket() as one, pytest.raises(ConnectionRefusedError):
                one.connect(("127.0.0.1", port))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.connect(("127.0.0.1", port))
            one.send(b"x")
        with listening():
            pass
        assert [row[column] for row in table(tool.stop())[1:]] == [str(port)] * 11


def test_one_that_hangs_is_shown_while_it_does() -> None:
    """With its port: the thread sleeps until somebody answers, which nobody does."""
    with network():
        tool = Tool("tcpconnect", "-L", "-P", "8081").start()
        waiting = subprocess.Popen([sys.executable, "-c", WAITS, "10.77.0.99", "8081"], stderr=subprocess.DEVNULL)
        try:
            assert eventually(lambda: states(8081), 10) == ["02"]
            (line,) = [one.split() for one in Path("/proc/net/tcp").read_text().splitlines() if ":1F91 02" in one]
            time.sleep(0.1)
            (row,) = table(tool.stop())[1:]
        finally:
            waiting.kill()
            waiting.wait()
    port = str(int(line[1].rpartition(":")[2], 16))
    assert (row[0], *row[2:]) == (str(waiting.pid), "4", "10.77.0.1", port, "10.77.0.99", "8081")


def test_connects_that_do_not_wait() -> None:
    tool = Tool("tcpconnect", "-L", "-p", str(ME)).start()
    expected = []
    with listening() as (server, port):
        for _ in range(5):
            with socket.socket() as client:
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", port))
                server.accept()[0].close()
                expected.append([str(client.getsockname()[1]), str(port)])
    assert [[row[4], row[6]] for row in table(tool.stop())[1:]] == expected


@pytest.mark.parametrize(
    ("words", "count"),
    [(["-4"], 5), (["-6"], 3), (["-P", "PORT"], 2), (["-P", "1,PORT"], 2), (["-P", "1"], 0), (["-u", "0"], 8),
     (["-u", "65533"], 0), (["-n", COMM[:4]], 8), (["-n", "nobody"], 0)],
)  # fmt: skip
def test_what_is_shown(words: list[str], count: int) -> None:
    """Two connections to one port, three others, three of IPv6."""
    with listening() as (server, port):
        tool = Tool("tcpconnect", "-p", str(ME), *[word.replace("PORT", str(port)) for word in words]).start()
        for number in range(3):
            exchange("::1")
            exchange("127.0.0.1")
            if number:
                with socket.create_connection(("127.0.0.1", port)):
                    server.accept()[0].close()
        assert len(table(tool.stop())) == count + 1


def test_others_are_left_out() -> None:
    """-p is who connects, not who accepts."""
    with Server() as server:
        theirs = Tool("tcpconnect", "-p", str(server.pid)).start()
        mine = Tool("tcpconnect", "-P", str(server.port)).start()
        server.visit()
        assert len(table(theirs.stop())) == 1 and [row[0] for row in table(mine.stop())[1:]] == [str(ME)]


def test_who_and_when() -> None:
    """The user who connects; seconds since the first row."""
    with Server() as server:
        tool = Tool("tcpconnect", "-U", "-t", "-P", str(server.port)).start()
        for uid in ("0", "65533"):
            code = f"import os, socket; os.setuid({uid}); socket.socket().connect(('127.0.0.1', {server.port}))"
            subprocess.run([sys.executable, "-c", code], check=True)
        found = table(tool.stop())
    assert found[0] == ["TIME(s)", "UID", *HEADING]
    assert found[1][:2] == ["0.000", "0"] and re.fullmatch(r"\d+\.\d{3}", found[2][0]) and found[2][1] == "65533"


def test_json() -> None:
    tool = Tool("tcpconnect", "--json", "-p", str(ME)).start()
    _, port = exchange("::1")
    (one,) = [record for record in tool.stop().records() if "pid" in record]
    assert (one["pid"], one["uid"], one["comm"], one["family"]) == (ME, 0, COMM, 10)
    assert (one["laddr"], one["raddr"], one["rport"], one["query"]) == ("::1", "::1", port, None)


def test_counts() -> None:
    """By source and destination, most first."""
    with listening() as (one, first), listening("::1") as (other, second):
        tool = Tool("tcpconnect", "-c", "-p", str(ME)).start()
        as_json = Tool("tcpconnect", "-c", "--json", "-p", str(ME)).start()
        for server, host, times in ((other, "::1", 11), (one, "127.0.0.1", 17)):
            for _ in range(times):
                with socket.create_connection((host, server.getsockname()[1])):
                    server.accept()[0].close()
        (found,) = [record["rows"] for record in as_json.stop().records() if "rows" in record]
    assert [line for line in table(tool.stop()) if line] == [
        ["LADDR", "RADDR", "RPORT", "CONNECTS"],
        ["127.0.0.1", "127.0.0.1", str(first), "17"],
        ["::1", "::1", str(second), "11"],
    ]
    assert Counter({one["rport"]: one["count"] for one in found}) == {first: 17, second: 11}


# What asks for names: a question for the A record of a name, and an answer with an alias and an address.
QUESTION = b"\0\7\1\0\0\1\0\0\0\0\0\0" + b"\3www\7example\3org\0" + b"\0\1\0\1"
ANSWER = (b"\0\7\x81\x80\0\1\0\2\0\0\0\0" + QUESTION[12:]
          + b"\xc0\x0c\0\5\0\1\0\0\0\x3c\0\6\3web\xc0\x10"
          + b"\3web\xc0\x10\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton("10.77.0.2"))  # fmt: skip


@contextmanager
def name_server() -> Iterator[None]:
    """At 10.77.0.2: answers what it is asked, to anybody; and something to connect to."""
    with network() as made:
        with made.other_end():
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.bind(("10.77.0.2", 53))
            web = socket.create_server(("10.77.0.2", 80))

        def serve() -> None:
            while True:
                data, sender = server.recvfrom(512)
                if data != QUESTION:
                    return
                server.sendto(ANSWER, sender)

        thread = Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                one.sendto(b"end", ("10.77.0.2", 53))
            thread.join()
            server.close()
            web.close()


@pytest.mark.parametrize(("receive", "connected"), [
    (lambda one: one.recv(512), True), (lambda one: one.recvfrom(512)[0], False),
    (lambda one: one.recvmsg(512)[0], True), (lambda one: one.recvmsg(512)[0], False),
    (lambda one: os.read(one.fileno(), 512), True),
])  # fmt: skip
def test_names(receive: Callable[[socket.socket], bytes], connected: bool) -> None:
    """The name that was asked for, however the answer was received; an alias is followed."""
    with name_server():
        tool = Tool("tcpconnect", "-d", "-p", str(ME)).start()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            if connected:
                one.connect(("10.77.0.2", 53))
                one.send(QUESTION)
            else:
                one.sendto(QUESTION, ("10.77.0.2", 53))
            assert receive(one) == ANSWER
        time.sleep(0.15)
        socket.create_connection(("10.77.0.2", 80)).close()
        with socket.socket() as one, pytest.raises(ConnectionRefusedError):
            one.connect(("10.77.0.1", 80))
        with socket.socket() as one, pytest.raises(ConnectionRefusedError):
            one.connect(("127.0.0.1", 80))
        lines = tool.stop().stdout.splitlines()[1:]
    assert lines[0].split() == [*HEADING, "QUERY"]
    found = re.search(r"10\.77\.0\.2 +80 +www\.example\.org \((\d+\.\d{3})ms\)$", lines[1])
    assert found and float(found[1]) >= 150, lines
    assert lines[2].endswith("No DNS Query") and lines[3].endswith("localhost") and len(lines) == 4


@pytest.mark.anywhere
@pytest.mark.parametrize(("data", "expected"), [
    (ANSWER, ("www.example.org", ["10.77.0.2"])),
    (ANSWER[:-3], ("www.example.org", [])),
    (QUESTION, ("", [])),
    (b"", ("", [])),
    (b"\0\7\x81\x80\0\1\0\1\0\0\0\0\xc0\x0c\0\1\0\1", ("", [])),
    (b"\0\7\x81\x80\0\1\0\1\0\0\0\0\2v6\0\0\x1c\0\1\xc0\x0c\0\x1c\0\1\0\0\0\x3c\0\x10" + bytes(15) + b"\1",
     ("v6", ["::1"])),
    (b"\0\7\x81\x80\0\1\xff\xff\0\0\0\0\2v6\0\0\x1c\0\1" + bytes(500), ("", [])),
    (struct.pack(">6H", 7, 0x8180, 1, 9, 0, 0) + b"\xff" * 500, ("", [])),
])  # fmt: skip
def test_answers_are_taken_apart(data: bytes, expected: tuple[str, list[str]]) -> None:
    """Also what is cut, or no answer at all."""
    assert _dns.parse(data) == expected


@pytest.mark.anywhere
@pytest.mark.parametrize(("words", "says"), [
    (["-c", "-d"], "tcpconnect: -d and -c exclude each other; leave one of them out"),
    (["-4", "-6"], "tcpconnect: -4 and -6 exclude each other; leave both out for both families"),
    (["-P", "http"], "tcpconnect: option -P: 'http' is not a port: a number from 1 to 65535"),
    (["--cgroupmap", "/x"], "osmia: --cgroupmap needs a map that bcc has pinned; "
                            "use --cgroup PATH"),
])  # fmt: skip
def test_bad_input(words: list[str], says: str) -> None:
    done = osmia("tcpconnect", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr and done.stderr.count("\n") == 1
