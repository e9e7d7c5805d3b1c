# SPDX-License-Identifier: Apache-2.0
"""Trace mount(), umount() and the newer calls that mount something."""

from __future__ import annotations

from osmia import Col, event_table, option
from osmia.lang.filters import cgroup, name, pid, tid, uid  # noqa: F401 - options
from osmia.tools._mounting import PROGRAMS, mounts  # noqa: F401 - programs
from osmia.tools._mounts import written
from osmia.tools._pinned import cgroupmap, mntnsmap  # noqa: F401 - options

parent = option("-P", "--parent_process", help="show the parent process, too")

tool = event_table(
    mounts,
    [
        Col("comm", "COMM", 16),
        Col("pid", "PID", 7, align="<"),
        Col("tid", "TID", 7, align="<"),
        Col("pcomm", "PCOMM", 16, when=parent),
        Col("ppid", "PPID", 7, when=parent, align="<"),
        Col("mnt_ns", "MNT_NS", 11, align="<"),
        Col("written", "CALL", row=written),
    ],
)
