# SPDX-License-Identifier: Apache-2.0
"""What ties an object's BTF to its code: ``.BTF.ext`` records, and the addresses that compilers leave out of ``.BTF``.

Format: ``Documentation/bpf/btf.rst``, sections ".BTF.ext section" and "BTF_KIND_DATASEC".
"""

from __future__ import annotations

import struct

from osmia.errors import UserError
from osmia.obj.btf import MAGIC, Btf
from osmia.obj.consts import BTF_KIND_DATASEC, BTF_KIND_VAR
from osmia.obj.elffile import STB_LOCAL, ElfFile
from osmia.obj.spec import FuncSpec

_HEADER = struct.Struct("<HBBI")
_FUNC_INFO = struct.Struct("<II")
_LINE_INFO = struct.Struct("<IIII")
_EXTERN = 2  # linkage of a variable
_Functions = list[tuple[int, int, FuncSpec]]


def fix_datasecs(raw: bytearray, elf: ElfFile) -> None:
    """Write section sizes and variable offsets into the DATASECs of ``raw``, in place.

    LLVM leaves both zero for the linker; the kernel refuses them so.  Static
    variables are left alone: their offsets are there already, and their names
    may be ambiguous.  The kernel wants the variables in order of offset.
    """
    btf = Btf(raw, name=f"{elf.name}: .BTF")
    words = memoryview(raw)[btf.type_start : btf.type_end].cast("I")
    places = {(s.section, s.name): s.value for s in elf.symbols if s.bind != STB_LOCAL}
    for word in [w for w in btf.word_offsets() if words[w + 1] >> 24 & 0x7F == BTF_KIND_DATASEC]:
        section = elf.find(btf.string(words[word]))
        if section is None:
            continue  # .kconfig, .ksyms: only of externs, refused where they are used
        words[word + 2] = section.size
        first, last = word + 3, word + 3 + 3 * (words[word + 1] & 0xFFFFFF)
        entries = []
        for i in range(first, last, 3):
            var = btf.get(words[i])
            if var.kind != BTF_KIND_VAR:
                raise elf.bad(f"section {section.name} is described with something that is no variable")
            offset = words[i + 1]
            if var.linkage != _EXTERN:
                offset = places.get((section.index, var.name), offset)
            if offset + words[i + 2] > section.size:
                raise elf.bad(f"variable {var.name!r} is larger than its section {section.name}")
            entries.append((offset, words[i], words[i + 2]))
        entries.sort(key=lambda e: e[0])
        for i, (offset, var_id, size) in zip(range(first, last, 3), entries, strict=True):
            words[i], words[i + 1], words[i + 2] = var_id, offset, size


def attach_btf_ext(raw: bytes, btf: Btf, code: dict[str, _Functions], where: str) -> None:
    """Give each function its own records of ``.BTF.ext``, with offsets from the function's start.

    ``code`` lists, per section name, ``(start, end, function)`` in order.
    """
    if len(raw) < 24:
        raise _bad(where, "cut short")
    magic, version, _, size = _HEADER.unpack_from(raw)
    if magic != MAGIC or version != 1 or size < 24 or size > len(raw):
        raise _bad(where, "not of a known version")
    parts = struct.unpack_from("<IIIIII" if size >= 32 else "<IIII", raw, 8)
    for number, attribute in enumerate(("func_info", "line_info", "core_relos")):
        if 2 * number >= len(parts):
            break
        start, length = size + parts[2 * number], parts[2 * number + 1]
        if start + length > len(raw):
            raise _bad(where, "cut short")
        record = _FUNC_INFO if attribute == "func_info" else _LINE_INFO
        for section, records in _subsections(raw, start, start + length, record, btf, where):
            _distribute(records, code.get(section, []), attribute, where)


def _subsections(
    raw: bytes, pos: int, end: int, record: struct.Struct, btf: Btf, where: str
) -> list[tuple[str, list[tuple[int, ...]]]]:
    if pos == end:
        return []
    out = []
    (step,) = struct.unpack_from("<I", raw, pos)
    if step < record.size:
        raise _bad(where, f"records of {step} bytes")
    pos += 4
    while pos < end:
        name_off, count = struct.unpack_from("<II", raw, pos)
        pos += 8
        if pos + count * step > end:
            raise _bad(where, "cut short")
        if step == record.size:
            records = list(record.iter_unpack(raw[pos : pos + count * step]))
        else:  # a newer format may have longer records that start alike
            records = [record.unpack_from(raw, pos + i * step) for i in range(count)]
        out.append((btf.string(name_off), records))
        pos += count * step
    return out


def _distribute(records: list[tuple[int, ...]], functions: _Functions, attribute: str, where: str) -> None:
    for start, end, function in functions:
        mine = [(r[0] - start, *r[1:]) for r in records if start <= r[0] < end]
        for r in mine:
            if r[0] % 8:
                raise _bad(where, f"a record of {function.name!r} is not at an instruction")
        getattr(function, attribute).extend(mine)


def _bad(where: str, what: str) -> UserError:
    return UserError(f"damaged object file: section .BTF.ext is {what}", where=where)
