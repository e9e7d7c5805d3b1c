# SPDX-License-Identifier: Apache-2.0
"""TCP connections between this process and itself, or another one, with known numbers of bytes."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import Tool, eventually

FAMILIES = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}
TIME_WAIT = "06"

#: A server in a process of its own: accepts one connection for each line, sends what it says, reads to the end.
_SERVER = """
import socket, sys
server = socket.create_server((sys.argv[1], 0), family=int(sys.argv[2]))
print(server.getsockname()[1], flush=True)
for line in sys.stdin:
    one = server.accept()[0]
    one.sendall(bytes(int(line)))
    while one.recv(65536):
        pass
    one.close()
    print("done", flush=True)
"""


@contextmanager
def listening(host: str = "127.0.0.1") -> Iterator[tuple[socket.socket, int]]:
    """A server here, and its port."""
    with socket.create_server((host, 0), family=FAMILIES[host]) as server:
        yield server, server.getsockname()[1]


class Server:
    """A server in another process: ``pid``, ``port``."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, host, str(int(FAMILIES[host]))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        assert self.process.stdout
        self.pid = self.process.pid
        self.port = int(self.process.stdout.readline())

    def visit(self, up: int = 0, down: int = 0) -> int:
        """Connect, send ``up`` bytes, receive ``down``, close; the port at this end."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{down}\n")
        with socket.create_connection((self.host, self.port)) as client:
            near: int = client.getsockname()[1]
            client.sendall(bytes(up))
            receive(client, down)
        assert self.process.stdout.readline() == "done\n"
        closed(self.port)
        return near

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.communicate()


def receive(one: socket.socket, count: int) -> None:
    """Exactly so many bytes."""
    while count:
        count -= len(one.recv(min(count, 1 << 16)))


def exchange(host: str, up: int = 0, down: int = 0) -> tuple[int, int]:
    """One connection of this process with itself that sends ``up`` bytes and gets ``down``; ports of both ends."""
    with listening(host) as (server, port), socket.create_connection((host, port)) as client:
        near: int = client.getsockname()[1]
        one = server.accept()[0]
        for source, target, left in ((client, one, up), (one, client, down)):
            while left:
                piece = min(left, 1 << 15)
                source.sendall(bytes(piece))
                receive(target, piece)
                left -= piece
        client.close()
        assert one.recv(1) == b""
        one.close()
    closed(port)
    return near, port


def closed(port: int) -> None:
    """Wait until the kernel knows of no connection with that port but in TIME_WAIT."""

    def none_left() -> bool:
        return not any(state not in (TIME_WAIT, "0A") for state in states(port))

    assert eventually(none_left, 10)


def states(port: int) -> list[str]:
    """The states (in hexadecimal) of the TCP sockets with that port at either end, as /proc/net has them."""
    found = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            words = line.split()
            if f"{port:04X}" in (words[1].rpartition(":")[2], words[2].rpartition(":")[2]):
                found.append(words[3])
    return found


def rows_of(tool: Tool, columns: int) -> list[list[str]]:
    """Rows, each taken apart into so many columns (no name here has a blank)."""
    assert (tool.status, tool.stderr) == (0, ""), tool.stderr
    found = [line.split() for line in tool.rows()]
    assert all(len(row) == columns for row in found), tool.stdout
    return found
