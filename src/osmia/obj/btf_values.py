# SPDX-License-Identifier: Apache-2.0
"""Bytes as values of a BTF type, in C's notation: ``(struct path){`` and a line for each member that is not zero."""

from __future__ import annotations

from osmia.obj import consts
from osmia.obj.btf_text import btf_skip_qualifiers, declare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.obj.btf import Btf

_STRUCTURES = (consts.BTF_KIND_STRUCT, consts.BTF_KIND_UNION)
_ENUMS = (consts.BTF_KIND_ENUM, consts.BTF_KIND_ENUM64)
_DEEPEST = 16
#: Elements of an array that are shown.
_ELEMENTS = 64


def lines(btf: Btf, id: int, data: bytes, *, bits: tuple[int, int] = (0, 0), depth: int = 0) -> list[str]:
    """The value of type ``id`` at the beginning of ``data``; ``bits``: offset and size of a bit field.

    Members that are zero are left out, and those beyond the end of ``data``
    are said to be missing.  Each level is indented by one blank.
    """
    name = f"({declare(btf, btf_skip_qualifiers(btf, id), '')})"
    real = btf.resolve(id)
    t = btf.get(real)
    if t.kind in _STRUCTURES and depth < _DEEPEST:
        if not t.name and btf.get(btf_skip_qualifiers(btf, id)).kind in _STRUCTURES:
            name = "(union)" if t.kind == consts.BTF_KIND_UNION else "(struct)"
        return _structure(btf, real, name, data, depth)
    if t.kind == consts.BTF_KIND_ARRAY and depth < _DEEPEST:
        return _array(btf, real, name, data, depth)
    size = btf.size_of(real) if real else 0
    number = int.from_bytes(data[: size or 8], "little")
    if bits[1]:
        number = number >> bits[0] & ((1 << bits[1]) - 1)
    return [f"{name}{_number(btf, real, number)}"]


def _number(btf: Btf, id: int, number: int) -> str:
    t = btf.get(id)
    if t.kind in _ENUMS:
        return next((name for name, value in t.enumerators if value == number), str(number))
    if t.kind == consts.BTF_KIND_INT and t.name == "char" and 32 <= number < 127:
        return f"'{chr(number)}'"
    return f"{number:#x}"


def _structure(btf: Btf, id: int, name: str, data: bytes, depth: int) -> list[str]:
    out, missing = [f"{name}{{"], False
    for member in btf.get(id).members:
        start, bit = member.bit_offset // 8, member.bit_offset % 8
        size = btf.size_of(member.type_id)
        if member.bitfield_size:  # read as the integer that it lies in
            start = start // size * size
            bit = member.bit_offset - 8 * start
        part = data[start : start + size]
        if len(part) < size:
            missing = True
            continue
        value = int.from_bytes(part, "little")
        if member.bitfield_size:
            value = value >> bit & ((1 << member.bitfield_size) - 1)
        if not value:
            continue
        inner = lines(btf, member.type_id, part, bits=(bit, member.bitfield_size), depth=depth + 1)
        inner[0] = (f".{member.name} = " if member.name else "") + inner[0]
        inner[-1] += ","
        out += [" " + line for line in inner]
    if missing:
        out.append(" ...")
    return [*out, "}"]


def _array(btf: Btf, id: int, name: str, data: bytes, depth: int) -> list[str]:
    t = btf.get(id)
    size = btf.size_of(t.elem_id)
    element = btf.get(btf.resolve(t.elem_id))
    if element.kind == consts.BTF_KIND_INT and element.name == "char":
        text = data[: t.nelems].split(b"\0")[0].decode("utf-8", "backslashreplace")
        return [f'{name}"{text}"']
    out = [f"{name}["]
    for at in range(min(t.nelems, _ELEMENTS)):
        part = data[at * size : (at + 1) * size]
        if any(part):
            inner = lines(btf, t.elem_id, part, depth=depth + 1)
            inner[-1] += ","
            out += [" " + line for line in inner]
    return [*out, "]"]
