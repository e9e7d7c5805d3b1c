# SPDX-License-Identifier: Apache-2.0
"""A server at the other end of a cable that may lose segments, and clients that send to it."""

from __future__ import annotations

import fcntl
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import eventually
from tunnel import FAR, FAR6, NEAR, NEAR6, Cable, Segment

PORT = 7007
ENDS = {FAR: NEAR, FAR6: NEAR6}
FAMILY = {FAR: socket.AF_INET, FAR6: socket.AF_INET6}
_SIOCOUTQ = 0x5411  # include/uapi/linux/sockios.h: bytes that are not acknowledged yet


@contextmanager
def server(wire: Cable, host: str = FAR) -> Iterator[socket.socket]:
    """Listens at the other end; each connection is read to its end."""
    with wire.net.other_end():
        made = socket.create_server((host, PORT), family=FAMILY[host])
    stopping = False

    def swallow(one: socket.socket) -> None:
        with one:
            while one.recv(1 << 16):
                pass

    def serve() -> None:
        while not stopping:
            one, _ = made.accept()
            threading.Thread(target=swallow, args=(one,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        stopping = True
        wire.drop = lambda segment: False
        socket.create_connection((host, PORT)).close()
        thread.join()
        made.close()


def arrived(client: socket.socket) -> None:
    """Wait until the other end has everything."""
    assert eventually(lambda: not struct.unpack("i", fcntl.ioctl(client, _SIOCOUTQ, bytes(4)))[0], 30)


def lose_some(wire: Cable, host: str = FAR, total: int = 300_000) -> socket.socket:
    """Send so much, and lose 11 segments of it."""
    client = socket.create_connection((host, PORT))
    number = 0

    def some(segment: Segment) -> bool:
        nonlocal number
        number += segment.outward and segment.size > 0
        return segment.outward and segment.size > 0 and number % 13 == 0

    wire.lose(11, some)
    client.sendall(bytes(total))
    arrived(client)
    return client


def snmp(name: str) -> int:
    """A counter of TCP in this network namespace, which the kernel keeps itself."""
    for file in ("snmp", "netstat"):
        lines = Path(f"/proc/thread-self/net/{file}").read_text().splitlines()
        for heads, values in zip(lines[::2], lines[1::2], strict=True):
            if name in heads.split() and heads.startswith("Tcp"):
                return int(values.split()[heads.split().index(name)])
    raise AssertionError(name)
