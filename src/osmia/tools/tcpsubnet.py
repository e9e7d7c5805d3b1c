# SPDX-License-Identifier: Apache-2.0
"""Summarize bytes that are sent over TCP, by subnet of the receiver."""

from __future__ import annotations

import time

from osmia import Col, Hash, PerCpuArray, before_attach, count_table, current, exists, first_of, option
from osmia.kernel import tracefs
from osmia.lang.filters import cgroup, name, pid, uid, wanted  # noqa: F401 - options
from osmia.lang.function_probes import fentry, fexit, kprobe, kretprobe
from osmia.lang.probes import raw_tracepoint, tp_btf
from osmia.lang.types import Kernel, s32, u32, u64
from osmia.tools._subnets import MOST, first_match, networks, put
from osmia.tools._tcp import Ends, ends, is_tcp

DEFAULT = "127.0.0.1/32,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,0.0.0.0/0"
#: How many bytes a unit is, and for bits how many there are in it.
UNITS = {"b": 1 / 8, "k": 1024 / 8, "m": 1024 * 1024 / 8, "B": 1, "K": 1024, "M": 1024 * 1024}


subnets = option("subnets", type=str, default=DEFAULT, parse=networks, help=f"subnets, separated by commas; of several "
                 f"that match the first one counts (default: {DEFAULT})")  # fmt: skip
unit = option("-f", "--format", type=str, default="B", choices=tuple(UNITS), metavar="[bkmBKM]",
              help="bits, Kbits, Mbits, bytes, KBytes or MBytes (default: B)")  # fmt: skip
json = option("-J", "--json", help="print JSON, one object a line")


octets = PerCpuArray[u64](MOST)
calls = Hash[u32, Kernel["struct sock"]](10240)


@before_attach
def choose():
    put(str(subnets))


def went(sk, size):
    """``size`` bytes were taken over by the socket; a negative number is an error."""
    if size <= 0 or not wanted() or not is_tcp(sk):
        return
    e = Ends()
    ends(e, sk)
    at = first_match(e.family, e._raddr, e._raddr_high)
    if at < MOST:
        octets[at] += size


@first_of(tp_btf("sock_send_length", optional=True), raw_tracepoint("sock_send_length", optional=True))  # 6.3
def sent(sk, ret, flags):
    went(sk, s32(ret))


@first_of(fentry("tcp_sendmsg"), kprobe("tcp_sendmsg"))
def sends(sk):
    if not exists("struct trace_event_raw_sock_msg_length"):
        calls[current.pid] = sk


@first_of(fexit("tcp_sendmsg"), kretprobe("tcp_sendmsg"))
def sends_no_more(ret):
    over(ret)


@first_of(fentry("tcp_sendpage", optional=True), kprobe("tcp_sendpage", optional=True))  # until 6.5
def sends_page(sk):
    calls[current.pid] = sk


@first_of(fexit("tcp_sendpage", optional=True), kretprobe("tcp_sendpage", optional=True))
def sends_page_no_more(ret):
    over(ret)


def over(ret):
    sk = calls.pop(current.pid)
    if sk is not None:
        went(sk, s32(ret))


def shown(count):
    """In the unit of -f, rounded down as bcc does."""
    return int(count / UNITS[str(unit)])


def subnet(one):
    return str(subnets).split(",")[one.key]


def table(entries, _):
    """As bcc prints it."""
    return "\n".join([time.strftime("[%x %X]"), *(f"{subnet(one):<21} {shown(one.count):>6}" for one in entries)])


def prepare():
    if tracefs.exists("sock", "sock_send_length"):
        sends.enabled = sends_no_more.enabled = False


tool = count_table(
    octets,
    [Col("subnet", "SUBNET", row=subnet), Col("count", "BYTES"), Col("sent", "SENT", row=lambda one: shown(one.count))],
    sort=lambda one: one.count,
    text=table,
    interval=1.0,
    prepare=prepare,
    banner="Tracing... Hit Ctrl-C to end",
)
