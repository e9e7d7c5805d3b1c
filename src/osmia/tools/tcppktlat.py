# SPDX-License-Identifier: Apache-2.0
"""Trace how long received TCP data waits until a thread takes it."""

from __future__ import annotations

from osmia import Col, Hash, Ring, cast, current, event_table, first_of, ktime, option, raw_tracepoint
from osmia.kernel.named import thread_number
from osmia.lang.builtins import read_kernel
from osmia.lang.filters import cgroup, name, pid, uid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_is_thread, current_process_id, current_thread_id
from osmia.lang.probes import tp_btf
from osmia.lang.types import Comm, s32, u8, u32, u64
from osmia.tools._show import clock, ms
from osmia.tools._sockets import SockPtr
from osmia.tools._tcp import Ends, chosen, ends, ends_columns, locally, remotely


def least(word):
    """The ``parse`` of MIN_US."""
    if not (word.isascii() and word.isdecimal() and int(word)):
        raise ValueError(f"{word!r} is not a number of microseconds from 1")
    return int(word)


min_us = option("min_us", type=u64, parse=least, help="waits longer than this many microseconds only")
tid = option("-t", "--tid", type=int, parse=thread_number, metavar="TID", help="trace this thread only")
timestamp = option("-T", "--timestamp", help="show the time of day")
lport = locally("-l", "--lport")
rport = remotely("-r", "--rport")
wide = option("-w", "--wide", help="wide columns, for IPv6 addresses")


class Wait(Ends):
    """Data of a connection waited for ``ns`` nanoseconds."""

    pid: u32
    tid: u32
    ts: u64
    ns: u64
    comm: Comm


arrivals = Hash[SockPtr, u64](65536)  # when the data came that has waited longest
waits = Ring(Wait)


@first_of(tp_btf("tcp_probe"), raw_tracepoint("tcp_probe"))
def arrived(sk, skb):
    """A segment has come in.  What is read next, and nothing else, may be taken from now on."""
    header = (read_kernel(skb.data, u8, 12) >> 4) * 4
    if skb.len <= header or not chosen(sk) or sk in arrivals:
        return
    known, buffer = cast(sk, "struct tcp_sock").rcv_nxt, cast(skb.cb, "struct tcp_skb_cb")
    if s32(buffer.seq - known) <= 0 and s32(buffer.end_seq - known) > 0:  # neither out of order nor old
        arrivals[sk] = ktime()


@first_of(tp_btf("tcp_rcv_space_adjust"), raw_tracepoint("tcp_rcv_space_adjust"))
def taken(sk):
    """The current thread has copied data."""
    since = arrivals.pop(sk)
    if since is None or (tid and not current_is_thread(tid)) or not wanted():
        return
    waited = ktime() - since
    if waited // 1000 <= min_us and min_us:
        return
    with waits.reserve() as e:
        ends(e, sk)
        e.ts, e.ns, e.comm = ktime(), waited, current.comm
        e.pid, e.tid = current_process_id(), current_thread_id()


@first_of(tp_btf("tcp_destroy_sock"), raw_tracepoint("tcp_destroy_sock"))
def gone(sk):
    del arrivals[sk]


tool = event_table(
    waits,
    [
        Col("ts", "TIME(s)", 8, show=clock, when=timestamp, align="<"),
        Col("pid", "PID", 7, align="<"),
        Col("tid", "TID", 7, align="<"),
        Col("comm", "COMM", 16),
        *ends_columns(wide, 26),
        Col("ns", "MS", show=ms, align="<"),
    ],
)
