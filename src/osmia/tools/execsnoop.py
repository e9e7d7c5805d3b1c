# SPDX-License-Identifier: Apache-2.0
"""Trace new programs: exec() system calls with all their arguments."""

from __future__ import annotations

from osmia import Col, Hash, Ring, event_table, first_of, option, raw_tracepoint, tp_btf, tracepoint
from osmia.kernel.named import process_number, user_number
from osmia.lang.builtins import cast, cpu, current, ktime, read_user
from osmia.lang.drift import loops_are_long
from osmia.lang.filters import cgroup, pid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id, is_process, process_id
from osmia.lang.types import Comm, Event, Strs, User, s32, u32, u64
from osmia.tools._show import clock, elapsed, pattern, refused

FEW = 128  # arguments read where the verifier walks through each round
MOST = 2048  # arguments looked at; the kernel's own limit is by bytes only

time = option("-T", "--time", help="show the time of day (HH:MM:SS)")
timestamp = option("-t", "--timestamp", help="show the time in seconds since the start")
fails = option("-x", "--fails", help="show failed exec()s too")
uid = option("-u", "--uid", type=int, default=-1, parse=user_number, metavar="USER", help="this user only (name or id)")
quote = option("-q", "--quote", help='put quotation marks (") around each argument')
name = option("-n", "--name", type=str, parse=pattern, help="show matching commands only (regular expression)")
line = option("-l", "--line", type=str, parse=pattern, help="show matching command lines only (regular expression)")
print_uid = option("-U", "--print-uid", help="show the user's id")
print_cpu = option("-C", "--print-cpu", help="show the CPU")
print_pcomm = option("-M", "--print-pcomm", help="show the parent's command")
max_args = option("--max-args", type=int, default=MOST, metavar="N", help="show N arguments at most (default: all)")
ppid = option("-P", "--ppid", type=int, parse=process_number, metavar="PPID",
              help="trace children of this process only")  # fmt: skip
cgroupmap = option("--cgroupmap", type=str, parse=refused("--cgroupmap", "use --cgroup PATH"),
                   help="not here: use --cgroup PATH")  # fmt: skip
mntnsmap = option("--mntnsmap", type=str, parse=refused("--mntnsmap", "use --cgroup PATH"),
                  help="not here: use --cgroup PATH")  # fmt: skip

UserStr = User["char"]


class Call(Event):
    """What a thread asked for, until the call fails or the new program is in place."""

    filename: UserStr
    argv: u64  # address of the strings' addresses
    argc: u32


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


calls = Hash[u32, Call]()  # by thread
execs = Ring(Exec)


def enter(filename, argv):
    if wanted() and (uid < 0 or current.uid == uid):
        argc = 0
        for i in range(MOST):
            if read_user(argv, u64, i) == 0:
                break
            argc = i + 1
        calls[current.pid] = Call(filename=filename, argv=argv, argc=argc)


@tracepoint("syscalls:sys_enter_execve")
def enter_execve(call):
    enter(call.filename, call.argv)


@tracepoint("syscalls:sys_enter_execveat")
def enter_execveat(call):
    enter(call.filename, call.argv)


def fill(e, ret):
    """What a row holds besides its arguments."""
    parent = current.task.real_parent
    e.ts, e.pid, e.ppid, e.uid, e.cpu = ktime(), current_process_id(), process_id(parent), current.uid, cpu()
    e.ret, e.comm, e.pcomm = ret, current.comm, parent.comm


def add_args(args, words, size, first, end):
    """Append the strings ``first`` to ``end`` - 1 of the user's array ``words`` of addresses of ``size`` bytes."""
    for i in range(MOST):
        if first + i >= end:
            return
        if i >= max_args - 1 or (i >= FEW and not loops_are_long()):
            break
        address = read_user(words, u64, first + i) if size == 8 else read_user(words, u32, first + i)
        args.add(cast(address, "char", user=True))
    args.truncate()


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
