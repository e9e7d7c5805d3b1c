# SPDX-License-Identifier: Apache-2.0
"""netqtop against packets that were sent on known queues, in sizes at both ends of each range."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from harness import Tool, osmia, osmia_command
from netns import Network, ip
from tunnel import MULTI_QUEUE, tun
from wide import PORT, send, steer, wide_network

pytestmark = pytest.mark.kernel

SIZES = ["[0, 64)", "[64, 512)", "[512, 2K)", "[2K, 16K)", "[16K, 64K)"]


@pytest.fixture
def net() -> Iterator[Network]:
    with wide_network() as made:
        yield made


def inside(net: Network, *words: str) -> Tool:
    """The tool where the devices are, /sys included."""
    return Tool(command=["ip", "netns", "exec", net.name, *osmia_command("netqtop", *words)])


def sums(tool: Tool) -> Counter[tuple[Any, ...]]:
    """Packets by direction, queue and size of all intervals."""
    out: Counter[tuple[Any, ...]] = Counter()
    assert tool.status == 0 and tool.stderr == ""
    for record in tool.records():
        for row in record.get("rows", []):
            out[row["direction"], row["queue"], row["size"]] += row["count"]
            out[row["direction"], "bytes"] += row["bytes"]
    return out


def test_sizes(net: Network) -> None:
    """A packet belongs to the range that begins with its size; the device's own counters agree."""
    edges = [60, 63, 64, 511, 512, 2047, 2048, 16383, 16384, 65000]
    steer(net, 0)
    with inside(net, "-n", "wide0", "--json") as tool:
        send(edges)
    assert sums(tool) == {**{("TX", 0, size): 2 for size in SIZES}, ("TX", "bytes"): sum(edges)}
    stats = subprocess.run(["ip", "-n", net.name, "-s", "-j", "link", "show", "wide0"], capture_output=True, text=True,
                           check=True).stdout  # fmt: skip
    assert f'"tx":{{"bytes":{sum(edges)},"packets":{len(edges)},' in stats


def test_queues_that_packets_leave_by(net: Network) -> None:
    with inside(net, "-n", "wide0", "--json") as tool:
        for queue, times in ((0, 7), (1, 11), (2, 13)):
            steer(net, queue)
            send([100] * times)
    assert sums(tool) == {**{("TX", queue, SIZES[1]): times for queue, times in ((0, 7), (1, 11), (2, 13))},
                          ("TX", "bytes"): 3100}  # fmt: skip


def packet(size: int) -> bytes:
    """An IPv4 packet to nobody, as a tunnel has it."""
    ends = socket.inet_aton("10.79.0.2") + socket.inet_aton("10.79.0.3")
    return (struct.pack("!BBHHHBBH", 0x45, 0, size, 1, 0, 64, 17, 0) + ends).ljust(size, b"\0")


def test_queues_that_packets_come_in_by(net: Network) -> None:
    """A tunnel says which one of its files a packet came from."""
    files = [tun("tun7", MULTI_QUEUE) for _ in range(3)]
    try:
        ip("netns", "exec", net.name, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/tun7/disable_ipv6 || true")
        ip("-n", net.name, "addr", "add", "10.79.0.1/24", "dev", "tun7")
        ip("-n", net.name, "link", "set", "tun7", "up")
        with inside(net, "-n", "tun7", "--json") as tool:
            for queue, times in ((0, 5), (1, 3), (2, 17)):
                for _ in range(times):
                    os.write(files[queue], packet(600))
    finally:
        for one in files:
            os.close(one)
    assert sums(tool) == {**{("RX", queue, SIZES[2]): times for queue, times in ((0, 5), (1, 3), (2, 17))},
                          ("RX", "bytes"): 15000}  # fmt: skip


def test_other_devices_are_left_out(net: Network) -> None:
    with inside(net, "-n", "near0", "--json") as tool:
        send([100] * 11)
    assert sums(tool) == {}


def test_the_same_number_in_another_namespace(net: Network) -> None:
    """``lo`` is number 1 in each."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink, inside(net, "-n", "lo", "--json") as tool:
        sink.bind(("127.0.0.1", PORT))
        with net.other_end():
            send([100] * 11, "127.0.0.1")
        send([100] * 7, "127.0.0.1")
    assert sums(tool) == {("TX", 0, SIZES[1]): 7, ("RX", 0, SIZES[1]): 7, ("TX", "bytes"): 700,
                          ("RX", "bytes"): 7 * (100 - 14)}  # fmt: skip


def test_the_table(net: Network) -> None:
    """As bcc shows it, idle queues included."""
    with inside(net, "-n", "wide0", "-t", "-i", "600") as tool:
        steer(net, 1)
        send([1024] * 23)
    shown = [line.rstrip() for line in tool.stdout.splitlines()]
    assert re.fullmatch(r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}", shown[0])
    head = ["QueueID    avg_size   [0, 64)    [64, 512)  [512, 2K)  [2K, 16K)  [16K, 64K) BPS        PPS"]
    idle = "0          0          0          0          0          0          0          0.0        0.0"
    rows = [line.split() for line in shown[3:7]]
    assert shown[1] == "TX" and [shown[2].strip()] == head
    assert [row[:7] for row in rows] == [
        ["0", *["0"] * 6], ["1", "1.0K", "0", "0", "23", "0", "0"], ["2", *["0"] * 6],
        ["Total", "1.0K", "0", "0", "23", "0", "0"],
    ]  # fmt: skip
    assert rows[1][7:] == rows[3][7:] and float(rows[1][8].rstrip("KM")) > 0
    assert shown[3].strip() == idle
    assert shown[7:9] == ["", "RX"] and len(shown) == 8 + 6 + 1 and shown[-1] == "-" * 95


def test_csv(net: Network) -> None:
    with inside(net, "-n", "wide0", "--csv") as tool:
        steer(net, 2)
        send([70] * 3)
    assert tool.stdout.splitlines() == ["DIRECTION,QUEUE,SIZE,PACKETS,BYTES", 'TX,2,"[64, 512)",3,210']


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "said"),
    [([], "osmia: netqtop: a network device is needed; -n eth0, for example\n"),
     (["-n", "no-such"], "osmia: netqtop: option -n: no network device 'no-such' in this network namespace; "),
     (["-n", "lo", "-i", "0"], "osmia: netqtop: option -i: 0 is not a time: more than 0 seconds is needed\n")],
)  # fmt: skip
def test_mistakes(words: list[str], said: str) -> None:
    done = osmia("netqtop", *words)
    assert done.returncode in (1, 2) and done.stdout == ""
    assert done.stderr.startswith(said) and done.stderr.count("\n") == 1
