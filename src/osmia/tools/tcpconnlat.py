# SPDX-License-Identifier: Apache-2.0
"""Trace TCP connections that are opened, and how long the answer takes."""

from __future__ import annotations

from osmia import Col, Event, Hash, Ring, current, event_table, first_of, ktime, option, raw_tracepoint, tp_btf
from osmia.lang.filters import cgroup, name, pid, uid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id
from osmia.lang.types import Comm, u32, u64
from osmia.tools._connects import COLUMNS, ECONNREFUSED, TIME, lport, timestamp  # noqa: F401 - options
from osmia.tools._show import milliseconds, ms
from osmia.tools._sockets import SockPtr
from osmia.tools._tcp import CLOSE, SYN_SENT, Ends, check, chosen, ends, ipv4, ipv6, is_tcp  # noqa: F401 - options

duration_ms = option("duration_ms", type=u64, parse=milliseconds, help="shortest time to show, in milliseconds")


class Begun(Event):
    """Who has sent a SYN, and when."""

    ts: u64
    pid: u32
    comm: Comm


class Answer(Ends):
    """What the other end has answered: ``err`` is 0, or 111 (ECONNREFUSED) for no."""

    ts: u64
    ns: u64
    pid: u32
    err: u32
    comm: Comm


begun = Hash[SockPtr, Begun](10240)
answers = Ring(Answer)


@first_of(tp_btf("inet_sock_set_state"), raw_tracepoint("inet_sock_set_state"))
def changed(sk, oldstate, newstate):
    if newstate == SYN_SENT:
        if wanted() and is_tcp(sk) and chosen(sk):
            begun[sk] = Begun(ts=ktime(), pid=current_process_id(), comm=current.comm)
        return
    if oldstate != SYN_SENT:
        return
    one = begun.get(sk)
    if one is None:
        return
    now = ktime()
    # Any other end than by an answer (nobody answered, the program gave up) is none.
    if now - one.ts >= duration_ms and (newstate != CLOSE or sk.sk_err == ECONNREFUSED):
        with answers.reserve() as e:
            ends(e, sk)
            e.ts, e.ns, e.pid, e.comm = now, now - one.ts, one.pid, one.comm
            e.err = sk.sk_err if newstate == CLOSE else 0
    del begun[sk]


tool = event_table(
    answers,
    [
        TIME,
        *COLUMNS,
        Col("rport", "DPORT", 5, align="<"),
        Col("ns", "LAT(ms)", show=ms, align="<"),
    ],
    prepare=lambda: check("tcpconnlat"),
)
