# SPDX-License-Identifier: Apache-2.0
"""Where the machine code of loaded BPF programs is, and how long: kallsyms has only the starts."""

from __future__ import annotations

import os
import struct

from osmia.kernel import bpf, door

#: Functions that one program may have (``BPF_MAX_SUBPROGS``).
_MOST = 256
#: Offsets in ``struct bpf_prog_info``: numbers of addresses and lengths, then pointers to both (since 4.18).
_COUNTS, _POINTERS = 104, 112


def lengths() -> dict[int, int]:
    """Start and bytes of every function of every BPF program; empty where that may not be asked (CAP_SYS_ADMIN)."""
    found: dict[int, int] = {}
    try:
        id = bpf.prog_get_next_id(0)
        while id:
            try:
                fd = bpf.prog_get_fd_by_id(id)
            except FileNotFoundError:  # unloaded in between
                pass
            else:
                try:
                    found.update(_functions(fd))
                finally:
                    os.close(fd)
            id = bpf.prog_get_next_id(id)
    except OSError:
        pass
    return found


def _functions(fd: int) -> dict[int, int]:
    addresses, sizes = bytearray(8 * _MOST), bytearray(4 * _MOST)
    start = bytearray(_POINTERS + 16)
    struct.pack_into("<II", start, _COUNTS, _MOST, _MOST)
    struct.pack_into("<QQ", start, _POINTERS, door.address(addresses), door.address(sizes))
    info = bpf.obj_get_info(fd, 256, bytes(start))
    if len(info) < _POINTERS:
        return {}
    count, other = struct.unpack_from("<II", info, _COUNTS)
    count = min(count, other, _MOST)
    return {
        one: size
        for one, size in zip(
            struct.unpack_from(f"<{count}Q", addresses), struct.unpack_from(f"<{count}I", sizes), strict=True
        )
        if one
    }
