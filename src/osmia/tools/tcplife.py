# SPDX-License-Identifier: Apache-2.0
"""Trace TCP connections: how long each lived, and the bytes that went each way."""

from __future__ import annotations

from osmia import Col, Ring, cast, event_table, first_of, ktime, option, raw_tracepoint, tp_btf
from osmia.lang.filters import cgroup, name, pid, uid  # noqa: F401 - options
from osmia.lang.types import Comm, u32, u64
from osmia.tools._show import clock, elapsed, ms
from osmia.tools._tcp import (
    CLOSE,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT1,
    FIN_WAIT2,
    LAST_ACK,
    SYN_RECV,
    SYN_SENT,
    Ends,
    check,
    chosen,
    ends,
    ends_columns,
    ip,
    ipv4,  # noqa: F401 - an option
    ipv6,  # noqa: F401 - an option
    is_tcp,
    locally,
    remotely,
)
from osmia.tools._tcp_owner import accept, begin, by_owner, own, socks  # noqa: F401 - a program

time = option("-T", "--time", help="show the time of day")
timestamp = option("-t", "--timestamp", help="show seconds since the first row")
wide = option("-w", "--wide", help="wide columns, for IPv6 addresses")
csv = option("-s", "--csv", help="comma-separated values, with a heading")
localport = locally("-L", "--localport")
remoteport = remotely("-D", "--remoteport")

SOCK_DONE = 1 << 1  # include/net/sock.h, enum sock_flags: the other end's FIN has come


class Life(Ends):
    """A connection that has ended; ``tx`` and ``rx`` are bytes, ``ns`` is how long it was there."""

    pid: u32
    ts: u64
    ns: u64
    tx: u64
    rx: u64
    comm: Comm


lives = Ring(Life)


@first_of(tp_btf("inet_sock_set_state"), raw_tracepoint("inet_sock_set_state"))
def changed(sk, oldstate, newstate):
    if not is_tcp(sk):
        return
    if newstate == CLOSE:
        life = socks.get(sk)
        if life is not None:
            if life.wanted and chosen(sk):
                send(sk, oldstate, life)
            del socks[sk]
        return
    if newstate in (SYN_SENT, SYN_RECV) and sk not in socks:
        begin(sk, ktime())
    one = socks.get(sk)
    if one is None:  # it began before the trace, or is listening
        return
    if newstate == ESTABLISHED:
        one.since = ktime()
    if newstate == SYN_SENT:
        one.active = 1
    if by_owner(oldstate, newstate) and not one.pid:
        own(one)


def send(sk, oldstate, life):
    tcp = cast(sk, "struct tcp_sock")
    with lives.reserve() as e:
        ends(e, sk)
        e.ts = ktime()
        e.ns, e.pid, e.comm = e.ts - life.since, life.pid, life.comm
        # Both counters are of sequence numbers, of which SYN and FIN take one each.
        e.tx, e.rx = tcp.bytes_acked, tcp.bytes_received
        if life.active and e.tx:
            e.tx -= 1
        if oldstate in (FIN_WAIT1, FIN_WAIT2, CLOSING, LAST_ACK) and tcp.snd_una == tcp.write_seq and e.tx:
            e.tx -= 1
        if sk.__sk_common.skc_flags & SOCK_DONE and e.rx:
            e.rx -= 1


def kilobytes(count):
    return str(count // 1024)


tool = event_table(
    lives,
    [
        Col("ts", "TIME", 8, show=clock, when=time, align="<"),
        Col("ts", "TIME(s)", 9, show=elapsed(6, from_first=True), when=timestamp, align="<"),
        Col("pid", "PID", 7, align="<"),
        Col("comm", "COMM", 16),
        Col("family", "IP", 2, show=ip, when=lambda: wide or csv, align="<"),
        *ends_columns(wide),
        Col("tx", "TX_KB", 6, show=kilobytes, align=">"),
        Col("rx", "RX_KB", 6, show=kilobytes, align=">"),
        Col("ns", "MS", show=ms, align="<"),
    ],
    prepare=lambda: check("tcplife"),
)
