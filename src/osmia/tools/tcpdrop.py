# SPDX-License-Identifier: Apache-2.0
"""Trace TCP packets that the kernel drops: why, and what it was doing."""

from __future__ import annotations

from osmia import Col, Ring, Stacks, cast, current, event_table, first_of, ktime
from osmia.lang.builtins import read_kernel
from osmia.lang.drift import tells_receiver
from osmia.lang.function_probes import fentry, kprobe
from osmia.lang.pidns import current_process_id
from osmia.lang.probes import raw_tracepoint, tp_btf
from osmia.lang.types import Comm, u8, u16, u32, u64
from osmia.tools import _drops
from osmia.tools._drops import UNKNOWN, Packet, daddr, own_ends, purge, saddr, unspecified
from osmia.tools._netns import in_namespace, netns_id, one_namespace, pid_netns  # noqa: F401 - options
from osmia.tools._show import clock
from osmia.tools._tcp import AF_INET, AF_INET6, IPPROTO_TCP, check, ip, ipv4, ipv6, is_tcp, state, swapped

IPV4, IPV6 = 0x0800, 0x86DD  # include/uapi/linux/if_ether.h, ETH_P_IP and ETH_P_IPV6


class Drop(Packet):
    """A packet that was dropped.  ``_state`` is its socket's, 0 where there is none."""

    pid: u32
    ts: u64
    kernel: u32
    user: u32
    reason: u32
    _state: u8
    _flags: u8
    comm: Comm


stacks = Stacks()
drops = Ring(Drop)


def seen(skb, sk, reason):
    """Send the event, if it is about TCP: that is what the packet says, or its socket where it has no IP header yet."""
    protocol, at, head = swapped(skb.protocol), skb.network_header, skb.head
    if protocol == IPV4 and read_kernel(head + at, u8, 9) == IPPROTO_TCP:
        family, tcp = AF_INET, at + (read_kernel(head + at, u8) & 15) * 4
    elif protocol == IPV6 and read_kernel(head + at, u8, 6) == IPPROTO_TCP:
        family, tcp = AF_INET6, at + 40
    elif sk and is_tcp(sk):
        family, tcp, protocol = sk.__sk_common.skc_family, skb.transport_header, 0
    else:
        return
    if tcp + 20 > skb.tail or (ipv4 and family != AF_INET) or (ipv6 and family != AF_INET6):
        return
    if not in_namespace(skb, sk):
        return
    with drops.reserve() as e:
        if not protocol:
            own_ends(e, sk)
        elif family == AF_INET:
            e._saddr, e._daddr = read_kernel(head + at + 12, u32), read_kernel(head + at + 16, u32)
            e._saddr_high, e._daddr_high = 0, 0
        else:
            e._saddr, e._saddr_high = read_kernel(head + at + 8, u64), read_kernel(head + at + 16, u64)
            e._daddr, e._daddr_high = read_kernel(head + at + 24, u64), read_kernel(head + at + 32, u64)
        e.sport, e.dport = swapped(read_kernel(head + tcp, u16)), swapped(read_kernel(head + tcp, u16, 1))
        e._flags, e._state, e.family, e.reason = read_kernel(head + tcp, u8, 13), 0, family, reason
        if sk:
            e._state = sk.__sk_common.skc_state
        e.ts, e.pid, e.comm = ktime(), current_process_id(), current.comm
        e.kernel, e.user = stacks.kernel(), 0


@first_of(tp_btf("kfree_skb"), raw_tracepoint("kfree_skb"))
def freed(skb, location, reason=0, rx_sk=0):
    if unspecified == UNKNOWN or reason <= unspecified or reason == purge:  # before 5.17 there is no third argument
        return
    sk = u64(skb.sk)
    if tells_receiver(skb) and rx_sk:
        sk = u64(rx_sk)
    seen(skb, cast(sk, "struct sock"), reason)


@first_of(fentry("tcp_drop", optional=True), kprobe("tcp_drop", optional=True))
def dropped(sk, skb):
    """Before 5.18 the reasons are few, and this function has no other use; later ones do not have it."""
    seen(skb, cast(sk, "struct sock"), 0)


def when_of(e):
    return f"{state(e._state) if e._state else '-'} ({_drops.flags(e._flags)})"


def prepare():
    check("tcpdrop")
    one_namespace("tcpdrop")


tool = event_table(
    drops,
    [
        Col("ts", "TIME", 8, show=clock, align="<"),
        Col("pid", "PID", 7, align="<"),
        Col("family", "IP", 2, show=ip, align="<"),
        Col("source", f"{'SADDR:SPORT':<20} >", 22, row=lambda e: f"{saddr(e)}:{e.sport}", show="{:<20} >".format),
        Col("destination", "DADDR:DPORT", 20, row=lambda e: f"{daddr(e)}:{e.dport}"),
        Col("state", "STATE (FLAGS)", 20, row=when_of),
        Col("why", "REASON (CODE)", row=lambda e: f"{_drops.reason(e.reason)} ({e.reason})"),
        Col("saddr", row=saddr, when=False),
        Col("daddr", row=daddr, when=False),
    ],
    stacks=stacks,
    prepare=prepare,
)
tool.view = "osmia.cli.with_stacks:EventsWithStacks"
