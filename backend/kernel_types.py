# SPDX-License-Identifier: Apache-2.0
"""The kernel types that osmia's own tools are compiled against, as text, and back to BTF.

The objects in a wheel must not depend on the machine that builds it.  They are
CO-RE, so any kernel's types do; ``kernel_types.txt`` holds those few that the
tools name, of one kernel, as ``scripts/gen_types.py`` has taken them from it.

A line is a type: its number, its kind, numbers, its name.  Indented lines below are
its members (type, bit offset, bits of a bit field, name), enumerators (value,
name) or parameters (type, name).  ``event`` lines say which structure is the
record of a tracepoint that is not named after it.
"""

from __future__ import annotations

import os

from osmia.obj import consts
from osmia.obj.btf import KIND_NAMES, Btf, Type
from osmia.obj.btf_write import BtfBuilder

FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "kernel_types.txt")
_MODIFIERS = {
    KIND_NAMES[kind]: kind
    for kind in (consts.BTF_KIND_CONST, consts.BTF_KIND_VOLATILE, consts.BTF_KIND_RESTRICT, consts.BTF_KIND_TYPE_TAG)
}


def lines(t: Type) -> list[str]:
    """One type as text, with the numbers of others as they are."""
    kind = KIND_NAMES[t.kind]
    if kind == "int":
        head = f"{t.size} {t.encoding} {t.bits}"
    elif kind in ("struct", "union", "enum", "enum64", "float"):
        head = str(t.size)
    elif kind == "array":
        head = f"{t.elem_id} {t.nelems}"
    elif kind == "fwd":
        head = str(int(t.kind_flag))
    elif kind in ("ptr", "typedef", "func", "func_proto", *_MODIFIERS):
        head = str(t.type_id)
    else:
        raise ValueError(f"a type of kind {kind} ({t.name}) is not provided for")
    out = [f"{t.id} {kind} {head} {t.name}".rstrip()]
    out += [f"  {m.type_id} {m.bit_offset} {m.bitfield_size} {m.name}".rstrip() for m in t.members]
    out += [f"  {value} {name}" for name, value in t.enumerators]
    out += [f"  {type_id} {name}".rstrip() for name, type_id in t.params]
    return out


class KernelTypes:
    """What ``kernel_types.txt`` says: ``btf``, and the records of tracepoints (:meth:`tracepoint_format`)."""

    def __init__(self, text: str) -> None:
        self.head = "".join(line + "\n" for line in text.splitlines() if line.startswith("#"))
        self.events: dict[str, str] = {}
        builder = BtfBuilder()
        block: list[str] = []
        for line in text.splitlines():
            if line.startswith("#"):
                continue
            if line.startswith("event "):
                _, event, struct = line.split()
                self.events[event] = struct
            elif line.startswith(" "):
                block.append(line)
            else:
                _add(builder, block)
                block = [line]
        _add(builder, block)
        self.btf = Btf(builder.bytes(), name="kernel_types.txt")

    @classmethod
    def read(cls) -> KernelTypes:
        """The file that belongs to this tree."""
        with open(FILE, encoding="utf-8") as file:
            return cls(file.read())

    def tracepoint_format(self, category: str, event: str) -> str | None:
        """As tracefs has it, as far as the compiler looks: names and offsets of the fields."""
        struct = self.events.get(f"{category}:{event}")
        if struct is None:
            return None
        fields = []
        for m in self.btf.get(self.btf.find(struct, consts.BTF_KIND_STRUCT)).members:
            name = m.name.removeprefix("__data_loc_").removeprefix("__rel_loc_")
            if name not in ("ent", "__data"):
                fields.append(f"\tfield:int {name};\toffset:{m.bit_offset // 8};\tsize:4;\tsigned:0;\n")
        return f"name: {event}\nID: 1\nformat:\n{''.join(fields)}"


def _add(builder: BtfBuilder, block: list[str]) -> None:
    if not block:
        return
    number, kind, rest = (block[0] + "  ").split(" ", 2)
    rows = [line[2:].split(" ") for line in block[1:]]
    words = rest.rstrip().split(" ")
    id = 0
    if kind == "int":
        id = builder.add_int(" ".join(words[3:]), int(words[0]), int(words[1]), int(words[2]))
    elif kind == "float":
        id = builder.add_float(" ".join(words[1:]), int(words[0]))
    elif kind in ("struct", "union"):
        members = [("".join(row[3:]), int(row[0]), int(row[1]), int(row[2])) for row in rows]
        id = builder.add_struct("".join(words[1:]), int(words[0]), members, union=kind == "union")
    elif kind in ("enum", "enum64"):
        id = builder.add_enum("".join(words[1:]), [(row[1], int(row[0])) for row in rows], int(words[0]))
    elif kind == "array":
        id = builder.add_array(int(words[0]), int(words[1]))
    elif kind == "fwd":
        id = builder.add_fwd("".join(words[1:]), union=words[0] == "1")
    elif kind == "ptr":
        id = builder.add_ptr(int(words[0]))
    elif kind == "typedef":
        id = builder.add_typedef(words[1], int(words[0]))
    elif kind == "func":
        id = builder.add_func(words[1], int(words[0]), 0)
    elif kind == "func_proto":
        id = builder.add_func_proto(int(words[0]), [("".join(row[1:]), int(row[0])) for row in rows])
    elif kind in _MODIFIERS:
        id = builder.add_modifier(_MODIFIERS[kind], int(words[0]), "".join(words[1:]))
    if id != int(number):
        raise ValueError(f"{FILE}: {block[0]!r} is not type {id}")
