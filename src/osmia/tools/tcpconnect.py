# SPDX-License-Identifier: Apache-2.0
"""Trace TCP connections that are opened with connect(), also those that fail."""

from __future__ import annotations

from osmia import Col, Hash, Ring, count_table, current, event_table, ktime, option
from osmia.errors import OptionError
from osmia.kernel.named import user_number
from osmia.lang.filters import cgroup, name, pid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id
from osmia.lang.probes import first_of, raw_tracepoint, tp_btf, tracepoint
from osmia.lang.types import Comm, Event, u32, u64
from osmia.tools import _dns
from osmia.tools._connects import COLUMNS, TIME, lport, timestamp  # noqa: F401 - options
from osmia.tools._dns import answered, answers, read, received, receives, recvfrom, recvmsg  # noqa: F401 - its maps
from osmia.tools._pinned import cgroupmap, mntnsmap  # noqa: F401 - options
from osmia.tools._sockets import SockPtr
from osmia.tools._tcp import SYN_SENT, Ends, check, chosen, ends, ipv4, ipv6, is_tcp, laddr, raddr, remotely  # noqa: F401 - options

port = remotely("-P", "--port")
print_uid = option("-U", "--print-uid", help="show the user's id")
uid = option("-u", "--uid", type=int, default=-1, parse=user_number, metavar="USER", help="this user only (name or id)")
count = option("-c", "--count", help="count by source and destination, and show that at the end")
dns = option("-d", "--dns", help="show the name that was asked for to get the address")


class Connect(Ends):
    """A connection that somebody tries to open."""

    ts: u64
    pid: u32
    uid: u32
    comm: Comm


class Begun(Event):
    """With -L: who tries, until the kernel has chosen a port."""

    ts: u64
    pid: u32
    uid: u32
    comm: Comm


connects = Ring(Connect)
begun = Hash[SockPtr, Begun](10240)
threads = Hash[u32, SockPtr](10240)
counts = Hash[Ends, u64](10240)


@first_of(tp_btf("inet_sock_set_state"), raw_tracepoint("inet_sock_set_state"))
def changed(sk, oldstate, newstate):
    if lport and oldstate == SYN_SENT:
        show(sk)  # the answer was there before connect() slept or returned
    if newstate != SYN_SENT or (uid >= 0 and current.uid != uid) or not (wanted() and is_tcp(sk) and chosen(sk)):
        return
    if count:
        key = Ends()
        ends(key, sk)
        key.lport = u32(0)
        counts[key] += 1
    elif lport:
        begun[sk] = Begun(ts=ktime(), pid=current_process_id(), uid=current.uid, comm=current.comm)
        threads[current.pid] = sk
    else:
        with connects.reserve() as e:
            ends(e, sk)
            e.ts, e.pid, e.uid, e.comm = ktime(), current_process_id(), current.uid, current.comm


def show(sk):
    """The connection has its local port now."""
    one = begun.get(sk)
    if one is not None:
        with connects.reserve() as e:
            ends(e, sk)
            e.ts, e.pid, e.uid, e.comm = one.ts, one.pid, one.uid, one.comm
        del begun[sk]


@tracepoint("syscalls:sys_exit_connect")
def returned(call):
    sk = threads.pop(current.pid)
    if sk is not None:
        show(sk)


@first_of(tp_btf("sched_switch"), raw_tracepoint("sched_switch"))
def waits(preempt, prev, next):
    sk = threads.get(current.pid)
    if sk is not None:
        show(sk)


def prepare():
    check("tcpconnect")
    if dns and count:
        raise OptionError("-d and -c exclude each other", where="tcpconnect", fix="leave one of them out")
    returned.enabled = waits.enabled = bool(lport)
    for one in (recvfrom, recvmsg, read, answered):
        one.enabled = bool(dns)
    return flows if count else None


tool = event_table(
    connects,
    [
        TIME,
        Col("uid", "UID", 5, when=print_uid, align="<"),
        *COLUMNS,
        Col("rport", "DPORT", 6, align="<"),
        Col("query", "QUERY", row=lambda e: _dns.query(raddr(e), e.ts) if dns else None, when=dns),
    ],
    banner="Tracing connect ... Hit Ctrl-C to end",
    prepare=prepare,
)
flows = count_table(
    counts,
    [
        Col("laddr", "LADDR", 25, row=laddr),
        Col("raddr", "RADDR", 25, row=raddr),
        Col("rport", "RPORT", 20, align="<"),
        Col("count", "CONNECTS", align="<"),
    ],
    banner="Tracing connect ... Hit Ctrl-C to end",
    sort=lambda entry: entry.count,
)
