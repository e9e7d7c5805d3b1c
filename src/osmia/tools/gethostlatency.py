# SPDX-License-Identifier: Apache-2.0
"""Show the latency of host name lookups: getaddrinfo() and gethostbyname()."""

from __future__ import annotations

from osmia import Col, Hash, Ring, current, event_table, ktime, option, uprobe, uretprobe, user_str
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.lang.options import Computed
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.lang.types import Comm, Event, Str, User, s32, u32, u64
from osmia.tools._show import clock, ms

libc = option("-l", "--libc", type=str, default="c", metavar="FILE",
              help="the C library (default: that of the process given with -p, else this system's)")  # fmt: skip


def where(function):
    """``FILE:FUNCTION`` in the C library that is asked for."""
    return Computed("--libc", lambda: f"{libc}:{function}", type=str)


UserStr = User["char"]


class Lookup(Event):
    """A lookup.  ``ret``: of getaddrinfo() 0 or its error; of the others 0, or -1 where they found nothing."""

    ts: u64
    latency_ns: u64
    pid: u32
    tid: u32
    ret: s32
    function: Str[16]
    comm: Comm
    host: Str[255]  # a name of the DNS has 253 characters at most


# Until a lookup returns, by thread and function: one may call another, in a module of the name service.
starts = Hash[tuple[u32, u32], tuple[u64, UserStr]]()
hosts = Hash[tuple[u32, u32], Str[255]]()
lookups = Ring(Lookup)


def enter(function, host):
    if host and wanted():  # without a host it is a service that is looked up
        hosts[current.pid, function] = user_str(host)
        starts[current.pid, function] = ktime(), host


def leave(function, called, ret):
    """Send the event.  A text that the program had not touched before could not be read when the call began."""
    start = starts.pop((current.pid, function))
    if start is None:
        return
    since, given = start
    host = hosts.get((current.pid, function))
    with lookups.reserve() as e:
        e.ts, e.pid, e.tid, e.comm = ktime(), current_process_id(), current_thread_id(), current.comm
        e.latency_ns, e.function, e.ret = e.ts - since, called, ret
        if host is not None:
            e.host = host
        if not e.host:
            e.host = user_str(given)
    del hosts[current.pid, function]


@uprobe(where("getaddrinfo"))
def enter_getaddrinfo(node: UserStr):
    enter(0, node)


@uretprobe(where("getaddrinfo"))
def leave_getaddrinfo(ret: s32):
    leave(0, "getaddrinfo", ret)


@uprobe(where("gethostbyname"))
def enter_gethostbyname(host: UserStr):
    enter(1, host)


@uretprobe(where("gethostbyname"))
def leave_gethostbyname(ret: u64):
    leave(1, "gethostbyname", 0 if ret else -1)


@uprobe(where("gethostbyname2"))
def enter_gethostbyname2(host: UserStr):
    enter(2, host)


@uretprobe(where("gethostbyname2"))
def leave_gethostbyname2(ret: u64):
    leave(2, "gethostbyname2", 0 if ret else -1)


tool = event_table(
    lookups,
    [
        Col("ts", "TIME", 9, show=clock, align="<"),
        Col("pid", "PID", 7, align="<"),
        Col("comm", "COMM", 16),
        Col("latency_ns", "LATms", 10, show=ms, align=">"),
        Col("host", "HOST"),
    ],
    descendants=True,
)
