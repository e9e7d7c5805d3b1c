# SPDX-License-Identifier: Apache-2.0
"""Shared by the tools that say whose a TCP socket is: who connected, accepted or listens, not who runs by chance.

Most changes of a socket's state happen when a packet comes in, on top of whatever runs then.  Four of them are
made by system calls of the owner, and ``accept()`` gives a connection its owner; these are remembered by socket.
"""

from __future__ import annotations

from osmia.lang.builtins import current
from osmia.lang.filters import limited, wanted
from osmia.lang.maps import Hash
from osmia.lang.pidns import current_process_id
from osmia.lang.probes import tracepoint
from osmia.lang.types import Comm, Event, u32, u64
from osmia.tools._sockets import SockPtr, socket_of
from osmia.tools._tcp import CLOSE, CLOSE_WAIT, ESTABLISHED, FIN_WAIT1, LAST_ACK, LISTEN, SYN_SENT


class Sock(Event):
    """A socket: a time, its owner (``pid`` 0: not known), and whether the filters want that owner."""

    since: u64
    pid: u32
    wanted: u32
    active: u32
    comm: Comm


socks = Hash[SockPtr, Sock](65536)


def begin(sk, since):
    """Remember a socket whose owner is not known yet."""
    socks[sk] = Sock(since=since, pid=0, wanted=0 if limited else 1, active=0, comm="")


def by_owner(oldstate, newstate):
    """Whether the change is one that a socket's owner makes itself, by connect(), listen(), shutdown() or close()."""
    if newstate in (SYN_SENT, LISTEN) or (oldstate == LISTEN and newstate == CLOSE):
        return True
    return (newstate == FIN_WAIT1 and oldstate == ESTABLISHED) or (newstate == LAST_ACK and oldstate == CLOSE_WAIT)


def own(one):
    """The current process is the owner."""
    one.pid, one.comm = current_process_id(), current.comm
    one.wanted = 1 if wanted() else 0


def accepted(fd):
    """The socket behind a descriptor of the current process, which accept() has just returned."""
    return socket_of(fd).sk


@tracepoint("syscalls:sys_exit_accept", "syscalls:sys_exit_accept4")
def accept(call):
    """Whoever accepts a connection that is known owns it."""
    if call.ret >= 0:
        one = socks.get(accepted(call.ret))
        if one is not None:
            own(one)
