# SPDX-License-Identifier: Apache-2.0
"""Shared by the tools that look at TCP sockets: both ends of a connection, the filters on them, how they are shown.

An event begins with the fields of :class:`Ends`, which ``ends(e, sk)`` fills in.  An address is two numbers, its
16 bytes (IPv4: the first four) as they are in memory; rows and JSON have it as text, from ``laddr`` and ``raddr``.
``sk`` is a ``struct sock`` of any protocol over IP.
"""

from __future__ import annotations

from osmia.errors import OptionError
from osmia.lang.builtins import cast, exists, read_kernel
from osmia.lang.maps import Hash
from osmia.lang.options import option
from osmia.lang.templates import Col
from osmia.lang.types import Event, u8, u32, u64
from osmia.tools._chosen import Given, Numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

AF_INET, AF_INET6 = 2, 10  # include/linux/socket.h
IPPROTO_TCP = 6
#: include/net/tcp_states.h
ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE = range(1, 8)
CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING = range(8, 12)
STATES = ("?", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT",
          "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV", "BOUND_INACTIVE")  # fmt: skip

ipv4 = option("-4", "--ipv4", help="IPv4 only")
ipv6 = option("-6", "--ipv6", help="IPv6 only")
local_ports = Hash[u32, u8](1)
remote_ports = Hash[u32, u8](1)
by_local = Given()
by_remote = Given()


def port(word: str) -> int:
    """The ``parse`` of a port."""
    if not (word.strip().isascii() and word.strip().isdecimal() and 0 < int(word) < 65536):
        raise ValueError(f"{word!r} is not a port: a number from 1 to 65535")
    return int(word)


def check(tool: str) -> None:
    """OptionError where the options about families exclude each other; for a template's ``prepare``."""
    if ipv4 and ipv6:
        raise OptionError("-4 and -6 exclude each other", where=tool, fix="leave both out for both families")


def _ports(flags: tuple[str, ...], what: str, table: Any, given: Given) -> Numbers:
    made = Numbers(*flags, table=table, one=port, metavar="PORTS", help=f"these {what} ports only, separated by commas")
    given.options.append(made)
    return made


def locally(*flags: str) -> Numbers:
    """A tool's option for local ports, under its own letter."""
    return _ports(flags, "local", local_ports, by_local)


def remotely(*flags: str) -> Numbers:
    """A tool's option for remote ports, under its own letter."""
    return _ports(flags, "remote", remote_ports, by_remote)


class Ends(Event):
    """Both ends of a connection: ``family`` is 2 (IPv4) or 10 (IPv6)."""

    _laddr: u64
    _laddr_high: u64
    _raddr: u64
    _raddr_high: u64
    lport: u32
    rport: u32
    family: u32


def is_tcp(sk) -> bool:
    """Whether ``sk`` is a TCP socket over IPv4 or IPv6."""
    return sk.sk_protocol == IPPROTO_TCP and sk.__sk_common.skc_family in (AF_INET, AF_INET6)


def chosen(sk) -> bool:
    """Whether the family of ``sk`` and its ports are what the options ask for."""
    if ipv4 and sk.__sk_common.skc_family != AF_INET:
        return False
    if ipv6 and sk.__sk_common.skc_family != AF_INET6:
        return False
    if by_local and local_port(sk) not in local_ports:
        return False
    return not (by_remote and remote_port(sk) not in remote_ports)


def local_port(sk):
    """0 before there is one; still there when the socket has just been closed and given it back."""
    number = sk.__sk_common.skc_num
    if number:
        return number
    return swapped(cast(sk, "struct inet_sock").inet_sport)


def remote_port(sk):
    """0 where it is not connected."""
    return swapped(sk.__sk_common.skc_dport)


def swapped(port):
    """A 16-bit number in the network's order as this machine has it (little-endian, as all that osmia runs on)."""
    return (port & 0xFF) << 8 | port >> 8


def ends(e, sk):
    """Fill in the fields of :class:`Ends`."""
    e.family, e.lport, e.rport = sk.__sk_common.skc_family, local_port(sk), remote_port(sk)
    if e.family == AF_INET:
        e._laddr, e._raddr = sk.__sk_common.skc_rcv_saddr, sk.__sk_common.skc_daddr
        e._laddr_high, e._raddr_high = 0, 0
    elif exists(sk.__sk_common.skc_v6_daddr):
        e._laddr = read_kernel(sk.__sk_common.skc_v6_rcv_saddr, u64)
        e._laddr_high = read_kernel(sk.__sk_common.skc_v6_rcv_saddr, u64, 1)
        e._raddr = read_kernel(sk.__sk_common.skc_v6_daddr, u64)
        e._raddr_high = read_kernel(sk.__sk_common.skc_v6_daddr, u64, 1)


def address(family: int, low: int, high: int) -> str:
    """An address as people write it."""
    data = low.to_bytes(8, "little") + high.to_bytes(8, "little")
    if family == AF_INET:
        return ".".join(map(str, data[:4]))
    from socket import AF_INET6 as IPV6
    from socket import inet_ntop

    return inet_ntop(IPV6, data)


def laddr(e: Any) -> str:
    """The local address of an event that begins with :class:`Ends`."""
    return address(e.family, e._laddr, e._laddr_high)


def raddr(e: Any) -> str:
    """The remote address."""
    return address(e.family, e._raddr, e._raddr_high)


def ends_columns(wide: Any, broad: int = 39) -> list[Col]:
    """Both ends: addresses in columns of 15 places or, with the option ``wide``, of ``broad``; and ports."""
    narrow = lambda: not wide  # noqa: E731
    return [
        Col("laddr", "LADDR", broad, row=laddr, when=wide),
        Col("laddr", "LADDR", 15, row=laddr, when=narrow),
        Col("lport", "LPORT", 5, align="<"),
        Col("raddr", "RADDR", broad, row=raddr, when=wide),
        Col("raddr", "RADDR", 15, row=raddr, when=narrow),
        Col("rport", "RPORT", 5, align="<"),
    ]


def ip(family: int) -> str:
    """What bcc shows of a family, in its column IP."""
    return "4" if family == AF_INET else "6"


def state(number: int) -> str:
    """A state of TCP by its name; numbers of later kernels as they are."""
    return STATES[number] if 0 < number < len(STATES) else str(number)
