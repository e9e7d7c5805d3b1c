# SPDX-License-Identifier: Apache-2.0
"""Trace TCP connections as they are established, accepted and closed."""

from __future__ import annotations

from osmia import Col, Ring, event_table, ktime, option
from osmia.lang.filters import cgroup, name, pid, uid  # noqa: F401 - options
from osmia.lang.probes import first_of, raw_tracepoint, tp_btf, tracepoint
from osmia.lang.types import Comm, u32, u64
from osmia.tools._pinned import cgroupmap, mntnsmap  # noqa: F401 - options
from osmia.tools._show import elapsed, whole
from osmia.tools._sockets import netns_of
from osmia.tools._tcp import (
    CLOSE,
    CLOSE_WAIT,
    ESTABLISHED,
    FIN_WAIT1,
    LAST_ACK,
    SYN_RECV,
    SYN_SENT,
    Ends,
    check,
    chosen,
    ends,
    ip,
    ipv4,  # noqa: F401 - an option
    ipv6,  # noqa: F401 - an option
    is_tcp,
    laddr,
    raddr,
)
from osmia.tools._tcp_owner import accepted, begin, by_owner, own, socks

CONNECT, ACCEPT, GONE = 1, 2, 3
BOTH_WAYS = 3  # SHUTDOWN_MASK, include/net/sock.h
WORDS = {CONNECT: "connect", ACCEPT: "accept", GONE: "close"}
LETTERS = {"connect": "C", "accept": "A", "close": "X"}

timestamp = option("-t", "--timestamp", help="show seconds since the first row (with -v: nanoseconds)")
verbose = option("-v", "--verbose", help="show words for the kind of event, and the network namespace; and what is "
                                         "loaded and attached")  # fmt: skip
netns = option("-N", "--netns", type=u32, parse=whole, metavar="NETNS",
               help="this network namespace only (the number of its inode)")  # fmt: skip


class Step(Ends):
    """A step in the life of a connection."""

    ts: u64
    pid: u32
    netns: u32
    _kind: u32
    comm: Comm


steps = Ring(Step)


@first_of(tp_btf("inet_sock_set_state"), raw_tracepoint("inet_sock_set_state"))
def changed(sk, oldstate, newstate):
    if not is_tcp(sk):
        return
    owned = by_owner(oldstate, newstate)
    if sk not in socks and (newstate in (SYN_SENT, SYN_RECV) or (owned and newstate in (FIN_WAIT1, LAST_ACK))
                            or (newstate == CLOSE and oldstate in (ESTABLISHED, CLOSE_WAIT))):  # fmt: skip
        begin(sk, ktime())
    one = socks.get(sk)
    if one is None:
        return
    if owned:
        own(one)
    if newstate == ESTABLISHED and oldstate == SYN_SENT:
        send(sk, one, CONNECT)
    elif newstate == CLOSE:
        if oldstate not in (SYN_SENT, SYN_RECV):
            send(sk, one, GONE)
        del socks[sk]
    elif owned and newstate != SYN_SENT and sk.sk_shutdown == BOTH_WAYS:  # not only what goes out has ended
        send(sk, one, GONE)
        del socks[sk]


@tracepoint("syscalls:sys_exit_accept", "syscalls:sys_exit_accept4")
def accept(call):
    if call.ret < 0:
        return
    sk = accepted(call.ret)
    if is_tcp(sk):
        if sk not in socks:
            begin(sk, ktime())
        one = socks.get(sk)
        if one is not None:
            own(one)
            send(sk, one, ACCEPT)


def send(sk, one, kind):
    if not one.wanted or not chosen(sk) or (netns and netns_of(sk) != netns):
        return
    with steps.reserve() as e:
        ends(e, sk)
        e.ts, e.pid, e.comm, e.netns, e._kind = ktime(), one.pid, one.comm, netns_of(sk), kind


def bracketed(address):
    return f"[{address}]" if ":" in address else address


def word(e):
    return WORDS[e._kind]


since = elapsed(9, from_first=True)


def nanoseconds(ts):
    return since(ts).replace(".", "").lstrip("0") or "0"


tool = event_table(
    steps,
    [
        Col("ts", "TIME(s)", 8, show=elapsed(3, from_first=True), when=lambda: timestamp and not verbose, align="<"),
        Col("ts", "TIME(ns)", 14, show=nanoseconds, when=lambda: timestamp and verbose, align="<"),
        Col("type", "T", 2, row=word, show=LETTERS.__getitem__, when=lambda: not verbose),
        Col("type", "TYPE", 12, row=word, when=verbose),
        Col("pid", "PID", 7, align="<"),
        Col("comm", "COMM", 16),
        Col("family", "IP", 2, show=ip, align="<"),
        Col("laddr", "SADDR", 16, row=laddr, show=bracketed),
        Col("raddr", "DADDR", 16, row=raddr, show=bracketed),
        Col("lport", "SPORT", 6, align="<"),
        Col("rport", "DPORT", 6, align="<"),
        Col("netns", "NETNS", 8, when=verbose, align="<"),
    ],
    banner="Tracing TCP established connections. Ctrl-C to end.",
    prepare=lambda: check("tcptracer"),
)
