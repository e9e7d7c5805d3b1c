# SPDX-License-Identifier: Apache-2.0
"""Kernel half: registers and stack of a program, copied, for whoever can unwind without frame pointers (x86-64).

:mod:`osmia.symbols.unwind` follows the rules of ``.eh_frame`` on such a copy.
It is some hundred times as much to send as a counted stack, so it is for
processes that are chosen, at a moderate rate.

A tool that counts something else than samples knows how much only later, when
the thread's memory is perhaps out of reach: it keeps the copy in a map of its
own (:func:`keep_copy`), and sends it from there (:func:`send_copy`).
"""

from __future__ import annotations

from osmia.lang.builtins import cast, current, exists, ktime, sizeof
from osmia.lang.maps import Array, Ring
from osmia.lang.types import Bytes, Comm, Event, KStruct, u32, u64

__all__ = ["Copy", "blank", "copies", "copy_stack", "keep_copy", "send_copy", "user_registers"]

#: Bytes of a kernel stack, at whose upper end the registers lie that the program had (x86-64 without KASAN).
THREAD_SIZE = 16384
#: Above them nothing, or two words on kernels with FRED (2cce95918d63, "x86/fred: Add Kconfig option", 6.9).
FRED_PADDING = 16
USER64 = 0x33  # __USER_CS, arch/x86/include/asm/segment.h: 64-bit code of a program
PIECE, PIECES = 1024, 8


class pt_regs___x86(KStruct):
    """Registers as the kernel saves them on x86-64."""

    bx: u64
    bp: u64
    ip: u64
    cs: u64
    sp: u64


class Copy(Event):
    """A sample: who, the kernel's stack, registers, and the stack from ``sp`` up, in pieces of which some may be 0.

    ``at`` is when it was sent (``ktime()``), ``weight`` what it counts.
    """

    since: u64
    at: u64
    weight: u64
    pid: u32
    tid: u32
    kernel: u32
    ip: u64
    sp: u64
    bp: u64
    bx: u64
    comm: Comm
    s0: Bytes[1024]
    s1: Bytes[1024]
    s2: Bytes[1024]
    s3: Bytes[1024]
    s4: Bytes[1024]
    s5: Bytes[1024]
    s6: Bytes[1024]
    s7: Bytes[1024]


copies = Ring(Copy, 4096)  # larger where it is wanted: some hundred copies
blank = Array[Copy](1)  # what a kept copy begins as: it is too large for a program's own memory


def registers_below(padding):
    return cast(u64(current.task.stack) + THREAD_SIZE - padding - sizeof("struct pt_regs"), pt_regs___x86)


def user_registers():
    """The registers that the current thread had as a program; None in threads of the kernel, and on other machines."""
    regs = registers_below(0)
    if exists(regs.cs):
        if regs.cs == USER64:
            return regs
        regs = registers_below(FRED_PADDING)
        if regs.cs == USER64:
            return regs
    return None


def piece(sp, number):
    return cast(sp + PIECE * number, "char", user=True)


def copy_stack(e, regs):
    """Fill in registers and stack of the event ``e``; what is not there (beyond the stack's begin) stays zero."""
    sp = regs.sp
    e.ip, e.sp, e.bp, e.bx = regs.ip, sp, regs.bp, regs.bx
    e.s0, e.s1, e.s2, e.s3 = piece(sp, 0), piece(sp, 1), piece(sp, 2), piece(sp, 3)
    e.s4, e.s5, e.s6, e.s7 = piece(sp, 4), piece(sp, 5), piece(sp, 6), piece(sp, 7)


def keep_copy(kept, thread, regs):
    """A copy of the current stack as ``kept[thread]``, without anything else in it; None where there is no room."""
    nothing = blank.get(0)
    if nothing is not None:
        kept[thread] = nothing
    e = kept.get(thread)
    if e is not None:
        copy_stack(e, regs)
    return e


def send_copy(one, weight):
    """Send a copy that was kept."""
    with copies.reserve() as e:
        e.since, e.at, e.weight, e.kernel = one.since, ktime(), weight, one.kernel
        e.pid, e.tid, e.comm = one.pid, one.tid, one.comm
        e.ip, e.sp, e.bp, e.bx = one.ip, one.sp, one.bp, one.bx
        e.s0, e.s1, e.s2, e.s3 = one.s0, one.s1, one.s2, one.s3
        e.s4, e.s5, e.s6, e.s7 = one.s4, one.s5, one.s6, one.s7
