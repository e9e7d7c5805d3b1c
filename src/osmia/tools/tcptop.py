# SPDX-License-Identifier: Apache-2.0
"""Show which TCP connections carry most, and whose they are, page by page."""

from __future__ import annotations

from osmia import Col, count_table, option
from osmia.lang.filters import cgroup, name, pid, uid  # noqa: F401 - options
from osmia.tools._pinned import cgroupmap, mntnsmap  # noqa: F401 - options
from osmia.tools._tcp import AF_INET, check, ipv4, ipv6, laddr, raddr  # noqa: F401 - options
from osmia.tools._tcp_bytes import PROGRAMS, choose, flows  # noqa: F401 - programs
from osmia.tools._top import maxrows, noclear

nosummary = option("-S", "--nosummary", help="leave out the line with the time and the load averages")


def local(e):
    return f"{laddr(e)}:{e.lport}"


def remote(e):
    return f"{raddr(e)}:{e.rport}"


def table(entries, _):
    """As bcc prints it: IPv4 first, and IPv6 below it in wider columns."""
    from osmia.views.escape import escape

    out = []
    for suffix, width, rows in (
        ("", 21, [one for one in entries if one.family == AF_INET]),
        ("6", 32, [one for one in entries if one.family != AF_INET]),
    ):
        if not rows and (suffix or len(entries)):
            continue
        out.append(f"{'PID':<7} {'COMM':<12} {'LADDR' + suffix:<{width}} {'RADDR' + suffix:<{width}}  RX_KB  TX_KB")
        out += [
            f"{one.pid:<7} {escape(one.comm):<12} {local(one):<{width}} {remote(one):<{width}} "
            f"{one.rx // 1024:>6} {one.tx // 1024:>6}" for one in rows
        ]  # fmt: skip
        out.append("")
    return "\n".join(out)


def prepare():
    check("tcptop")
    choose()


tool = count_table(
    flows,
    [
        Col("pid", "PID", 7, align="<"),
        Col("comm", "COMM", 12),
        Col("laddr", "LADDR", 21, row=laddr),
        Col("lport", "LPORT", 5, align="<"),
        Col("raddr", "RADDR", 21, row=raddr),
        Col("rport", "RPORT", 5, align="<"),
        Col("rx", "RX_BYTES"),
        Col("tx", "TX_BYTES"),
    ],
    text=table,
    sort=lambda one: one.rx + one.tx,
    most=maxrows,
    screen=noclear,
    loads=lambda: not nosummary,
    taken=True,
    interval=1.0,
    prepare=prepare,
    banner="Tracing... Hit Ctrl-C to end",
)
