# SPDX-License-Identifier: Apache-2.0
"""Trace TCP connections that are accepted with accept()."""

from __future__ import annotations

from osmia import Col, Ring, current, event_table, ktime, option, tracepoint
from osmia.lang.filters import cgroup, name, pid, uid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id
from osmia.lang.types import Comm, u32, u64
from osmia.tools._pinned import cgroupmap, mntnsmap  # noqa: F401 - options
from osmia.tools._show import clock, elapsed
from osmia.tools._sockets import socket_of
from osmia.tools._tcp import Ends, check, chosen, ends, ip, ipv4, ipv6, is_tcp, laddr, locally, raddr  # noqa: F401 - options

time = option("-T", "--time", help="show the time of day")
timestamp = option("-t", "--timestamp", help="show seconds since the first row")
port = locally("-P", "--port")


class Accept(Ends):
    """A connection that a program has accepted."""

    ts: u64
    pid: u32
    comm: Comm


accepts = Ring(Accept)


@tracepoint("syscalls:sys_exit_accept", "syscalls:sys_exit_accept4")
def accepted(call):
    if call.ret < 0 or not wanted():
        return
    sk = socket_of(call.ret).sk
    if is_tcp(sk) and chosen(sk):
        with accepts.reserve() as e:
            ends(e, sk)
            e.ts, e.pid, e.comm = ktime(), current_process_id(), current.comm


tool = event_table(
    accepts,
    [
        Col("ts", "TIME", 8, show=clock, when=time, align="<"),
        Col("ts", "TIME(s)", 8, show=elapsed(3, from_first=True), when=timestamp, align="<"),
        Col("pid", "PID", 7, align="<"),
        Col("comm", "COMM", 12),
        Col("family", "IP", 2, show=ip, align="<"),
        Col("raddr", "RADDR", 16, row=raddr),
        Col("rport", "RPORT", 5, align="<"),
        Col("laddr", "LADDR", 16, row=laddr),
        Col("lport", "LPORT", 5, align="<"),
    ],
    prepare=lambda: check("tcpaccept"),
)
