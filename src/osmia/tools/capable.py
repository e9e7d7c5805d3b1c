# SPDX-License-Identifier: Apache-2.0
"""Trace what the kernel asks of processes: checks of capabilities, and whether they have them."""

from __future__ import annotations

from osmia import (
    Col,
    Hash,
    LruHash,
    Ring,
    Stacks,
    current,
    event_table,
    fentry,
    fexit,
    first_of,
    kprobe,
    kretprobe,
    ktime,
    option,
    raw_tracepoint,
    s32,
    tp_btf,
    u8,
    u32,
    u64,
)  # fmt: skip
from osmia.kernel.caps import NAMES
from osmia.lang import itself
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.lang.itself import is_itself
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.tools import _show
from osmia.tools._checks import UNKNOWN, Callers, Check, Seen
from osmia.tools._pinned import cgroupmap, mntnsmap  # noqa: F401 - options
from osmia.tools._show import clock

verbose = option("-v", "--verbose", help="also show checks that are not for the audit; and what is loaded and attached")
kernel_stack = option("-K", "--kernel-stack", help="show the kernel stack of each check")
user_stack = option("-U", "--user-stack", help="show the user stack of each check")
extra = option("-x", "--extra", help="show the thread, and whether the check was for setting ids (INSETID)")
unique = option("--unique", help="show a capability, with a stack, once per process (with --cgroup: per cgroup)")
result = option("--result", help="show whether the process has the capability: 0, or -1")
denied = option("--denied", help="show checks only that failed")

NOAUDIT, INSETID = 2, 4  # include/linux/security.h, CAP_OPT_*, since 5.1

stacks = Stacks()
callers = Callers(stacks)
asking = Hash[u32, tuple[s32, u32]]()  # thread -> capability and options of the check that it is in
seen = LruHash[Seen, u8](16384)
checks = Ring(Check)


def check(cap, audit, insetid, ret):
    if (not verbose and audit == 0) or (denied and ret == 0) or is_itself() or not wanted():
        return
    # Where the options are not known, the user half takes them from the stack.
    kernel = stacks.kernel() if kernel_stack or audit == UNKNOWN else u32(0)
    user = stacks.user() if user_stack else u32(0)
    who = current.cgroup_id if cgroup else u64(current.tgid)
    if unique:
        key = Seen(who=who, cap=cap, kernel=kernel, user=user)
        if key in seen:
            return
        seen[key] = 1
    with checks.reserve() as e:
        e.ts, e.uid, e.comm, e._who, e.kernel, e.user = ktime(), current.uid, current.comm, who, kernel, user
        e.pid, e.tid = current_process_id(), current_thread_id()
        e.cap, e.audit, e.insetid, e.ret = cap, audit, insetid, ret


@first_of(fentry("cap_capable"), kprobe("cap_capable"))
def asked(cred: u64, namespace: u64, cap: s32, options: u32):
    asking[current.pid] = cap, options


@first_of(fexit("cap_capable"), kretprobe("cap_capable"))
def answered(ret):
    """Before 6.14 there is no tracepoint."""
    call = asking.pop(current.pid)
    if call is not None:
        cap, options = call
        check(cap, 0 if options & NOAUDIT else 1, 1 if options & INSETID else 0, ret)


@first_of(tp_btf("cap_capable", optional=True), raw_tracepoint("cap_capable", optional=True))
def event(cred, namespace, owner, cap, ret):
    """Within the function; with its options, if it can be traced as well."""
    call = asking.pop(current.pid)
    if call is None:
        check(cap, UNKNOWN, UNKNOWN, ret)
    else:
        _, options = call
        check(cap, 0 if options & NOAUDIT else 1, 1 if options & INSETID else 0, ret)


shown: dict[tuple[int, int, int, int], int] = {}


def keep(e):
    """What the kernel half could not know; the same answer each time that it is asked."""
    found = callers.options(e.kernel) if e.audit == UNKNOWN and not _show.REPLAYED else None
    if found is not None:
        e.audit, e.insetid = found
        if not verbose and not e.audit:
            return False
    e.kernel = e.kernel if kernel_stack else 0
    return not unique or shown.setdefault((e._who, e.cap, e.kernel, e.user), e.ts) == e.ts


def known(flag):
    return "N/A" if flag == UNKNOWN else str(flag)


def prepare():
    import os

    from osmia.kernel import features, tracefs

    there = tracefs.exists("capability", "cap_capable")
    event.enabled = asked.optional = there
    answered.enabled = not there
    # Where there is neither, or that cannot be told, stacks are as good.
    asked.enabled = not there or bool(features.has("fentry") or features.has("kprobe"))
    itself.itself.value = os.getpid()
    tool.view = "osmia.cli.with_stacks:EventsWithStacks" if kernel_stack or user_stack else ""


tool = event_table(
    checks,
    [
        Col("ts", "TIME", 9, show=clock, align="<"),
        Col("uid", "UID", 6, align="<"),
        Col("pid", "PID", 6, align="<"),
        Col("tid", "TID", 6, align="<", when=extra),
        Col("comm", "COMM", 16),
        Col("cap", "CAP", 4, align="<"),
        Col("name", "NAME", 20, row=lambda e: NAMES[e.cap] if 0 <= e.cap < len(NAMES) else "?"),
        Col("audit", "AUDIT", 6, show=known, align="<"),
        Col("insetid", "INSETID", 7, show=known, align="<", when=extra),
        Col("ret", "RESULT", align="<", when=lambda: result or denied),
    ],
    stacks=stacks,
    keep=keep,
    prepare=prepare,
)
