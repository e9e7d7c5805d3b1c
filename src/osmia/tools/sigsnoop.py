# SPDX-License-Identifier: Apache-2.0
"""Trace all signals, also those of the kernel: from whom, to whom, and whether they arrive."""

from __future__ import annotations

from osmia import Col, Hash, Ring, current, event_table, first_of, ktime, option, raw_tracepoint, tp_btf, tracepoint
from osmia.lang import filters
from osmia.lang.filters import cgroup, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id, current_thread_id, process_id, thread_id
from osmia.lang.types import Comm, Event, Str, s32, u32, u64
from osmia.tools._show import clock
from osmia.tools._signals import signal_mask, signal_name

failed = option("-x", "--failed", help="show only signals that did not arrive, or with -k calls that failed")
kill_only = option("-k", "--kill", help="trace calls of kill(), tkill() and tgkill() only, with what they return")
names = option("-n", "--name", help="show signals by name")
signals = option("-s", "--signal", type=u64, parse=signal_mask, metavar="SIGNALS",
                 help="show these signals only (9, or 9,15, or KILL,TERM)")  # fmt: skip
tpid = option("-T", "--tpid", type=int, metavar="PID", help="show signals to this process only")
comm = option("--comm", type=Str.of(16), metavar="NAME", help="only senders whose name contains NAME")

SI_USER, SI_KERNEL = 0, 0x80  # include/uapi/asm-generic/siginfo.h
#: What became of a signal: include/trace/events/signal.h, the same in every kernel since 3.3.
RESULTS = ("0", "ignored", "pending", "overflow", "info lost")


class Signal(Event):
    """A signal, or a call: ``tpid`` and ``ttid`` are who gets it, ``ret`` what became of it, ``code`` its si_code."""

    ts: u64
    pid: u32
    tid: u32
    sig: s32
    tpid: s32
    ttid: s32
    ret: s32
    code: s32
    comm: Comm
    tcomm: Comm


class Call(Event):
    """What a thread asked for, until the call returns; ``tcomm`` is known when there is a receiver."""

    sig: s32
    tpid: s32
    ttid: s32
    tcomm: Comm


calls = Hash[u32, Call]()  # by thread
sent = Ring(Signal)


def chosen(sig, target):
    if tpid and target != tpid:
        return False
    return not (signals and not (1 <= sig <= 64 and signals >> (sig - 1) & 1))


@first_of(tp_btf("signal_generate"), raw_tracepoint("signal_generate"))
def generate(sig, info, task, group, result):
    if kill_only:
        call = calls.get(current.pid)
        if call is not None and call.sig == sig:
            call.tcomm = task.comm
        return
    target = process_id(task)
    if (failed and not result) or not chosen(sig, target) or not wanted():
        return
    with sent.reserve() as e:
        e.ts, e.sig, e.tpid, e.ttid, e.ret = ktime(), sig, target, thread_id(task), result
        e.pid, e.tid = current_process_id(), current_thread_id()
        e.comm, e.tcomm = current.comm, task.comm
        where = u64(info)
        # No structure: SEND_SIG_NOINFO and SEND_SIG_PRIV of include/linux/sched/signal.h.
        e.code = (SI_KERNEL if where else SI_USER) if where <= 1 else info.si_code


def enter(target, thread, sig):
    if chosen(sig, target) and wanted():
        calls[current.pid] = Call(sig=sig, tpid=target, ttid=thread)


@tracepoint("syscalls:sys_enter_kill")
def enter_kill(call):
    enter(call.pid, call.pid, call.sig)


@tracepoint("syscalls:sys_enter_tkill")
def enter_tkill(call):
    enter(call.pid, call.pid, call.sig)


@tracepoint("syscalls:sys_enter_tgkill")
def enter_tgkill(call):
    enter(call.tgid, call.pid, call.sig)


@tracepoint("syscalls:sys_exit_kill", "syscalls:sys_exit_tkill", "syscalls:sys_exit_tgkill")
def leave(exit):
    call = calls.get(current.pid)
    if call is None:
        return
    if not failed or exit.ret < 0:
        with sent.reserve() as e:
            e.ts, e.sig, e.tpid, e.ttid, e.ret, e.code = ktime(), call.sig, call.tpid, call.ttid, exit.ret, SI_USER
            e.pid, e.tid = current_process_id(), current_thread_id()
            e.comm, e.tcomm = current.comm, call.tcomm
    del calls[current.pid]


def signal(number):
    """As libbpf-tools' sigsnoop shows it: by name only the standard ones have one."""
    if not names:
        return str(number)
    return "N/A" if not number else f"SIG{signal_name(number)}" if number < 32 else f"SIGNAL-{number}"


def result(number):
    return str(number) if kill_only or not 0 <= number < len(RESULTS) else RESULTS[number]


def prepare():
    filters.name.value = comm.value  # the filter that others have as -n
    for prog in (enter_kill, enter_tkill, enter_tgkill, leave):
        prog.enabled = bool(kill_only)


tool = event_table(
    sent,
    [
        Col("ts", "TIME", 8, show=clock, align="<"),
        Col("pid", "PID", 7, align="<"),
        Col("comm", "COMM", 16),
        Col("sig", "SIG", 12, show=signal, align="<"),
        Col("tpid", "TPID", 7, align="<"),
        Col("tcomm", "TCOMM", 16, show=lambda name: name or "N/A"),
        Col("ret", "RESULT", show=result, align="<"),
    ],
    prepare=prepare,
)
