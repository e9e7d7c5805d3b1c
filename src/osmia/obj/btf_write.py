# SPDX-License-Identifier: Apache-2.0
"""Building BTF: for kernels that have none, and for tests."""

from __future__ import annotations

import struct

from osmia.obj.btf import MAGIC, Btf
from osmia.obj.consts import (
    BTF_KIND_ARRAY,
    BTF_KIND_DATASEC,
    BTF_KIND_ENUM,
    BTF_KIND_ENUM64,
    BTF_KIND_FLOAT,
    BTF_KIND_FUNC,
    BTF_KIND_FUNC_PROTO,
    BTF_KIND_FWD,
    BTF_KIND_INT,
    BTF_KIND_PTR,
    BTF_KIND_STRUCT,
    BTF_KIND_TYPEDEF,
    BTF_KIND_UNION,
    BTF_KIND_VAR,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SIGNED, CHAR, BOOL = 1, 2, 4  # encodings of an INT
_FLAG = 1 << 31


class BtfBuilder:
    """Types in, ``.BTF`` bytes out.  Every ``add_*`` returns the new type's id; sizes are bytes.

    With ``base`` the result is split BTF that continues it.
    """

    def __init__(self, base: Btf | None = None) -> None:
        self._types = bytearray()
        self._strings = bytearray() if base is not None else bytearray(b"\0")
        self._string_start = base.string_end if base is not None else 0
        self._offsets: dict[str, int] = {"": 0}
        self._next = base.end_id if base is not None else 1

    def string(self, text: str) -> int:
        """Offset of ``text`` in the string table, added once."""
        offset = self._offsets.get(text)
        if offset is None:
            offset = self._offsets[text] = self._string_start + len(self._strings)
            self._strings += text.encode() + b"\0"
        return offset

    def _add(self, name: str, kind: int, last: int, vlen: int = 0, flag: bool = False, *words: int) -> int:
        info = kind << 24 | vlen | (_FLAG if flag else 0)
        self._types += struct.pack(f"<{3 + len(words)}I", self.string(name), info, last, *words)
        id, self._next = self._next, self._next + 1
        return id

    def add_int(self, name: str, size: int, encoding: int = 0, bits: int | None = None, offset: int = 0) -> int:
        """``encoding`` is a combination of SIGNED, CHAR and BOOL."""
        bits = size * 8 if bits is None else bits
        return self._add(name, BTF_KIND_INT, size, 0, False, encoding << 24 | offset << 16 | bits)

    def add_float(self, name: str, size: int) -> int:
        return self._add(name, BTF_KIND_FLOAT, size)

    def add_ptr(self, type_id: int) -> int:
        return self._add("", BTF_KIND_PTR, type_id)

    def add_array(self, elem_id: int, nelems: int, index_id: int = 0) -> int:
        """``index_id`` defaults to the element type, which is enough for everything but the kernel's own check."""
        return self._add("", BTF_KIND_ARRAY, 0, 0, False, elem_id, index_id or elem_id, nelems)

    def add_struct(self, name: str, size: int, members: Sequence[tuple[str, int, int] | tuple[str, int, int, int]],
                   *, union: bool = False) -> int:
        """``members`` are ``(name, type_id, bit_offset)``, with the size in bits as a fourth for a bit field."""
        flag = any(len(m) == 4 and m[3] for m in members)
        words: list[int] = []
        for m in members:
            bits = m[3] if len(m) == 4 else 0
            words += (self.string(m[0]), m[1], m[2] | bits << 24)
        return self._add(name, BTF_KIND_UNION if union else BTF_KIND_STRUCT, size, len(members), flag, *words)

    def add_enum(self, name: str, enumerators: Sequence[tuple[str, int]], size: int = 4) -> int:
        """An ENUM, or an ENUM64 when ``size`` is 8; signed when one of the values is negative."""
        signed = any(value < 0 for _, value in enumerators)
        words: list[int] = []
        for text, value in enumerators:
            words += (self.string(text), value & 0xFFFFFFFF)
            if size == 8:
                words.append(value >> 32 & 0xFFFFFFFF)
        kind = BTF_KIND_ENUM64 if size == 8 else BTF_KIND_ENUM
        return self._add(name, kind, size, len(enumerators), signed, *words)

    def add_fwd(self, name: str, *, union: bool = False) -> int:
        return self._add(name, BTF_KIND_FWD, 0, 0, union)

    def add_typedef(self, name: str, type_id: int) -> int:
        return self._add(name, BTF_KIND_TYPEDEF, type_id)

    def add_modifier(self, kind: int, type_id: int, name: str = "") -> int:
        """A CONST, VOLATILE, RESTRICT, or (with a name) TYPE_TAG."""
        return self._add(name, kind, type_id)

    def add_func_proto(self, return_id: int, params: Sequence[tuple[str, int]]) -> int:
        words: list[int] = []
        for text, type_id in params:
            words += (self.string(text), type_id)
        return self._add("", BTF_KIND_FUNC_PROTO, return_id, len(params), False, *words)

    def add_func(self, name: str, proto_id: int, linkage: int = 1) -> int:
        """``linkage``: 0 static, 1 global, 2 extern."""
        return self._add(name, BTF_KIND_FUNC, proto_id, linkage)

    def add_var(self, name: str, type_id: int, linkage: int = 1) -> int:
        return self._add(name, BTF_KIND_VAR, type_id, 0, False, linkage)

    def add_datasec(self, name: str, size: int, variables: Sequence[tuple[int, int, int]]) -> int:
        """``variables`` are ``(var_id, offset, size)``."""
        words = [word for variable in variables for word in variable]
        return self._add(name, BTF_KIND_DATASEC, size, len(variables), False, *words)

    def bytes(self) -> bytes:
        """Header, types and strings, as in a ``.BTF`` section."""
        header = struct.pack("<HBBIIIII", MAGIC, 1, 0, 24, 0, len(self._types), len(self._types), len(self._strings))
        return header + bytes(self._types) + bytes(self._strings)
