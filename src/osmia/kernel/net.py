# SPDX-License-Identifier: Apache-2.0
"""Network devices by name, and sockets that programs look into."""

from __future__ import annotations

import errno

from osmia.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

_SOL_SOCKET, _SO_ATTACH_BPF, _SO_DETACH_BPF = 1, 50, 27  # include/uapi/asm-generic/socket.h
_ETH_P_ALL = 3


def ifindex(device: str, where: str = "") -> int:
    """The number of a device in this network namespace.  NotFound (with near names)."""
    import socket

    try:
        return socket.if_nametoindex(device)
    except OSError:
        pass
    import difflib

    known = [name for _, name in socket.if_nameindex()]
    near = difflib.get_close_matches(device, known, 3, 0.5)
    fix = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
    raise NotFound(f"no network device {device!r} in this network namespace", where=where, fix=fix)


def claim(name: str) -> socket.socket | None:
    """A socket that has ``name`` as its address in this network namespace; None where another has it.

    Such names (abstract Unix addresses) are no files: one is free as soon as
    its holder is gone, however it went.
    """
    import socket

    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        made.bind("\0" + name)
    except OSError as e:
        made.close()
        if e.errno != errno.EADDRINUSE:
            raise
        return None
    return made


def packet_socket(prog_fd: int, index: int = 0) -> int:
    """The fd of a packet socket (AF_PACKET) whose packets, of device ``index`` (0: of all), program ``prog_fd`` sees.

    What it receives before the program is there, or what the program lets through, is not read by anybody.
    """
    import socket

    # With a device: nothing comes before bind().  Without one there is no bind() in Python, so packets come at once.
    protocol = 0 if index else socket.htons(_ETH_P_ALL)
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
    try:
        made.setsockopt(_SOL_SOCKET, _SO_ATTACH_BPF, prog_fd)
        if index:
            made.bind((socket.if_indextoname(index), _ETH_P_ALL))
        else:
            _drain(made)
    except BaseException:
        made.close()
        raise
    return made.detach()


def _drain(made: socket.socket) -> None:
    try:
        for _ in range(4096):  # a socket that a program lets everything into never runs dry
            made.recv(1)
    except BlockingIOError:
        return


def filter_socket(fd: int, prog_fd: int) -> None:
    """Let a program see (and cut) what a socket of ours receives: SO_ATTACH_BPF, 3.19."""
    _option(fd, _SO_ATTACH_BPF, prog_fd)


def unfilter_socket(fd: int) -> None:
    """Undo :func:`filter_socket`."""
    _option(fd, _SO_DETACH_BPF, 0)


def _option(fd: int, option: int, value: int) -> None:
    import os
    import socket

    with socket.socket(fileno=os.dup(fd)) as handle:
        handle.setsockopt(_SOL_SOCKET, option, value)
