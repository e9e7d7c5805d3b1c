# SPDX-License-Identifier: Apache-2.0
"""Trace the changes of state of TCP sockets, and how long each state lasted."""

from __future__ import annotations

from osmia import Col, Ring, event_table, first_of, ktime, option, raw_tracepoint, tp_btf
from osmia.lang.filters import cgroup, name, pid, uid  # noqa: F401 - options
from osmia.lang.types import Comm, u32, u64
from osmia.tools import _journal
from osmia.tools._show import clock, elapsed
from osmia.tools._tcp import (
    AF_INET,
    CLOSE,
    Ends,
    check,
    chosen,
    ends,
    ends_columns,
    ip,
    ipv4,  # noqa: F401 - an option
    ipv6,  # noqa: F401 - an option
    is_tcp,
    laddr,
    locally,
    raddr,
    remotely,
    state,
)
from osmia.tools._tcp_owner import accept, begin, by_owner, own, socks  # noqa: F401 - a program

time = option("-T", "--time", help="show the time of day")
timestamp = option("-t", "--timestamp", help="show seconds since the first row")
wide = option("-w", "--wide", help="wide columns, for IPv6 addresses")
csv = option("-s", "--csv", help="comma-separated values, with a heading")
journal = option("-Y", "--journal", help="put each change into the journal of systemd, too")
localport = locally("-L", "--localport")
remoteport = remotely("-D", "--remoteport")


class Change(Ends):
    """A change of state; ``ns``: how long the old one lasted, 0 where its beginning was not seen."""

    skaddr: u64
    ts: u64
    ns: u64
    pid: u32
    _old: u32
    _new: u32
    comm: Comm


changes = Ring(Change)


@first_of(tp_btf("inet_sock_set_state"), raw_tracepoint("inet_sock_set_state"))
def changed(sk, oldstate, newstate):
    if not is_tcp(sk):
        return
    if sk not in socks:
        begin(sk, 0)
    one = socks.get(sk)
    if one is None:
        return
    if by_owner(oldstate, newstate) and not one.pid:
        own(one)
    now = ktime()
    if one.wanted and chosen(sk):
        with changes.reserve() as e:
            ends(e, sk)
            e.skaddr, e.ts, e.pid, e.comm = sk, now, one.pid, one.comm
            e.ns = now - one.since if one.since else 0
            e._old, e._new = oldstate, newstate
    one.since = now
    if newstate == CLOSE:
        del socks[sk]


def log(e):
    """An entry of the journal, with the fields that bcc's tcpstates gives it."""
    family = "IPV4" if e.family == AF_INET else "IPV6"
    old, new, here, there = state(e._old), state(e._new), laddr(e), raddr(e)
    _journal.send({
        "SYSLOG_IDENTIFIER": "tcpstates", "PRIORITY": 5, "OBJECT_PID": e.pid,
        f"OBJECT_{family}_SOURCE_ADDRESS": here, "OBJECT_TCP_SOURCE_PORT": e.lport,
        f"OBJECT_{family}_DESTINATION_ADDRESS": there, "OBJECT_TCP_DESTINATION_PORT": e.rport,
        "OBJECT_TCP_OLD_STATE": old, "OBJECT_TCP_NEW_STATE": new, "OBJECT_TCP_SPAN_TIME": e.ns // 1000,
        "MESSAGE": f"{e.comm} {here} {e.lport} → {there} {e.rport} {old} → {new}",
    })  # fmt: skip
    return True


def prepare():
    check("tcpstates")
    if journal:
        _journal.connect("tcpstates")
        tool.keep = log


tool = event_table(
    changes,
    [
        Col("ts", "TIME", 8, show=clock, when=time, align="<"),
        Col("ts", "TIME(s)", 9, show=elapsed(6, from_first=True), when=timestamp, align="<"),
        Col("skaddr", "SKADDR", 16, show="{:x}".format, align="<"),
        Col("pid", "C-PID", 7, align="<"),
        Col("comm", "C-COMM", 16),
        Col("family", "IP", 2, show=ip, when=lambda: wide or csv, align="<"),
        *ends_columns(wide),
        Col("oldstate", "OLDSTATE", 11, row=lambda e: state(e._old)),
        Col("newstate", "-> NEWSTATE", 14, row=lambda e: state(e._new), show="-> {}".format, when=lambda: not csv),
        Col("newstate", "NEWSTATE", 11, row=lambda e: state(e._new), when=csv),
        Col("ns", "MS", show=lambda ns: f"{ns / 1e6:.3f}", align="<"),
    ],
    prepare=prepare,
)
