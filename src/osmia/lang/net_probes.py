# SPDX-License-Identifier: Apache-2.0
"""Decorators for programs that see packets: socket filters, XDP and tc.

One language for the three: the function's argument is the packet, with
``len``, ``ifindex`` and other fields, and its bytes by ``packet.u8(offset)``,
``u16``, ``u32`` and ``u64``, numbers in network byte order; beyond the
packet's end they are 0.  Offset 0 is the Ethernet header.  A function that
returns nothing lets the packet go on as if it were not there.
"""

from __future__ import annotations

from osmia.lang.options import Option
from osmia.lang.probes import Hook, Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: What an XDP function may return (``enum xdp_action``).
XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX = 0, 1, 2, 3
#: What a tc function may return (``enum tcx_action_base``): go on with the next program, accept, drop.
TC_NEXT, TC_PASS, TC_DROP = -1, 0, 2
#: What the program returns where the function returns nothing; a socket filter's number is how much the socket keeps.
NOTHING = {"socket_filter": 0, "xdp": XDP_PASS, "tc": TC_NEXT}
#: Methods that read a packet's bytes, and how many.
BYTES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}


class Packet:
    """A packet for functions that run as Python: its bytes from the Ethernet header on, and its fields by name.

    Example::

        Packet(bytes(12) + b"\\x08\\x00" + bytes(46), ifindex=2).u16(12)
    """

    def __init__(self, data: bytes, **fields: int) -> None:
        self.data = data
        self.len = len(data)
        self.ifindex = 1
        self.protocol = self.u16(12)
        for name, value in fields.items():
            setattr(self, name, value)

    def _number(self, offset: int, size: int) -> int:
        part = self.data[offset : offset + size] if offset >= 0 else b""
        return int.from_bytes(part, "big") if len(part) == size else 0

    def u8(self, offset: int) -> int:
        return self._number(offset, 1)

    def u16(self, offset: int) -> int:
        return self._number(offset, 2)

    def u32(self, offset: int) -> int:
        return self._number(offset, 4)

    def u64(self, offset: int) -> int:
        return self._number(offset, 8)


def socket_filter(device: Any = "", *more: str, optional: bool = False) -> Plan:
    """Every packet that a device (no name: any device) receives or sends, seen as by tcpdump (4.1).

    It cannot disturb anybody: it sees copies on a socket of its own, which
    keeps none of them.

    Example::

        bytes_by_protocol = Hash[u32, u64]()

        @socket_filter()
        def seen(packet):
            bytes_by_protocol[packet.protocol] += packet.len
    """
    return _plan("socket_filter", device, more, optional)


def xdp(device: Any, *more: str, optional: bool = False) -> Plan:
    """Packets as they come in from a device, before the kernel looks at them (link: 5.9; bytes: 5.18).

    Return ``XDP_PASS`` (2; also for returning nothing), ``XDP_DROP`` (1) or
    ``XDP_TX`` (3, send it back).  Native where the driver can, else generic.
    ``packet.len`` is the packet's first piece, which is all of it unless the
    device is set for large frames.

    Example::

        count = Array[u64](1)

        @xdp("lo")
        def came_in(packet):
            if packet.u16(12) == 0x0800:
                count[0] += 1
    """
    return _plan("xdp", device, more, optional)


def tc(device: Any, direction: str = "ingress", *, optional: bool = False) -> Plan:
    """Packets that come in through a device (``"ingress"``) or leave by it (``"egress"``): 4.5.

    A tcx link where the kernel has them (6.6), else a filter in a ``clsact``
    queue, which a child process takes off when this one ends.

    Return ``TC_NEXT`` (-1; also for returning nothing), ``TC_PASS`` (0: no
    further programs are asked) or ``TC_DROP`` (2).

    Example::

        sent = Array[u64](2)

        @tc("lo", "egress")
        def leaves(packet):
            sent[0] += 1
            sent[1] += packet.len
    """
    if direction not in ("ingress", "egress"):
        raise TypeError(f'tc(..., {direction!r}): the direction is "ingress" or "egress"')
    if isinstance(device, Option):
        return Plan((Hook("tc", "", device=device, direction=direction),), optional)
    _check("tc", device)
    return Plan((Hook("tc", device, direction=direction),), optional)


def _plan(kind: str, device: Any, more: tuple[str, ...], optional: bool) -> Plan:
    if isinstance(device, Option):
        return Plan((Hook(kind, "", device=device),), optional)
    for one in (device, *more):
        if one or kind == "xdp":
            _check(kind, one)
    return Plan((Hook(kind, device, *more),), optional)


def _check(kind: str, device: Any) -> None:
    if not isinstance(device, str) or not device or device.split() != [device] or len(device) > 15:
        raise TypeError(f'{kind}({device!r}): give the name of a network device, as in {kind}("eth0")')
