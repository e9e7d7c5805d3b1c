# SPDX-License-Identifier: Apache-2.0
"""The filters that all tools share, in the kernel and before any cost: process, thread, user, name, cgroup.

A tool imports the options that it offers and calls ``wanted()`` first; what
is not given is pruned by the verifier.
"""

from __future__ import annotations

from osmia.lang.builtins import current, subprogram
from osmia.lang.drift import in_cgroup
from osmia.lang.options import option
from osmia.lang.types import Str, u64

pid = option("-p", "--pid", type=int, metavar="PID", help="this process only (PID as seen from here)")
tid = option("--tid", type=int, metavar="TID", help="this thread only")
uid = option("--uid", type=int, default=-1, metavar="UID", help="this user only, by number")
name = option("-n", "--name", type=Str.of(16), metavar="NAME", help="only processes whose name contains NAME")
cgroup = option("--cgroup", type=u64, metavar="PATH", help="only processes in this cgroup (v2) or below it")


@subprogram  # once in the object, whatever the number of probes that ask
def wanted() -> bool:
    """Whether the current task passes every filter that was given."""
    if pid and current.tgid != pid:
        return False
    if tid and current.pid != tid:
        return False
    if uid >= 0 and current.uid != uid:
        return False
    if name and name not in current.comm:
        return False
    return not (cgroup and not in_cgroup(cgroup))
