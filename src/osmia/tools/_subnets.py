# SPDX-License-Identifier: Apache-2.0
"""Subnets that addresses are looked for in, the first one that fits, of both families.

All are kept as IPv6 has them: an IPv4 address is ``::ffff:10.0.0.1`` there, which it also is in the sockets of
servers for both families.
"""

from __future__ import annotations

from osmia.lang.maps import Array
from osmia.lang.types import Event, u64
from osmia.tools._tcp import AF_INET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST = 64
_MAPPED = 0xFFFF0000  # what is in front of the last four bytes, as half of the address is read from memory


def networks(word: str) -> str:
    """The ``parse`` of subnets, separated by commas."""
    parts = [_network(part) for part in word.split(",")]
    if len(parts) > MOST:
        raise ValueError(f"{len(parts)} subnets are too many: {MOST} at most")
    return word


def _network(part: str) -> Any:
    import ipaddress

    try:
        if "/" in part:
            return ipaddress.ip_network(part, strict=False)
    except ValueError:
        pass
    raise ValueError(f"{part!r} is not a subnet: as in 10.0.0.0/8")


class Subnet(Event):
    """An address and its mask as two numbers each, in memory as IPv6 has them."""

    low: u64
    high: u64
    mask_low: u64
    mask_high: u64
    used: u64


nets = Array[Subnet](MOST)


def put(word: str) -> None:
    """Fill the map; under ``before_attach``."""
    for at, net in enumerate(_network(part) for part in word.split(",")):
        front, mask = (bytes(10) + b"\xff\xff", b"\xff" * 12) if net.version == 4 else (b"", b"")
        both = [(front + net.network_address.packed), (mask + net.netmask.packed)]
        halves = [int.from_bytes(one[start : start + 8], "little") for one in both for start in (0, 8)]
        nets[at] = Subnet(low=halves[0], high=halves[1], mask_low=halves[2], mask_high=halves[3], used=1)


def first_match(family, low, high):
    """Which subnet the address is in (see :class:`osmia.tools._tcp.Ends`); ``MOST``: in none."""
    if family == AF_INET:
        low, high = 0, low << 32 | _MAPPED
    for at in range(MOST):
        one = nets[at]
        if not one.used:
            return MOST
        if low & one.mask_low == one.low and high & one.mask_high == one.high:
            return at
    return MOST
