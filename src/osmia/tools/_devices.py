# SPDX-License-Identifier: Apache-2.0
"""Shared by the tools that look at one network device: its option, whether a packet is on it, its queues."""

from __future__ import annotations

import os

from osmia.errors import OptionError
from osmia.lang.builtins import exists
from osmia.lang.options import option
from osmia.lang.types import u64

_SYS_NET = "/sys/class/net"
_NUMBER = 0xFFFFFFFF


def _device(word: str) -> int:
    """What ``-n`` means: the network namespace's number from bit 32 up, and the number that the device has there."""
    from osmia.kernel.net import ifindex

    return os.stat("/proc/self/ns/net").st_ino << 32 | ifindex(word, "option -n")


device = option("-n", "--name", type=u64, parse=_device, metavar="NIC", help="the network device")


def chosen(dev):
    """Whether a ``struct net_device`` is the one asked for, and not another namespace's of the same number."""
    if dev.ifindex != device & 0xFFFFFFFF:
        return False
    return not exists(dev.nd_net.net) or dev.nd_net.net.ns.inum == device >> 32


def needed(tool: str) -> None:
    """OptionError where no device is named; for a template's ``prepare``."""
    if not device.given:
        raise OptionError("a network device is needed", where=tool, fix="-n eth0, for example")


def queues(direction: str) -> int:
    """How many queues the device has for it, ``tx`` or ``rx``; 1 where that is not to be seen from here."""
    import socket

    number = device.value & _NUMBER
    try:
        place = f"{_SYS_NET}/{socket.if_indextoname(number)}"
        with open(f"{place}/ifindex") as index:  # what is mounted there may show another namespace
            if int(index.read()) == number:
                return len([name for name in os.listdir(f"{place}/queues") if name.startswith(direction)])
    except OSError:
        pass
    return 1
