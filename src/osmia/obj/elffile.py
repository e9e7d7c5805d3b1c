# SPDX-License-Identifier: Apache-2.0
"""The little of ELF that is needed: sections, symbols, relocations of a 64-bit little-endian file.

Written by hand because pyelftools takes longer to import than a whole tool
may take to start.  Nothing here knows of BPF: the kernel's own image is read
with it too.
"""

from __future__ import annotations

import struct

from osmia.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap

EM_NONE = 0
EM_BPF = 247
ET_REL = 1
SHT_PROGBITS = 1
SHT_SYMTAB = 2
SHT_NOBITS = 8
SHT_REL = 9
SHF_EXECINSTR = 4
SHN_LORESERVE = 0xFF00
STT_OBJECT = 1
STT_FUNC = 2
STT_SECTION = 3
STB_LOCAL = 0

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYM = struct.Struct("<IBBHQQ")
_REL = struct.Struct("<QQ")


class Section:
    """One section header; ``offset`` and ``size`` are bytes in the file."""

    __slots__ = ("flags", "index", "info", "link", "name", "offset", "size", "type")

    def __init__(self, index: int, type: int, flags: int, offset: int, size: int, link: int, info: int) -> None:
        self.index = index
        self.name = ""
        self.type = type
        self.flags = flags
        self.offset = offset
        self.size = size
        self.link = link
        self.info = info


class Symbol:
    """One symbol; ``section`` is the section's index (0: undefined), ``value`` the offset in it."""

    __slots__ = ("bind", "name", "section", "size", "type", "value")

    def __init__(self, name: str, info: int, section: int, value: int, size: int) -> None:
        self.name = name
        self.bind = info >> 4
        self.type = info & 15
        self.section = section
        self.value = value
        self.size = size


class ElfFile:
    """Sections of an ELF file.  Raises :class:`UserError` when the bytes are not one, or not consistent."""

    def __init__(self, data: bytes | bytearray | memoryview | mmap.mmap, name: str) -> None:
        self.name = name
        self.data = data
        self.sections: list[Section] = []
        self._symbols: list[Symbol] | None = None
        if len(data) < 4 or bytes(data[:4]) != b"\x7fELF":
            raise UserError("not an ELF object", where=name)
        if len(data) < _EHDR.size:
            raise self.bad("it is cut short")
        if data[4] != 2 or data[5] != 1:
            raise UserError("not a 64-bit little-endian ELF file", where=name)
        ehdr = _EHDR.unpack_from(data)
        self.type: int = ehdr[1]
        self.machine: int = ehdr[2]
        self._read_sections(ehdr[6], ehdr[11], ehdr[12], ehdr[13])

    def bad(self, what: str) -> UserError:
        """The error for a file whose parts contradict each other."""
        return UserError(f"damaged object file: {what}", where=self.name)

    def _read_sections(self, start: int, entry_size: int, count: int, names: int) -> None:
        if entry_size != _SHDR.size or start + count * entry_size > len(self.data):
            raise self.bad("its section headers are out of place")
        offsets: list[int] = []
        for i in range(count):
            name_off, kind, flags, _, offset, size, link, info, _, _ = _SHDR.unpack_from(self.data, start + i * 64)
            if kind != SHT_NOBITS and kind and offset + size > len(self.data):
                raise self.bad(f"section {i} reaches past its end")
            offsets.append(name_off)
            self.sections.append(Section(i, kind, flags, offset, size, link, info))
        if not names < count:
            raise self.bad("it has no section names")
        table = self.contents(self.sections[names])
        for section, name_off in zip(self.sections, offsets, strict=True):
            section.name = self._name(table, name_off)

    def _name(self, table: bytes, offset: int) -> str:
        end = table.find(b"\0", offset)
        if end < 0:
            raise self.bad("a name lies outside its string table")
        return table[offset:end].decode("utf-8", "backslashreplace")

    def contents(self, section: Section) -> bytes:
        """The bytes of a section; nothing for one that takes no room in the file."""
        if section.type == SHT_NOBITS:
            return b""
        return bytes(self.data[section.offset : section.offset + section.size])

    def find(self, name: str) -> Section | None:
        """The first section of that name."""
        for section in self.sections:
            if section.name == name and section.type:
                return section
        return None

    @property
    def symbols(self) -> list[Symbol]:
        """The symbol table (``.symtab``), by index; empty when there is none."""
        if self._symbols is None:
            self._symbols = self._read_symbols()
        return self._symbols

    def _read_symbols(self) -> list[Symbol]:
        for section in self.sections:
            if section.type != SHT_SYMTAB:
                continue
            raw = self.contents(section)
            if len(raw) % _SYM.size or section.link >= len(self.sections):
                raise self.bad("its symbol table is inconsistent")
            table = self.contents(self.sections[section.link])
            return [
                Symbol(self._name(table, name), info, shndx, value, size)
                for name, info, _, shndx, value, size in _SYM.iter_unpack(raw)
            ]
        return []

    def relocations(self, section: Section) -> list[tuple[int, int, Symbol]]:
        """``(offset, type, symbol)`` of a SHT_REL section."""
        raw = self.contents(section)
        if len(raw) % _REL.size:
            raise self.bad(f"section {section.name} is not a whole number of relocations")
        symbols = self.symbols
        out = []
        for offset, info in _REL.iter_unpack(raw):
            if info >> 32 >= len(symbols):
                raise self.bad(f"a relocation in {section.name} has no symbol")
            out.append((offset, info & 0xFFFFFFFF, symbols[info >> 32]))
        return out
