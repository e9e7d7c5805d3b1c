# SPDX-License-Identifier: Apache-2.0
"""Show what appears on another terminal, as it appears there."""

from __future__ import annotations

from osmia import Bytes, Col, Comm, Event, Hash, Ring, cast, current, ktime, option, read_user, tracepoint, u32, u64
from osmia.errors import OptionError
from osmia.lang import itself
from osmia.lang.builtins import lost, subprogram
from osmia.lang.drift import loops_are_long
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.lang.itself import is_itself
from osmia.lang.mirror import Mirror
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.tools._fd import file_of
from osmia.tools._show import clock, whole
from osmia.tools._top import noclear
from osmia.tools._tty import is_it, terminal

PIECE = 255  # bytes of an event: each of its fields is there or not
MOST_PIECES, MOST_VECTORS = 258, 16
FEW_PIECES, FEW_VECTORS = 17, 2  # where the verifier walks through every round of a loop
MOST = 65536

device = option("device", type=str, parse=terminal, help="the terminal: its path, or the number of one in /dev/pts")
datasize = option("-s", "--datasize", type=int, default=256, parse=whole, metavar="SIZE",
                  help="with -c: how much of a write is shown, SIZE times COUNT bytes (default: 256)")  # fmt: skip
datacount = option("-c", "--datacount", type=int, default=16, parse=whole, metavar="COUNT", help="see -s (default: 16)")

class Text(Event):
    """A piece of what was written: of the texts those whose length is among the bits of ``size``, longest first."""

    ts: u64
    pid: u32
    tid: u32
    size: u32
    comm: Comm
    _t128: Bytes[128]
    _t64: Bytes[64]
    _t32: Bytes[32]
    _t16: Bytes[16]
    _t8: Bytes[8]
    _t4: Bytes[4]
    _t2: Bytes[2]
    _t1: Bytes[1]


calls = Hash[u32, tuple[u64, u64]]()  # by thread: what it writes to the terminal, and how many vectors that is
texts = Ring(Text)


def enter(fd, where, vectors):
    file = file_of(fd)
    if file and is_it(file) and not is_itself() and wanted():
        calls[current.pid] = where, vectors


@tracepoint("syscalls:sys_enter_write")
def enter_write(call):
    enter(call.fd, u64(call.buf), 0)


@tracepoint("syscalls:sys_enter_writev")
def enter_writev(call):
    enter(call.fd, u64(call.vec), call.vlen)


@subprogram
def send(where: u64, size: u64) -> u64:
    """What the call has written from there; what is behind that may not be there, and is not needed."""
    for piece in range(MOST_PIECES):
        start = piece * PIECE
        if start >= size:
            break
        if piece >= FEW_PIECES and not loops_are_long():
            lost("what is behind the first 4335 bytes of a write")
            break
        with texts.reserve() as e:
            e.ts, e.comm = ktime(), current.comm
            e.pid, e.tid = current_process_id(), current_thread_id()
            e.size = min(size - start, PIECE)
            fill(e, where + start, e.size)
    return size


def fill(e, where, size):
    """Reads of fixed lengths give any length; those whose bit is not in it may fail, and mean nothing.

    Without a branch: older verifiers would walk through all combinations.
    """
    e._t128 = cast(where, "char", user=True)
    e._t64 = cast(where + (size & 128), "char", user=True)
    e._t32 = cast(where + (size & 192), "char", user=True)
    e._t16 = cast(where + (size & 224), "char", user=True)
    e._t8 = cast(where + (size & 240), "char", user=True)
    e._t4 = cast(where + (size & 248), "char", user=True)
    e._t2 = cast(where + (size & 252), "char", user=True)
    e._t1 = cast(where + (size & 254), "char", user=True)


@tracepoint("syscalls:sys_exit_write", "syscalls:sys_exit_writev")
def leave(exit):
    call = calls.pop(current.pid)
    if call is None or exit.ret <= 0:
        return
    where, vectors = call
    left = min(u64(exit.ret), datasize * datacount)
    if not vectors:
        send(where, left)
        return
    for at in range(MOST_VECTORS):
        if at >= vectors or not left:
            break
        if at >= FEW_VECTORS and not loops_are_long():
            lost("what is behind the first pieces of a writev()")
            break
        if at == MOST_VECTORS - 1 and vectors > MOST_VECTORS:
            lost("what is behind the first pieces of a writev()")
        left -= send(read_user(where, u64, 2 * at), min(left, read_user(where, u64, 2 * at + 1)))


def data(e):
    """The bytes."""
    return b"".join([getattr(e, f"_t{n}") for n in (128, 64, 32, 16, 8, 4, 2, 1) if e.size & n])


def prepare():
    import os

    if not device.given:
        raise OptionError("it is not said which terminal", where="ttysnoop", fix="as in: osmia ttysnoop 2")
    size = datasize.value * datacount.value
    if size > MOST:
        raise OptionError(f"{size} bytes of a write are too many", where="ttysnoop",
                          fix=f"at most {MOST}: -s 4096 -c 16")  # fmt: skip
    itself.itself.value = os.getpid()  # or it would show what it shows


tool = Mirror(
    texts,
    [
        Col("ts", "TIME", 9, show=clock, align="<"),
        Col("pid", "PID", 7, align="<"),
        Col("comm", "COMM", 16),
        Col("text", "TEXT", row=lambda e: data(e).decode("utf-8", "surrogateescape")),
    ],
    data=data, noclear=noclear, keep=lambda e: True, prepare=prepare,
)  # fmt: skip
