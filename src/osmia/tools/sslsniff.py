# SPDX-License-Identifier: Apache-2.0
"""Show what programs write and read through OpenSSL, GnuTLS and NSS, as it is without encryption."""

from __future__ import annotations

from osmia import Col, Comm, Data, Event, Ring, current, event_table, ktime, option, read_user, uretprobe
from osmia.lang.filters import cgroup, pid, tid  # noqa: F401 - options
from osmia.lang.pidns import current_process_id, current_thread_id
from osmia.lang.types import s32, u32, u64
from osmia.tools import _payload, _ssl_calls
from osmia.tools._show import elapsed
from osmia.tools._ssl import FUNCTIONS, HANDSHAKE, READ, READ_EX, WRITE, WRITE_EX
from osmia.tools._ssl_calls import comm, end, extra_lib, handshake, no_gnutls, no_nss, no_openssl, uid, where  # noqa: F401

extra = option("-x", "--extra", help="show the user's id and the thread, too")
hexdump = option("--hexdump", help="show bytes in hexadecimal")
most = option("--max-buffer-size", type=u64, default=8192, parse=_payload.at_most, metavar="SIZE",
              help=f"bytes that are shown of a message, at most {_payload.MOST} (default: 8192)")  # fmt: skip
latency = option("-l", "--latency", help="show how long each call took")


class Message(Event):
    """What one call has written or read: ``size`` bytes, ``lost`` of which are not there."""

    ts: u64
    latency_ns: u64
    size: u64
    lost: u64
    pid: u32
    tid: u32
    uid: u32
    _what: u32
    comm: Comm
    _data: Data[_payload.MOST]


messages = Ring(Message, 16 << 20)


@uretprobe(where(READ, WRITE, READ_EX, WRITE_EX, HANDSHAKE))
def leave(ret: s32):
    call = end()
    if call is None or ret <= 0:
        return
    since, what, buffer, size_at = call
    there = u64(0) if what == HANDSHAKE else read_user(size_at, u64) if size_at else u64(ret)
    with messages.reserve() as e:
        e.tid, e.ts, e.uid, e.comm, e._what = current_thread_id(), ktime(), current.uid, current.comm, what
        e.pid, e.latency_ns, e.size = current_process_id(), e.ts - since, there
        e.lost = there - e._data.read(buffer, min(there, most))


entries = _ssl_calls.entries  # attached behind the return: a call that begins in between is not seen at all
tool = event_table(messages, [
    Col("func", "FUNC", 12, row=lambda e: FUNCTIONS[e._what]),
    Col("ts", "TIME(s)", 18, show=elapsed(9, from_first=True), align="<"),
    Col("comm", "COMM", 16),
    Col("pid", "PID", 7, align="<"),
    Col("size", "LEN", 6, align="<"),
    Col("uid", "UID", 7, when=extra, align="<"),
    Col("tid", "TID", 7, when=extra, align="<"),
    Col("latency_ns", "LAT(ms)", 7, show=lambda ns: f"{ns / 1e6:.3f}", when=latency, align="<"),
    Col("lost", "LOST", below=lambda e: ()),  # for people the block says it
    Col("data", "DATA", row=lambda e: e._data, show=_payload.shown(hexdump), below=_payload.block(hexdump)),
    Col("hex", row=lambda e: _payload.exact(e._data), when=False),
], descendants=True, prepare=_ssl_calls.check)  # fmt: skip
