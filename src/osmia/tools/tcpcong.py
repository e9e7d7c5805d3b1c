# SPDX-License-Identifier: Apache-2.0
"""Summarize how long TCP connections are in each state of congestion control."""

from __future__ import annotations

import time

from osmia import Col, Hash, LruHash, cast, count_table, first_of, histogram, ktime, log2_hist, option, raw_tracepoint
from osmia.lang.probes import tp_btf
from osmia.lang.types import Event, Kernel, u32, u64
from osmia.tools._ranges import ports, within
from osmia.tools._tcp import AF_INET, Ends, ends, laddr, local_port, raddr, remote_port
from osmia.tools._times import timestamp

OPEN, DISORDER, CWR, RECOVERY, LOSS = range(5)  # include/uapi/linux/tcp.h, enum tcp_ca_state
NAMES = ("open", "disorder", "cwr", "recovery", "loss")


localport = option("-L", "--localport", type=u32, parse=ports, metavar="PORTS", help="local ports only, as 3000-3006")
remoteport = option("-R", "--remoteport", type=u32, parse=ports, metavar="PORTS", help="remote ports only")
dist = option("-d", "--dist", help="show the times as histograms, one per state")
microseconds = option("-u", "--microseconds", help="microseconds instead of milliseconds")


class State(Event):
    """In which state a socket is, and since when."""

    since: u64
    state: u64


class Spent(Event):
    """Nanoseconds in each state that has come to its end, and how many have."""

    open: u64
    disorder: u64
    cwr: u64
    recovery: u64
    loss: u64
    changes: u64


class Flow(Ends):
    """A connection, as a key."""


states = LruHash[Kernel["struct sock"], State](65536)
flows = Hash[Flow, Spent](32768)
split = log2_hist("msecs", key=u32)


@first_of(tp_btf("tcp_cong_state_set"), raw_tracepoint("tcp_cong_state_set"))  # 15fcdf6ae116, 5.19
def change(sk, state):
    """The socket still has the old state; also called where that stays the same."""
    old, now = cast(sk, "struct inet_connection_sock").icsk_ca_state, ktime()
    if old == state or not within(local_port(sk), localport) or not within(remote_port(sk), remoteport):
        return
    last = states.get(sk)
    if last is not None:
        spend(sk, old, now - last.since)
    states[sk] = State(since=now, state=state)


@first_of(tp_btf("tcp_destroy_sock"), raw_tracepoint("tcp_destroy_sock"))
def gone(sk):
    del states[sk]


def spend(sk, state, ns):
    if dist:
        split[state].add(ns // (1000 if microseconds else 1_000_000))
        return
    key = Flow()
    ends(key, sk)
    flows[key].changes += 1
    if state == OPEN:
        flows[key].open += ns
    elif state == DISORDER:
        flows[key].disorder += ns
    elif state == CWR:
        flows[key].cwr += ns
    elif state == RECOVERY:
        flows[key].recovery += ns
    else:
        flows[key].loss += ns


def shown(ns):
    return ns // (1000 if microseconds else 1_000_000)


def table(entries, _):
    """As bcc prints it: IPv4 first, and IPv6 below it in wider columns."""
    unit, out = "us" if microseconds else "ms", []
    for suffix, width, some in (
        ("", 21, [one for one in entries if one.family == AF_INET]),
        ("6", 32, [one for one in entries if one.family != AF_INET]),
    ):
        if some:
            heads = f"Open_{unit:<2} Dod_{unit} Rcov_{unit} Cwr_{unit}  Los_{unit} Chgs"
            out.append(f"{'LAddrPort' + suffix:<{width}} {'RAddrPort' + suffix:<{width}} {heads}")
        for one in some:
            local, remote = f"{laddr(one)}/{one.lport}", f"{raddr(one)}/{one.rport}"
            out.append(f"{local:<{width}} {remote:<{width}} {shown(one.open):<7} {shown(one.disorder):<6} "
                       f"{shown(one.recovery):<7} {shown(one.cwr):<7} {shown(one.loss):<6} {one.changes}")  # fmt: skip
    return "\n".join(["", *([time.strftime("%H:%M:%S")] if timestamp else []), *out])


def prepare():
    return histograms if dist else None


BANNER = "Tracing tcp congestion control status duration... Hit Ctrl-C to end."
tool = count_table(
    flows,
    [
        Col("laddr", "LADDR", row=laddr),
        Col("lport", "LPORT"),
        Col("raddr", "RADDR", row=raddr),
        Col("rport", "RPORT"),
        *[Col(name, f"{name.upper()}_NS") for name in ("open", "disorder", "recovery", "cwr", "loss")],
        Col("changes", "CHANGES"),
    ],
    sort=lambda one: -one.lport,
    text=table,
    taken=True,
    banner=BANNER,
    prepare=prepare,
)
histograms = histogram(
    split,
    unit=lambda: "usecs" if microseconds else "msecs",
    section="tcp_congest_state",
    label=lambda state: NAMES[state] if state < len(NAMES) else str(state),
    banner=BANNER,
)
