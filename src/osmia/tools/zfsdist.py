# SPDX-License-Identifier: Apache-2.0
"""Summarize the latency of operations on ZFS files."""

from __future__ import annotations

from osmia.lang.filters import cgroup, name, pid, tid, uid  # noqa: F401 - options
from osmia.tools._fs_dist import (  # noqa: F401 - options, programs
    dist,
    every,
    in_milliseconds,
    interval,
    leave,
    leave_open,
    notimestamp,
    timestamp,
    took,
)
from osmia.tools._fs_syscalls import FILE_CALLS  # noqa: F401 - programs

tool = dist("zfs")
