# SPDX-License-Identifier: Apache-2.0
"""An executable or library on disk: segments, sections, notes.

Mapped, not read: symbol tables are found by a few headers, and a browser's
half a gigabyte stays where it is.  Everything comes from files that others
may have written, so each offset is checked before it is used.
"""

from __future__ import annotations

import os
import struct

from osmia.errors import NotFound, NotPermitted, NotSupported, UserError
from osmia.obj import ptregs

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

PT_LOAD, PT_NOTE = 1, 4
PF_X, PF_W = 1, 2
SHT_SYMTAB, SHT_NOTE, SHT_NOBITS, SHT_DYNSYM, SHT_VERSYM = 2, 7, 8, 11, 0x6FFFFFFF
_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_MAX_HEADERS = 1 << 16


class Section:
    """One section header; ``address`` is where it is loaded, ``offset`` and ``size`` are bytes in the file."""

    __slots__ = ("address", "flags", "info", "link", "name", "offset", "size", "type")

    def __init__(self, name: str, raw: tuple[int, ...]) -> None:
        self.name = name
        _, self.type, self.flags, self.address, self.offset, self.size, self.link, self.info, _, _ = raw


class Segment:
    """One PT_LOAD header."""

    __slots__ = ("address", "executable", "file_size", "memory_size", "offset", "writable")

    def __init__(self, flags: int, offset: int, address: int, file_size: int, memory_size: int) -> None:
        self.executable = bool(flags & PF_X)
        self.writable = bool(flags & PF_W)
        self.offset = offset
        self.address = address
        self.file_size = file_size
        self.memory_size = memory_size


class Image:
    """An ELF file.  ``path`` is how to open it, ``name`` how messages call it.

    Raises NotFound, NotPermitted, NotSupported (32-bit and foreign files) and
    UserError (no ELF, or damaged).  Close it, or use ``with``.
    """

    _map: mmap.mmap | None
    _raw: bytes | mmap.mmap

    def __init__(self, path: str, name: str = "") -> None:
        self.path = path
        self.name = name or path
        self._open(path)
        try:
            self._read_headers()
        except (struct.error, OverflowError):
            self.close()
            raise self.damaged("it is cut short") from None
        except BaseException:
            self.close()
            raise

    @classmethod
    def of_bytes(cls, data: bytes, name: str) -> Image:
        """An image that is in memory (an unpacked ``.gnu_debugdata``)."""
        self = cls.__new__(cls)
        self.path, self.name, self.data = "", name, memoryview(data)
        self._map = None
        self._raw = data
        self.inode = (0, 0)
        self.mtime_ns = 0
        try:
            self._read_headers()
        except (struct.error, OverflowError):
            raise self.damaged("it is cut short") from None
        return self

    def _open(self, path: str) -> None:
        import mmap

        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise NotFound("there is no such file", where=self.name) from None
        except PermissionError:
            raise NotPermitted("the file may not be read", where=self.name) from None
        except OSError as e:
            raise UserError(f"cannot be opened: {e.strerror}", where=self.name) from None
        try:
            info = os.fstat(fd)
            self.inode = (info.st_dev, info.st_ino)
            self.mtime_ns = info.st_mtime_ns
            self._map = self._raw = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):  # a directory, a device, an empty file
            raise UserError("not a program or library", where=self.name) from None
        finally:
            os.close(fd)
        self.data = memoryview(self._map)

    def __enter__(self) -> Image:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Unmap the file.  May be called twice."""
        self._raw = b""
        self.data.release()
        if self._map is not None:
            try:
                self._map.close()
            except BufferError:  # somebody still looks at a part of it: it goes with that
                return
            finally:
                self._map = None

    def damaged(self, what: str) -> UserError:
        """The error for a file that contradicts itself."""
        return UserError(f"damaged ELF file: {what}", where=self.name)

    # -- headers --------------------------------------------------------

    def _read_headers(self) -> None:
        data = self.data
        if bytes(data[:4]) != b"\x7fELF":
            raise UserError("not a program or library (no ELF file)", where=self.name)
        if bytes(data[4:6]) != b"\x02\x01":
            kind = "32-bit" if data[4] == 1 else "big-endian"
            raise NotSupported(f"{kind} programs cannot be traced", where=self.name, fix="use the 64-bit one")
        header = _EHDR.unpack_from(data)
        self.type, machine = header[1], header[2]
        self.machine = ptregs.BY_ELF.get(machine)
        phoff, shoff, self._phnum, self._shnum, shstrndx = header[5], header[6], header[10], header[12], header[13]
        if shoff and not self._shnum:  # more than 65,279 sections: the number is in section 0
            self._shnum = _SHDR.unpack_from(data, shoff)[5]
        if self._shnum > _MAX_HEADERS:
            raise self.damaged("too many sections")
        self.segments: list[Segment] = []
        self._notes: list[tuple[int, int]] = []
        for at in range(phoff, phoff + 56 * self._phnum, 56):
            kind, flags, offset, address, _, file_size, memory_size, _ = _PHDR.unpack_from(data, at)
            if kind == PT_LOAD:
                self.segments.append(Segment(flags, offset, address, file_size, memory_size))
            elif kind == PT_NOTE:
                self._notes.append((offset, file_size))
        self._read_sections(shoff, shstrndx)

    def _read_sections(self, shoff: int, shstrndx: int) -> None:
        self.sections: list[Section] = []
        if not shoff or not self._shnum:
            return
        raws = [_SHDR.unpack_from(self.data, shoff + 64 * n) for n in range(self._shnum)]
        if shstrndx == 0xFFFF:
            shstrndx = raws[0][6]
        names = b""
        if shstrndx < len(raws):
            names = bytes(self.data[raws[shstrndx][4] : raws[shstrndx][4] + raws[shstrndx][5]])
        for raw in raws:
            end = names.find(b"\0", raw[0])
            self.sections.append(Section(names[raw[0] : end].decode("ascii", "replace") if end >= 0 else "", raw))

    def section(self, name: str) -> Section | None:
        """The section of that name that has bytes in this file."""
        for section in self.sections:
            if section.name == name and section.type != SHT_NOBITS:
                return section
        return None

    def bytes_of(self, section: Section) -> memoryview:
        """A section's bytes."""
        if section.type == SHT_NOBITS or section.offset + section.size > len(self.data):
            raise self.damaged(f"section {section.name} lies outside of the file")
        return self.data[section.offset : section.offset + section.size]

    def string(self, offset: int, limit: int = 1 << 16) -> bytes:
        """The bytes from file offset ``offset`` to the next NUL; empty without one within ``limit``."""
        if offset >= len(self._raw):
            return b""
        end = self._raw.find(b"\0", offset, offset + limit)
        return self._raw[offset:end] if end > offset else b""

    # -- places ---------------------------------------------------------

    def file_offset(self, address: int, *, code: bool = False) -> int | None:
        """Where in the file the byte is that is loaded at ``address``; None where no segment has it.

        ``code``: only in executable segments.
        """
        for one in self.segments:
            if one.address <= address < one.address + one.file_size and (one.executable or not code):
                return address - one.address + one.offset
        return None

    def address_of(self, offset: int) -> int | None:
        """The address (before relocation) at which the executable byte at file offset ``offset`` is loaded."""
        for one in self.segments:
            if one.offset <= offset < one.offset + one.file_size and one.executable:
                return offset - one.offset + one.address
        return None

    def distance(self, offset: int) -> int:
        """Address less file offset, for a mapping of the file that begins at ``offset``.

        Mappings begin at pages, segments where they like: the segment is the
        one whose pages these are, an executable one if there is a choice.
        """
        page = os.sysconf("SC_PAGE_SIZE")
        best = None
        for one in self.segments:
            if one.offset // page * page <= offset < one.offset + one.file_size and (best is None or one.executable):
                best = one
        return best.address - best.offset if best is not None else 0

    # -- notes ----------------------------------------------------------

    def notes(self, name: str = "") -> Iterator[tuple[bytes, int, memoryview]]:
        """``(owner, type, description)`` of the notes in section ``name``, or in every note there is."""
        places = [(s.offset, s.size) for s in self.sections if s.type == SHT_NOTE and (not name or s.name == name)]
        if not name and not places:
            places = self._notes
        for offset, size in places:
            yield from self._walk_notes(self.data[offset : offset + size])

    @staticmethod
    def _walk_notes(raw: memoryview) -> Iterator[tuple[bytes, int, memoryview]]:
        at = 0
        while at + 12 <= len(raw):
            name_size, size, kind = struct.unpack_from("<III", raw, at)
            start = at + 12 + (name_size + 3 & ~3)
            if start + size > len(raw):
                return
            yield bytes(raw[at + 12 : at + 12 + name_size]).rstrip(b"\0"), kind, raw[start : start + size]
            at = start + (size + 3 & ~3)

    def build_id(self) -> str:
        """The build id in hexadecimal; empty where there is none."""
        for owner, kind, text in self.notes():
            if owner == b"GNU" and kind == 3 and 4 <= len(text) <= 64:
                return bytes(text).hex()
        return ""

    def is_go(self) -> bool:
        """Whether the Go linker made it."""
        if any(section.name in (".go.buildinfo", ".gopclntab", ".note.go.buildid") for section in self.sections):
            return True
        return any(owner == b"Go" for owner, _, _ in self.notes())
