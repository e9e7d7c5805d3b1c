# SPDX-License-Identifier: Apache-2.0
"""Trace the calls by which processes become another user: setuid() and its family."""

from __future__ import annotations

from osmia import Col, Comm, Event, Hash, Ring, current, event_table, ktime, option, s32, tracepoint, u32, u64
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.tools._show import clock

failed = option("-x", "--failed", help="show failed calls only")
changes = option("--changes", help="show calls only that change the user or the effective user")

AS_IS = 0xFFFFFFFF  # what -1 is among users
SETUID, SETREUID, SETRESUID, SETFSUID = range(4)
CALLS = ("setuid", "setreuid", "setresuid", "setfsuid")
#: Names of the arguments, as bpftrace's setuids has them.
ARGUMENTS = (("uid",), ("ruid", "euid"), ("ruid", "euid", "suid"), ("uid",))


class Call(Event):
    """One call: who asks (``uid``, ``euid``), the arguments (AS_IS: no change), and who it is afterwards."""

    ts: u64
    pid: u32
    tid: u32
    uid: u32
    euid: u32
    call: u32
    arg0: u32
    arg1: u32
    arg2: u32
    ret: s32
    new_uid: u32
    new_euid: u32
    comm: Comm


calls = Hash[u32, Call]()  # by thread, until the call returns
done = Ring(Call)


def enter(call, first, second, third):
    if wanted():
        calls[current.pid] = Call(pid=current_process_id(), tid=current_thread_id(), uid=current.uid, call=call,
                                  euid=current.task.cred.euid.val, arg0=first, arg1=second, arg2=third,
                                  comm=current.comm)  # fmt: skip


@tracepoint("syscalls:sys_enter_setuid")
def enter_setuid(call):
    enter(SETUID, call.uid, 0, 0)


@tracepoint("syscalls:sys_enter_setreuid")
def enter_setreuid(call):
    enter(SETREUID, call.ruid, call.euid, 0)


@tracepoint("syscalls:sys_enter_setresuid")
def enter_setresuid(call):
    enter(SETRESUID, call.ruid, call.euid, call.suid)


@tracepoint("syscalls:sys_enter_setfsuid")
def enter_setfsuid(call):
    enter(SETFSUID, call.uid, 0, 0)


@tracepoint("syscalls:sys_exit_setuid", "syscalls:sys_exit_setreuid", "syscalls:sys_exit_setresuid",
            "syscalls:sys_exit_setfsuid")  # fmt: skip
def leave(exit):
    call = calls.get(current.pid)
    if call is None:
        return
    now, effective = current.uid, current.task.cred.euid.val
    if not (failed and exit.ret >= 0) and not (changes and call.uid == now and call.euid == effective):
        with done.reserve() as e:
            e.ts, e.pid, e.tid, e.comm, e.call, e.ret = ktime(), call.pid, call.tid, call.comm, call.call, exit.ret
            e.uid, e.euid, e.new_uid, e.new_euid = call.uid, call.euid, now, effective
            e.arg0, e.arg1, e.arg2 = call.arg0, call.arg1, call.arg2
    del calls[current.pid]


def arguments(e):
    """As they were given, and the result; setfsuid() returns the user that there was and never fails."""
    values = [-1 if value == AS_IS else value for value in (e.arg0, e.arg1, e.arg2)]
    given = " ".join([f"{word}={value}" for word, value in zip(ARGUMENTS[e.call], values, strict=False)])
    return f"{given} (prevuid={e.ret & AS_IS})" if e.call == SETFSUID else f"{given} ({e.ret})"


tool = event_table(
    done,
    [
        Col("ts", "TIME", 8, show=clock, align="<"),
        Col("pid", "PID", 6, align="<"),
        Col("comm", "COMM", 16),
        Col("uid", "UID", 6, align="<"),
        Col("syscall", "SYSCALL", 9, row=lambda e: CALLS[e.call]),
        Col("args", "ARGS (RET)", row=arguments),
    ],
    banner="Tracing setuid(2) family syscalls. Hit Ctrl-C to end.",
)
