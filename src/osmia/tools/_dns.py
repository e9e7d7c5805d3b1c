# SPDX-License-Identifier: Apache-2.0
"""Shared by the tools that name addresses by the DNS answer that gave them to somebody of this machine.

The kernel half keeps the last answers, datagrams that a program received from port 53 by recvfrom(), recvmsg()
or read(); the user half takes them apart whenever it is asked for a name.
"""

from __future__ import annotations

from osmia.lang.builtins import cast, current, ktime, read_user
from osmia.lang.maps import Array, Hash
from osmia.lang.probes import tracepoint
from osmia.lang.types import Bytes, Event, User, u16, u32, u64
from osmia.tools._sockets import socket_of

IPPROTO_UDP, DOMAIN = 17, 53
DOMAIN_BE = 0x3500  # as it is in struct sockaddr_in and sockaddr_in6
MOST_BYTES, MOST_ANSWERS, MOST_NAMES = 512, 256, 10240
A, AAAA = 1, 28  # types of records, RFC 1035 and 3596
UserPtr = User["char"]


class Receive(Event):
    """A datagram is asked for: where it, and its sender's address (0: nowhere), are to go."""

    buffer: UserPtr
    sender: UserPtr
    connected: u32


class Answer(Event):
    """An answer: when it was received, and its beginning."""

    ts: u64
    size: u32
    data: Bytes[MOST_BYTES]


receives = Hash[u32, Receive](10240)
answers = Array[Answer](MOST_ANSWERS)
received = Array[u64](1)


def ask(fd, buffer, sender):
    """Remember the call if its socket is for datagrams and may be connected to a name server."""
    socket = socket_of(fd)
    if not socket or socket.sk.sk_protocol != IPPROTO_UDP:
        return
    port = socket.sk.__sk_common.skc_dport
    if port == DOMAIN_BE or (port == 0 and sender):
        receives[current.pid] = Receive(buffer=buffer, sender=sender, connected=1 if port else 0)


@tracepoint("syscalls:sys_enter_recvfrom")
def recvfrom(call):
    ask(call.fd, call.ubuf, call.addr)


@tracepoint("syscalls:sys_enter_recvmsg")
def recvmsg(call):
    message = cast(call.msg, "struct user_msghdr", user=True)
    ask(call.fd, read_user(message.msg_iov, u64), message.msg_name)


@tracepoint("syscalls:sys_enter_read")
def read(call):
    ask(call.fd, call.buf, cast(0, "char", user=True))


@tracepoint("syscalls:sys_exit_recvfrom", "syscalls:sys_exit_recvmsg", "syscalls:sys_exit_read")
def answered(call):
    asked = receives.get(current.pid)
    if asked is None:
        return
    if call.ret > 0 and (asked.connected or read_user(asked.sender, u16, 1) == DOMAIN_BE):
        one = answers.get(received[0] % MOST_ANSWERS)
        if one is not None:
            one.ts, one.size, one.data = ktime(), call.ret, asked.buffer
            received[0] += 1
    del receives[current.pid]


_taken = 0
_names: dict[str, tuple[str, int]] = {}


def name_of(address: str) -> tuple[str, int] | None:
    """What ``address`` was the answer to last, and when that was received; None: nobody asked, or long ago."""
    global _taken
    count = received[0]
    for number in range(max(_taken, count - MOST_ANSWERS), count):
        one = answers[number % MOST_ANSWERS]
        name, addresses = parse(one.data[: one.size])
        for found in addresses:
            _names.pop(found, None)
            _names[found] = name, one.ts
    _taken = count
    while len(_names) > MOST_NAMES:
        del _names[next(iter(_names))]
    return _names.get(address)


def query(address: str, ts: int) -> str:
    """What bcc's tools show of a connection to ``address`` at ``ts``; with the age of an answer older than 100 ms."""
    found = name_of(address)
    if found is None:
        return "localhost" if address in ("127.0.0.1", "::1") else "No DNS Query"
    ms = (ts - found[1]) / 1e6
    return f"{found[0]} ({ms:.3f}ms)" if ms > 100 else found[0]


def parse(data: bytes) -> tuple[str, list[str]]:
    """The name that a DNS answer is about, and the addresses in it, as far as they can be read."""
    import struct
    from socket import AF_INET, AF_INET6, inet_ntop

    found: list[str] = []
    try:
        _, flags, questions, count = struct.unpack_from(">4H", data)
        name, at = _name(data, 12)
        if not flags & 0x8000 or questions != 1:
            return "", []
        at += 4
        for _ in range(count):
            _, at = _name(data, at)
            kind, _, _, length = struct.unpack_from(">HHIH", data, at)
            value = data[at + 10 : at + 10 + length]
            at += 10 + length
            if (kind, len(value)) in ((A, 4), (AAAA, 16)):
                found.append(inet_ntop(AF_INET if kind == A else AF_INET6, value))
    except (struct.error, IndexError):
        return (name, found) if found else ("", [])
    return name, found


def _name(data: bytes, at: int) -> tuple[str, int]:
    """The name at ``at``, and where it ends; a pointer to an earlier one is followed once."""
    words: list[str] = []
    end = 0
    while data[at]:
        if data[at] >= 0xC0:
            target = (data[at] & 0x3F) << 8 | data[at + 1]
            end = end or at + 2
            if target >= at:
                break
            at = target
            continue
        words.append(data[at + 1 : at + 1 + data[at]].decode("ascii", "backslashreplace"))
        at += 1 + data[at]
    return ".".join(words), end or at + 1
