# SPDX-License-Identifier: Apache-2.0
"""Shared by the tools that take addresses: options for the local and the remote one, of either family.

Both are two numbers, as in :class:`osmia.tools._tcp.Ends`.  An IPv4 address is also looked for in the form that
it has in a socket of IPv6 (``::ffff:10.0.0.1``), which servers for both families use.
"""

from __future__ import annotations

from osmia.lang.options import Computed, option
from osmia.lang.types import Event, u64
from osmia.tools._tcp import AF_INET, address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAPPED = bytes(10) + b"\xff\xff"


def parse(word: str) -> str:
    """The ``parse`` of an address, which stays a text; ValueError."""
    import ipaddress

    try:
        return str(ipaddress.ip_address(word))
    except ValueError:
        raise ValueError(f"{word!r} is not an address: as in 10.0.0.1, or 2001:db8::1") from None


def _part(of: Any, start: int) -> Any:
    """A constant that nobody types: 8 bytes of an option's address as IPv6 has it, and whether IPv4 can have it."""

    def value() -> int:
        if not of.given:
            return 0
        import ipaddress

        address = ipaddress.ip_address(str(of))
        whole = address.packed if address.version == 6 else _MAPPED + address.packed
        return int.from_bytes(whole[start : start + 8], "little")

    return Computed("part", value, type=u64)


laddr = option("-a", "--laddr", type=str, parse=parse, metavar="ADDR", help="this local address only")
raddr = option("-A", "--raddr", type=str, parse=parse, metavar="ADDR", help="this remote address only")
laddr_low, laddr_high = _part(laddr, 0), _part(laddr, 8)
raddr_low, raddr_high = _part(raddr, 0), _part(raddr, 8)


def same(family, low, high, wanted_low, wanted_high):
    """Whether an address of a socket of that family is the wanted one."""
    if family == AF_INET:  # the first four bytes; of the wanted one the last four, behind ::ffff
        return wanted_low == 0 and wanted_high == low << 32 | 0xFFFF0000
    return low == wanted_low and high == wanted_high


def wanted_ends(e):
    """Whether the :class:`~osmia.tools._tcp.Ends` have the addresses that are asked for."""
    if (laddr_low or laddr_high) and not same(e.family, e._laddr, e._laddr_high, laddr_low, laddr_high):
        return False
    if not raddr_low and not raddr_high:
        return True
    return same(e.family, e._raddr, e._raddr_high, raddr_low, raddr_high)


class Side(Event):
    """One address of the two, by which a tool may count."""

    low: u64
    high: u64
    family: u64


def label(side: Any) -> str:
    """A side as bcc shows it; None stands for all."""
    return address(side.family, side.low, side.high) if side is not None else "*******"
