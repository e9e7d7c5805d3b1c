# SPDX-License-Identifier: Apache-2.0
"""bindsnoop against addresses that are taken here."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from harness import Tool, osmia

pytestmark = pytest.mark.kernel

ME = os.getpid()
COMM = Path("/proc/self/comm").read_text().strip()
HEADING = ["PID", "COMM", "PROT", "ADDR", "PORT", "OPTS", "IF"]
IP_TRANSPARENT, IP_FREEBIND, IP_BIND_ADDRESS_NO_PORT = 19, 15, 24  # include/uapi/linux/in.h
#: Letter, level and name of each option.
OPTIONS = {
    "F": (socket.SOL_IP, IP_FREEBIND), "T": (socket.SOL_IP, IP_TRANSPARENT),
    "N": (socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT), "R": (socket.SOL_SOCKET, socket.SO_REUSEADDR),
    "r": (socket.SOL_SOCKET, socket.SO_REUSEPORT),
}  # fmt: skip


def bound(host: str = "127.0.0.1", port: int = 0, kind: int = socket.SOCK_STREAM, options: str = "") -> socket.socket:
    one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    for letter in options:
        one.setsockopt(*OPTIONS[letter], 1)
    one.bind((host, port))
    return one


def port_of(one: socket.socket) -> int:
    """The port; the socket is closed."""
    with one:
        return int(one.getsockname()[1])


def table(tool: Tool) -> list[list[str]]:
    """Heading and rows, behind the banner."""
    assert (tool.status, tool.stderr) == (0, "")
    lines = tool.stdout.splitlines()
    assert lines[0] == "Tracing binds ... Hit Ctrl-C to end"
    return [line.split() for line in lines[1:]]


def test_every_call_has_a_row() -> None:
    """Any protocol, with the port that the kernel has chosen where none is asked for."""
    tool = Tool("bindsnoop", "-p", str(ME)).start()
    expected = []
    for number in range(17):
        host = ("127.0.0.1", "::1", "0.0.0.0", "::")[number % 4]
        kind, protocol = ((socket.SOCK_STREAM, "TCP"), (socket.SOCK_DGRAM, "UDP"))[number % 2 ^ number // 4 % 2]
        port = port_of(bound(host, kind=kind))
        expected.append([str(ME), COMM, protocol, host, str(port), ".....", "0"])
    found = table(tool.stop())
    assert found[0] == HEADING and found[1:] == expected


@pytest.mark.parametrize("letters", ["", *OPTIONS, "FTNRr", "FN", "TR", "Nr"])
def test_options(letters: str) -> None:
    tool = Tool("bindsnoop", "--json", "-p", str(ME)).start()
    bound(options=letters).close()
    (one,) = [record for record in tool.stop().records() if "opts" in record]
    assert one["opts"] == "".join(letter if letter in letters else "." for letter in OPTIONS)


def test_a_device() -> None:
    """Its number, where the socket is tied to one."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
        tool = Tool("bindsnoop", "-p", str(ME)).start()
        one.bind(("127.0.0.1", 0))
        assert table(tool.stop())[1][-1] == str(socket.if_nametoindex("lo"))


def test_failures() -> None:
    """With -E: what was asked for, and the error; -w says it in words."""
    with bound("127.0.0.1") as taken, bound("::1") as wide:
        taken.listen()
        wide.listen()
        ports = taken.getsockname()[1], wide.getsockname()[1]
        tools = [Tool("bindsnoop", "-p", str(ME), *words).start() for words in ([], ["-E"], ["-E", "-w"])]
        for host, port in (("127.0.0.1", ports[0]), ("::1", ports[1]), ("192.0.2.77", 8081), ("2001:db8::7", 8082)):
            with pytest.raises(OSError, match=r"98|99"):
                bound(host, port)
        good = port_of(bound())
    plain, with_errors, in_words = (table(tool.stop()) for tool in tools)
    assert [row[4] for row in plain[1:]] == [str(good)]
    assert with_errors[0] == ["RC", *HEADING]
    assert [[row[0], *row[4:6]] for row in with_errors[1:]] == [
        [str(-errno.EADDRINUSE), "127.0.0.1", str(ports[0])], [str(-errno.EADDRINUSE), "::1", str(ports[1])],
        [str(-errno.EADDRNOTAVAIL), "192.0.2.77", "8081"], [str(-errno.EADDRNOTAVAIL), "2001:db8::7", "8082"],
        ["0", "127.0.0.1", str(good)],
    ]  # fmt: skip
    first = tools[2].stdout.splitlines()[2]
    assert re.match(rf"Address already in use {{4}} +{ME} +\S+ +TCP +127\.0\.0\.1 {{30}} +{ports[0]} ", first), first
    assert len(in_words) == 6


def test_other_sockets_have_no_rows() -> None:
    """Unix sockets, and what is no socket at all."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    tool = Tool("bindsnoop", "-E", "-p", str(ME)).start()
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"\0osmia-bind-{ME}")
    address = bytes([2, 0, 1, 1]) + bytes(12)
    with open("/dev/null", encoding="ascii") as file:
        for fd in (file.fileno(), -1, 1_000_000, 2**31 - 1):
            assert libc.bind(fd, address, 16) == -1
    assert len(table(tool.stop())) == 1


@pytest.mark.parametrize(
    ("words", "count"),
    [(["-P", "PORT"], 1), (["-P", "1,PORT"], 1), (["-P", "1"], 0), (["-u", "0"], 3), (["-u", "65533"], 0),
     (["-n", COMM[:4]], 3), (["-n", "nobody"], 0), (["-E", "-P", "PORT"], 2)],
)  # fmt: skip
def test_what_is_shown(words: list[str], count: int) -> None:
    """One call for a port, once more for it in vain, and two others."""
    port = port_of(bound())
    tool = Tool("bindsnoop", "-p", str(ME), *[word.replace("PORT", str(port)) for word in words]).start()
    with bound(port=port), pytest.raises(OSError, match="98"):
        bound(port=port)
    for _ in range(2):
        bound().close()
    assert len(table(tool.stop())) == count + 1


def test_who_and_when() -> None:
    tool = Tool("bindsnoop", "-U", "-t", "-P", "47113").start()
    for uid in ("0", "65533"):
        code = f"import os, socket; os.setuid({uid}); socket.socket().bind(('127.0.0.1', 47113)); print(os.getpid())"
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    found = table(tool.stop())
    assert found[0] == ["TIME(s)", "UID", *HEADING] and [row[1] for row in found[1:]] == ["0", "65533"]
    assert found[1][0] == "0.000000" and re.fullmatch(r"\d+\.\d{6}", found[2][0])


def test_counts() -> None:
    """By address and port, most first."""
    port = port_of(bound())
    tools = [Tool("bindsnoop", "--count", "-p", str(ME), *words).start() for words in ([], ["--json"], ["-E"])]
    for _ in range(7):
        bound(port=port, options="R").close()
    for _ in range(5):
        bound("::1", port=port, options="R").close()
    for _ in range(11):
        with pytest.raises(OSError, match="99"):
            bound("192.0.2.77", 8081)
    plain, as_json, with_errors = (tool.stop() for tool in tools)
    rows = [["127.0.0.1", str(port), "7"], ["::1", str(port), "5"]]
    assert [row for row in table(plain) if row] == [["LADDR", "LPORT", "BINDS"], *rows]
    assert [row for row in table(with_errors) if row][1:] == [["192.0.2.77", "8081", "11"], *rows]
    (found,) = [record["rows"] for record in as_json.records() if "rows" in record]
    assert found == [{"laddr": "127.0.0.1", "lport": port, "count": 7}, {"laddr": "::1", "lport": port, "count": 5}]


def test_json() -> None:
    tool = Tool("bindsnoop", "--json", "-p", str(ME)).start()
    port = port_of(bound("::1", kind=socket.SOCK_DGRAM))
    (one,) = [record for record in tool.stop().records() if "opts" in record]
    assert (one["pid"], one["uid"], one["comm"], one["family"], one["ret"]) == (ME, 0, COMM, 10, 0)
    assert (one["laddr"], one["lport"], one["protocol"], one["interface"]) == ("::1", port, "UDP", 0)


@pytest.mark.anywhere
def test_bad_input() -> None:
    done = osmia("bindsnoop", "-P", "http")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "osmia: bindsnoop: option -P: 'http' is not a port: a number from 1 to 65535\n"
