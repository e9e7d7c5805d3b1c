# SPDX-License-Identifier: Apache-2.0
"""tcpsubnet against bytes that calls took over, by the address they were sent to."""

from __future__ import annotations

import os
import re
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from harness import Tool, osmia
from netns import Network, ip, network

pytestmark = pytest.mark.kernel

PORT = 7021
#: How many bytes go to which address.
SIZES = {"127.0.0.1": 10007, "10.1.2.3": 20011, "10.1.9.9": 30011, "172.20.0.5": 40009, "192.168.7.7": 50021,
         "198.51.100.9": 60013, "127.0.0.2": 70001}  # fmt: skip
ME = str(os.getpid())


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    """All the addresses are this machine's own."""
    with network() as made:
        for address in SIZES:
            if not address.startswith("127."):
                ip("-n", made.name, "addr", "add", address + "/32", "dev", "lo")
        ip("-n", made.name, "addr", "add", "2001:db8::7/128", "dev", "lo", "nodad")
        yield made


@contextmanager
def sink(family: int = socket.AF_INET) -> Iterator[None]:
    """A server that reads what comes."""
    with socket.socket(family) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("::" if family == socket.AF_INET6 else "", PORT))
        server.listen()

        def swallow(one: socket.socket) -> None:
            with one:
                while one.recv(1 << 16):
                    pass

        def serve() -> None:
            with suppress(OSError):  # at the end
                while True:
                    threading.Thread(target=swallow, args=(server.accept()[0],), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def send(address: str, size: int) -> None:
    with socket.create_connection((address, PORT)) as one:
        one.sendall(bytes(size))


def counted(tool: Tool) -> Counter[str]:
    """Bytes by subnet of all intervals."""
    assert tool.status == 0 and tool.stderr == ""
    out: Counter[str] = Counter()
    for record in tool.records():
        for row in record.get("rows", []):
            out[row["subnet"]] += row["count"]
    return out


def sent_to_all(*words: str) -> Counter[str]:
    tool = Tool("tcpsubnet", "--json", "-p", ME, *words).start()
    with sink():
        for address, size in SIZES.items():
            send(address, size)
    return counted(tool.stop())


def test_the_subnets_that_bcc_has(net: Network) -> None:
    assert sent_to_all() == {"127.0.0.1/32": 10007, "10.0.0.0/8": 20011 + 30011, "172.16.0.0/12": 40009,
                             "192.168.0.0/16": 50021, "0.0.0.0/0": 60013 + 70001}  # fmt: skip


@pytest.mark.parametrize(
    ("subnets", "expected"),
    [("0.0.0.0/0", {"0.0.0.0/0": sum(SIZES.values())}),
     ("10.1.0.0/16,10.1.2.0/24", {"10.1.0.0/16": 50022}),
     ("10.1.2.0/24,10.1.0.0/16", {"10.1.2.0/24": 20011, "10.1.0.0/16": 30011}),
     ("10.1.2.2/31,10.1.9.8/29", {"10.1.2.2/31": 20011, "10.1.9.8/29": 30011}),
     ("198.51.100.9/32,127.0.0.0/8", {"198.51.100.9/32": 60013, "127.0.0.0/8": 80008}),
     ("2001:db8::/32", {}), ("::/0", {"::/0": sum(SIZES.values())})],
)  # fmt: skip
def test_the_first_that_fits(net: Network, subnets: str, expected: dict[str, int]) -> None:
    assert sent_to_all(subnets) == expected


def test_ipv6(net: Network) -> None:
    """Also an IPv4 address over a socket of IPv6, which is one of IPv4."""
    tool = Tool("tcpsubnet", "--json", "-p", ME, "2001:db8::/32,10.0.0.0/8,::/0").start()
    with sink(socket.AF_INET6):
        send("2001:db8::7", 5003)
        with socket.socket(socket.AF_INET6) as one:
            one.connect(("::ffff:10.1.2.3", PORT))
            one.sendall(bytes(7001))
        send("::1", 3001)
    assert counted(tool.stop()) == {"2001:db8::/32": 5003, "10.0.0.0/8": 7001, "::/0": 3001}


def test_what_was_not_taken_does_not_count(net: Network) -> None:
    """A socket that is full takes a part, and then nothing."""
    tool = Tool("tcpsubnet", "--json", "-p", ME, "10.1.2.3/32").start()
    with socket.create_server(("10.1.2.3", PORT)) as server, socket.create_connection(("10.1.2.3", PORT)) as one:
        one.setblocking(False)
        taken = 0
        with pytest.raises(BlockingIOError):
            while True:
                taken += one.send(bytes(1_000_003))
        for _ in range(7):
            with pytest.raises(BlockingIOError):
                one.send(b"x")
        assert counted(tool.stop()) == {"10.1.2.3/32": taken}
        server.close()


def test_every_way_to_send(net: Network) -> None:
    """Files that the kernel itself sends are no exception."""
    tool = Tool("tcpsubnet", "--json", "-p", ME, "10.1.2.3/32").start()
    with sink(), tempfile.TemporaryFile() as file, socket.create_connection(("10.1.2.3", PORT)) as one:
        file.write(bytes(123_457))
        file.flush()
        expected = os.write(one.fileno(), bytes(1009)) + os.writev(one.fileno(), [bytes(101), bytes(103)])
        expected += one.sendmsg([bytes(2003), bytes(2011)]) + one.send(bytes(3001))
        sent = 0
        while sent < 123_457:
            sent += os.sendfile(one.fileno(), file.fileno(), sent, 123_457 - sent)
    assert counted(tool.stop()) == {"10.1.2.3/32": expected + 123_457}


@pytest.mark.parametrize(("unit", "shown"), [("b", 160088), ("k", 156), ("m", 0), ("B", 20011), ("K", 19), ("M", 0)])
def test_units(net: Network, unit: str, shown: int) -> None:
    tool = Tool("tcpsubnet", f"-f{unit}", "-p", ME, "-i", "600", "10.1.2.0/24").start()
    with sink():
        send("10.1.2.3", 20011)
    assert tool.stop().status == 0 and tool.stderr == ""
    lines = tool.stdout.splitlines()
    assert lines[0] == "Tracing... Hit Ctrl-C to end" and re.fullmatch(r"\[.+ .+\]", lines[1])
    assert lines[2:] == [f"{'10.1.2.0/24':<21} {shown:>6}"]


def test_other_processes_are_left_out(net: Network) -> None:
    tool = Tool("tcpsubnet", "-J", "-p", "1").start()
    with sink():
        send("10.1.2.3", 20011)
    assert counted(tool.stop()) == {}


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "said"),
    [(["10.0.0.1"], "subnets: '10.0.0.1' is not a subnet: as in 10.0.0.0/8"),
     (["10.0.0.0/33"], "subnets: '10.0.0.0/33' is not a subnet: as in 10.0.0.0/8"),
     ([",".join(["10.0.0.0/8"] * 65)], "subnets: 65 subnets are too many: 64 at most")],
)  # fmt: skip
def test_mistakes(words: list[str], said: str) -> None:
    done = osmia("tcpsubnet", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"osmia: tcpsubnet: {said}\n")
