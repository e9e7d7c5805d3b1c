# SPDX-License-Identifier: Apache-2.0
"""Trace bind(): which programs take which addresses and ports, and with which options."""

from __future__ import annotations

import os

from osmia import Col, Event, Hash, Ring, count_table, current, event_table, ktime, option, read_user, tracepoint
from osmia.kernel.named import user_number
from osmia.lang.drift import bind_flags
from osmia.lang.filters import cgroup, name, pid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id
from osmia.lang.types import Comm, User, s32, u16, u32, u64
from osmia.tools._pinned import cgroupmap, mntnsmap  # noqa: F401 - options
from osmia.tools._show import elapsed
from osmia.tools._sockets import PROTOCOLS, SockPtr, socket_of
from osmia.tools._tcp import AF_INET, AF_INET6, Ends, by_local, ends, laddr, local_port, local_ports, locally, swapped

timestamp = option("-t", "--timestamp", help="show seconds since the first row")
wide = option("-w", "--wide", help="wide columns, for IPv6 addresses")
port = locally("-P", "--port")
errors = option("-E", "--errors", help="show what fails, too, and how")
print_uid = option("-U", "--print-uid", help="show the user's id")
uid = option("-u", "--uid", type=int, default=-1, parse=user_number, metavar="USER", help="this user only (name or id)")
count = option("--count", help="count by address and port, and show that at the end")

UserPtr = User["char"]


class Call(Event):
    """A call under way: the socket, and the address that is asked for."""

    sk: SockPtr
    address: UserPtr


class Bind(Ends):
    """A call of bind() that is over; where it failed, address and port are those that were asked for."""

    ts: u64
    pid: u32
    uid: u32
    ret: s32
    interface: u32
    _options: u32
    _protocol: u32
    comm: Comm


calls = Hash[u32, Call](10240)
binds = Ring(Bind)
counts = Hash[Ends, u64](10240)


@tracepoint("syscalls:sys_enter_bind")
def enter(call):
    if (uid >= 0 and current.uid != uid) or not wanted():
        return
    socket = socket_of(call.fd)
    if socket and socket.sk.__sk_common.skc_family in (AF_INET, AF_INET6):
        calls[current.pid] = Call(sk=socket.sk, address=call.umyaddr)


@tracepoint("syscalls:sys_exit_bind")
def leave(call):
    asked = calls.get(current.pid)
    if asked is None:
        return
    if call.ret == 0 or errors:
        show(asked.sk, asked.address, call.ret)
    del calls[current.pid]


def show(sk, address, ret):
    number = local_port(sk) if ret == 0 else swapped(read_user(address, u16, 1))
    if by_local and number not in local_ports:
        return
    if count:
        key = Ends()
        ends(key, sk)
        key._raddr, key._raddr_high, key.rport = u64(0), u64(0), u32(0)
        if ret:
            wish(key, address)
        counts[key] += 1
        return
    with binds.reserve() as e:
        ends(e, sk)
        if ret:
            wish(e, address)
        e.ts, e.pid, e.uid, e.comm, e.ret = ktime(), current_process_id(), current.uid, current.comm, ret
        e.interface, e._protocol = sk.__sk_common.skc_bound_dev_if, sk.sk_protocol
        reuse = sk.__sk_common.skc_reuse != 0
        e._options = bind_flags(sk) | (8 if reuse else 0) | (16 if sk.__sk_common.skc_reuseport else 0)


def wish(e, address):
    """Address and port of a struct sockaddr_in or sockaddr_in6."""
    e.lport = swapped(read_user(address, u16, 1))
    if e.family == AF_INET:
        e._laddr = read_user(address, u32, 1)
    else:
        e._laddr, e._laddr_high = read_user(address, u64, 1), read_user(address, u64, 2)


def prepare():
    return binds_by_address if count else None


def options(e):
    return "".join(letter if e._options >> bit & 1 else "." for bit, letter in enumerate("FTNRr"))


def protocol(e):
    return PROTOCOLS.get(e._protocol, "UNKNOWN")


def error(ret):
    """With -w in words."""
    return os.strerror(-ret) if wide else str(ret)


BANNER = "Tracing binds ... Hit Ctrl-C to end"
tool = event_table(
    binds,
    [
        Col("ts", "TIME(s)", 9, show=elapsed(6, from_first=True), when=timestamp, align="<"),
        Col("uid", "UID", 6, when=print_uid),
        Col("ret", "RC", 31, show=error, when=lambda: errors and wide, align="<"),
        Col("ret", "RC", 3, show=error, when=lambda: errors and not wide, align="<"),
        Col("pid", "PID", 8),
        Col("comm", "COMM", 12),
        Col("protocol", "PROT", 4, row=protocol),
        Col("laddr", "ADDR", 39, row=laddr, when=wide),
        Col("laddr", "ADDR", 15, row=laddr, when=lambda: not wide),
        Col("lport", "PORT", 5),
        Col("opts", "OPTS", 5, row=options),
        Col("interface", "IF", 2),
    ],
    banner=BANNER,
    prepare=prepare,
)
binds_by_address = count_table(
    counts,
    [Col("laddr", "LADDR", 32, row=laddr), Col("lport", "LPORT", 20), Col("count", "BINDS", align="<")],
    banner=BANNER,
    sort=lambda entry: entry.count,
)
