# SPDX-License-Identifier: Apache-2.0
"""Scenes of connections between two network namespaces, 10.77.0.1 and 10.77.0.2."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from netns import network

from scenes.stage import Scene, Stage

#: What both programs begin with: a name of their own.
_NAMED = """
import contextlib, socket, sys, time
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
    while size:
        size -= one.send(bytes(min(size, 65536)))
    while one.recv(65536):
        pass
    one.close()

server = socket.create_server((sys.argv[2], int(sys.argv[3])), backlog=7)
print("ready", flush=True)
while True:
    with contextlib.suppress(OSError):
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


def started(*words: str) -> subprocess.Popen[str]:
    """A server that is ready."""
    made = subprocess.Popen([sys.executable, "-c", *words], stdout=subprocess.PIPE, text=True)
    assert made.stdout
    made.stdout.readline()
    return made


class NetStage(Stage):
    """A server (``web``) at the other end, port 80."""

    def __init__(self) -> None:
        super().__init__()
        self._network = network()
        self.network = self._network.__enter__()
        with self.network.other_end():
            self.servers = [started(_SERVER, "web", "10.77.0.2", "80")]
        self.names["pid"] = str(self.servers[0].pid)

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


_NAMES = _NAMED + """
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("10.77.0.2", 53))
print("ready", flush=True)
while True:
    asked, sender = server.recvfrom(512)
    answer = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4" + bytes([10, 77, 0, 2])
    server.sendto(asked[:2] + b"\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0" + asked[12:] + answer, sender)
"""
_LOOKUP = _NAMED + """
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.connect(("10.77.0.2", 53))
one.send(b"\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\3www\\7example\\3org\\0\\0\\1\\0\\1")
one.recv(512)
for host, port in (("10.77.0.2", 80), ("10.77.0.2", 81), ("127.0.0.1", 80), ("10.77.0.1", 22)):
    socket.socket().connect_ex((host, port))
    time.sleep(0.13)
"""


class NameStage(NetStage):
    """And a name server, which says 10.77.0.2 whatever it is asked."""

    def __init__(self) -> None:
        super().__init__()
        with self.network.other_end():
            self.servers.append(started(_NAMES, "named"))


def lookup(_stage: Stage) -> None:
    subprocess.run([sys.executable, "-c", _LOOKUP, "curl"], check=True)


VISITS = get("wget", "10.77.0.2,80,100003", "10.77.0.2,80,2000003,5003", "10.77.0.2,81,1", "10.77.0.2,80,7")

def stream(_stage: Stage) -> None:
    """A large transfer for more than two seconds, and three small ones."""
    words = ("10.77.0.2,80,3000000000", *["10.77.0.2,81,50021,70001"] * 3)
    both = [subprocess.Popen([sys.executable, "-c", _CLIENT, *name]) for name in
            (("wget", words[0]), ("backup", *words[1:]))]  # fmt: skip
    time.sleep(2.3)
    for one in both:
        one.kill()
        one.wait()


class TwoServers(NetStage):
    """And another server (``store``) at port 81."""

    def __init__(self) -> None:
        super().__init__()
        with self.network.other_end():
            self.servers.append(started(_SERVER, "store", "10.77.0.2", "81"))


def full_queue(_stage: Stage) -> None:
    """A server with room for one visitor, and two come: the second has to ask again."""
    words = "import socket, time; s = socket.socket(); s.bind(('10.77.0.1', 81)); s.listen(0); print(flush=True); " \
            "time.sleep(0.6); s.accept(); time.sleep(2)"  # fmt: skip
    server = subprocess.Popen([sys.executable, "-c", words], stdout=subprocess.PIPE, text=True)
    assert server.stdout
    server.stdout.readline()
    VISITS(_stage)
    clients = [subprocess.Popen([sys.executable, "-c", _CLIENT, "telnet", "10.77.0.1,81,0"]) for _ in range(2)]
    for one in clients:
        one.wait()
    server.kill()
    server.communicate()


_BINDS = """
def bound(host, port, kind=socket.SOCK_STREAM, *options):
    one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    for level, name in options:
        one.setsockopt(level, name, 1)
    try:
        one.bind((host, port))
    except OSError:
        pass
    return one
"""
_SERVERS = _NAMED + _BINDS + """
reuse = socket.SOL_SOCKET, socket.SO_REUSEADDR
sockets = [bound("0.0.0.0", 8080, socket.SOCK_STREAM, reuse), bound("::1", 8080, socket.SOCK_STREAM, reuse)]
for one, backlog in zip(sockets, (511, 100000)):
    one.listen(backlog)
for _ in range(2):
    sockets.append(bound("0.0.0.0", 5353, socket.SOCK_DGRAM, (socket.SOL_SOCKET, socket.SO_REUSEPORT)))
sockets.append(bound("10.77.0.200", 0, socket.SOCK_STREAM, (0, 15), (0, 24)))
sockets.append(bound("0.0.0.0", 8080))
sockets.append(bound("192.0.2.1", 8081))
"""


def servers(_stage: Stage) -> None:
    subprocess.run([sys.executable, "-c", _SERVERS, "httpd"], check=True)


SCENES = {
    "bindsnoop": Scene("bindsnoop -n httpd", servers, NetStage),
    "bindsnoop-errors": Scene("bindsnoop -E -w -P 8080,8081", servers, NetStage),
    "bindsnoop-count": Scene("bindsnoop --count -n httpd", servers, NetStage),
    "solisten": Scene("solisten", servers, NetStage),
    "solisten-netns": Scene("solisten --show-netns", servers, NetStage),
    "tcptracer": Scene("tcptracer", VISITS, NetStage),
    "tcptracer-verbose": Scene("tcptracer -v -t -p {pid} --csv", get("wget", "10.77.0.2,80,100003"), NetStage),
    "tcpconnlat": Scene("tcpconnlat", full_queue, NetStage),
    "tcpconnlat-slow": Scene("tcpconnlat -t -L 100", full_queue, NetStage),
    "tcptop": Scene("tcptop -C 1 1", stream, TwoServers),
    "tcptop-pid": Scene("tcptop -C -S -p {pid} 2 1", stream, TwoServers),
    "tcplife": Scene("tcplife", VISITS, NetStage),
    "tcplife-port": Scene("tcplife -T -w -L 80", VISITS, NetStage),
    "tcpaccept": Scene("tcpaccept", VISITS, NetStage),
    "tcpaccept-port": Scene("tcpaccept -T -t -P 80", VISITS, NetStage),
    "tcpconnect": Scene("tcpconnect", VISITS, NetStage),
    "tcpconnect-port": Scene("tcpconnect -U -L -t -P 80,81", VISITS, NetStage),
    "tcpconnect-count": Scene("tcpconnect -c", VISITS, NetStage),
    "tcpconnect-dns": Scene("tcpconnect -d -n curl", lookup, NameStage),
    "tcpstates": Scene("tcpstates -4", get("wget", "10.77.0.2,80,100003"), NetStage),
    "tcpstates-port": Scene("tcpstates -T -D 80,81", VISITS, NetStage),
    "tcplife-csv": Scene("tcplife -s -D 80", VISITS, NetStage),
}
