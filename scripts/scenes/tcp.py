# SPDX-License-Identifier: Apache-2.0
"""Scenes of connections between two network namespaces, 10.77.0.1 and 10.77.0.2."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from netns import network

from scenes.stage import Scene, Stage

#: What both programs begin with: a name of their own.
_NAMED = """
import socket, sys, time
with open("/proc/self/comm", "w") as comm:
    comm.write(sys.argv[1])
"""
_SERVER = _NAMED + """
def serve(one):
    asked = 0
    while asked < 8:
        piece = one.recv(65536)
        if not piece:
            return one.close()
        asked += len(piece)
        size = int.from_bytes(piece[:8], "big")
    one.sendall(bytes(size))
    while one.recv(65536):
        pass
    one.close()

server = socket.create_server((sys.argv[2], int(sys.argv[3])), backlog=7)
print("ready", flush=True)
while True:
    serve(server.accept()[0])
"""
_CLIENT = _NAMED + """
def get(host, port, size, up=8):
    try:
        one = socket.create_connection((host, port), 2)
    except OSError:
        return
    one.sendall(size.to_bytes(8, "big") + bytes(up - 8))
    while size:
        size -= len(one.recv(65536))
    time.sleep(0.02)
    one.close()

for word in sys.argv[2:]:
    host, port, *sizes = word.split(",")
    get(host, int(port), *map(int, sizes))
"""


class NetStage(Stage):
    """A server (``web``) at the other end, port 80."""

    def __init__(self) -> None:
        super().__init__()
        self._network = network()
        made = self._network.__enter__()
        with made.other_end():
            self.servers = [self.serve("web", "10.77.0.2", 80)]
        self.names["pid"] = str(self.servers[0].pid)

    def serve(self, name: str, host: str, port: int) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", _SERVER, name, host, str(port)]
        made = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert made.stdout
        made.stdout.readline()
        return made

    def close(self) -> None:
        for one in self.servers:
            one.kill()
            one.communicate()
        self._network.__exit__(None, None, None)


def get(name: str, *words: str) -> Callable[[Stage], None]:
    """A client with that name, which connects for each ``HOST,PORT,SIZE[,UP]``."""

    def work(_stage: Stage) -> None:
        subprocess.run([sys.executable, "-c", _CLIENT, name, *words], check=True)

    return work


VISITS = get("wget", "10.77.0.2,80,100003", "10.77.0.2,80,2000003,5003", "10.77.0.2,81,1", "10.77.0.2,80,7")

SCENES = {
    "tcplife": Scene("tcplife", VISITS, NetStage),
    "tcplife-port": Scene("tcplife -T -w -L 80", VISITS, NetStage),
    "tcpstates": Scene("tcpstates -4", get("wget", "10.77.0.2,80,100003"), NetStage),
    "tcpstates-port": Scene("tcpstates -T -D 80,81", VISITS, NetStage),
    "tcplife-csv": Scene("tcplife -s -D 80", VISITS, NetStage),
}
