# SPDX-License-Identifier: Apache-2.0
"""Trace new programs: exec() system calls with all their arguments."""

from __future__ import annotations

from osmia import Col, Ring, event_table, first_of, option, raw_tracepoint, tp_btf, tracepoint
from osmia.kernel.named import process_number
from osmia.lang.builtins import cpu, current, ktime, read_user
from osmia.lang.filters import cgroup, pid  # noqa: F401 - options
from osmia.lang.pidns import current_process_id, is_process, process_id
from osmia.lang.types import Comm, Event, Strs, s32, u32, u64
from osmia.tools._execs import add_args, calls, enter_execve, enter_execveat, max_args, uid  # noqa: F401 - programs
from osmia.tools._pinned import cgroupmap, mntnsmap  # noqa: F401 - options
from osmia.tools._show import clock, elapsed, pattern

time = option("-T", "--time", help="show the time of day (HH:MM:SS)")
timestamp = option("-t", "--timestamp", help="show the time in seconds since the start")
fails = option("-x", "--fails", help="show failed exec()s too")
quote = option("-q", "--quote", help='put quotation marks (") around each argument')
name = option("-n", "--name", type=str, parse=pattern, help="show matching commands only (regular expression)")
line = option("-l", "--line", type=str, parse=pattern, help="show matching command lines only (regular expression)")
print_uid = option("-U", "--print-uid", help="show the user's id")
print_cpu = option("-C", "--print-cpu", help="show the CPU")
print_pcomm = option("-M", "--print-pcomm", help="show the parent's command")
ppid = option("-P", "--ppid", type=int, parse=process_number, metavar="PPID",
              help="trace children of this process only")  # fmt: skip

class Exec(Event):
    """One exec().  ``args``: the file, then the arguments from argv[1] on."""

    ts: u64
    pid: u32
    ppid: u32
    uid: u32
    cpu: u32
    ret: s32
    comm: Comm
    pcomm: Comm
    args: Strs[28000, 4096]


execs = Ring(Exec)


def fill(e, ret):
    """What a row holds besides its arguments."""
    parent = current.task.real_parent
    e.ts, e.pid, e.ppid, e.uid, e.cpu = ktime(), current_process_id(), process_id(parent), current.uid, cpu()
    e.ret, e.comm, e.pcomm = ret, current.comm, parent.comm


@first_of(tp_btf("sched_process_exec"), raw_tracepoint("sched_process_exec"))
def success(task, old_pid, bprm):
    """The new program is in place and its arguments lie on its own stack: resident, and all of them."""
    call = calls.get(old_pid)
    if call is not None:
        if not ppid or is_process(task.real_parent, ppid):
            send_new(call.argc, task, bprm)
        del calls[old_pid]


def send_new(argc, task, bprm):
    # A script's interpreter (and its one argument) were put before what the caller gave.
    extra = bprm.argc - argc
    first = extra + 1 if 0 <= extra <= 10 else 1
    # The stack begins with argc and the addresses of the strings, in words of the program's size.
    stack = task.mm.start_stack
    size = 8 if read_user(stack, u64) == bprm.argc else 4
    with execs.reserve() as e:
        fill(e, 0)
        e.args.add(bprm.filename)
        add_args(e.args, stack + size, size, first, bprm.argc)


def failure(ret):
    call = calls.get(current.pid)
    if call is not None:
        if fails and (not ppid or is_process(current.task.real_parent, ppid)):
            with execs.reserve() as e:
                fill(e, ret)
                e.args.add(call.filename)
                add_args(e.args, call.argv, 8, 1, call.argc)
        del calls[current.pid]


@tracepoint("syscalls:sys_exit_execve")
def leave_execve(call):
    failure(call.ret)


@tracepoint("syscalls:sys_exit_execveat")
def leave_execveat(call):
    failure(call.ret)


def command(e):
    """The command line as one text."""
    args = ['"' + arg.replace('"', '\\"') + '"' for arg in e.args] if quote else e.args
    return " ".join(args) + (" ..." if e.args.truncated else "")


def keep(e):
    """-n and -l."""
    import re

    return (not name or re.search(str(name), e.comm)) and (not line or re.search(str(line), " ".join(e.args)))


tool = event_table(
    execs,
    [
        Col("ts", "TIME", 9, show=clock, when=time, align="<"),
        Col("ts", "TIME(s)", 8, show=elapsed(3), when=timestamp, align="<"),
        Col("uid", "UID", 6, when=print_uid, align="<"),
        Col("comm", "COMM", 16),
        Col("pid", "PID", 7, align="<"),
        Col("pcomm", "PCOMM", 16, when=print_pcomm),
        Col("ppid", "PPID", 7, align="<"),
        Col("cpu", "CPU", 4, when=print_cpu, align="<"),
        Col("ret", "RET", 3),
        Col("args", "ARGS", row=command),
    ],
    keep=keep,
)
