# SPDX-License-Identifier: Apache-2.0
"""Functions of a program by name or pattern.

Looked for where they may be, in this order: ``.symtab``, ``.dynsym``, the
compressed ``.gnu_debugdata`` that Fedora leaves in stripped files, and the
separate file of a debug package.  Columns of a symbol table are taken out
with strided memory views, so that 35,000 symbols take milliseconds and not a
third of a second.
"""

from __future__ import annotations

import struct

from osmia.errors import NotFound, UserError
from osmia.symbols import debugfile
from osmia.symbols.image import SHT_DYNSYM, SHT_SYMTAB, SHT_VERSYM, Image, Section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STT_FUNC, STT_IFUNC = 2, 10
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
_HIDDEN = 0x8000
_SYM_SIZE = 24
_MAGIC_CHARACTERS = "*?["
#: In names of what is a part of a function only, and jumped to.
_PARTS = (".cold", ".part.")


class Function:
    """One function: ``address`` before relocation, ``size`` in bytes (0: unknown), ``offset`` in the file.

    ``version`` is its symbol version (``GLIBC_2.2.5``, may be empty),
    ``default`` whether that is what new programs are linked with,
    ``indirect`` whether the address is only that of a function that picks the
    real one when a program starts (STT_GNU_IFUNC).
    """

    __slots__ = ("address", "bind", "default", "indirect", "name", "offset", "size", "version")

    def __init__(self, name: str, address: int, size: int, offset: int, info: int) -> None:
        self.name = name
        self.address = address
        self.size = size
        self.offset = offset
        self.bind = info >> 4
        self.indirect = info & 15 == STT_IFUNC
        self.version = ""
        self.default = True

    def __repr__(self) -> str:
        return f"<Function {self.name} at {self.address:#x}+{self.size}>"


class Table:
    """One symbol table."""

    def __init__(self, image: Image, section: Section) -> None:
        if section.link >= len(image.sections):
            raise image.damaged("a symbol table without names")
        raw = image.bytes_of(section)
        raw = raw[: len(raw) // _SYM_SIZE * _SYM_SIZE]
        self.image = image
        self.strings = bytes(image.bytes_of(image.sections[section.link]))
        self.dynamic = section.type == SHT_DYNSYM
        self._words = raw.cast("I")
        self._halves = raw.cast("H")
        self._quads = raw.cast("Q")
        self._infos = raw[4::_SYM_SIZE]
        self._versions: list[int] | None = None
        self._version_names: dict[int, str] = {}

    def name_at(self, offset: int) -> bytes:
        """The string at ``offset`` of the string table; empty beyond its end."""
        end = self.strings.find(b"\0", offset)
        return self.strings[offset:end] if end >= 0 else b""

    def named(self, name: bytes) -> list[int]:
        """Indexes of the symbols called ``name``, with or without a version behind ``@``."""
        wanted = set()
        for ending in (b"\0", b"@"):
            text = name + ending
            at = self.strings.find(text)
            while at >= 0:  # linkers let "read" point into "pread"
                wanted.add(at)
                at = self.strings.find(text, at + 1)
        if not wanted:
            return []
        return [n for n, offset in enumerate(self._words[0::6].tolist()) if offset in wanted]

    def matching(self, accept: Callable[[bytes], object], prefix: bytes = b"") -> list[int]:
        """Indexes of the defined functions whose name (without version) is accepted; it must begin with ``prefix``."""
        strings, index, begins = self.strings, self.strings.index, self.strings.startswith
        good = (STT_FUNC, STT_IFUNC)
        out = []
        try:
            for n, (offset, info, section) in enumerate(
                zip(self._words[0::6].tolist(), self._infos.tolist(), self._halves[3::12].tolist(), strict=True)
            ):
                if info & 15 in good and section and begins(prefix, offset):
                    name = strings[offset : index(0, offset)]
                    if b"@" in name:
                        name = name[: name.index(b"@")]
                    if accept(name):
                        out.append(n)
        except ValueError:
            raise self.image.damaged("a symbol's name lies outside of the string table") from None
        return out

    def function(self, n: int, loaded: Image) -> Function | None:
        """Symbol ``n`` as a function of ``loaded`` (the file that is mapped); None if it is none, or not there."""
        info = self._infos[n]
        address, size = self._quads[3 * n + 1], self._quads[3 * n + 2]
        if info & 15 not in (STT_FUNC, STT_IFUNC) or not self._halves[12 * n + 3] or not address:
            return None
        offset = loaded.file_offset(address, code=True)
        if offset is None:
            return None
        name, _, version = self.name_at(self._words[6 * n]).decode("utf-8", "surrogateescape").partition("@")
        made = Function(name, address, size, offset, info)
        if version:
            made.version, made.default = version.lstrip("@"), version.startswith("@")
        elif self.dynamic:
            self._add_version(made, n)
        return made

    def address(self, name: bytes) -> int | None:
        """The address of any defined symbol (data too) called ``name``."""
        for n in self.named(name):
            if self._halves[12 * n + 3]:
                return self._quads[3 * n + 1]
        return None

    # -- versions -------------------------------------------------------

    def _add_version(self, made: Function, n: int) -> None:
        if self._versions is None:
            self._read_versions()
        assert self._versions is not None
        if n < len(self._versions):
            number = self._versions[n]
            made.version = self._version_names.get(number & ~_HIDDEN, "")
            made.default = not number & _HIDDEN

    def _read_versions(self) -> None:
        """``.gnu.version``: a number for each dynamic symbol; ``.gnu.version_d``: what the numbers mean."""
        self._versions = []
        for section in self.image.sections:
            if section.type == SHT_VERSYM:
                raw = self.image.bytes_of(section)
                self._versions = raw[: len(raw) & ~1].cast("H").tolist()
        definitions = self.image.section(".gnu.version_d")
        if definitions is None:
            return
        raw, at = self.image.bytes_of(definitions), 0
        for _ in range(definitions.info):
            if at + 20 > len(raw):
                return
            number, aux, following = struct.unpack_from("<4xH6xII", raw, at)[:3]
            if at + aux + 4 > len(raw):
                return
            name = self.name_at(struct.unpack_from("<I", raw, at + aux)[0])
            if number > 1:  # 1 is the file itself
                self._version_names[number] = name.decode("ascii", "replace")
            if not following:
                return
            at += following


class Symbols:
    """Everything that is known of the functions of one file."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self._tables: dict[str, list[Table]] = {}

    def _own(self) -> list[Table]:
        """``.symtab`` and ``.dynsym`` of the file itself."""
        if "own" not in self._tables:
            self._tables["own"] = tables(self.image)
        return self._tables["own"]

    def _further(self) -> Iterator[Table]:
        """Tables of stripped files: from ``.gnu_debugdata``, then from a debug package; only opened when asked for."""
        if any(not one.dynamic for one in self._own()):
            return
        for kind, opener in (("mini", debugfile.minidebug), ("separate", debugfile.separate)):
            if kind not in self._tables:
                image = opener(self.image)
                self._tables[kind] = tables(image) if image is not None else []
            yield from self._tables[kind]

    def all_tables(self) -> Iterator[Table]:
        """Every table, cheapest first."""
        yield from self._own()
        yield from self._further()

    def named(self, name: str) -> list[Function]:
        """Functions called ``name`` (``malloc``, ``memcpy@GLIBC_2.2.5``), at different places; empty if none.

        Of several versions the one that new programs get, unless the version
        is given.
        """
        plain, _, version = name.partition("@")
        version = version.lstrip("@")
        for table in self.all_tables():
            numbers = table.named(plain.encode("utf-8", "surrogateescape"))
            found = [one for one in (table.function(n, self.image) for n in numbers) if one is not None]
            if version:
                found = [one for one in found if one.version == version]
            elif len(found) > 1:
                found = [one for one in found if one.default] or found
            if found:
                return _distinct(found)
        return []

    def matching(self, pattern: str) -> list[Function]:
        """Functions whose name matches a shell pattern, one per place, ordered by place.

        IFUNCs are left out, and parts that the compiler has split off
        (``abort.cold``), unless the pattern has a dot.
        """
        import fnmatch
        import re

        accept = re.compile(fnmatch.translate(pattern).encode("utf-8", "surrogateescape")).match
        prefix = re.split(r"[*?\[]", pattern)[0].encode("utf-8", "surrogateescape")
        found = []
        for table in self.all_tables():
            functions = [table.function(n, self.image) for n in table.matching(accept, prefix)]
            found += [one for one in functions if one is not None and not one.indirect]
        if "." not in pattern:
            found = [one for one in found if not any(part in one.name for part in _PARTS)]
        return sorted(_distinct(found), key=lambda one: one.offset)

    def at(self, offset: int) -> Function | None:
        """The function that covers file offset ``offset``; None where none is known to."""
        address = self.image.address_of(offset)
        if address is None:
            return None
        best = None
        for table in self.all_tables():
            for n in table.matching(lambda name: True):  # functions without a name too
                one = table.function(n, self.image)
                covers = one is not None and (one.address == address or one.address <= address < one.address + one.size)
                if one is not None and covers and (best is None or one.address > best.address):
                    best = one
        return best

    def address(self, name: str) -> int | None:
        """Address of any symbol, data included."""
        for table in self.all_tables():
            found = table.address(name.encode())
            if found is not None:
                return found
        return None

    def near(self, name: str) -> list[str]:
        """Names similar to one that is not there."""
        import difflib

        head = name[:2].encode("utf-8", "surrogateescape")
        names = {
            one.name for table in self._own() for n in table.matching(bool, head)
            if (one := table.function(n, self.image)) is not None
        }  # fmt: skip
        return difflib.get_close_matches(name, names, 3, 0.7)


def is_pattern(name: str) -> bool:
    """Whether ``name`` is a shell pattern rather than a name."""
    return any(c in name for c in _MAGIC_CHARACTERS)


def tables(image: Image) -> list[Table]:
    """The symbol tables of one file, the full one first."""
    found = [Table(image, s) for s in image.sections if s.type in (SHT_SYMTAB, SHT_DYNSYM) and s.size]
    return sorted(found, key=lambda table: table.dynamic)


def _distinct(found: list[Function]) -> list[Function]:
    """One function per place: the same code has several names (``malloc``, ``__libc_malloc``); global ones win."""
    best: dict[int, Function] = {}
    for one in found:
        known = best.get(one.offset)
        if known is None or _rank(one) < _rank(known):
            best[one.offset] = one
    return list(best.values())


def _rank(one: Function) -> tuple[int, int, int, str]:
    return {STB_GLOBAL: 0, STB_WEAK: 1}.get(one.bind, 2), one.name.startswith("_"), len(one.name), one.name


def find(image: Image, symbols: Symbols, name: str) -> list[tuple[int, str, str]]:
    """Places that ``name`` says, as ``(file offset, name, warning)``.

    ``name`` is a function, with a version or ``+offset`` behind it, a shell
    pattern, or a number: an address as ``objdump`` shows it.  Raises
    NotFound with near names.  The kernel would take any offset, and a
    breakpoint in the middle of an instruction corrupts the program: what is
    no function's first instruction gets a warning, what is no code at all is
    refused.
    """
    if name[:1].isdigit():
        return [_at_address(image, symbols, name)]
    if is_pattern(name):
        found = [(one.offset, one.name, "") for one in symbols.matching(name)]
        if not found:
            raise NotFound(f"no function matches {name}", where=image.name)
        return found
    plain, plus, distance = name.partition("+")
    functions = symbols.named(plain)
    if not functions:
        near = symbols.near(plain)
        fix = f"did you mean {' or '.join(near)}?" if near else _where_names_went(image, symbols)
        raise NotFound(f"there is no function {plain}", where=image.name, fix=fix)
    if plus:
        return [_inside(image, one, distance) for one in functions]
    return [_resolved(image, symbols, one) for one in functions]


def _where_names_went(image: Image, symbols: Symbols) -> str:
    if any(not one.dynamic for one in symbols.all_tables()):
        return "it may be inlined everywhere, or in another library"
    return "the file is stripped: install its debug symbols, or give the function's address"


def _number(image: Image, text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise UserError(f"{text!r} is no number", where=image.name, fix="write it as 0x1f or 31") from None


def _inside(image: Image, one: Function, distance: str) -> tuple[int, str, str]:
    number = _number(image, distance)
    if number < 0 or (number and number >= one.size):
        raise UserError(f"{one.name}+{number} is outside of the function ({one.size} bytes)", where=image.name,
                        fix=f"from {one.name}+0 to {one.name}+{max(one.size - 1, 0)}")
    warning = "" if not number else f"{one.name}+{number} must be the start of an instruction: check with objdump -d"
    return one.offset + number, f"{one.name}+{number}" if number else one.name, warning


def _at_address(image: Image, symbols: Symbols, text: str) -> tuple[int, str, str]:
    address = _number(image, text)
    offset = image.file_offset(address, code=True)
    if offset is None:
        raise UserError(f"there is no code at {address:#x}", where=image.name,
                        fix="give an address as objdump -d shows it")
    one = symbols.at(offset)
    if one is not None and one.offset == offset:
        return offset, one.name, ""
    where = f"{one.name}+{offset - one.offset}" if one is not None else "no known function"
    return offset, text, f"{address:#x} ({where}) must be the start of an instruction: check with objdump -d"


def _resolved(image: Image, symbols: Symbols, one: Function) -> tuple[int, str, str]:
    """The place of a function; of an indirect one, where the dynamic linker would send this machine's programs."""
    if not one.indirect:
        return one.offset, one.name, ""
    from osmia.kernel import dl

    address = dl.implementation(image.inode, one.name)
    offset = image.file_offset(address, code=True) if address is not None else None
    if offset is None:
        raise UserError(
            f"{one.name} is chosen by CPU when a program starts, and which one is not known for this file",
            where=image.name, fix=f"name the implementation: see {image.path} for functions like __{one.name}_avx2",
        )  # fmt: skip
    picked = symbols.at(offset)
    known = picked is not None and picked.offset == offset
    return offset, picked.name if known and picked is not None else one.name, ""
