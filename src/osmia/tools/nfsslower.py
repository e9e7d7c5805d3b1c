# SPDX-License-Identifier: Apache-2.0
"""Trace slow operations on NFS files."""

from __future__ import annotations

from osmia.lang.filters import cgroup, name, pid, tid, uid  # noqa: F401 - options
from osmia.tools._fs_slower import csv, leave, leave_open, leave_stat, min_ns, slow, slower  # noqa: F401 - options, programs
from osmia.tools._fs_stat import (  # noqa: F401 - programs
    enter_newfstat,
    enter_newfstatat,
    enter_newlstat,
    enter_newstat,
    enter_statx,
    find_devices,
)
from osmia.tools._fs_syscalls import (  # noqa: F401 - programs
    enter_fsync,
    enter_open,
    enter_pread64,
    enter_preadv,
    enter_preadv2,
    enter_pwrite64,
    enter_pwritev,
    enter_pwritev2,
    enter_read,
    enter_readv,
    enter_write,
    enter_writev,
)

tool = slower("nfs")
