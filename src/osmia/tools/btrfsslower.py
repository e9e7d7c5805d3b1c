# SPDX-License-Identifier: Apache-2.0
"""Trace slow operations on Btrfs files."""

from __future__ import annotations

from osmia.lang.filters import cgroup, name, pid, tid, uid  # noqa: F401 - options
from osmia.tools._fs_slower import csv, leave, leave_open, min_ns, slow, slower  # noqa: F401 - options, programs
from osmia.tools._fs_syscalls import FILE_CALLS  # noqa: F401 - programs

tool = slower("btrfs")
