# SPDX-License-Identifier: Apache-2.0
"""Show what programs receive through sockets of the UNIX domain."""

from __future__ import annotations

from osmia import Col, FixedArray, Hash, Ring, cast, current, event_table, ktime, option, read_user, tracepoint
from osmia.lang.filters import cgroup, name, pid, tid, uid, wanted  # noqa: F401 - options
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.lang.types import Comm, Event, User, u8, u32, u64
from osmia.tools._fd import S_IFSOCK, file_of, kind_of
from osmia.tools._show import clock

hexdump = option("--hexdump", help="show all bytes in hexadecimal")

AF_UNIX, MSG_PEEK = 1, 2  # include/linux/socket.h
MOST = 512  # bytes that are shown, as in bcc's tool

UserChar = User["char"]


class Call(Event):
    """A call that receives: where to, or the address of the vectors that say it."""

    buffer: UserChar
    vectors: UserChar


class Packet(Event):
    """What one call has received."""

    ts: u64
    size: u64
    pid: u32
    tid: u32
    comm: Comm
    _there: u64  # how much of it is in _words
    _words: FixedArray[u64, 64]


calls = Hash[u32, Call](16384)  # by thread
packets = Ring(Packet)


def begin(fd, buffer, vectors):
    if not wanted():
        return
    file = file_of(fd)
    if kind_of(file) != S_IFSOCK:
        return
    if cast(file.private_data, "struct socket").sk.__sk_common.skc_family == AF_UNIX:
        calls[current.pid] = Call(buffer=buffer, vectors=vectors)


@tracepoint("syscalls:sys_exit_read", "syscalls:sys_exit_readv", "syscalls:sys_exit_recvfrom",
            "syscalls:sys_exit_recvmsg")  # fmt: skip
def leave(call):
    asked = calls.get(current.pid)
    if asked is None:
        return
    if call.ret > 0:
        received(asked, call.ret)
    del calls[current.pid]


def received(asked, size):
    buffer, there = asked.buffer, min(size, MOST)
    if asked.vectors:  # struct iovec: address and length; the first one only
        buffer = cast(read_user(asked.vectors, u64), "char", user=True)
        there = min(there, read_user(asked.vectors, u64, 1))
    with packets.reserve() as e:
        e.ts, e.size, e.pid, e.tid, e.comm = ktime(), size, current_process_id(), current_thread_id(), current.comm
        e._there = there
        for i in range(MOST // 8):
            if 8 * i >= there:
                break
            e._words[i] = read_user(buffer, u64, i) if 8 * i + 8 <= there else rest(buffer, 8 * i, there)


def rest(buffer, first, end):
    """The last bytes, which are less than a word: what is behind them may not be there."""
    word = u64(0)
    for j in range(8):
        if first + j < end:
            word |= read_user(buffer, u8, first + j) << 8 * j
    return word


@tracepoint("syscalls:sys_enter_read")
def enter_read(call):
    begin(call.fd, call.buf, 0)


@tracepoint("syscalls:sys_enter_readv")
def enter_readv(call):
    begin(call.fd, 0, call.vec)


@tracepoint("syscalls:sys_enter_recvfrom")
def enter_recvfrom(call):
    if not call.flags & MSG_PEEK:
        begin(call.fd, call.ubuf, 0)


@tracepoint("syscalls:sys_enter_recvmsg")
def enter_recvmsg(call):
    if not call.flags & MSG_PEEK:
        begin(call.fd, 0, cast(read_user(call.msg, u64, 2), "char", user=True))  # struct user_msghdr: msg_iov


def data(e):
    """The bytes as text; a mark where there were more."""
    raw = b"".join(word.to_bytes(8, "little") for word in e._words)[: e._there]
    if hexdump:
        text = raw.hex(" ")
    else:
        text = "".join(chr(one) if 32 <= one < 127 and one != 92 else f"\\x{one:02x}" for one in raw)
    return text + ("..." if e.size > e._there else "")


tool = event_table(
    packets,
    [
        Col("ts", "TIME", 8, show=clock, align="<"),
        Col("comm", "COMM", 16),
        Col("pid", "PID", 8, align="<"),
        Col("size", "SIZE", 8, align="<"),
        Col("data", "DATA", row=data),
    ],
    keep=lambda _: True,  # so that data() has all fields
    banner="Dump UNIX socket packages RX. Ctrl-C to end",
)
