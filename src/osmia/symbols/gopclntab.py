# SPDX-License-Identifier: Apache-2.0
"""Go's own table of functions, which its run time needs and ``strip`` leaves.

Layouts: Go's ``debug/gosym/pclntab.go`` and ``runtime/symtab.go``.  Its
versions differ in the first word: 1.2, 1.16, 1.18 and 1.20.  Entries are
sorted, and each function reaches to the next one.
"""

from __future__ import annotations

import struct
from array import array
from itertools import pairwise

from osmia.errors import UserError
from osmia.symbols.image import Image, Section
from osmia.symbols.spans import Spans

_GO12, _GO116, _GO118, _GO120 = 0xFFFFFFFB, 0xFFFFFFFA, 0xFFFFFFF0, 0xFFFFFFF1
_SECTIONS = (".gopclntab", ".data.rel.ro.gopclntab")
_RELATIVE = {8, 1027}  # R_X86_64_RELATIVE, R_AARCH64_RELATIVE
_PER_NAME = 120


class Functions:
    """The functions of one Go program; :meth:`at` finds the one that covers an address."""

    def __init__(self, image: Image, start: int, names_at: int, spans: Spans, funcs_at: int, name_field: int) -> None:
        self.image = image
        self.spans = spans
        self._start = start
        self._names_at = names_at
        self._funcs_at = funcs_at
        self._name_field = name_field
        self._kept: dict[int, str] = {}
        self._kept_bytes = 0

    @property
    def memory(self) -> int:
        """Memory taken, without what is mapped."""
        return self.spans.memory + self._kept_bytes

    def at(self, address: int) -> tuple[str, int] | None:
        """``(name, address of the function)``, or None."""
        n = self.spans.at(address)
        if n < 0:
            return None
        name = self._kept.get(n)
        if name is None:
            name = self._kept[n] = self._name(self.spans.names[n])
            self._kept_bytes += len(name) + _PER_NAME
        return (name, self.spans.firsts[n]) if name else None

    def _name(self, func: int) -> str:
        at = self._start + self._funcs_at + func + self._name_field
        if at + 4 > len(self.image.data):
            return ""
        (offset,) = struct.unpack_from("<I", self.image.data, at)
        return self.image.string(self._start + self._names_at + offset).decode("utf-8", "surrogateescape")


def read(image: Image) -> Functions | None:
    """The table of a Go program; None if it has none, or one of an unknown version.  UserError where it is damaged."""
    section = _find(image)
    if section is None:
        return None
    raw = image.bytes_of(section)
    try:
        magic, zero, _, pointer = struct.unpack_from("<IHBB", raw)
        if zero or pointer != 8:
            return None
        if magic in (_GO118, _GO120):
            return _since118(image, section, raw)
        if magic == _GO116:
            count, _, names, _, _, _, funcs = struct.unpack_from("<7Q", raw, 8)
            return _wide(image, section, raw, count, names, funcs, funcs)
        if magic == _GO12:
            (count,) = struct.unpack_from("<Q", raw, 8)
            return _wide(image, section, raw, count, 0, 16, 0)
    except (struct.error, OverflowError, ValueError):
        raise image.damaged("Go's table of functions is cut short") from None
    return None


def _find(image: Image) -> Section | None:
    for name in _SECTIONS:
        section = image.section(name)
        if section is not None:
            return section
    return None


def _since118(image: Image, section: Section, raw: memoryview) -> Functions:
    count, _, text, names, _, _, _, funcs = struct.unpack_from("<8Q", raw, 8)
    text = _text_start(image, section, text)
    table = _cut(image, raw, funcs, 8 * count + 4).cast("I")
    entries, places = table[0::2].tolist(), table[1::2].tolist()
    starts = array("Q", [text + entry for entry in entries])
    return Functions(image, section.offset, names, _spans(image, starts, places), funcs, 4)


def _text_start(image: Image, section: Section, text: int) -> int:
    """Where the code begins.  In position-independent files a relocation holds it; Go 1.26 has left it out."""
    if text:
        return text
    wanted = struct.pack("<Q", section.address + 24)
    for one in image.sections:
        if one.name == ".rela.dyn":
            raw = bytes(image.bytes_of(one))
            at = raw.find(wanted)
            while at >= 0:
                if at % 24 == 0:
                    _, info, addend = struct.unpack_from("<QQQ", raw, at)
                    if info & 0xFFFFFFFF in _RELATIVE:
                        return int(addend)
                at = raw.find(wanted, at + 1)
    code = image.section(".text")
    if code is None:
        raise image.damaged("a Go program without code")
    return code.address


def _wide(
    image: Image, section: Section, raw: memoryview, count: int, names: int, table_at: int, funcs: int
) -> Functions:  # fmt: skip
    """Before 1.18: entries are whole addresses."""
    table = _cut(image, raw, table_at, 16 * count + 8).cast("Q")
    starts, places = array("Q", table[0::2].tolist()), table[1::2].tolist()
    return Functions(image, section.offset, names, _spans(image, starts, places), funcs, 8)


def _cut(image: Image, raw: memoryview, at: int, size: int) -> memoryview:
    if at > len(raw) or size > len(raw) - at:
        raise image.damaged("Go's table of functions is cut short")
    return raw[at : at + size]


def _spans(image: Image, starts: array[int], places: list[int]) -> Spans:
    """``starts`` has one more entry than there are functions: the end of the last."""
    if len(starts) != len(places) + 1 or any(a > b for a, b in pairwise(starts)):
        raise UserError("damaged ELF file: Go's table of functions is not in order", where=image.name)
    out = Spans()
    out.starts = out.firsts = starts[:-1]
    out.ends = starts[1:]
    out.names = array("I", places)
    return out
