# SPDX-License-Identifier: Apache-2.0
"""Where the machine code of loaded BPF programs is, and how long: kallsyms has only the starts."""

from __future__ import annotations

import os
import struct

from osmia.kernel import bpf, door

#: Functions that one program may have (``BPF_MAX_SUBPROGS``).
_MOST = 256
#: Offsets in ``struct bpf_prog_info``: numbers of addresses and lengths, pointers to both, the types (all since 4.18).
_TAG, _COUNTS, _POINTERS, _TYPES = 8, 104, 112, 128
_SHORT = 15  # BPF_OBJ_NAME_LEN, less its NUL: as much as the kernel keeps of a name without types


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
                    found.update(lengths_of(fd))
                finally:
                    os.close(fd)
            id = bpf.prog_get_next_id(id)
    except OSError:
        pass
    return found


def named(fd: int, name: str) -> tuple[int, int, str] | None:
    """Start, bytes and kallsyms' name of the first function of a program, which is ``name`` in its object.

    None where the kernel does not tell (CAP_SYS_ADMIN) or does not compile
    programs.  The name is that of ``bpf_get_prog_name()``, kernel/bpf/core.c.
    """
    try:
        info, functions = _asked(fd)
    except OSError:
        return None
    for start, size in functions.items():
        typed = len(info) >= _TYPES + 4 and struct.unpack_from("<I", info, _TYPES)[0]
        return start, size, f"bpf_prog_{info[_TAG : _TAG + 8].hex()}_{name if typed else name[:_SHORT]}"
    return None


def lengths_of(fd: int) -> dict[int, int]:
    """Start and bytes of the functions of one program, the first one first.  OSError where it may not be asked."""
    return _asked(fd)[1]


def _asked(fd: int) -> tuple[bytes, dict[int, int]]:
    """What the kernel says of a program; start and bytes of its functions, in their order."""
    addresses, sizes = bytearray(8 * _MOST), bytearray(4 * _MOST)
    start = bytearray(_POINTERS + 16)
    struct.pack_into("<II", start, _COUNTS, _MOST, _MOST)
    struct.pack_into("<QQ", start, _POINTERS, door.address(addresses), door.address(sizes))
    info = bpf.obj_get_info(fd, 256, bytes(start))
    if len(info) < _POINTERS:
        return info, {}
    count, other = struct.unpack_from("<II", info, _COUNTS)
    count = min(count, other, _MOST)
    return info, {
        one: size
        for one, size in zip(
            struct.unpack_from(f"<{count}Q", addresses), struct.unpack_from(f"<{count}I", sizes), strict=True
        )
        if one
    }
