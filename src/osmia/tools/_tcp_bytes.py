# SPDX-License-Identifier: Apache-2.0
"""Kernel half of tcptop: bytes that processes give to TCP connections and take from them, as their calls return them.

6e6eda44b939 ("sock: add tracepoint for send recv length", 6.3) gave two tracepoints, which see what any call sends
and receives but splice() and, before 6.5, sendfile().  What they do not see, and everything where there are none,
is taken from the functions of TCP.
"""

from __future__ import annotations

from osmia.kernel import tracefs
from osmia.lang.builtins import cast, current, exists
from osmia.lang.filters import wanted
from osmia.lang.function_probes import fentry, fexit, kprobe, kretprobe
from osmia.lang.maps import Hash
from osmia.lang.pidns import current_process_id
from osmia.lang.probes import first_of, raw_tracepoint, tp_btf
from osmia.lang.types import Comm, Event, s32, u32, u64
from osmia.tools._sockets import SockPtr
from osmia.tools._tcp import Ends, chosen, ends, is_tcp

MSG_PEEK = 2  # include/linux/socket.h
SENT, RECEIVED = 0, 1


class Flow(Ends):
    """A connection, and a process that uses it."""

    pid: u32
    comm: Comm


class Traffic(Event):
    """Bytes that the process gave to the connection, and took from it."""

    tx: u64
    rx: u64


class Call(Event):
    """A call under way: its socket, and the number of the next byte to be read from that."""

    sk: SockPtr
    next: u32


flows = Hash[Flow, Traffic](32768)
calls = Hash[u32, Call](10240)


def moved(sk, kind, size):
    """``size`` bytes went through the socket; a negative number is an error."""
    if size <= 0 or not wanted() or not is_tcp(sk) or not chosen(sk):
        return
    key = Flow(pid=current_process_id(), comm=current.task.group_leader.comm)
    ends(key, sk)
    if kind == SENT:
        flows[key].tx += size
    else:
        flows[key].rx += size


@first_of(tp_btf("sock_send_length", optional=True), raw_tracepoint("sock_send_length", optional=True))
def sent(sk, ret, flags):
    moved(sk, SENT, s32(ret))


@first_of(tp_btf("sock_recv_length", optional=True), raw_tracepoint("sock_recv_length", optional=True))
def received(sk, ret, flags):
    if not flags & MSG_PEEK:
        moved(sk, RECEIVED, s32(ret))


def begins(sk):
    calls[current.pid] = Call(sk=sk, next=cast(sk, "struct tcp_sock").copied_seq)


def ends_with(kind, ret):
    """The call is over; what was only looked at (MSG_PEEK) has not been received, and stays the next to be read."""
    call = calls.get(current.pid)
    if call is None:
        return
    if kind == SENT or cast(call.sk, "struct tcp_sock").copied_seq != call.next:
        moved(call.sk, kind, s32(ret))
    del calls[current.pid]


@first_of(fentry("tcp_sendmsg"), kprobe("tcp_sendmsg"))
def sends(sk):
    if not exists("struct trace_event_raw_sock_msg_length"):
        begins(sk)


@first_of(fexit("tcp_sendmsg"), kretprobe("tcp_sendmsg"))
def sends_no_more(ret):
    ends_with(SENT, ret)


@first_of(fentry("tcp_recvmsg"), kprobe("tcp_recvmsg"))
def receives(sk):
    if not exists("struct trace_event_raw_sock_msg_length"):
        begins(sk)


@first_of(fexit("tcp_recvmsg"), kretprobe("tcp_recvmsg"))
def receives_no_more(ret):
    ends_with(RECEIVED, ret)


@first_of(fentry("tcp_sendpage", optional=True), kprobe("tcp_sendpage", optional=True))
def sends_page(sk):
    begins(sk)


@first_of(fexit("tcp_sendpage", optional=True), kretprobe("tcp_sendpage", optional=True))
def sends_page_no_more(ret):
    ends_with(SENT, ret)


@first_of(fentry("tcp_splice_read", optional=True), kprobe("tcp_splice_read", optional=True))
def splices(sock):
    begins(sock.sk)


@first_of(fexit("tcp_splice_read", optional=True), kretprobe("tcp_splice_read", optional=True))
def splices_no_more(ret):
    ends_with(RECEIVED, ret)


BY_FUNCTION = (sends, sends_no_more, receives, receives_no_more)
PROGRAMS = (sent, received, *BY_FUNCTION, sends_page, sends_page_no_more, splices, splices_no_more)


def choose():
    """Leave out what the tracepoints see; for the tool's ``prepare``."""
    for one in BY_FUNCTION:
        one.enabled = not tracefs.exists("sock", "sock_send_length")
