# SPDX-License-Identifier: Apache-2.0
"""Both ends of TLS connections in one process, which does what it is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness import Told

#: "talk N WAIT": a connection over which N messages of 10 bytes go, each answered with 3 bytes after WAIT seconds;
#: "refuse": a handshake that fails, because the client does not trust the server.
PROGRAM = """
import socket, ssl, sys, threading, time
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(sys.argv[1] + "/cert.pem", sys.argv[1] + "/key.pem")
server.num_tickets = 0
client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
client.check_hostname = False

def serve(one, times, wait):
    try:
        with server.wrap_socket(one, server_side=True) as tls:
            for _ in range(times):
                tls.recv(100)
                time.sleep(wait)
                tls.send(b"yes")
    except OSError:
        one.close()

def connect(times, wait, trusted):
    near, far = socket.socketpair()
    thread = threading.Thread(target=serve, args=(far, times, wait))
    thread.start()
    client.verify_mode = ssl.CERT_NONE if trusted else ssl.CERT_REQUIRED
    try:
        with client.wrap_socket(near) as tls:
            for _ in range(times):
                tls.send(b"0123456789")
                tls.recv(100)
    except ssl.SSLError:
        near.close()
    thread.join()

print(flush=True)
for line in sys.stdin:
    what, *words = line.split()
    if what == "talk":
        connect(int(words[0]), float(words[1]), True)
    else:
        connect(0, 0, False)
    print("done", flush=True)
"""


class Tls(Told):
    """The program, with a certificate of its own."""

    def __init__(self, directory: Path) -> None:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(directory / "key.pem"), "-out",
             str(directory / "cert.pem"), "-days", "2", "-subj", "/CN=localhost"], check=True, capture_output=True,
        )  # fmt: skip
        (directory / "tls.py").write_text(PROGRAM)
        super().__init__(sys.executable, str(directory / "tls.py"), str(directory))
        assert self.process.stdout and self.process.stdout.readline() == "\n"

    def talk(self, times: int, wait: float = 0.0) -> None:
        assert self.tell(f"talk {times} {wait}") == "done\n"

    def refuse(self) -> None:
        assert self.tell("refuse") == "done\n"
