# SPDX-License-Identifier: Apache-2.0
"""What the kernel calls the reasons for which it drops packets."""

from __future__ import annotations

from osmia.lang.builtins import exists, read_kernel
from osmia.lang.options import Computed
from osmia.lang.types import Event, u32, u64
from osmia.tools._tcp import AF_INET, address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
UNKNOWN = 0xFFFFFFFF  # the number of a reason that the kernel does not have
_PREFIXES = ("SKB_DROP_REASON_", "SKB_")
_names: dict[int, str] = {}


def names() -> dict[int, str]:
    """The reasons by number, as this kernel has them (they have moved with almost every version); empty before 5.17."""
    if not _names:
        from osmia.kernel.btf_source import kernel_btf
        from osmia.obj.consts import BTF_KIND_ENUM

        btf = kernel_btf()
        found = btf.find("skb_drop_reason", BTF_KIND_ENUM) if btf is not None else 0
        for name, value in btf.get(found).enumerators if btf is not None and found else ():
            for prefix in _PREFIXES:
                name = name.removeprefix(prefix)
            _names[value] = name
    return _names


def reason(number: int) -> str:
    """A reason by its name; 0 where the kernel gave none."""
    return names().get(number, "UNKNOWN") if number else "NOT_SPECIFIED"


def _number(wanted: str) -> Any:
    """A constant that nobody types: the number of a reason, or ``UNKNOWN``."""
    return Computed(
        wanted, lambda: next((number for number, name in names().items() if name == wanted), UNKNOWN), type=u32
    )


#: The reason that says nothing; the numbers below it are of packets that were not dropped.
unspecified = _number("NOT_SPECIFIED")
#: A queue is emptied because its socket is gone: the FIN that every connection leaves there (6.7).
purge = _number("QUEUE_PURGE")


def flags(byte: int) -> str:
    """Flags of TCP by their names."""
    return "|".join([name for bit, name in enumerate(FLAGS) if byte >> bit & 1])


class Packet(Event):
    """Where it came from and where it was to go; addresses as in :class:`osmia.tools._tcp.Ends`."""

    _saddr: u64
    _saddr_high: u64
    _daddr: u64
    _daddr_high: u64
    sport: u32
    dport: u32
    family: u32


def own_ends(e, sk):
    """The packet of a socket that sends it."""
    if sk.__sk_common.skc_family == AF_INET:
        e._saddr, e._daddr = sk.__sk_common.skc_rcv_saddr, sk.__sk_common.skc_daddr
        e._saddr_high, e._daddr_high = 0, 0
    elif exists(sk.__sk_common.skc_v6_daddr):
        e._saddr = read_kernel(sk.__sk_common.skc_v6_rcv_saddr, u64)
        e._saddr_high = read_kernel(sk.__sk_common.skc_v6_rcv_saddr, u64, 1)
        e._daddr = read_kernel(sk.__sk_common.skc_v6_daddr, u64)
        e._daddr_high = read_kernel(sk.__sk_common.skc_v6_daddr, u64, 1)


def saddr(e: Any) -> str:
    return address(e.family, e._saddr, e._saddr_high)


def daddr(e: Any) -> str:
    return address(e.family, e._daddr, e._daddr_high)
