# SPDX-License-Identifier: Apache-2.0
"""Trace or count TCP retransmissions: of which connection, and in which state."""

from __future__ import annotations

from osmia import Col, Global, Hash, Ring, cast, count_table, event_table, first_of, ktime, option, raw_tracepoint
from osmia.lang.drift import tells_failures
from osmia.lang.function_probes import fentry, kprobe
from osmia.lang.pidns import current_process_id
from osmia.lang.probes import tp_btf
from osmia.lang.types import u8, u32, u64
from osmia.tools._show import clock
from osmia.tools._tcp import Ends, check, chosen, ends, ip, ipv4, ipv6, laddr, raddr, state  # noqa: F401 - options

PROBE_TIMER = 5  # include/net/inet_connection_sock.h, ICSK_TIME_LOSS_PROBE
RECOVERY = 3  # include/uapi/linux/tcp.h, TCP_CA_Recovery
NEW_SYN_RECV = 12  # include/net/tcp_states.h
RETRANSMIT, PROBE, SYNACK = range(3)
KINDS = "RLS"

sequence = option("-s", "--sequence", help="show TCP sequence numbers")
lossprobe = option("-l", "--lossprobe", help="include tail loss probes (L>)")
synack = option("-S", "--synack", help="include SYN-ACKs of connections that are not accepted yet (S>)")
count = option("-c", "--count", help="count by connection, and show that at the end")


class Retransmission(Ends):
    """``pid`` is who ran on the CPU, ``segs`` how many segments it was."""

    pid: u32
    ts: u64
    seq: u32
    segs: u32
    _kind: u8
    _state: u8


class Flow(Ends):
    """A connection, as a key."""


events = Ring(Retransmission)
flows = Hash[Flow, u64](65536)
asked = Global[u32]()  # whether the function that sends loss probes has a probe, and was called


def seen(sk, kind, now, seq, segs):
    if count:
        flow = Flow()
        ends(flow, sk)
        flows[flow] += 1
        return
    with events.reserve() as e:
        ends(e, sk)
        e.ts, e.pid = ktime(), current_process_id()
        e._kind, e._state, e.seq, e.segs = kind, now, seq, segs


@first_of(tp_btf("tcp_retransmit_skb"), raw_tracepoint("tcp_retransmit_skb"))
def retransmitted(sk, skb, err=0):
    if not chosen(sk) or (tells_failures(sk) and err):
        return
    connection, buffer = cast(sk, "struct inet_connection_sock"), cast(skb.cb, "struct tcp_skb_cb")
    now = sk.__sk_common.skc_state
    # Where the function has no probe, loss probes are known by the timer that has run out.
    if lossprobe and not asked.value and connection.icsk_pending == PROBE_TIMER and connection.icsk_ca_state < RECOVERY:
        seen(sk, PROBE, now, 0, 0)
    seen(sk, RETRANSMIT, now, buffer.seq, buffer.tcp_gso_segs)


@first_of(tp_btf("tcp_retransmit_synack"), raw_tracepoint("tcp_retransmit_synack"))
def answered(listener, request):
    if synack and chosen(cast(request, "struct sock")):  # both begin with a struct sock_common
        seen(cast(request, "struct sock"), SYNACK, NEW_SYN_RECV, cast(request, "struct tcp_request_sock").snt_isn, 1)


@first_of(fentry("tcp_send_loss_probe", optional=True), kprobe("tcp_send_loss_probe", optional=True))
def probed(sk):
    asked.value = 1
    if lossprobe and chosen(sk):
        seen(sk, PROBE, sk.__sk_common.skc_state, 0, 0)


def totals(entries, _):
    """As bcc prints them."""
    lines = ["", f"{'LADDR:LPORT':<25} {'RADDR:RPORT':<25} RETRANSMITS"]
    for one in entries:
        local, remote = f"[{laddr(one)}]#{one.lport}", f"[{raddr(one)}]#{one.rport}"
        lines.append(f"{local:<20} <-> {remote:<20} {one.count:>10}")
    return "\n".join(lines)


def prepare():
    check("tcpretrans")
    probed.enabled = bool(lossprobe)
    return totals_table if count else None


LADDR, RADDR = Col("laddr", row=laddr, when=lambda: count), Col("raddr", row=raddr, when=lambda: count)
BANNER = "Tracing retransmits ... Hit Ctrl-C to end"
tool = event_table(
    events,
    [
        Col("ts", "TIME", 8, show=clock, align="<"),
        Col("pid", "PID", 7, align="<"),
        Col("family", "IP", 2, show=ip, align="<"),
        Col("local", "LADDR:LPORT", 20, row=lambda e: f"{laddr(e)}:{e.lport}"),
        Col("type", "T>", 2, row=lambda e: KINDS[e._kind], show="{}>".format),
        Col("remote", "RADDR:RPORT", 20, row=lambda e: f"{raddr(e)}:{e.rport}"),
        Col("state", "STATE", 12, row=lambda e: state(e._state)),
        Col("seq", "SEQ", when=sequence, align="<"),
        LADDR,
        RADDR,
    ],
    banner=BANNER,
    prepare=prepare,
)
totals_table = count_table(
    flows, [LADDR, Col("lport"), RADDR, Col("rport"), Col("count", "RETRANSMITS")], text=totals, banner=BANNER
)
