# SPDX-License-Identifier: Apache-2.0
"""Trace programs that begin to listen for connections."""

from __future__ import annotations

from osmia import Col, Hash, Ring, current, event_table, ktime, option, tracepoint
from osmia.lang.filters import cgroup, pid, uid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id
from osmia.lang.types import Comm, s32, u32, u64
from osmia.tools._show import whole
from osmia.tools._sockets import PROTOCOLS, SockPtr, netns_of, socket_of
from osmia.tools._tcp import AF_INET, AF_INET6, Ends, ends, laddr

SOCK_STREAM = 1  # include/linux/net.h

show_netns = option("--show-netns", help="show the network namespace")
netns = option("-n", "--netns", type=u32, parse=whole, metavar="NETNS",
               help="this network namespace only (the number of its inode)")  # fmt: skip


class Listen(Ends):
    """A call of listen(): ``ret`` is what it returned, ``asked`` the backlog that was asked for."""

    ts: u64
    pid: u32
    netns: u32
    backlog: s32
    asked: s32
    ret: s32
    _protocol: u32
    comm: Comm


calls = Hash[u32, tuple[SockPtr, s32]]()
listens = Ring(Listen)


@tracepoint("syscalls:sys_enter_listen")
def enter(call):
    socket = socket_of(call.fd)
    if not socket or not wanted():
        return
    sk = socket.sk
    if sk.sk_type != SOCK_STREAM or sk.__sk_common.skc_family not in (AF_INET, AF_INET6):
        return
    if not netns or netns_of(sk) == netns:
        calls[current.pid] = sk, call.backlog


@tracepoint("syscalls:sys_exit_listen")
def leave(call):
    asked = calls.pop(current.pid)
    if asked is None:
        return
    sk, backlog = asked
    with listens.reserve() as e:
        ends(e, sk)
        e.ts, e.pid, e.comm, e.netns = ktime(), current_process_id(), current.comm, netns_of(sk)
        e.ret, e.asked, e._protocol = call.ret, backlog, sk.sk_protocol
        e.backlog = backlog if call.ret else sk.sk_max_ack_backlog


def protocol(e):
    """As bcc writes it: TCPv4."""
    return f"{PROTOCOLS.get(e._protocol, 'UNK')}v{4 if e.family == AF_INET else 6}"


tool = event_table(
    listens,
    [
        Col("pid", "PID", 7, align="<"),
        Col("comm", "COMM", 12),
        Col("netns", "NETNS", 12, when=show_netns, align="<"),
        Col("proto", "PROTO", 6, row=protocol),
        Col("backlog", "BACKLOG", 8, align="<"),
        Col("lport", "PORT", 5, align="<"),
        Col("laddr", "ADDR", row=laddr),
    ],
)
