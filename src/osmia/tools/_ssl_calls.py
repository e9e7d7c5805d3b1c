# SPDX-License-Identifier: Apache-2.0
"""Calls of libraries that encrypt, until they return: which are traced, whose, and what they were given."""

from __future__ import annotations

from osmia import Hash, current, ktime, option, uprobe
from osmia.errors import OptionError
from osmia.kernel.named import user_number
from osmia.lang.filters import wanted
from osmia.lang.options import Computed
from osmia.lang.types import Str, User, u32, u64
from osmia.tools._ssl import HANDSHAKE, KINDS, READ, READ_EX, WRITE, WRITE_EX, library, within

uid = option("-u", "--uid", type=int, default=-1, parse=user_number, metavar="USER", help="this user only (name or id)")
comm = option("-c", "--comm", type=Str.of(16), metavar="COMM", help="only threads of exactly this name")
no_openssl = option("-o", "--no-openssl", help="leave OpenSSL out")
no_gnutls = option("-g", "--no-gnutls", help="leave GnuTLS out")
no_nss = option("-n", "--no-nss", help="leave NSS out")
extra_lib = option("--extra-lib", type=list, parse=library, metavar="KIND:FILE",
                   help="one more library: openssl, gnutls or nss, and its path (may be repeated)")  # fmt: skip
handshake = option("--handshake", help="show handshakes, too (OpenSSL's)")


def places(*which):
    """``FILE:FUNCTION`` of the functions that do one of ``which``, in all libraries that are asked for."""
    left_out = {"openssl": no_openssl, "gnutls": no_gnutls, "nss": no_nss}
    files = [(kind, KINDS[kind][0]) for kind, out in left_out.items() if not out]
    asked = [what for what in which if what != HANDSHAKE or handshake]
    return ",".join([one for kind, file in (*files, *(extra_lib.value or ())) for one in within(kind, file, asked)])


def where(*which):
    """For a hook: the functions that do one of ``which``."""
    return Computed("--extra-lib", lambda: places(*which), type=str)


def check():
    """Whether anything is left to be probed; OptionError."""
    if not places(READ, WRITE):
        raise OptionError("no library is left", where="sslsniff", fix="give fewer of -o, -g and -n, or --extra-lib")


UserPtr = User["char"]

#: By thread: its calls under way, which may be in each other (a connection through a proxy, both with TLS).
depths = Hash[u32, u32](16384)
#: By thread and number of the call, 0 for the outermost: since when, what it does, the bytes, where it says how many.
calls = Hash[tuple[u32, u32], tuple[u64, u32, UserPtr, u64]](32768)


def begin(what, buffer, size_at):
    """A call begins; ``size_at`` is where it will say how many bytes it was, 0: it returns that."""
    if (uid < 0 or current.uid == uid) and (not comm or current.comm == comm) and wanted():
        thread = current.pid
        depth = depths[thread]
        calls[thread, depth] = ktime(), what, buffer, size_at
        depths[thread] = depth + 1


def end():
    """The innermost call of the thread is over: what is known of it; None where that began before the trace."""
    thread = current.pid
    depth = depths.get(thread)
    if depth is None:
        return None
    if depth > 1:
        depths[thread] = depth - 1
    else:
        del depths[thread]
    return calls.pop((thread, depth - 1))


@uprobe(where(WRITE), optional=True)
def enter_write(connection, buffer: UserPtr):
    begin(WRITE, buffer, 0)


@uprobe(where(READ), optional=True)
def enter_read(connection, buffer: UserPtr):
    begin(READ, buffer, 0)


@uprobe(where(WRITE_EX), optional=True)
def enter_write_ex(connection, buffer: UserPtr, size, written):
    begin(WRITE, buffer, written)


@uprobe(where(READ_EX), optional=True)
def enter_read_ex(connection, buffer: UserPtr, size, read):
    begin(READ, buffer, read)


@uprobe(where(HANDSHAKE), optional=True)
def enter_handshake(connection: UserPtr):
    begin(HANDSHAKE, connection, 0)


entries = enter_write, enter_read, enter_write_ex, enter_read_ex, enter_handshake
