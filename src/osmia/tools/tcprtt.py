# SPDX-License-Identifier: Apache-2.0
"""Summarize the round-trip time of TCP connections as a histogram."""

from __future__ import annotations

from osmia import cast, first_of, histogram, log2_hist, option, raw_tracepoint, tp_btf
from osmia.errors import OptionError
from osmia.tools._addresses import Side, label, laddr, raddr, wanted_ends  # noqa: F401 - options
from osmia.tools._tcp import Ends, check, chosen, ends, ipv4, ipv6, locally, remotely  # noqa: F401 - options
from osmia.tools._times import milliseconds, timestamp, unit  # noqa: F401 - an option

lport = locally("-p", "--lport")
rport = remotely("-P", "--rport")
byladdr = option("-b", "--byladdr", help="one histogram per local address")
byraddr = option("-B", "--byraddr", help="one histogram per remote address")
extension = option("-e", "--extension", help="show the average, too")
debug = option("-D", "--debug", help="print the program before it starts")

total = log2_hist("usecs")
split = log2_hist("usecs", key=Side)


@first_of(tp_btf("tcp_probe"), raw_tracepoint("tcp_probe"))
def received(sk, skb):
    """A segment has come in for an established connection; the time is what the kernel has made of those before it."""
    smoothed = cast(sk, "struct tcp_sock").srtt_us >> 3  # in eighths: include/linux/tcp.h
    if not smoothed or not chosen(sk):  # 0: nothing has been measured yet
        return
    e = Ends()
    ends(e, sk)
    if not wanted_ends(e):
        return
    time = smoothed // (1000 if milliseconds else 1)
    if byladdr:
        split[Side(low=e._laddr, high=e._laddr_high, family=e.family)].add(time)
    elif byraddr:
        split[Side(low=e._raddr, high=e._raddr_high, family=e.family)].add(time)
    else:
        total.add(time)


def averages(new):
    """As bcc prints it with -e."""
    heads = {key: f"\n{tool.section} = {label(key)} [AVG {one.sum // one.count}]\n" for key, one in new.items()}
    return "".join([heads[key] + one.text(unit()) for key, one in new.items()])


def prepare():
    check("tcprtt")
    if byladdr and byraddr:
        raise OptionError("-b and -B exclude each other", where="tcprtt", fix="give one of them")
    if byladdr or byraddr:
        tool.hist, tool.section = split, "Local Address" if byladdr else "Remote Address"
    if extension:
        tool.text = averages
    if debug:
        with open(__file__, encoding="utf-8") as source:
            print(source.read())


tool = histogram(
    total,
    unit=unit,
    section="All Addresses",
    label=label,
    prepare=prepare,
    banner="Tracing TCP RTT... Hit Ctrl-C to end.",
)
