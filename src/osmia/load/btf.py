# SPDX-License-Identifier: Apache-2.0
"""BTF that an older kernel accepts.

The kernel refuses a BTF that holds one kind it does not know.  Each newer
kind is then replaced, in place and at the same length, by an older one of
the same size, so that ids and offsets stay what they are: line info and map
types survive.  Replacements keep sizes, not meanings: the program does not
depend on them.
"""

from __future__ import annotations

import struct

from osmia.kernel import bpf
from osmia.obj import consts

#: Bytes that follow the 12 of a type, by kind: (fixed, per element).
_EXTRA = {
    consts.BTF_KIND_INT: (4, 0), consts.BTF_KIND_ARRAY: (12, 0), consts.BTF_KIND_STRUCT: (0, 12),
    consts.BTF_KIND_UNION: (0, 12), consts.BTF_KIND_ENUM: (0, 8), consts.BTF_KIND_FUNC_PROTO: (0, 8),
    consts.BTF_KIND_VAR: (4, 0), consts.BTF_KIND_DATASEC: (0, 12), consts.BTF_KIND_DECL_TAG: (4, 0),
    consts.BTF_KIND_ENUM64: (0, 12),
}  # fmt: skip


def load(data: bytes) -> tuple[int, str]:
    """Load an object's BTF: ``(fd, note)``; fd 0 if the kernel takes none of it.

    ``note`` says what had to be changed, for ``-v``.  PermissionError passes
    through: without the privilege nothing else would work either.
    """
    if not data:
        return 0, ""
    try:
        return bpf.btf_load(data), ""
    except PermissionError:
        raise
    except OSError as e:
        first = e.strerror
    try:
        return bpf.btf_load(sanitised(data)), "newer kinds of BTF were replaced for this kernel"
    except OSError:
        return 0, f"the kernel refuses the object's BTF ({first}): loading without line numbers"


def sanitised(data: bytes) -> bytes:
    """The same BTF with every kind since 5.2 replaced (DATASEC, VAR, FUNC linkage, FLOAT, tags, ENUM64)."""
    out = bytearray(data)
    types = _types(out)
    # Members that stand for enumerators need some type that surely fits.
    small = next((id for id, (_, kind, _, size) in enumerate(types, 1) if kind == consts.BTF_KIND_INT and size <= 4), 0)
    for at, kind, count, _ in types:
        _replace(out, at, kind, count, small)
    return bytes(out)


def _types(data: bytearray) -> list[tuple[int, int, int, int]]:
    """``(offset, kind, vlen, size)`` of each type."""
    header, type_off, type_len = struct.unpack_from("<4xIII", data)
    at, end, found = header + type_off, header + type_off + type_len, []
    while at + 12 <= end:
        info, size = struct.unpack_from("<II", data, at + 4)
        kind, count = info >> 24 & 0x1F, info & 0xFFFF
        found.append((at, kind, count, size))
        fixed, each = _EXTRA.get(kind, (0, 0))
        at += 12 + fixed + each * count
    return found


def _replace(out: bytearray, at: int, kind: int, count: int, small: int) -> None:
    body = at + 12
    if kind == consts.BTF_KIND_FLOAT:  # an opaque struct of that size
        struct.pack_into("<I", out, at + 4, consts.BTF_KIND_STRUCT << 24)
    elif kind in (consts.BTF_KIND_DECL_TAG, consts.BTF_KIND_VAR):
        # An int of one byte, which fits wherever the variable did.  A tag's own text need not be a valid name.
        name = 1 if kind == consts.BTF_KIND_DECL_TAG else struct.unpack_from("<I", out, at)[0]
        struct.pack_into("<IIII", out, at, name, consts.BTF_KIND_INT << 24, 1, 8)
    elif kind == consts.BTF_KIND_TYPE_TAG:  # const has no name
        struct.pack_into("<II", out, at, 0, consts.BTF_KIND_CONST << 24)
    elif kind == consts.BTF_KIND_ENUM64:
        struct.pack_into("<I", out, at + 4, consts.BTF_KIND_UNION << 24 | count)
        for i in range(count):
            struct.pack_into("<II", out, body + 12 * i + 4, small, 0)
    elif kind == consts.BTF_KIND_DATASEC:  # a struct, nameless since section names have dots
        struct.pack_into("<II", out, at, 0, consts.BTF_KIND_STRUCT << 24 | count)
        for i in range(count):
            type_id, offset, _ = struct.unpack_from("<III", out, body + 12 * i)
            struct.pack_into("<III", out, body + 12 * i, 0, type_id, offset * 8)
    elif kind == consts.BTF_KIND_ENUM:  # the flag for signed values came with 6.0
        struct.pack_into("<I", out, at + 4, consts.BTF_KIND_ENUM << 24 | count)
    elif kind == consts.BTF_KIND_FUNC:  # linkage (the low bits) came with 5.6
        struct.pack_into("<I", out, at + 4, consts.BTF_KIND_FUNC << 24)
