# SPDX-License-Identifier: Apache-2.0
"""Which function of an ELF file covers an address in it.

The tables are asked in this order, and each is only read when those before
it do not know: ``.symtab`` and ``.dynsym`` of the file, the packed table
that Fedora leaves in stripped files, the file of a debug package, Go's own
table.  Names are read from the mapped file when they are wanted.

A symbol covers its size and nothing more.  One without a size (assembly)
reaches to the next symbol of its section, if the table still has the local
symbols; without those nobody knows what follows it.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import compress

from osmia.errors import UserError
from osmia.symbols import debugfile, demangle, gopclntab, spans
from osmia.symbols.image import SHT_DYNSYM, SHT_SYMTAB, Image, Section
from osmia.symbols.spans import Spans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.symbols.eh_frame import EhFrame
    from osmia.symbols.spans import Row

STT_NOTYPE, STT_FUNC, STT_IFUNC = 0, 2, 10
_SYM_SIZE = 24
_ALLOC_EXEC = 2 | 4  # section flags
_SPECIAL = 0xFF00  # section numbers from here on mean something else
_TOP = 1 << 62
#: For each ``st_info``: how good its binding is (global, weak, the rest).
_RANK = bytes({1: 0, 2: 1}.get(info >> 4, 2) for info in range(256))
#: For each ``st_info``: whether it is a function.
_IS_FUNCTION = bytes(info & 15 in (STT_FUNC, STT_IFUNC) for info in range(256))
#: For each ``st_info``: whether it may be assembly that has no size.
_MAY_LACK_SIZE = bytes(info & 15 in (STT_NOTYPE, STT_FUNC) for info in range(256))
_PER_NAME = 120  # bytes that a kept name takes beside its text


class Source:
    """One table with the file that it is read from.  ``bias`` is added to its addresses."""

    def __init__(self, image: Image, section: Section, bias: int = 0) -> None:
        if section.link >= len(image.sections):
            raise image.damaged("a symbol table without names")
        names = image.sections[section.link]
        self.image = image
        self.section = section
        self.bias = bias
        self._go = image.is_go()
        self._names_at = names.offset
        self._names_size = names.size
        self._kept: dict[int, str] = {}
        self._kept_bytes = 0
        self.spans: Spans = self._read()

    @property
    def memory(self) -> int:
        """Memory taken, without what is mapped."""
        return self.spans.memory + self._kept_bytes

    def at(self, address: int) -> tuple[str, int] | None:
        """``(name, address of the function)``, or None."""
        table = self.spans
        n = table.at(address)
        if n < 0:
            return None
        name = self._kept.get(n)
        if name is None:
            name = demangle.name(self._name(table.names[n]))
            self._kept[n] = name
            self._kept_bytes += len(name) + _PER_NAME
        return (name, table.firsts[n]) if name else None

    def _name(self, offset: int) -> str:
        if offset >= self._names_size:
            return ""
        raw = self.image.string(self._names_at + offset)
        name = raw.partition(b"@")[0].decode("utf-8", "surrogateescape")
        return name.removesuffix(".abi0") if self._go else name  # Go's own tools do not show the calling convention

    # -- reading --------------------------------------------------------

    def _read(self) -> Spans:
        raw = self.image.bytes_of(self.section)
        raw = raw[: len(raw) // _SYM_SIZE * _SYM_SIZE]
        infos = bytes(raw[4::_SYM_SIZE])
        mask, ranks, bias = infos.translate(_IS_FUNCTION), infos.translate(_RANK), self.bias
        with raw.cast("I") as words, raw.cast("H") as halves, raw.cast("Q") as quads:
            # Columns, not yet numbers: a browser has millions of symbols, and few of them are functions.
            columns = quads[1::3], quads[2::3], words[0::6], halves[3::12]
            addresses, sizes, names, sections = columns
            rows = [
                (address + bias, -(address + bias + size), rank, name)
                for address, size, rank, name, section in zip(
                    *[compress(column, mask) for column in (addresses, sizes, ranks, names, sections)], strict=True
                )
                if section and size and address > 0 and address + size < _TOP
            ]
            found = spans.of_rows(rows, self._better)
            del rows
            if self.section.type == SHT_SYMTAB and b"\x02" in infos:  # a local function: STB_LOCAL << 4 | STT_FUNC
                plain = infos.translate(_MAY_LACK_SIZE)
                unsized = [
                    (address, section, name)
                    for address, size, name, section in zip(
                        *[compress(column, plain) for column in columns], strict=True
                    )
                    if not size and 0 < section < _SPECIAL and 0 < address < _TOP
                ]
                if unsized:
                    found = self._fill(found, unsized, sorted(zip(sections, addresses, strict=True)))
            for column in columns:
                column.release()
        raw.release()
        return found

    def _better(self, name: int, kept: int) -> bool:
        """Of two names of one function: the one that its users would write."""
        one, other = self._name(name), self._name(kept)
        return (one.startswith("_"), len(one), one) < (other.startswith("_"), len(other), other)

    def _fill(self, found: Spans, unsized: list[tuple[int, int, int]], places: list[tuple[int, int]]) -> Spans:
        """``found`` with the symbols that have no size, where no other is; ``places`` is where any symbol begins."""
        rows: list[Row] = []
        for address, number, name in unsized:
            section = self.image.sections[number] if number < len(self.image.sections) else None
            if section is None or section.flags & _ALLOC_EXEC != _ALLOC_EXEC or found.at(address + self.bias) >= 0:
                continue
            if self._name(name)[:1] in ("", "$", "."):  # marks of the assembler, no functions
                continue
            after = bisect_right(places, (number, address))
            end = section.address + section.size
            if after < len(places) and places[after][0] == number:
                end = min(end, places[after][1])
            if address < end:
                rows.append((address + self.bias, -(end + self.bias), 0, name))
        if not rows:
            return found
        kept = zip(found.starts, found.ends, found.firsts, found.names, strict=True)
        whole = Spans()
        for start, end, first, name in sorted(
            [*kept, *[(start, -negative, start, name) for start, negative, _, name in sorted(set(rows))]]
        ):
            if not len(whole) or start >= whole.ends[-1]:
                whole.append(start, end, first, name)
        return whole


class Names:
    """All that is known of the functions of one file.

    ``root`` is the prefix through which its process sees files (see
    :func:`osmia.symbols.libs.root_of`) and ``path`` the file's name there:
    both say where its debug package's file would be.  The image belongs to
    this object, which closes it.
    """

    def __init__(self, image: Image, path: str = "", root: str = "") -> None:
        self.image = image
        self.build_id = image.build_id()
        self.path = path or image.path
        self._root = root
        self._sources: list[Source | gopclntab.Functions] = []
        self._further = [self._full, self._dynamic, self._packed, self._separate, self._go]
        self._images: list[Image] = []
        self._rules: EhFrame | None = None

    @property
    def memory(self) -> int:
        """Memory taken: arrays, names and unpacked tables; not what is mapped from files."""
        rules = self._rules.memory if self._rules is not None else 0
        unpacked = rules + sum(len(image.data) for image in self._images if not image.path)
        return 2000 + sum(source.memory for source in self._sources) + unpacked

    def close(self) -> None:
        """Unmap everything."""
        self._sources, self._further = [], []
        if self._rules is not None:
            self._rules.close()
            self._rules = None
        for image in (self.image, *self._images):
            image.close()
        self._images = []

    def at(self, address: int) -> tuple[str, int] | None:
        """``(name, where the function begins)`` for an address before relocation; None where no symbol covers it."""
        for source in self._sources:
            found = source.at(address)
            if found is not None:
                return found
        while self._further:
            step = self._further.pop(0)
            try:
                new = step()
            except UserError:  # one damaged table does not spoil the others
                continue
            self._sources += new
            for source in new:
                found = source.at(address)
                if found is not None:
                    return found
        return None

    def rules(self) -> EhFrame:
        """How to unwind stacks through this file.  Raises what :class:`EhFrame` raises."""
        if self._rules is None:
            from osmia.symbols.eh_frame import EhFrame

            self._rules = EhFrame(self.image)
        return self._rules

    # -- the tables -----------------------------------------------------

    def _tables(self, image: Image, kind: int) -> list[Source | gopclntab.Functions]:
        bias = self._bias(image)
        return [Source(image, section, bias) for section in image.sections if section.type == kind and section.size]

    def _bias(self, image: Image) -> int:
        """How far the file's addresses are from those of ``image``: prelink moves programs, not their debug files."""
        if image is self.image:
            return 0
        own = {one.name: one.address for one in self.image.sections}
        other = {one.name: one.address for one in image.sections}
        text = ".text"
        return own[text] - other[text] if own.get(text) and other.get(text) else 0

    def _full(self) -> list[Source | gopclntab.Functions]:
        return self._tables(self.image, SHT_SYMTAB)

    def _dynamic(self) -> list[Source | gopclntab.Functions]:
        return self._tables(self.image, SHT_DYNSYM)

    def _packed(self) -> list[Source | gopclntab.Functions]:
        return self._of(debugfile.minidebug(self.image))

    def _separate(self) -> list[Source | gopclntab.Functions]:
        return self._of(debugfile.separate(self.image, self.path, self._root))

    def _of(self, image: Image | None) -> list[Source | gopclntab.Functions]:
        if image is None:
            return []
        self._images.append(image)
        return self._tables(image, SHT_SYMTAB)

    def _go(self) -> list[Source | gopclntab.Functions]:
        found = gopclntab.read(self.image)
        return [found] if found is not None else []
