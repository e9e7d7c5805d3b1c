# SPDX-License-Identifier: Apache-2.0
"""Socket filters: the program sees what a socket receives.

By default that is a packet socket made for it, which hands it copies of a
device's packets, as tcpdump's does.  Nobody reads the socket: a program that
returns 0 leaves nothing in it.
"""

from __future__ import annotations

import os

from osmia.kernel import net
from osmia.link.base import Link, failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.load.program import LiveProg


class FilterLink(Link):
    """A program on a socket that goes on living without it."""

    __slots__ = ()

    def close(self) -> None:
        """Take the program off the socket."""
        for fd in self.fds:
            net.unfilter_socket(fd)
        Link.close(self)


def attach(prog: LiveProg, target: str = "", *, device: str = "", socket_fd: int = -1) -> Link:
    """Attach to all packets of a device (none named: of all), or to a socket of the caller's, ``socket_fd``.

    On a socket the program's result is how many bytes of a packet are kept: 0 drops it.
    NotFound for a device that does not exist, NotPermitted without CAP_NET_RAW.
    """
    name = device or target
    where = f"{prog.name} ({name})" if name else prog.name
    index = net.ifindex(name, where) if name else 0
    try:
        if socket_fd >= 0:
            net.filter_socket(socket_fd, prog.fd)
            return FilterLink("socket", "socket filter", [os.dup(socket_fd)])
        return Link(name or "all devices", "packet socket", [net.packet_socket(prog.fd, index)])
    except OSError as e:
        e.filename = e.filename or "SO_ATTACH_BPF"
        raise failed(prog, name, e) from None
