# SPDX-License-Identifier: Apache-2.0
"""BTF from tracefs ``format`` files, so that tracepoint programs can be relocated on a kernel that has no BTF.

A format file gives each field's name, C type as text, offset and size.  CO-RE
needs no more: names to match, and kinds of type that agree (an integer with
an integer, a pointer with a pointer).
"""

from __future__ import annotations

from osmia.errors import UserError
from osmia.obj.btf_write import BOOL, SIGNED, BtfBuilder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "trace_event_raw_"
_COMMON = 8  # bytes of struct trace_entry, which starts every record
_DYNAMIC = ("__data_loc", "__rel_loc")
# Element sizes of arrays whose length is a name and not a number.
_SIZES = {"char": 1, "u8": 1, "__u8": 1, "bool": 1, "u16": 2, "__u16": 2, "__be16": 2, "short": 2, "int": 4, "u32": 4,
          "__u32": 4, "__be32": 4, "long": 8, "u64": 8, "__u64": 8}
# Typedefs of pointers that occur in tracepoints; by size alone they would pass for integers.
_POINTERS = frozenset(("cap_user_data_t", "cap_user_header_t", "fl_owner_t", "initcall_t", "xfs_failaddr_t"))


class Field:
    """One field of a record: ``type`` is C text without the name (``char[16]``, ``__data_loc char[]``); bytes."""

    __slots__ = ("name", "offset", "signed", "size", "type")

    def __init__(self, name: str, type: str, offset: int, size: int, signed: bool) -> None:
        self.name = name
        self.type = type
        self.offset = offset
        self.size = size
        self.signed = signed

    def __repr__(self) -> str:
        return f"Field({self.name!r}, {self.type!r}, {self.offset}, {self.size}, {self.signed})"


def parse_format(text: str) -> tuple[str, int, list[Field]]:
    """Event name, id and fields (the ``common_`` ones included) of a tracefs ``format`` file.

    Raises :class:`UserError` when the text has no event in it.
    """
    name, id = "", -1
    fields = []
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("name:"):
            name = line[5:].strip()
        elif line.startswith("ID:"):
            id = _number(line[3:], line)
        elif line.startswith("field:"):
            fields.append(_field(line))
        elif line.startswith("print fmt:"):
            break
    if not name or id < 0:
        raise UserError("a tracepoint format without name or ID", where=name)
    return name, id, fields


def _number(text: str, line: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(f"a tracepoint format with a line that is not understood: {line!r}") from None


def _field(line: str) -> Field:
    declaration, _, rest = line[6:].partition(";")
    values = {}
    for part in rest.split(";"):
        key, _, value = part.strip().partition(":")
        if key:
            values[key] = _number(value, line)
    if "offset" not in values or "size" not in values:
        raise UserError(f"a tracepoint format with a line that is not understood: {line!r}")
    declaration, bracket, dimension = declaration.strip().partition("[")
    if bracket and dimension.rstrip()[-1:] != "]":  # `__data_loc char[] name`
        dimension, _, name = dimension.rpartition("]")
        return Field(name.strip(), f"{declaration.strip()}[{dimension}]", values["offset"], values["size"], False)
    start = declaration.rstrip()
    cut = max(start.rfind(" "), start.rfind("*")) + 1
    type_text = start[:cut].strip() + bracket + dimension
    return Field(start[cut:], type_text, values["offset"], values["size"], bool(values.get("signed")))


def struct_name(event: str) -> str:
    """The record's structure in kernels with BTF, as far as the event's name tells.

    Events of one class share the class's structure (``block_rq_issue`` has
    ``trace_event_raw_block_rq``), and only a kernel with BTF knows the class.
    """
    for generic in ("sys_enter", "sys_exit"):
        if event.startswith(generic + "_"):
            return PREFIX + generic
    return PREFIX + event


def btf_from_formats(formats: Mapping[str, str]) -> bytes:
    """BTF that has one struct per entry: its name (``trace_event_raw_block_rq``) to a format file's text.

    The caller takes the names from the object at hand, so that events of a
    class are found under the class's name.
    """
    synth = _Synth()
    for name, text in formats.items():
        event, _, fields = parse_format(text)
        if name in (PREFIX + "sys_enter", PREFIX + "sys_exit"):
            synth.add_syscall(name)
        else:
            synth.add(name, event, fields)
    return synth.builder.bytes()


class _Synth:
    def __init__(self) -> None:
        self.builder = BtfBuilder()
        self._cache: dict[tuple[str, int, int], int] = {}
        self._void_ptr = self.builder.add_ptr(0)
        u16, u8 = self._int("unsigned short", 2, False), self._int("unsigned char", 1, False)
        s32 = self._int("int", 4, True)
        members = [("type", u16, 0), ("flags", u8, 16), ("preempt_count", u8, 24), ("pid", s32, 32)]
        self._entry = self.builder.add_struct("trace_entry", _COMMON, members)

    def _int(self, name: str, size: int, signed: bool) -> int:
        encoding = BOOL if name in ("bool", "_Bool") else SIGNED if signed else 0
        key = (name, size, encoding)
        if key not in self._cache:
            self._cache[key] = self.builder.add_int(name, size, encoding)
        return self._cache[key]

    def add(self, name: str, event: str, fields: list[Field]) -> None:
        members = [("ent", self._entry, 0)]
        end = _COMMON
        for field in fields:
            if field.name.startswith("common_"):
                continue
            dynamic = next((d for d in _DYNAMIC if field.type.startswith(d)), "")
            if dynamic:
                members.append((f"{dynamic}_{field.name}", self._int("u32", 4, False), field.offset * 8))
            else:
                members.append((field.name, self._type(field, event), field.offset * 8))
            end = max(end, field.offset + field.size)
        end = (end + 7) // 8 * 8
        members.append(("__data", self.builder.add_array(self._int("char", 1, True), 0), end * 8))
        self.builder.add_struct(name, end, members)

    def add_syscall(self, name: str) -> None:
        """System call records have one field per argument in tracefs, but a program sees the raw record."""
        members = [("ent", self._entry, 0), ("id", self._int("long", 8, True), 64)]
        if name.endswith("sys_enter"):
            args = self.builder.add_array(self._int("unsigned long", 8, False), 6)
            members.append(("args", args, 128))
            size = 64
        else:
            members.append(("ret", self._int("long", 8, True), 128))
            size = 24
        self.builder.add_struct(name, size, members)

    def _type(self, field: Field, event: str) -> int:
        base, bracket, dimension = field.type.partition("[")
        base = " ".join(word for word in base.split() if word not in ("const", "volatile"))
        if bracket:
            return self._array(base, dimension.partition("]")[0].strip(), field, event)
        return self._scalar(base, field.size, field.signed)

    def _array(self, base: str, dimension: str, field: Field, event: str) -> int:
        element = _SIZES.get(base.split()[-1] if base else "", 1)
        if not field.size:  # `char buf[]` at the end of the record
            return self.builder.add_array(self._scalar(base, element, field.signed), 0)
        count = int(dimension) if dimension.isdigit() else field.size // element
        if not count or field.size % count:
            raise UserError(f"field {field.name!r}: {field.size} bytes are not {count} elements", where=event)
        return self.builder.add_array(self._scalar(base, field.size // count, field.signed), count)

    def _scalar(self, base: str, size: int, signed: bool) -> int:
        if "*" in base or base in _POINTERS:
            return self._void_ptr
        word, _, rest = base.partition(" ")
        if word in ("struct", "union"):
            return self.builder.add_struct(rest, size, [], union=word == "union")
        if size not in (1, 2, 4, 8, 16):
            # A structure behind a typedef: its name is not known to be one, but no integer has that size.
            return self.builder.add_struct(base, size, [])
        if word == "enum":
            # Anonymous, so that it agrees with any enumeration; its values are not in the format.
            return self.builder.add_enum("", [], size)
        return self._int(base, size, signed)
