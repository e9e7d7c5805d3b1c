# SPDX-License-Identifier: Apache-2.0
"""Kernel half: the socket behind a file descriptor of the current process, and its network namespace."""

from __future__ import annotations

from osmia.lang.builtins import cast, current, exists, read_kernel
from osmia.lang.types import Kernel, u32, u64

S_IFMT, S_IFSOCK = 0xF000, 0xC000  # include/uapi/linux/stat.h
#: include/uapi/linux/in.h
PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 33: "DCCP", 58: "ICMPV6", 132: "SCTP", 136: "UDPLITE", 255: "RAW",
             262: "MPTCP"}  # fmt: skip
SockPtr = Kernel["struct sock"]


def socket_of(fd):
    """The ``struct socket`` behind a descriptor; 0 where it is no socket, or not open."""
    table = current.task.files.fdt
    if u32(fd) >= table.max_fds:
        return cast(0, "struct socket")
    file = cast(read_kernel(table.fd, u64, fd), "struct file")
    if file.f_inode.i_mode & S_IFMT != S_IFSOCK:
        return cast(0, "struct socket")
    return cast(file.private_data, "struct socket")


def netns_of(sk):
    """The number of the network namespace that the socket is in, as the inode in /proc/PID/ns/net has it."""
    if exists(sk.__sk_common.skc_net.net):
        return sk.__sk_common.skc_net.net.ns.inum
    return 0
