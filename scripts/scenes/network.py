# SPDX-License-Identifier: Apache-2.0
"""Scenes of name lookups, packets and what becomes of them."""

from __future__ import annotations

import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from lookups import Resolver
from netns import Network, network
from tls import Tls
from tunnel import ACK, SYN, Cable, cable
from wide import send, steer, wide_network
from wired import FAR, PORT, arrived, lose_some, server

from scenes.stage import Scene, Stage


class LookupStage(Stage):
    """A program with a name server that takes 60 ms to answer."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="demo-")
        self.resolver = Resolver(Path(self.directory.name))
        self.names["pid"] = self.resolver.pid

    def close(self) -> None:
        self.resolver.__exit__()
        self.directory.cleanup()


def lookups(stage: Stage) -> None:
    """Three names: one in the DNS, one in /etc/hosts, one that nobody knows."""
    assert isinstance(stage, LookupStage)
    for how, name in (("getaddrinfo", "www.example"), ("getaddrinfo", "localhost"), ("gethostbyname", "www.example"),
                      ("getaddrinfo", "nobody.example")):  # fmt: skip
        stage.resolver.lookup(how, name)


class WideStage(Stage):
    """A device with three queues, in a network of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._network = wide_network()
        self.net: Network = self._network.__enter__()

    def close(self) -> None:
        self._network.__exit__(None, None, None)


def by_queue(stage: Stage) -> None:
    """Most of it by the last queue."""
    assert isinstance(stage, WideStage)
    for queue, sizes in ((0, [60] * 19 + [1400] * 3), (1, [1400] * 11), (2, [1400] * 240 + [60000] * 31)):
        steer(stage.net, queue)
        send(sizes)


class CableStage(Stage):
    """A server (10.80.0.2, port 7007) at the other end of a cable that takes 5 ms in each direction."""

    def __init__(self) -> None:
        super().__init__()
        self._cable = cable(0.005)
        self.wire: Cable = self._cable.__enter__()
        self._server = server(self.wire)
        self._server.__enter__()

    def close(self) -> None:
        self._server.__exit__(None, None, None)
        self._cable.__exit__(None, None, None)


def losses(stage: Stage) -> None:
    """A SYN, a segment in the middle, the last one, and an answer to a SYN get lost."""
    assert isinstance(stage, CableStage)
    stage.wire.lose(1, lambda one: bool(one.flags & SYN))
    with socket.create_connection((FAR, PORT)) as client:
        for size in (7000, 300):
            stage.wire.lose(1, lambda one: one.size > 0)
            client.sendall(bytes(size))
            arrived(client)
    stage.wire.lose(1, lambda one: one.flags & (SYN | ACK) == SYN | ACK)
    socket.create_connection((FAR, PORT)).close()


def many_losses(stage: Stage) -> None:
    """Two connections that lose segments."""
    assert isinstance(stage, CableStage)
    for total in (300_000, 600_000):
        lose_some(stage.wire, total=total).close()


def unwanted(stage: Stage) -> None:
    """A connection to where nobody listens, and a segment that arrives twice."""
    assert isinstance(stage, CableStage)
    with socket.socket() as client, suppress(ConnectionRefusedError):
        client.connect((FAR, 8080))
    with socket.create_connection((FAR, PORT)) as client:
        stage.wire.deliver = lambda one: [one.data] * (2 if one.size else 1)
        client.sendall(b"hello")
        arrived(client)


def questions(stage: Stage) -> None:
    """Segments that are acknowledged one by one; the cable becomes longer for some of them."""
    assert isinstance(stage, CableStage)
    with socket.create_connection((FAR, PORT)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(60):
            stage.wire.delay = 0.04 if 40 < number < 50 else 0.005
            client.sendall(b"hello")
            arrived(client)


def downloads(stage: Stage) -> None:
    """Three connections, to two networks."""
    assert isinstance(stage, CableStage)
    for size in (70_000, 300_000):
        with socket.create_connection((FAR, PORT)) as client:
            client.sendall(bytes(size))
            arrived(client)
    with socket.create_server(("127.0.0.1", 0)) as local, socket.create_connection(local.getsockname()) as client:
        client.sendall(bytes(5000))
    time.sleep(1)


def hard_losses(stage: Stage) -> None:
    """Connections that lose segments in the middle, and one that loses its last segment twice."""
    many_losses(stage)
    assert isinstance(stage, CableStage)
    with lose_some(stage.wire) as client:
        stage.wire.lose(2, lambda one: one.size > 0)
        client.sendall(b"hello")
        arrived(client)


class ReaderStage(Stage):
    """A program with a connection, port 80, and the other end of that."""

    def __init__(self) -> None:
        super().__init__()
        self._network = network()
        net = self._network.__enter__()
        with net.other_end():
            self.server = socket.create_server(("10.77.0.2", 80))
        self.near = socket.create_connection(("10.77.0.2", 80))
        self.far, _ = self.server.accept()
        self.near.sendall(b"x")
        self.far.recv(1)

    def close(self) -> None:
        for one in (self.near, self.far, self.server):
            one.close()
        self._network.__exit__(None, None, None)


def slow_reads(stage: Stage) -> None:
    """Data that waits for 2, 30 and 200 ms."""
    assert isinstance(stage, ReaderStage)
    for wait in (0.002, 0.03, 0.2):
        stage.near.sendall(b"hello")
        time.sleep(wait)
        stage.far.recv(100)


class TlsStage(Stage):
    """A program that has TLS connections with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="demo-")
        self.tls = Tls(Path(self.directory.name))
        self.names["pid"] = self.tls.pid

    def close(self) -> None:
        self.tls.__exit__()
        self.directory.cleanup()


def talk(stage: Stage) -> None:
    """Three connections, and one that fails."""
    assert isinstance(stage, TlsStage)
    for _ in range(3):
        stage.tls.talk(20, 0.003)
    stage.tls.refuse()


REQUEST = b"GET /colour HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer 3f9a\r\n\r\n"
ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{"colour":"blue"}'


def request(stage: Stage) -> None:
    """A client asks, a server answers, over one connection."""
    assert isinstance(stage, TlsStage)
    stage.tls.exchange((">", REQUEST), ("<", ANSWER))


def binary(stage: Stage) -> None:
    """Bytes that are no text."""
    assert isinstance(stage, TlsStage)
    stage.tls.exchange((">", bytes(range(120, 160))))


SCENES = {
    "sslsniff": Scene("sslsniff -p {pid}", request, TlsStage),
    "sslsniff-latency": Scene("sslsniff -l --handshake -x --max-buffer-size 20 -p {pid}", request, TlsStage),
    "sslsniff-hexdump": Scene("sslsniff --hexdump -p {pid}", binary, TlsStage),
    "sslsniff-json": Scene("sslsniff --json --max-buffer-size 20 -p {pid}", binary, TlsStage),
    "ssllatency": Scene("ssllatency -p {pid}", talk, TlsStage, lines=70),
    "tcppktlat": Scene("tcppktlat -T -l 80", slow_reads, ReaderStage),
    "tcppktlat-min": Scene("tcppktlat -l 80 10000", slow_reads, ReaderStage),
    "tcpcong": Scene("tcpcong", hard_losses, CableStage),
    "tcpcong-dist": Scene("tcpcong -d -R 7007", hard_losses, CableStage, lines=60),
    "tcpsubnet": Scene("tcpsubnet -fK -n python --duration 1.5", downloads, CableStage),
    "tcpsubnet-own": Scene("tcpsubnet -n python --duration 1.5 10.80.0.2/32,10.0.0.0/8,::/0", downloads, CableStage),
    "tcprtt": Scene("tcprtt -m -P 7007", questions, CableStage),
    "tcprtt-address": Scene("tcprtt -B -e -p 7007", questions, CableStage),
    "tcpdrop": Scene("tcpdrop", unwanted, CableStage, lines=40),
    "tcpretrans": Scene("tcpretrans", losses, CableStage),
    "tcpretrans-all": Scene("tcpretrans -l -S -s", losses, CableStage),
    "tcpretrans-count": Scene("tcpretrans -c", many_losses, CableStage),
    "netqtop": Scene("netqtop -n wide0 -t -i 2 --duration 2", by_queue, WideStage),
    "netqtop-json": Scene("netqtop -n wide0 --json -i 2 --duration 2", by_queue, WideStage),
    "gethostlatency": Scene("gethostlatency -p {pid}", lookups, LookupStage),
    "gethostlatency-json": Scene("gethostlatency --json -p {pid}", lookups, LookupStage),
    "gethostlatency-cmd": Scene(
        "gethostlatency -c 'sh -c \"(getent hosts localhost; getent ahosts 10.0.0.1) >/dev/null\"'",
        lambda _: None,
    ),
}
