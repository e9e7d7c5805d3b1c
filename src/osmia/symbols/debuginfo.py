# SPDX-License-Identifier: Apache-2.0
"""What a program's debug information (DWARF) says of a function: its parameters by name, and their types.

Reading DWARF is left to pyelftools (the extra ``osmia[dwarf]``), which is
asked for one function only: its compilation unit is found by its address.
Types are turned into BTF, so that the compiler walks a program's structures
as it walks the kernel's.  Without the package, or without debug information,
there are simply no names: ``arg1`` and typed signatures do.
"""

from __future__ import annotations

import io

from osmia.errors import UserError
from osmia.obj.btf_write import CHAR, SIGNED, BtfBuilder
from osmia.obj.consts import BTF_KIND_CONST
from osmia.probespec import ctypes
from osmia.probespec.signatures import Param
from osmia.symbols import debugfile, elf_syms, libs
from osmia.symbols.image import Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Types of one function that are followed; of more only the names are known.
_MOST = 5000
_POINTERS = ("DW_TAG_pointer_type", "DW_TAG_reference_type", "DW_TAG_rvalue_reference_type")
_QUALIFIERS = ("DW_TAG_const_type", "DW_TAG_volatile_type", "DW_TAG_restrict_type", "DW_TAG_atomic_type")
_STRUCTS = {"DW_TAG_structure_type": "struct", "DW_TAG_class_type": "struct", "DW_TAG_union_type": "union"}
_FLOAT, _SIGNED, _SIGNED_CHAR, _UNSIGNED_CHAR = 0x04, 0x05, 0x06, 0x08  # DW_ATE_*, DWARF 5, section 7.8


class Described:
    """One function: ``params`` as a signature would have them, ``types`` as BTF (empty: nothing is known).

    ``advice``: what would make more known; empty where that is not plain.
    """

    def __init__(self, params: list[Param], types: bytes, advice: str = "") -> None:
        self.params = params
        self.types = types
        self.advice = advice


def describe(file: str, function: str, pid: int = 0) -> Described:
    """What is known of ``function`` in ``file``, as process ``pid`` sees it; nothing where nothing is."""
    try:
        from elftools.elf.elffile import ELFFile
    except ImportError:
        return Described([], b"", "names of arguments are read by pyelftools: pip install osmia[dwarf]")
    try:
        binary = libs.find(file, pid)
        with Image(binary.path, binary.name) as image:
            found = elf_syms.Symbols(image).named(function)
            if not found:
                return Described([], b"")
            apart = None if image.section(".debug_info") is not None else debugfile.separate(image)
            raw = bytes((apart or image).data)
            if apart is not None:
                apart.close()
        info = ELFFile(io.BytesIO(raw))
        return _of_function(info, function, found[0].address) if info.has_dwarf_info() else Described([], b"")
    except (UserError, OSError):
        return Described([], b"")
    except Exception:  # damaged or very new DWARF: pyelftools has no root of its errors, and names are a convenience
        return Described([], b"")


def _of_function(file: Any, function: str, address: int) -> Described:
    dwarf = file.get_dwarf_info()
    unit = _unit(dwarf, address)
    if unit is None:
        return Described([], b"")
    for die in unit.get_top_DIE().iter_children():
        if die.tag == "DW_TAG_subprogram" and (_name(die) == function or _low(die) == address):
            if _low(die) not in (None, address):
                continue
            reader = _Types()
            params = _params(die)
            for _, kind in params:
                reader.add(kind)
            return Described(_signature(params), reader.btf(unit))
    return Described([], b"")


def _unit(dwarf: Any, address: int) -> Any:
    """The compilation unit with the code at ``address``."""
    ranges = dwarf.get_aranges()
    offset = ranges.cu_offset_at_addr(address) if ranges is not None else None
    if offset is not None:
        return dwarf.get_CU_at(offset)
    for unit in dwarf.iter_CUs():
        top = unit.get_top_DIE()
        low, high = _low(top), top.attributes.get("DW_AT_high_pc")
        if low is not None and high is not None:
            end = high.value if high.form == "DW_FORM_addr" else low + high.value
            if low <= address < end:
                return unit
        elif any(_low(die) == address for die in top.iter_children()):
            return unit
    return None


def _low(die: Any) -> int | None:
    found = die.attributes.get("DW_AT_low_pc")
    return None if found is None else int(found.value)


def _name(die: Any) -> str:
    found = die.attributes.get("DW_AT_name")
    if found is not None:
        return str(found.value.decode("utf-8", "replace"))
    for reference in ("DW_AT_abstract_origin", "DW_AT_specification"):
        if reference in die.attributes:
            return _name(die.get_DIE_from_attribute(reference))
    return ""


def _type(die: Any) -> Any:
    """The type of a variable, a pointer's target, …; None: void."""
    if "DW_AT_type" in die.attributes:
        return die.get_DIE_from_attribute("DW_AT_type")
    if "DW_AT_abstract_origin" in die.attributes:
        return _type(die.get_DIE_from_attribute("DW_AT_abstract_origin"))
    return None


def _plain(die: Any) -> Any:
    """A type without its other names and qualifiers."""
    while die is not None and (die.tag == "DW_TAG_typedef" or die.tag in _QUALIFIERS):
        die = _type(die)
    return die


def _params(function: Any) -> list[tuple[str, Any]]:
    """``(name, type)`` of the parameters that are in the registers for numbers, as far as that is plain."""
    out = []
    for die in function.iter_children():
        if die.tag != "DW_TAG_formal_parameter":
            continue
        plain = _plain(_type(die))
        if plain is None or plain.tag in _STRUCTS or plain.tag == "DW_TAG_array_type":
            break  # passed by value: in registers or not, as its fields decide
        if plain.tag == "DW_TAG_base_type" and plain.attributes["DW_AT_encoding"].value == _FLOAT:
            continue  # in a register for floats
        out.append((_name(die), _type(die)))
    return out


def _signature(params: list[tuple[str, Any]]) -> list[Param]:
    return [Param(name, _text(kind), True) for name, kind in params]


def _text(die: Any) -> str:
    """A type as C spells it, in words that :mod:`osmia.probespec.ctypes` or the types below know."""
    plain = _plain(die)
    if plain is None:
        return "void"
    if plain.tag in _POINTERS:
        target = _type(plain)
        inner = _text(target)
        return f"{inner} *"
    if plain.tag in _STRUCTS:
        name = _name(plain)
        return f"{_STRUCTS[plain.tag]} {name}" if name else _other_name(die) or "void"
    if plain.tag == "DW_TAG_base_type":
        return _number(plain)
    return "int" if plain.tag == "DW_TAG_enumeration_type" else "void"


def _other_name(die: Any) -> str:
    """The name that a typedef gives to a structure without one."""
    while die is not None:
        if die.tag == "DW_TAG_typedef":
            return _name(die)
        die = _type(die) if die.tag in _QUALIFIERS else None
    return ""


def _number(die: Any) -> str:
    name = _name(die)
    size = int(die.attributes["DW_AT_byte_size"].value)
    encoding = die.attributes["DW_AT_encoding"].value
    if encoding in (_SIGNED_CHAR, _UNSIGNED_CHAR) and size == 1:
        return "char" if encoding == _SIGNED_CHAR else "unsigned char"
    if ctypes.integer(name) is not None:
        return name
    return f"{'s' if encoding == _SIGNED else 'u'}{8 * size}" if size in (1, 2, 4, 8) else "u64"


class _Types:
    """Types that are reachable from some, in the order of their numbers in BTF."""

    def __init__(self) -> None:
        self._order: list[Any] = []
        self._ids: dict[int, int] = {}
        self._builder = BtfBuilder()

    def add(self, die: Any) -> int:
        """The number of a type; 0 is void."""
        if die is None:
            return 0
        known = self._ids.get(die.offset)
        if known is None:
            self._order.append(die)
            known = self._ids[die.offset] = len(self._order)
        return known

    def btf(self, unit: Any) -> bytes:
        """The types, and the other named structures of the unit, which a cast or a signature may name."""
        for die in unit.get_top_DIE().iter_children():
            if (die.tag in _STRUCTS or die.tag == "DW_TAG_typedef") and _name(die):
                self.add(die)
        at = 0
        while at < len(self._order):  # grows while it is walked
            self._write(self._order[at], full=at < _MOST)
            at += 1
        return self._builder.bytes()

    def _write(self, die: Any, *, full: bool) -> None:
        made, tag = self._builder, die.tag
        if tag in _STRUCTS:
            union = tag == "DW_TAG_union_type"
            if not full or "DW_AT_declaration" in die.attributes:
                made.add_fwd(_name(die), union=union)
            else:
                size = die.attributes.get("DW_AT_byte_size")
                made.add_struct(_name(die), size.value if size else 0, self._members(die), union=union)
        elif tag in _POINTERS:
            made.add_ptr(self.add(_type(die)) if full else 0)
        elif tag == "DW_TAG_typedef":
            made.add_typedef(_name(die), self.add(_type(die)))
        elif tag in _QUALIFIERS:
            made.add_modifier(BTF_KIND_CONST, self.add(_type(die)))
        elif tag == "DW_TAG_array_type":
            made.add_array(self.add(_type(die)), _elements(die))
        elif tag == "DW_TAG_base_type":
            self._base(die)
        elif tag == "DW_TAG_enumeration_type":
            size = die.attributes.get("DW_AT_byte_size")
            made.add_int("int" if not size or size.value == 4 else "enumeration", size.value if size else 4, SIGNED)
        else:  # functions, and what other languages have
            made.add_fwd(_name(die) or tag)

    def _base(self, die: Any) -> None:
        encoding = die.attributes["DW_AT_encoding"].value
        size = die.attributes["DW_AT_byte_size"].value
        if encoding == _FLOAT:
            self._builder.add_float(_name(die), size)
        elif size not in (1, 2, 4, 8, 16):
            self._builder.add_fwd(_name(die))
        else:
            flags = (SIGNED if encoding in (_SIGNED, _SIGNED_CHAR) else 0) | (CHAR if _number(die) == "char" else 0)
            self._builder.add_int(_name(die), size, flags)

    def _members(self, die: Any) -> list[tuple[str, int, int, int]]:
        out = []
        for member in die.iter_children():
            if member.tag not in ("DW_TAG_member", "DW_TAG_inheritance"):
                continue
            at = member.attributes
            if "DW_AT_external" in at or "DW_AT_const_value" in at:  # a static one, which lies elsewhere
                continue
            location = at.get("DW_AT_data_member_location")
            if location is not None and not isinstance(location.value, int):
                continue  # computed when the program runs
            bits = at["DW_AT_bit_size"].value if "DW_AT_bit_size" in at else 0
            place = 8 * (location.value if location is not None else 0)
            if "DW_AT_data_bit_offset" in at:
                place = at["DW_AT_data_bit_offset"].value
            elif "DW_AT_bit_offset" in at:  # DWARF 3 counts from the other end
                place += 8 * at["DW_AT_byte_size"].value - at["DW_AT_bit_offset"].value - bits
            name = "" if member.tag == "DW_TAG_inheritance" else _name(member)
            out.append((name, self.add(_type(member)), place, bits))
        return out


def _elements(die: Any) -> int:
    """The number of elements, of all dimensions together."""
    total = 1
    for child in die.iter_children():
        if child.tag == "DW_TAG_subrange_type":
            count, upper = child.attributes.get("DW_AT_count"), child.attributes.get("DW_AT_upper_bound")
            if count is not None and isinstance(count.value, int):
                total *= count.value
            elif upper is not None and isinstance(upper.value, int):
                total *= upper.value + 1
            else:
                return 0
    return total
