# SPDX-License-Identifier: Apache-2.0
"""A network of its own for a test: a namespace with two devices that are joined by a virtual cable."""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_NEWNET = 0x40000000
_numbers = itertools.count(1)


def _enter(fd: int) -> None:
    """Move this thread into a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Network:
    """Device ``near0`` (10.77.0.1) is where the test is, the other end ``far0`` (10.77.0.2) in another namespace."""

    def __init__(self, name: str, far: str) -> None:
        self.name = name
        self.far = far

    @contextmanager
    def other_end(self) -> Iterator[None]:
        """Be at the other end for a while (sockets made there stay there)."""
        with _inside(self.far):
            yield


@contextmanager
def _inside(name: str) -> Iterator[None]:
    here, there = os.open("/proc/thread-self/ns/net", os.O_RDONLY), os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        _enter(there)
        yield
    finally:
        _enter(here)
        os.close(here)
        os.close(there)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def network() -> Iterator[Network]:
    """Make both namespaces, be in the first one, and take them away again."""
    made = f"osmia-{os.getpid()}-{next(_numbers)}"
    names = (made, made + "-far")
    try:
        for name in names:
            ip("netns", "add", name)
        ip("-n", names[0], "link", "add", "near0", "type", "veth", "peer", "name", "far0", "netns", names[1])
        for name, device, address in ((names[0], "near0", "10.77.0.1"), (names[1], "far0", "10.77.0.2")):
            # No IPv6 and fixed neighbours: nothing is sent but what the test sends.
            ip("netns", "exec", name, "sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{device}/disable_ipv6 || true")
            mac = "02:00:00:00:00:0" + address[-1]
            ip("-n", name, "link", "set", device, "address", mac)
            ip("-n", name, "addr", "add", address + "/24", "dev", device)
            ip("-n", name, "link", "set", device, "up")
            ip("-n", name, "link", "set", "lo", "up")
        for name, device, far in ((names[0], "near0", "2"), (names[1], "far0", "1")):
            ip("-n", name, "neigh", "replace", "10.77.0." + far, "lladdr", "02:00:00:00:00:0" + far, "dev", device,
               "nud", "permanent")  # fmt: skip
        with _inside(names[0]):
            yield Network(*names)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
