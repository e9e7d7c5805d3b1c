# SPDX-License-Identifier: Apache-2.0
"""Small ELF files made to measure: one code and one data segment, symbol tables, notes, any further sections."""

from __future__ import annotations

import struct

X86_64, ARM64 = 62, 183
#: Where the segments are in the file and in memory: different, so that nobody mistakes one for the other.
CODE_OFFSET, CODE_ADDRESS, CODE_SIZE = 0x1000, 0x401000, 0x1000
DATA_OFFSET, DATA_ADDRESS, DATA_SIZE = 0x2000, 0x603000, 0x100
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
FUNC, OBJECT, IFUNC = 2, 1, 10
LOCAL, GLOBAL, WEAK = 0, 1, 2


class Maker:
    """Collects what the file shall have; :meth:`bytes` makes it."""

    def __init__(self, machine: int = X86_64) -> None:
        self.machine = machine
        self.symbols: dict[str, list[tuple[str, int, int, int, int]]] = {}
        self.sections: list[tuple[str, int, bytes, int, int]] = []  # name, type, contents, address, info

    def symbol(self, name: str, at: int, size: int = 16, kind: int = FUNC, bind: int = GLOBAL,
               table: str = ".symtab") -> None:  # fmt: skip
        """A symbol ``at`` bytes into the code segment."""
        self.symbols.setdefault(table, []).append((name, CODE_ADDRESS + at, size, kind, bind))

    def section(self, name: str, contents: bytes, kind: int = 1, address: int = 0, info: int = 0) -> None:
        self.sections.append((name, kind, contents, address, info))

    def note(self, section: str, owner: bytes, kind: int, text: bytes) -> None:
        """A note; several of one section are put together."""
        raw = struct.pack("<III", len(owner) + 1, len(text), kind) + _pad(owner + b"\0") + _pad(text)
        for at, (name, number, contents, address, info) in enumerate(self.sections):
            if name == section:
                self.sections[at] = (name, number, contents + raw, address, info)
                return
        self.section(section, raw, 7)

    def probe(self, provider: str, name: str, spec: str, at: int, semaphore: int = 0, base: int = 0) -> None:
        """A static probe's note as <sys/sdt.h> writes it; ``semaphore`` is an offset in the data segment."""
        counter = DATA_ADDRESS + semaphore if semaphore else 0
        text = struct.pack("<QQQ", CODE_ADDRESS + at, base, counter)
        text += b"\0".join([provider.encode(), name.encode(), spec.encode(), b""])
        self.note(".note.stapsdt", b"stapsdt", 3, text)

    def bytes(self) -> bytes:
        """The file."""
        made = list(self.sections)
        links: dict[str, str] = {}
        for table, symbols in self.symbols.items():
            raw, names = _table(symbols)
            links[table] = f"{table}.names"
            made.append((table, 2 if table == ".symtab" else 11, raw, 0, 1))
            made.append((f"{table}.names", 3, names, 0, 0))
        names = b"\0" + b"".join(name.encode() + b"\0" for name, *_ in made) + b".shstrtab\0"
        made.append((".shstrtab", 3, names, 0, 0))
        body = bytearray(b"\x90" * (DATA_OFFSET + DATA_SIZE))
        headers = [bytes(64)]
        index = {name: at + 1 for at, (name, *_) in enumerate(made)}
        for name, kind, contents, address, info in made:
            offset = len(body)
            body += contents
            body += bytes(-len(body) % 8)
            headers.append(_SECTION.pack(
                names.index(b"\0" + name.encode() + b"\0") + 1, kind, 0, address, offset, len(contents),
                index.get(links.get(name, ""), 0), info, 8, 24 if kind in (2, 11) else 0,
            ))  # fmt: skip
        programs = b"".join([
            _PROGRAM.pack(1, 5, CODE_OFFSET, CODE_ADDRESS, CODE_ADDRESS, CODE_SIZE, CODE_SIZE, 0x1000),
            _PROGRAM.pack(1, 6, DATA_OFFSET, DATA_ADDRESS, DATA_ADDRESS, DATA_SIZE, DATA_SIZE + 64, 0x1000),
        ])
        ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
        header = _HEADER.pack(ident, 3, self.machine, 1, CODE_ADDRESS, 64, len(body), 0, 64, 56, 2, 64, len(headers),
                              len(headers) - 1)  # fmt: skip
        body[0:64] = header
        body[64 : 64 + len(programs)] = programs
        return bytes(body) + b"".join(headers)


def _pad(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % 4)


def _table(symbols: list[tuple[str, int, int, int, int]]) -> tuple[bytes, bytes]:
    """Symbols and names; a name that ends another is not stored twice, as linkers do it."""
    names = b"\0"
    for name in sorted({name for name, *_ in symbols}, key=len, reverse=True):
        if name.encode() + b"\0" not in names:
            names += name.encode() + b"\0"
    raw = bytes(24)
    for name, address, size, kind, bind in symbols:
        raw += struct.pack("<IBBHQQ", names.index(name.encode() + b"\0"), bind << 4 | kind, 0, 1, address, size)
    return raw, names
