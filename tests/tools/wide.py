# SPDX-License-Identifier: Apache-2.0
"""A network device with three queues, and packets that leave by the queue that is wanted."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from netns import Network, ip, network

HEADERS = 14 + 20 + 8  # Ethernet, IPv4, UDP
QUEUES = 3
PORT = 4078


@contextmanager
def wide_network() -> Iterator[Network]:
    """Besides ``near0`` there are ``wide0`` (10.78.0.1), with three queues, and its other end ``wide1``."""
    with network() as made:
        ip("-n", made.name, "link", "add", "wide0", "numtxqueues", str(QUEUES), "numrxqueues", str(QUEUES),
           "type", "veth", "peer", "name", "wide1", "netns", made.far)  # fmt: skip
        ends = ((made.name, "wide0", "1", "2"), (made.far, "wide1", "2", "1"))
        for name, device, near, _ in ends:
            ip("netns", "exec", name, "sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{device}/disable_ipv6 || true")
            ip("-n", name, "link", "set", device, "mtu", "65535", "address", f"02:00:00:00:01:0{near}")
            ip("-n", name, "addr", "add", f"10.78.0.{near}/24", "dev", device)
            ip("-n", name, "link", "set", device, "up")
        for name, device, _, far in ends:
            ip("-n", name, "neigh", "replace", f"10.78.0.{far}", "lladdr", f"02:00:00:00:01:0{far}", "dev", device,
               "nud", "permanent")  # fmt: skip
        with made.other_end():
            sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sink:  # else each packet would be answered
            sink.bind(("0.0.0.0", PORT))
            yield made


def steer(net: Network, queue: int) -> None:
    """What any CPU sends on ``wide0`` leaves by this queue from now on (XPS)."""
    everyone = f"{(1 << (os.cpu_count() or 1)) - 1:x}"
    script = "; ".join(
        f"echo {everyone if n == queue else 0} > /sys/class/net/wide0/queues/tx-{n}/xps_cpus" for n in range(QUEUES)
    )
    subprocess.run(["ip", "netns", "exec", net.name, "sh", "-ec", script], check=True)


def send(sizes: list[int], to: str = "10.78.0.2") -> None:
    """A packet of each size, by a socket that does not remember another queue."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for size in sizes:
            sender.sendto(bytes(size - HEADERS), (to, PORT))
