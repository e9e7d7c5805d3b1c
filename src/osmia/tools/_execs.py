# SPDX-License-Identifier: Apache-2.0
"""Kernel half of execsnoop: what threads ask exec() for, until it fails or the new program is there; its arguments."""

from __future__ import annotations

from osmia.kernel.named import user_number
from osmia.lang.builtins import cast, current, read_user
from osmia.lang.drift import loops_are_long
from osmia.lang.filters import wanted
from osmia.lang.maps import Hash
from osmia.lang.options import option
from osmia.lang.probes import tracepoint
from osmia.lang.types import Event, User, u32, u64

FEW = 128  # arguments read where the verifier walks through each round
MOST = 2048  # arguments looked at; the kernel's own limit is by bytes only

uid = option("-u", "--uid", type=int, default=-1, parse=user_number, metavar="USER", help="this user only (name or id)")
max_args = option("--max-args", type=int, default=MOST, metavar="N", help="show N arguments at most (default: all)")

UserStr = User["char"]


class Call(Event):
    """What a thread asked for, until the call fails or the new program is in place."""

    filename: UserStr
    argv: u64  # address of the strings' addresses
    argc: u32


calls = Hash[u32, Call]()  # by thread


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
