# SPDX-License-Identifier: Apache-2.0
"""Queues and filters of network devices, by rtnetlink: what ``tc qdisc`` and ``tc filter`` do.

Only what programs of kernels before tcx links (6.6) need: the ``clsact``
queue (4.5), which queues nothing and has a place for filters on either side,
and ``bpf`` filters in direct-action mode (4.4), whose program's return value
is the decision.  Message layouts: ``include/uapi/linux/rtnetlink.h``,
``pkt_sched.h`` and ``pkt_cls.h``; everything is in the machine's byte order.
"""

from __future__ import annotations

import os
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3  # TC_H_CLSACT with TC_H_MIN_INGRESS, TC_H_MIN_EGRESS
_CLSACT, _CLSACT_HANDLE = 0xFFFFFFF1, 0xFFFF0000
_NEWQDISC, _DELQDISC, _GETQDISC = 36, 37, 38
_NEWTFILTER, _DELTFILTER, _GETTFILTER = 44, 45, 46
_REQUEST, _ACK, _DUMP, _EXCL, _CREATE = 0x1, 0x4, 0x300, 0x200, 0x400
_ERROR, _DONE = 2, 3
_CAPPED, _ACK_TLVS = 0x100, 0x200
_KIND, _OPTIONS = 1, 2
_BPF_FD, _BPF_NAME, _BPF_FLAGS, _BPF_FLAG_DIRECT = 6, 7, 8, 1
_SOL_NETLINK, _EXT_ACK = 270, 11
_MESSAGE = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_TC = struct.Struct("=BBHiIII")  # family, padding, device, handle, parent, info
_ATTRIBUTE = struct.Struct("=HH")  # length with this header, type
_ETH_P_ALL = socket.htons(3)
#: Priority of the first filter, as the kernel itself would choose it; later ones come after it.
FIRST_PRIORITY = 0xC000


class Filter:
    """One filter of a device: ``name`` is the one that it was given, ``priority`` its place, ``handle`` its number."""

    __slots__ = ("handle", "kind", "name", "parent", "priority", "protocol")

    def __init__(self, parent: int, handle: int, info: int, kind: str, name: str) -> None:
        self.parent = parent
        self.handle = handle
        self.priority = info >> 16
        self.protocol = info & 0xFFFF
        self.kind = kind
        self.name = name


class Rtnetlink:
    """A connection to the network namespace that it was made in, wherever the process goes afterwards."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._sequence = 0
        try:  # noqa: SIM105 - contextlib takes 3 ms to import
            self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)  # 4.12: errors come with words
        except OSError:
            pass
        self._socket.bind((0, 0))

    def fileno(self) -> int:
        """Its descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    # -- queues

    def add_clsact(self, device: int) -> bool:
        """Give a device (by number) a ``clsact`` queue; False where something is in its place."""
        body = _TC.pack(0, 0, 0, device, _CLSACT_HANDLE, _CLSACT, 0) + _attribute(_KIND, b"clsact\0")
        try:
            self._do(_NEWQDISC, _CREATE | _EXCL, body)
        except FileExistsError:
            return False
        return True

    def delete_clsact(self, device: int) -> None:
        """Take the ``clsact`` queue off, with all that is in it."""
        body = _TC.pack(0, 0, 0, device, _CLSACT_HANDLE, _CLSACT, 0) + _attribute(_KIND, b"clsact\0")
        self._do(_DELQDISC, 0, body)

    def queue_kind(self, device: int) -> str:
        """What is where a ``clsact`` queue would be: ``clsact``, ``ingress``, or nothing."""
        for tc, attributes in self._dump(_GETQDISC, _TC.pack(0, 0, 0, device, 0, 0, 0)):
            if tc[3] == device and tc[5] == _CLSACT:
                return _text(attributes.get(_KIND, b""))
        return ""

    # -- filters

    def filters(self, device: int, parent: int) -> list[Filter]:
        """The filters on one side of a device, first in order first; none where there is no queue for them."""
        found = []
        for tc, attributes in self._dump(_GETTFILTER, _TC.pack(0, 0, 0, device, 0, parent, 0)):
            if tc[3] == device and tc[4]:  # without a number: the group that filters of one priority are in
                inner = dict(_attributes(attributes.get(_OPTIONS, b"")))
                found.append(Filter(parent, tc[4], tc[6], _text(attributes.get(_KIND, b"")),
                                    _text(inner.get(_BPF_NAME, b""))))  # fmt: skip
        return found

    def add_bpf(self, device: int, parent: int, prog_fd: int, name: str) -> None:
        """Let a program (SCHED_CLS) decide about all packets, after the filters that are there; up to 255 letters."""
        used = [one.priority for one in self.filters(device, parent)]
        priority = min(max(used) + 1, 0xFFFF) if used else FIRST_PRIORITY
        options = (_attribute(_BPF_FD, struct.pack("=I", prog_fd)) + _attribute(_BPF_NAME, name.encode() + b"\0")
                   + _attribute(_BPF_FLAGS, struct.pack("=I", _BPF_FLAG_DIRECT)))  # fmt: skip
        body = _TC.pack(0, 0, 0, device, 0, parent, priority << 16 | _ETH_P_ALL)
        body += _attribute(_KIND, b"bpf\0") + _attribute(_OPTIONS, options)
        self._do(_NEWTFILTER, _CREATE | _EXCL, body)

    def delete(self, device: int, one: Filter) -> None:
        """Take one filter off."""
        body = _TC.pack(0, 0, 0, device, one.handle, one.parent, one.priority << 16 | one.protocol)
        self._do(_DELTFILTER, 0, body + _attribute(_KIND, one.kind.encode() + b"\0"))

    # -- messages

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        head = _MESSAGE.pack(_MESSAGE.size + len(body), kind, flags | _REQUEST, self._sequence, 0)
        self._socket.sendto(head + body, (0, 0))

    def _do(self, kind: int, flags: int, body: bytes) -> None:
        """One request; OSError with the kernel's own words where it is refused."""
        self._send(kind, flags | _ACK, body)
        for _ in self._answers():
            pass

    def _dump(self, kind: int, body: bytes) -> Iterator[tuple[tuple[int, ...], dict[int, bytes]]]:
        self._send(kind, _DUMP, body)
        for payload in self._answers():
            yield _TC.unpack_from(payload), dict(_attributes(payload[_TC.size :]))

    def _answers(self) -> Iterator[bytes]:
        """The messages that answer the last request, up to its end."""
        out: list[bytes] = []
        while True:
            data = self._socket.recv(1 << 18)
            at = 0
            while at + _MESSAGE.size <= len(data):
                size, kind, flags, sequence, _ = _MESSAGE.unpack_from(data, at)
                payload = data[at + _MESSAGE.size : at + size]
                at += (size + 3) & ~3
                if sequence != self._sequence:
                    continue  # the rest of an answer that was given up
                if kind == _ERROR:
                    error = _error(payload, flags)
                    if error is not None:
                        raise error
                    return iter(out)
                if kind == _DONE:
                    return iter(out)
                out.append(payload)


def _error(payload: bytes, flags: int) -> OSError | None:
    """What an error message says; None for "done"."""
    number, length = struct.unpack_from("=iI", payload)
    if not number:
        return None
    words = ""
    if flags & _ACK_TLVS:
        # What was asked is repeated in between, whole or only its head.
        at = 4 + (_MESSAGE.size if flags & _CAPPED else (length + 3) & ~3)
        words = _text(dict(_attributes(payload[at:])).get(1, b""))  # NLMSGERR_ATTR_MSG
    return OSError(-number, words or os.strerror(-number), "rtnetlink")


def _attribute(kind: int, value: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(value)
    return (_ATTRIBUTE.pack(size, kind) + value).ljust((size + 3) & ~3, b"\0")


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, data[at + _ATTRIBUTE.size : at + size]  # without NLA_F_NESTED, NLA_F_NET_BYTEORDER
        at += (size + 3) & ~3


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")
