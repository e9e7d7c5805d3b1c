# SPDX-License-Identifier: Apache-2.0
"""Shared by tcpconnect and tcpconnlat: how a connection that is opened is shown, as bcc does it."""

from __future__ import annotations

from osmia.lang.options import option
from osmia.lang.templates import Col
from osmia.tools._show import elapsed
from osmia.tools._tcp import ip, laddr, raddr

ECONNREFUSED = 111  # include/uapi/asm-generic/errno.h

timestamp = option("-t", "--timestamp", help="show seconds since the first row")
lport = option("-L", "--lport", help="show the local port")

TIME = Col("ts", "TIME(s)", 8, show=elapsed(3, from_first=True), when=timestamp, align="<")
#: Who, from where, to where.
COLUMNS = [
    Col("pid", "PID", 7, align="<"),
    Col("comm", "COMM", 12),
    Col("family", "IP", 2, show=ip, align="<"),
    Col("laddr", "SADDR", 16, row=laddr),
    Col("lport", "LPORT", 6, when=lport, align="<"),
    Col("raddr", "DADDR", 16, row=raddr),
]
