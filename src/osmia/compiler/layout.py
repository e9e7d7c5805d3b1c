# SPDX-License-Identifier: Apache-2.0
"""The author's types as memory of the typed program."""

from __future__ import annotations

from osmia.compiler import tir
from osmia.lang.types import Address, Array, Bytes, Event, Int, Layout, Str, is_enum, size_align, tuple_layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_INTS = {
    ("u", 1): tir.U8, ("u", 2): tir.U16, ("u", 4): tir.U32, ("u", 8): tir.U64,
    ("s", 1): tir.S8, ("s", 2): tir.S16, ("s", 4): tir.S32, ("s", 8): tir.S64,
}


def int_type(size: int, signed: bool) -> tir.Int:
    """The memory integer of ``size`` bytes."""
    return _INTS["s" if signed else "u", size]


def is_scalar(kind: Any) -> bool:
    """Whether a value of ``kind`` is a number (and not memory)."""
    return kind is bool or kind is int or is_enum(kind) or (isinstance(kind, type) and issubclass(kind, (Int, Address)))


def memory(kind: Any) -> tir.Mem:
    """The memory type of the author's type ``kind``; TypeError for a foreign one."""
    if kind is bool:
        return tir.BOOL
    if kind is int:
        return tir.S64
    if isinstance(kind, tuple):
        name = "key_" + "_".join(_word(k) for k in kind)
        return struct(name, tuple_layout(kind))
    if is_enum(kind):
        return tir.S32
    if issubclass(kind, Int):
        return int_type(kind.size, kind.signed)
    if issubclass(kind, Address):
        return tir.U64
    if issubclass(kind, Str):
        return tir.Array(tir.CHAR, kind.n)
    if issubclass(kind, Bytes):
        return tir.Array(tir.U8, kind.n)
    if issubclass(kind, Array):
        return tir.Array(memory(kind.elem), kind.n)
    if issubclass(kind, Event):
        return struct(kind.__name__, kind.layout())
    size_align(kind)  # says what is wrong with it
    raise TypeError(f"{kind!r} cannot be used here")


def struct(name: str, layout: Layout) -> tir.Struct:
    """``layout`` as a structure; a tail of strings is bytes."""
    members = []
    for field in layout:
        if field is layout.tail:
            if layout.fixed == field.offset and not issubclass(field.type, Str):
                members.append(tir.Member(f"{field.name}_count", tir.U32, field.offset - 4))
            members.append(tir.Member(field.name, tir.Array(tir.CHAR, field.size), field.offset))
        else:
            members.append(tir.Member(field.name, memory(field.type), field.offset))
    size = (layout.size + layout.align - 1) // layout.align * layout.align
    return tir.Struct(name, tuple(members), size, layout.align)


def _word(kind: Any) -> str:
    spaced = "".join(c if c.isalnum() or c == "_" else " " for c in str(getattr(kind, "__name__", kind)))
    return "_".join(spaced.split()).strip("_")
