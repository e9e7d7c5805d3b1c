# SPDX-License-Identifier: Apache-2.0
"""A BPF object file to an :class:`~osmia.obj.spec.ObjectSpec`.

Takes objects of our compiler, of clang and of bpftool's linker alike.  What
cannot be honoured is refused with a sentence, never skipped: a program with
one relocation missing would still load, and answer wrongly.
"""

from __future__ import annotations

import struct

from osmia.errors import NotSupported, UserError
from osmia.obj.btf import Btf
from osmia.obj.btf_ext import attach_btf_ext, fix_datasecs
from osmia.obj.consts import BPF_F_MMAPABLE, BPF_F_RDONLY_PROG, BPF_MAP_TYPE_ARRAY, BTF_KIND_DATASEC
from osmia.obj.elffile import (
    EM_BPF,
    EM_NONE,
    ET_REL,
    SHF_EXECINSTR,
    SHT_NOBITS,
    SHT_PROGBITS,
    SHT_REL,
    STB_LOCAL,
    STT_FUNC,
    STT_OBJECT,
    ElfFile,
    Section,
    Symbol,
)
from osmia.obj.maps import read_maps
from osmia.obj.meta import SECTION as META_SECTION
from osmia.obj.sections import describe_section
from osmia.obj.spec import FuncSpec, MapSpec, ObjectSpec, ProgSpec, Reloc

R_BPF_64_64 = 1
R_BPF_64_32 = 10
_LD_IMM64 = 0x18
_CALL = 0x85
_PSEUDO_CALL = 1
_DATA_PREFIXES = (".rodata", ".data", ".bss")
_MAX_DATA = 1 << 30  # bytes of one data section; the kernel's limit for an array's value is lower


def parse_object(data: bytes, name: str) -> ObjectSpec:
    """Read an object file.

    ``name`` (a path, as a rule) goes into messages and into the spec.
    Raises :class:`UserError` for bytes that are no BPF object or are damaged,
    :class:`NotSupported` for what this loader does not do (``extern``
    variables and kernel functions, old-style ``maps`` sections, map slots
    initialised in the source).
    """
    try:
        return _Reader(ElfFile(data, name)).read()
    except (struct.error, IndexError, KeyError, ValueError, OverflowError, MemoryError, RecursionError) as e:
        # Every length is checked where it is read; this catches the combinations that nobody thought of.
        raise UserError(f"damaged object file ({type(e).__name__}: {e})", where=name) from None


class _Reader:
    def __init__(self, elf: ElfFile) -> None:
        self.elf = elf
        self.spec = ObjectSpec(elf.name)
        # Per executable section: (start, end, function) in order of start.
        self.code: dict[int, list[tuple[int, int, FuncSpec]]] = {}
        self.map_symbols: dict[int, str] = {}  # offset in .maps -> name
        self.maps_index = -1
        self.data_sections: dict[int, str] = {}

    def read(self) -> ObjectSpec:
        elf, spec = self.elf, self.spec
        if elf.machine not in (EM_BPF, EM_NONE):
            what = f"an object for machine {elf.machine}, not for BPF (247)"
            raise UserError(what, where=elf.name, fix="compile with -target bpf")
        if elf.type != ET_REL:
            raise UserError("not a relocatable object", where=elf.name, fix="compile with -c")
        spec.license = self._text("license")
        spec.meta = self._bytes(META_SECTION)
        btf = self._read_btf()
        self._read_functions()
        self._read_map_definitions(btf)
        self._read_data_sections(btf)
        for section in elf.sections:
            if section.type == SHT_REL:
                self._read_relocations(section)
        for index in self.code:
            self._add_local_calls(index)
        ext = self._bytes(".BTF.ext")
        if ext and btf is not None:
            by_name = {elf.sections[i].name: functions for i, functions in self.code.items()}
            attach_btf_ext(ext, btf, by_name, elf.name)
        return spec

    def _bytes(self, section_name: str) -> bytes:
        section = self.elf.find(section_name)
        return self.elf.contents(section) if section is not None else b""

    def _text(self, section_name: str) -> str:
        return self._bytes(section_name).partition(b"\0")[0].decode("utf-8", "backslashreplace")

    def _read_btf(self) -> Btf | None:
        raw = bytearray(self._bytes(".BTF"))
        if not raw:
            return None
        fix_datasecs(raw, self.elf)
        self.spec.btf = bytes(raw)
        return Btf(self.spec.btf, name=f"{self.elf.name}: .BTF")

    # -- code --------------------------------------------------------------

    def _read_functions(self) -> None:
        elf = self.elf
        for section in elf.sections:
            if section.type == SHT_PROGBITS and section.flags & SHF_EXECINSTR and section.size:
                self.code[section.index] = []
        for symbol in elf.symbols:
            if symbol.type == STT_FUNC and symbol.section in self.code:
                self._add_function(symbol, elf.sections[symbol.section])
        for index, functions in self.code.items():
            functions.sort(key=lambda f: f[0])
            if not functions:
                raise elf.bad(f"section {elf.sections[index].name!r} holds code but no function")

    def _add_function(self, symbol: Symbol, section: Section) -> None:
        elf, spec = self.elf, self.spec
        end = symbol.value + symbol.size
        if symbol.value % 8 or symbol.size % 8 or not symbol.size or end > section.size:
            raise elf.bad(f"function {symbol.name!r} lies outside its section {section.name!r}")
        if symbol.name in spec.progs or symbol.name in spec.funcs:
            raise elf.bad(f"there are two functions {symbol.name!r}")
        code = bytes(elf.data[section.offset + symbol.value : section.offset + end])
        function: FuncSpec
        if section.name == ".text":
            function = spec.funcs[symbol.name] = FuncSpec(symbol.name, code)
        else:
            if symbol.bind == STB_LOCAL:
                raise NotSupported(
                    f"function {symbol.name!r} in section {section.name!r} is static", where=elf.name,
                    fix="an entry program must be global, a subprogram must be in .text",
                )
            program = ProgSpec(symbol.name, code, section.name)
            hook = describe_section(section.name, elf.name)
            program.hook, program.type, program.attach_type, program.target, program.sleepable = hook
            function = spec.progs[symbol.name] = program
        self.code[section.index].append((symbol.value, end, function))

    def _function_at(self, index: int, offset: int) -> tuple[int, FuncSpec]:
        """The function of code section ``index`` that holds byte ``offset``, and where it starts."""
        for start, end, function in self.code[index]:
            if start <= offset < end:
                return start, function
        raise self.elf.bad(f"no function at offset {offset} of {self.elf.sections[index].name!r}")

    def _function_starting(self, index: int, offset: int, user: FuncSpec) -> str:
        for start, _, function in self.code.get(index, ()):
            if start == offset:
                return function.name
        raise self.elf.bad(f"{user.name!r} refers to offset {offset} of a section, where no function starts")

    # -- data --------------------------------------------------------------

    def _read_map_definitions(self, btf: Btf | None) -> None:
        elf = self.elf
        if elf.find("maps") is not None:
            what = "old-style map definitions (section 'maps')"
            raise NotSupported(what, where=elf.name, fix="define maps with BTF in section .maps")
        section = elf.find(".maps")
        if section is None:
            return
        if btf is None:
            raise UserError("maps are defined but there is no .BTF section", where=elf.name, fix="compile with -g")
        self.maps_index = section.index
        specs = read_maps(btf, elf.name)
        for symbol in elf.symbols:
            if symbol.section == section.index and symbol.type == STT_OBJECT:
                if symbol.name not in specs:
                    raise elf.bad(f"map {symbol.name!r} is not described in .BTF")
                self.map_symbols[symbol.value] = symbol.name
        for _, map_name in sorted(self.map_symbols.items()):
            self.spec.maps[map_name] = specs[map_name]

    def _read_data_sections(self, btf: Btf | None) -> None:
        elf = self.elf
        for section in elf.sections:
            if section.size and section.type in (SHT_PROGBITS, SHT_NOBITS) and section.name.startswith(_DATA_PREFIXES):
                if section.size > _MAX_DATA:
                    raise elf.bad(f"section {section.name} has {section.size} bytes")
                self.data_sections[section.index] = section.name
                self.spec.maps[section.name] = self._data_map(section, btf)
        for symbol in elf.symbols:
            if symbol.type == STT_OBJECT and symbol.section in self.data_sections:
                data_map = self.spec.maps[self.data_sections[symbol.section]]
                if symbol.value + symbol.size > data_map.value_size:
                    raise elf.bad(f"variable {symbol.name!r} lies outside its section {data_map.name}")
                data_map.variables[symbol.name] = (symbol.value, symbol.size)

    def _data_map(self, section: Section, btf: Btf | None) -> MapSpec:
        spec = MapSpec(section.name, BPF_MAP_TYPE_ARRAY, 4, section.size, 1)
        spec.contents = bytearray(self.elf.contents(section) or section.size)
        spec.flags = BPF_F_RDONLY_PROG if section.name.startswith(".rodata") else BPF_F_MMAPABLE
        if btf is not None:
            spec.value_tid = btf.find(section.name, BTF_KIND_DATASEC)
        return spec

    # -- relocations -------------------------------------------------------

    def _read_relocations(self, section: Section) -> None:
        elf = self.elf
        if section.info >= len(elf.sections):
            raise elf.bad(f"{section.name} is for a section that does not exist")
        target = elf.sections[section.info]
        relocations = elf.relocations(section)
        if target.index == self.maps_index and relocations:
            raise NotSupported(
                f"a map whose slots are initialised in the source ({relocations[0][2].name})", where=elf.name,
                fix="fill the slots after loading",
            )
        if target.index in self.data_sections and relocations:
            raise NotSupported(f"section {target.name} holds addresses", where=elf.name, fix="use offsets or indexes")
        if target.index not in self.code:
            return  # debug information, BTF, unwind tables: whatever needs an address there is not loaded
        for offset, kind, symbol in relocations:
            start, function = self._function_at(target.index, offset)
            where = offset - start
            if where % 8:
                raise elf.bad(f"a relocation in {target.name} is not at an instruction")
            if symbol.section == 0:
                raise NotSupported(
                    f"{function.name!r} uses extern {symbol.name!r}", where=elf.name,
                    fix="kernel configuration, kernel symbols and kernel functions are not linked by this loader",
                )
            if kind == R_BPF_64_64:
                function.relocs.append(self._address_reloc(function, where, symbol))
            elif kind == R_BPF_64_32:
                function.relocs.append(self._call_reloc(function, where, symbol))
            else:
                raise elf.bad(f"relocation of type {kind} in {target.name}")

    def _address_reloc(self, function: FuncSpec, offset: int, symbol: Symbol) -> Reloc:
        opcode, imm = _instruction(function, offset)
        if opcode != _LD_IMM64 or offset + 16 > len(function.insns):
            raise self.elf.bad(f"{function.name!r} relocates an instruction that loads no address")
        place = symbol.value + imm  # a section symbol has value 0 and the offset in the instruction
        if symbol.section == self.maps_index:
            if place not in self.map_symbols:
                raise self.elf.bad(f"{function.name!r} refers to offset {place} of .maps, where no map starts")
            return Reloc(offset, "map", self.map_symbols[place])
        if symbol.section in self.data_sections:
            return Reloc(offset, "data", self.data_sections[symbol.section], place & 0xFFFFFFFF)
        if symbol.section in self.code:
            return Reloc(offset, "func", self._function_starting(symbol.section, place, function))
        raise NotSupported(f"{function.name!r} refers to {symbol.name!r}, which is in no data section",
                           where=self.elf.name)

    def _call_reloc(self, function: FuncSpec, offset: int, symbol: Symbol) -> Reloc:
        opcode, imm = _instruction(function, offset)
        if opcode != _CALL or symbol.section not in self.code:
            raise self.elf.bad(f"{function.name!r} relocates an instruction that calls no function")
        # The immediate counts instructions from the next one, so a call of the symbol itself has -1.
        place = symbol.value + (imm + 1) * 8
        return Reloc(offset, "call", self._function_starting(symbol.section, place, function))

    def _add_local_calls(self, index: int) -> None:
        """Calls within one section come resolved: name their targets, since functions will be moved apart."""
        for start, _, function in self.code[index]:
            known = {r.offset for r in function.relocs}
            opcodes = function.insns[::8]
            i = opcodes.find(_CALL)
            while i >= 0:
                offset = i * 8
                if function.insns[offset + 1] >> 4 == _PSEUDO_CALL and offset not in known:
                    place = start + offset + (_instruction(function, offset)[1] + 1) * 8
                    name = self._function_starting(index, place, function)
                    function.relocs.append(Reloc(offset, "call", name))
                i = opcodes.find(_CALL, i + 1)
            function.relocs.sort(key=lambda r: r.offset)


def _instruction(function: FuncSpec, offset: int) -> tuple[int, int]:
    """Opcode and signed immediate of the instruction at byte ``offset``."""
    opcode, _, _, imm = struct.unpack_from("<BBhi", function.insns, offset)
    return opcode, imm
