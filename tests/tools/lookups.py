# SPDX-License-Identifier: Apache-2.0
"""A program that looks up host names, and the name server that answers it after a known time."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from harness import Told

DELAY = 0.06  # seconds that the name server thinks about each question
LONG = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])  # 253 characters
#: Looks up what it is told ("getaddrinfo a.example"), says how many ns that took, and is the name server itself.
PROGRAM = """
import ctypes, mmap, os, socket, sys, tempfile, threading, time
DELAY, LONG = float(sys.argv[1]), sys.argv[2]
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))

def serve():
    while True:
        ask, who = server.recvfrom(512)
        end = ask.index(0, 12) + 5
        name, kind = ask[13 : end - 5], ask[end - 3]
        time.sleep(DELAY)
        known = not name.startswith(b"nobody")
        found = known and kind == 1
        head = ask[:2] + (b"\\x81\\x80" if known else b"\\x81\\x83") + b"\\0\\1" + bytes([0, found]) + bytes(4)
        answer = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\0\\0\\4\\x0a\\1\\2\\3" if found else b""
        server.sendto(head + ask[12:end] + answer, who)

threading.Thread(target=serve, daemon=True).start()
libc = ctypes.CDLL(None)
libc.gethostbyname.restype = libc.gethostbyname2.restype = ctypes.c_void_p
result = ctypes.c_void_p()
hints = (ctypes.c_int * 12)(0, socket.AF_INET)

def lookup(how, name):
    if how == "getaddrinfo":
        return libc.getaddrinfo(name, b"80", hints, ctypes.byref(result))
    if how == "gethostbyname":
        return 0 if libc.gethostbyname(name) else -1
    return 0 if libc.gethostbyname2(name, socket.AF_INET) else -1

print(flush=True)
for line in sys.stdin:
    how, name = line.split()
    text = None if name == "NULL" else LONG.encode() if name == "LONG" else name.encode()
    if how == "untouched":  # in a file, whose page this process has not read
        with tempfile.TemporaryFile(dir="/var/tmp") as file:
            file.write(text + bytes(4096))
            file.flush()
            page = mmap.mmap(file.fileno(), 4096, mmap.MAP_PRIVATE)
        how, text = "getaddrinfo", ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    start = time.monotonic_ns()
    if how == "threads":
        both = [threading.Thread(target=lookup, args=("getaddrinfo", b"%s%d.example" % (text, n))) for n in range(5)]
        for one in both: one.start()
        for one in both: one.join()
        got = 0
    else:
        got = lookup(how, text)
    print(got, time.monotonic_ns() - start, flush=True)
"""


class Resolver(Told):
    """The program, in a network where 127.0.0.1 is its name server."""

    def __init__(self, directory: Path, delay: float = DELAY) -> None:
        (directory / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:1\n")
        (directory / "nsswitch.conf").write_text("hosts: files dns\n")
        (directory / "program.py").write_text(PROGRAM)
        binds = [f"mount --bind {directory}/{name} $(readlink -f /etc/{name})" for name in
                 ("resolv.conf", "nsswitch.conf") if os.path.exists(f"/etc/{name}")]  # fmt: skip
        program = f"exec {sys.executable} {directory}/program.py {delay} {LONG}"
        script = " && ".join(["ip link set lo up", *binds, program])
        super().__init__("unshare", "-n", "-m", "sh", "-c", script)
        assert self.process.stdout and self.process.stdout.readline() == "\n"

    def lookup(self, how: str, name: str) -> tuple[int, int]:
        """What came of it, and the ns it took."""
        got, took = self.tell(f"{how} {name}").split()
        return int(got), int(took)
