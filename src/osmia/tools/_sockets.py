# SPDX-License-Identifier: Apache-2.0
"""Kernel half: the socket behind a file descriptor of the current process."""

from __future__ import annotations

from osmia.lang.builtins import cast, current, read_kernel
from osmia.lang.types import Kernel, u64

S_IFMT, S_IFSOCK = 0xF000, 0xC000  # include/uapi/linux/stat.h
SockPtr = Kernel["struct sock"]


def socket_of(fd):
    """The ``struct socket`` behind a descriptor that is open; not to be followed where it is no socket (0)."""
    file = cast(read_kernel(current.task.files.fdt.fd, u64, fd), "struct file")
    if file.f_inode.i_mode & S_IFMT != S_IFSOCK:
        return cast(0, "struct socket")
    return cast(file.private_data, "struct socket")
