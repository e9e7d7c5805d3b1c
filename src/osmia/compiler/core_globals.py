# SPDX-License-Identifier: Apache-2.0
"""CO-RE relocations, spelled as the globals that LLVM's BPF back end looks for.

clang emits intrinsics and a pass of LLVM turns them into loads of external
globals whose **name** is the relocation::

    llvm.<type>:<relocation kind>:<local value>$<access string>

That pass keeps state from one module to the next; writing the globals by hand
needs neither the pass nor a description of the structures as LLVM types.  The
local BTF gets only the members that some access names: relocation goes by
name, and libbpf checks no more than the local values of those.
"""

from __future__ import annotations

from osmia.compiler import tir
from osmia.compiler.debuginfo import DebugInfo, quoted
from osmia.errors import InternalError

# enum bpf_core_relo_kind, from the kernel's include/uapi/linux/bpf.h
_FIELD_KINDS = {"offset": 0, "size": 1, "exists": 2, "signed": 3, "lshift_u64": 4, "rshift_u64": 5}
_TYPE_KINDS = {"exists": 8, "size": 9}
_ENUM_KINDS = {"exists": 10, "value": 11}


class CoreGlobals:
    """The relocation globals of one module.

    Every access must be given to :meth:`gather` before the first name is
    asked for, because a structure's description lists all the members used.
    """

    def __init__(self, info: DebugInfo) -> None:
        self._info = info
        self._fields: dict[tuple[str, str], dict[str, tir.KField]] = {}
        self._sizes: dict[tuple[str, str], int] = {}
        self._order: dict[tuple[str, str], list[tir.KField]] = {}
        self._enums: dict[tuple[str, int, bool], dict[str, int]] = {}
        self._nodes: dict[tuple[str, str], str] = {}
        self._globals: dict[str, str] = {}

    # -- gathering

    def gather(self, e: object) -> None:
        """Note what the expression ``e`` will ask for."""
        if isinstance(e, (tir.FieldAddr, tir.CoreField)):
            self._gather_access(e.access)
        elif isinstance(e, tir.CoreType):
            self._struct(e.ktype)
        elif isinstance(e, tir.CoreEnum):
            self.gather_enum(e.enum, e.enumerator, e.local_value)

    def gather_enum(self, enum: tir.KEnum, enumerator: str, value: int) -> None:
        self._enums.setdefault((enum.name, enum.size, enum.signed), {})[enumerator] = value

    def _gather_access(self, access: tir.Access) -> None:
        here: tir.KType = access.root
        self._struct(access.root)
        for step in access.steps:
            if isinstance(step, int):
                here = self._element(here)
                continue
            if not isinstance(here, tir.KStruct):
                raise InternalError(f"access to {step.name!r} of {here}")
            self._struct(here)[step.name] = step
            here = step.type
            inner = here
            while isinstance(inner, tir.KArray):
                inner = inner.elem
            if isinstance(inner, tir.KStruct):
                self._struct(inner)

    def _struct(self, s: tir.KStruct) -> dict[str, tir.KField]:
        key = _key(s)
        self._sizes.setdefault(key, s.size)
        return self._fields.setdefault(key, {})

    @staticmethod
    def _element(t: tir.KType) -> tir.KType:
        if not isinstance(t, tir.KArray):
            raise InternalError(f"array index into {t}")
        return t.elem

    # -- describing

    def _members(self, key: tuple[str, str]) -> list[tir.KField]:
        order = self._order.get(key)
        if order is None:
            order = sorted(self._fields[key].values(), key=lambda f: (f.bit_offset, f.name))
            self._order[key] = order
        return order

    def _struct_node(self, s: tir.KStruct) -> str:
        key = _key(s)
        node = self._nodes.get(key)
        if node is None:
            members = [
                self._info.member(f.name, self._node(f.type), f.bits or size_of(f.type) * 8, f.bit_offset, f.bits > 0)
                for f in self._members(key)
            ]
            kind = "union" if s.kind == "union" else "structure"
            node = self._nodes[key] = self._info.composite(kind, s.name, self._sizes[key], members)
        return node

    def _node(self, t: tir.KType) -> str:
        info = self._info
        if isinstance(t, tir.KInt):
            # BTF has no nameless integers; the name is not compared.
            return info.basic(t.name or f"int{t.size * 8}", t.size, _encoding(t))
        if isinstance(t, tir.KPtr):
            return info.pointer("null")
        if isinstance(t, tir.KFloat):
            return info.basic({4: "float", 8: "double"}.get(t.size, "long double"), t.size, "DW_ATE_float")
        if isinstance(t, tir.KEnum):
            return self._enum_node(t)
        if isinstance(t, tir.KArray):
            return info.array(self._node(t.elem), t.n, size_of(t))
        self._struct(t)
        return self._struct_node(t)

    def _enum_node(self, t: tir.KEnum) -> str:
        values = self._enums.get((t.name, t.size, t.signed), {})
        return self._info.enum(t.name, t.size, t.signed, list(values.items()))

    # -- naming

    def field(self, access: tir.Access, kind: str) -> str:
        """The global for fact ``kind`` of a field."""
        here: tir.KType = access.root
        path = ["0"]
        bits = 0
        last: tir.KField | None = None
        for step in access.steps:
            if isinstance(step, int):
                here = self._element(here)
                path.append(str(step))
                bits += step * size_of(here) * 8
                last = None
                continue
            if not isinstance(here, tir.KStruct):
                raise InternalError(f"access to {step.name!r} of {here}")
            path.append(str([f.name for f in self._members(_key(here))].index(step.name)))
            bits += step.bit_offset
            here, last = step.type, step
        value = _local_value(kind, bits, here, last.bits if last else 0)
        return self._global(access.root.name, _FIELD_KINDS[kind], value, ":".join(path), self._struct_node(access.root))

    def type(self, t: tir.KStruct, kind: str) -> str:
        """The global for fact ``kind`` of a type."""
        value = 1 if kind == "exists" else t.size
        return self._global(t.name, _TYPE_KINDS[kind], value, "0", self._struct_node(t))

    def enum(self, t: tir.KEnum, enumerator: str, kind: str) -> str:
        """The global for fact ``kind`` of an enumerator."""
        values = self._enums[t.name, t.size, t.signed]
        value = 1 if kind == "exists" else values[enumerator]
        index = list(values).index(enumerator)
        return self._global(t.name, _ENUM_KINDS[kind], value, str(index), self._enum_node(t))

    def _global(self, type_name: str, kind: int, value: int, path: str, node: str) -> str:
        name = "@" + quoted(f"llvm.{type_name}:{kind}:{value}${path}")
        self._globals[name] = node
        return name

    def lines(self) -> list[str]:
        """The declarations of all the globals named so far."""
        return [
            f"{name} = external global i64, !llvm.preserve.access.index {node} #2"
            for name, node in self._globals.items()
        ]


def _key(s: tir.KStruct) -> tuple[str, str]:
    """What tells structures apart; no name begins with a number sign."""
    return s.kind, s.name or f"#{s.number}"


def _encoding(t: tir.KInt) -> str:
    if t.name in ("bool", "_Bool"):
        return "DW_ATE_boolean"
    char = "_char" if t.size == 1 and "char" in t.name else ""
    return ("DW_ATE_signed" if t.signed else "DW_ATE_unsigned") + char


def size_of(t: tir.KType) -> int:
    """Bytes of a kernel type."""
    if isinstance(t, tir.KPtr):
        return 8
    if isinstance(t, tir.KArray):
        return size_of(t.elem) * t.n
    return t.size


def _local_value(kind: str, bit_offset: int, t: tir.KType, width: int) -> int:
    """What the relocation evaluates to on the local types: libbpf refuses an object whose values disagree.

    The storage unit of a bit-field grows from its type's size until it holds
    the whole field, as in the kernel's tools/lib/bpf/relo_core.c.
    """
    size = size_of(t)
    offset = bit_offset // 8
    if width:
        size = max(size, 1)
        offset = bit_offset // 8 // size * size
        while bit_offset + width - offset * 8 > size * 8:
            size *= 2
            offset = bit_offset // 8 // size * size
    if kind == "offset":
        return offset
    if kind == "size":
        return size
    if kind == "exists":
        return 1
    if kind == "signed":
        return int(isinstance(t, (tir.KInt, tir.KEnum)) and t.signed)
    bits = width or size * 8
    if kind == "lshift_u64":
        return 64 - (bit_offset + bits - offset * 8)
    return 64 - bits
