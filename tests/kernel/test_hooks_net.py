# SPDX-License-Identifier: Apache-2.0
"""Socket filters, XDP and tc see exactly the packets that were sent, and may stop them.

Traffic runs over a virtual cable between two network namespaces of the
test's own, where nobody else sends anything.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kernel_code import Running, module, running, wait_for
from needs import needs, older_than
from netns import Network, network
from patience import patient

from osmia.errors import CompileError, NotFound, NotSupported, UserError
from osmia.kernel import bpf, features

pytestmark = [pytest.mark.kernel, pytest.mark.vm, pytest.mark.usefixtures("no_fd_leak")]
Row = Callable[[str, Any], None]

HEADERS = 14 + 20 + 8  # Ethernet, IPv4, UDP
PORT = 4077
COUNT = """
n = Array[u64](8)
by_port = Hash[u64, u64](64)
"""


@pytest.fixture
def net() -> Iterator[Network]:
    with network() as made:
        yield made


@contextmanager
def sockets(net: Network) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A UDP socket at each end, each connected to the other: ``(near, far)``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near:
        near.bind(("10.77.0.1", PORT))
        near.connect(("10.77.0.2", PORT))
        with net.other_end():
            far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with far:
            far.bind(("10.77.0.2", PORT))
            far.connect(("10.77.0.1", PORT))
            for one in (near, far):
                one.settimeout(patient(2.0))
            yield near, far


def exchange(net: Network, times: int = 23) -> int:
    """Send 1, 2, 3 … bytes to the other end and half of them back; the bytes of the questions, headers included."""
    with sockets(net) as (near, far):
        for size in range(1, times + 1):
            near.send(bytes(size))
            assert len(far.recv(2000)) == size
            if size % 2 == 0:
                far.send(b"answer")
                assert near.recv(2000) == b"answer"
    return sum(HEADERS + size for size in range(1, times + 1))


ANSWERS = 11
ANSWERED = ANSWERS * (HEADERS + 6)


def counts(it: Running) -> list[int]:
    return [it.module.n[at] for at in range(8)]


def supported(kind: str, it: Running, prog: str, **options: Any) -> Any:
    """Attach; skip where the kernel is too old for the link, and only there."""
    since = {"xdp": "5.9"}[kind]
    try:
        return it.attach(prog, **options)
    except NotSupported as err:
        assert older_than(since), err
        assert "this kernel has no links" in str(err) and "socket_filter" in str(err)
        pytest.skip(f"links for {kind} since {since}")


SEEN = COUNT + """
def is_udp(packet):
    return packet.u16(12) == 0x0800 and packet.u8(23) == 17

@socket_filter("near0")
def seen(packet):
    n[0] += 1
    if packet.protocol == 0x0800 and is_udp(packet):
        n[1] += 1
        n[2] += packet.len
        n[3] += packet.u16(38) - 8
        by_port[packet.u16(36)] += 1
        if packet.u32(30) == 0x0A4D0002:
            n[4] += 1
        if packet.ifindex != device:
            n[5] += 1
"""


@pytest.mark.feature("A21 socket filters")
def test_a_socket_filter_counts_both_directions(net: Network, record_property: Row) -> None:
    text = f"device = {socket.if_nametoindex('near0')}\n" + SEEN
    with running(text) as it:
        link = it.attach("seen", device="near0")
        asked = exchange(net)
        link.close()
        exchange(net)
        n = counts(it)
        assert n[:6] == [23 + ANSWERS, 23 + ANSWERS, asked + ANSWERED, sum(range(1, 24)) + 6 * ANSWERS, 23, 0]
        assert dict(it.module.by_port) == {PORT: 23 + ANSWERS}
        assert it.lost() == {}
    record_property("row", "hook:socket_filter")
    record_property("how", link.how)


def test_a_socket_filter_of_all_devices_and_one_that_is_not_there(net: Network) -> None:
    with running(COUNT + "@socket_filter()\ndef seen(packet):\n    by_port[packet.ifindex] += 1\n") as it:
        with it.attach("seen"):
            exchange(net)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for _ in range(5):
                    sock.sendto(b"x", ("127.0.0.1", 9))
        found = dict(it.module.by_port)
        assert found[socket.if_nametoindex("near0")] == 23 + ANSWERS
        assert found[socket.if_nametoindex("lo")] >= 10  # each is sent and received, and refused by ICMP
        with pytest.raises(NotFound, match=r"seen \(neer0\): no network device 'neer0' .*; did you mean near0\?"):
            it.attach("seen", device="neer0")


def test_a_filter_on_a_socket_of_ours_chooses(net: Network) -> None:
    """On an ordinary socket the result is how much is kept; the packet begins at its UDP header there."""
    text = COUNT + """
@socket_filter()
def even(packet):
    n[0] += 1
    length = packet.u16(4) - 8
    if length % 2:
        return 0
    return packet.len
"""
    with running(text) as it, sockets(net) as (near, far):
        link = it.attach("even", socket_fd=far.fileno())
        for size in range(1, 11):
            near.send(bytes(size))
        assert [len(far.recv(100)) for _ in range(5)] == [2, 4, 6, 8, 10]
        link.close()
        near.send(bytes(3))
        assert len(far.recv(100)) == 3 and counts(it)[0] == 10


ARRIVED = COUNT + """
@xdp("far0")
def arrived(packet):
    n[0] += 1
    n[1] += packet.len
    if packet.ifindex != device:
        n[2] += 1
"""


@pytest.mark.feature("A21 XDP")
@pytest.mark.parametrize("generic", [False, True])
def test_xdp_counts_what_arrives(net: Network, generic: bool, record_property: Row) -> None:
    with net.other_end():
        index = socket.if_nametoindex("far0")
    with running(f"device = {index}\n" + ARRIVED) as it:
        with net.other_end():
            link = supported("xdp", it, "arrived", device="far0", generic=generic)
        asked = exchange(net)
        assert "generic" in link.how or not generic
        with net.other_end(), pytest.raises(UserError, match="something else is attached there"):
            it.attach("arrived", device="far0", generic=generic)
        link.close()
        exchange(net)
        assert counts(it)[:3] == [23, asked, 0]
    record_property("row", "hook:xdp")
    record_property("how", link.how)


DROPPED = COUNT + """
@xdp("near0")
def gate(packet):
    if packet.u16(12) == 0x0800 and packet.u8(23) == 17 and packet.u8(42) == ord("x"):
        n[0] += 1
        return XDP_DROP
    if packet.u8(1000) or packet.u64(5000):
        n[1] += 1
"""


@pytest.mark.feature("A21 XDP")
def test_xdp_reads_bytes_and_drops(net: Network) -> None:
    if not features.has("xdp_load_bytes"):
        with pytest.raises(UserError, match=r"gate|helper"), running(DROPPED):
            pass
    needs("xdp_load_bytes")
    with running(DROPPED) as it, sockets(net) as (near, far):
        link = it.attach("gate", device="near0")
        for word in (b"x1", b"a", b"x2", b"b", b"x3"):
            far.send(word)
        assert [near.recv(10), near.recv(10)] == [b"a", b"b"]
        link.close()
        far.send(b"x4")
        assert near.recv(10) == b"x4"
        assert counts(it)[:2] == [3, 0]


@contextmanager
def only(way: str) -> Iterator[None]:
    """tc without links, as before 6.6; or as the kernel likes it."""
    if way == "filter":
        features.turn_off("tcx")
    try:
        yield
    finally:
        features.turn_off()


PASSED = COUNT + """
@tc("near0", "{direction}")
def passed(packet):
    if packet.protocol == 0x0800 and packet.u8(23) == 17:
        n[0] += 1
        n[1] += packet.len
        by_port[packet.u16(34)] += 1
        if packet.u8(42) == ord("x"):
            n[2] += 1
            return TC_DROP
"""


@pytest.mark.feature("A21 tc")
@pytest.mark.parametrize("way", ["link", "filter"])
@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_tc_counts_each_direction_and_drops(net: Network, direction: str, way: str, record_property: Row) -> None:
    if way == "link":
        needs("tcx")
    record_property("row", f"hook:tc {direction}")
    with running(PASSED.replace("{direction}", direction)) as it, only(way):
        link = it.attach("passed", device="near0")
        assert link.how == {"link": "tcx link", "filter": "clsact filter"}[way]
        asked = exchange(net)
        expected = [ANSWERS, ANSWERED, 0] if direction == "ingress" else [23, asked, 0]
        assert counts(it)[:3] == expected
        assert dict(it.module.by_port) == {PORT: expected[0]}
        with sockets(net) as (near, far):
            sender, receiver = (far, near) if direction == "ingress" else (near, far)
            for word in (b"x1", b"a", b"x2"):
                sender.send(word)
            assert receiver.recv(10) == b"a"
            link.close()
            sender.send(b"x3")
            assert receiver.recv(10) == b"x3"
        assert counts(it)[2] == 2
    record_property("how", link.how)


PROTOCOLS = COUNT + """
@socket_filter()
def sf(packet):
    n[0] = packet.len
    n[1] = packet.u16(6)

@xdp("lo")
def xp(packet):
    n[2] = packet.len
    n[3] = packet.u64(20)

@tc("lo", "egress")
def te(packet):
    n[4] = packet.protocol
    n[5] = packet.u32(len_offset)
    return packet.u8(0) % 3 - 1
"""


def test_single_packets() -> None:
    """BPF_PROG_TEST_RUN: what functions that return nothing answer, and bytes at the edges of a packet."""
    needs("xdp_load_bytes")
    data = bytes(12) + b"\x86\xdd" + bytes(range(46))
    for offset, word in ((56, int.from_bytes(data[56:60], "big")), (57, 0), (4000, 0), (-1, 0)):
        with running(f"len_offset = {offset}\n" + PROTOCOLS) as it:
            answers = [it.live.progs[name].test_run(data=data, data_out=100)[0] for name in ("sf", "xp", "te")]
            assert answers == [0, 2, 0xFFFFFFFF]
            assert counts(it)[:6] == [46, 0x0607, 60, int.from_bytes(data[20:28], "big"), 0x86DD, word]


def test_the_same_functions_run_as_python() -> None:
    made = module("device = 3\n" + SEEN)
    packet = bytearray(HEADERS + 5)
    packet[12:14], packet[23] = b"\x08\x00", 17
    packet[30:34], packet[36:38], packet[38:40] = bytes((10, 77, 0, 2)), struct.pack(">H", 9), struct.pack(">H", 13)
    made.seen(made.Packet(bytes(packet), ifindex=3))
    made.seen(made.Packet(b"\0" * 20))
    assert [made.n[at] for at in range(6)] == [2, 1, HEADERS + 5, 5, 1, 0] and dict(made.by_port) == {9: 1}
    assert (made.Packet(b"ab").u16(1), made.Packet(b"ab").u8(-1), made.Packet(b"ab").u16(0)) == (0, 0, 0x6162)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("packet.protocol", "an XDP packet has not been looked at yet"),
        ("packet.source", "the packet of a xdp program has no field 'source'"),
        ("packet.u16", "u16 is a method"),
        ("packet.u16()", r"u16\(\) takes one argument"),
        ("packet.u12(0)", r"a packet has no method u12\(\)"),
    ],
)
def test_what_a_packet_has_not(body: str, message: str) -> None:
    with pytest.raises(CompileError, match=message), running(f"{COUNT}@xdp('lo')\ndef f(packet):\n    n[0] = {body}\n"):
        pass


@pytest.mark.parametrize("text", ["xdp('')", "xdp('a b')", "tc('lo', 'up')", "tc('a-name-that-is-too-long')"])
def test_decorators_check_their_arguments(text: str) -> None:
    with pytest.raises(TypeError, match=r"network device|direction"):
        module(f"f = {text}\n")


def _programs() -> set[int]:
    out, id = set(), 0
    while id := bpf.prog_get_next_id(id):
        out.add(id)
    return out


@pytest.mark.feature("F8 killed with -9")
def test_a_tool_on_the_wire_and_nothing_stays_after_a_kill(net: Network, tmp_path: Path) -> None:
    """The command line attaches all three to the device of an option; kill -9 takes them off."""
    hooks = ["socket_filter(device)", "xdp(device)", "tc(device, 'egress')"]
    script = tmp_path / "wire.py"
    lines = [f"@{hook}\ndef f{at}(packet):\n    n[{at}] += 1\n" for at, hook in enumerate(hooks)]
    script.write_text(
        "from osmia import *\nn = Array[u64](4)\ndevice = option('--device', type=str, default='lo')\n"
        + "\n".join(lines) + "\nrun()\n"
    )  # fmt: skip
    before = _programs()
    read, write = os.pipe()
    env = {**os.environ, "OSMIA_READY_FD": str(write)}
    child = subprocess.Popen(
        [sys.executable, str(script), "--device", "near0"], env=env, pass_fds=(write,), stdout=subprocess.DEVNULL
    )
    os.close(write)
    assert os.read(read, 1) == b"x"
    os.close(read)
    shown = subprocess.run(["bpftool", "-j", "net", "show"], capture_output=True, text=True, check=True).stdout
    assert len(_programs() - before) >= len(hooks) and '"near0"' in shown
    exchange(net)  # all of it goes through
    child.kill()
    child.wait()
    wait_for(lambda: not _programs() - before, patient(20.0))
    shown = subprocess.run(["bpftool", "-j", "net", "show"], capture_output=True, text=True, check=True).stdout
    assert '"near0"' not in shown
