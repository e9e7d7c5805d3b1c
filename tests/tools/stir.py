# SPDX-License-Identifier: Apache-2.0
"""One of each of the system calls that nobody makes by chance while a tool runs."""

from __future__ import annotations

import ctypes
import os
import socket
import tempfile

IPC_PRIVATE, IPC_RMID = 0, 0  # include/uapi/linux/ipc.h


def stir() -> None:
    """Make, rename, sync and delete a file; fail to mount; pass a descriptor on; have and lose shared memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.TemporaryDirectory() as place:
        fd = os.open(f"{place}/one", os.O_CREAT | os.O_WRONLY)
        os.fsync(fd)
        os.rename(f"{place}/one", f"{place}/two")
        os.unlink(f"{place}/two")
        assert libc.mount(b"none", f"{place}/none".encode(), b"no-such-type", 0, None) == -1
        left, right = socket.socketpair()
        with left, right:
            socket.send_fds(left, [b"x"], [fd])
            for received in socket.recv_fds(right, 1, 1)[1]:
                os.close(received)
        os.close(fd)
    number = libc.shmget(IPC_PRIVATE, 4096, 0o1600)
    assert number >= 0 and libc.shmctl(number, IPC_RMID, None) == 0
