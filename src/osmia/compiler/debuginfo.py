# SPDX-License-Identifier: Apache-2.0
"""Debug-information metadata, from which LLVM's BPF back end makes BTF.

The kernel half of a Python file has to look to bpftool, libbpf and the
verifier as if clang had compiled C: maps, variables and functions with types,
and the Python file and line of every instruction.  All of that is metadata of
the IR; nodes are numbered in the order of their first use and equal nodes are
shared, so equal programs give equal text.
"""

from __future__ import annotations

import os

from osmia.compiler import tir
from osmia.errors import InternalError

# The names that BTF shows for integers; C's, so that `bpftool gen skeleton` yields C.
_INT_NAMES = {
    (8, True): "signed char",
    (8, False): "unsigned char",
    (16, True): "short",
    (16, False): "unsigned short",
    (32, True): "int",
    (32, False): "unsigned int",
    (64, True): "long long",
    (64, False): "unsigned long long",
}
#: BTF has ten bits for a column.
_MAX_COLUMN = 1023


_ESCAPES = {b: f"\\{b:02X}" for b in range(256) if not 32 <= b < 127 or b in (34, 92)}


def escape(data: bytes) -> str:
    """``data`` inside the quotes of an IR string."""
    return data.decode("latin-1").translate(_ESCAPES)


def quoted(text: str) -> str:
    """``text`` as a quoted IR string."""
    return f'"{escape(text.encode("utf-8", "surrogateescape"))}"'


class DebugInfo:
    """The metadata of one module.

    ``sources`` gives the text of files that are not on disk (``<stdin>``).
    """

    def __init__(self, sources: dict[str, str]) -> None:
        self._lines: list[str] = []  # the text of node N, empty while reserved
        self._ids: dict[str, str] = {}
        self._types: dict[tir.Mem | None, str] = {}
        self._files: dict[str, str] = {}
        self._globals: list[str] = []
        self._sources = sources
        self.unit = self.reserve()

    # -- nodes

    def reserve(self) -> str:
        """A node's name before its content is known (for cycles)."""
        self._lines.append("")
        return f"!{len(self._lines) - 1}"

    def define(self, ref: str, text: str) -> None:
        self._lines[int(ref[1:])] = text

    def node(self, text: str) -> str:
        """The name of the (shared) node ``text``."""
        ref = self._ids.get(text)
        if ref is None:
            ref = self._ids[text] = self.reserve()
            self.define(ref, text)
        return ref

    def listing(self, refs: list[str]) -> str:
        return self.node("!{" + ", ".join(refs) + "}")

    # -- files and places

    def file(self, path: str) -> str:
        ref = self._files.get(path)
        if ref is None:
            text = self._text(path)
            source = f", source: {quoted(text)}" if text is not None else ""
            ref = self._files[path] = self.node(f'!DIFile(filename: {quoted(path)}, directory: ""{source})')
        return ref

    def _text(self, path: str) -> str | None:
        """The text to embed for ``path``: of every file or, as LLVM demands, of none."""
        if not any(not os.path.exists(p) for p in self._sources):
            return None
        if path in self._sources:
            return self._sources[path]
        try:
            with open(path, encoding="utf-8", errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    def location(self, scope: str, loc: tir.Loc) -> str:
        line, column = loc
        return self.node(f"!DILocation(line: {line}, column: {min(column + 1, _MAX_COLUMN)}, scope: {scope})")

    # -- types

    def type(self, t: tir.Mem | tir.Void | None) -> str:
        """The node of a type of the program's own; ``null`` for no type."""
        if t is None or isinstance(t, tir.Void):
            return "null"
        ref = self._types.get(t)
        if ref is None:
            ref = self._types[t] = self._make_type(t)
        return ref

    def _make_type(self, t: tir.Mem) -> str:
        if isinstance(t, tir.Int):
            if t.char:
                return self.basic("char", t.size, "DW_ATE_signed_char")
            kind = ("DW_ATE_signed" if t.signed else "DW_ATE_unsigned") + ("_char" if t.bits == 8 else "")
            return self.basic(_INT_NAMES[t.bits, t.signed], t.size, kind)
        if isinstance(t, tir.Bool):
            return self.basic("bool", 1, "DW_ATE_boolean")
        if isinstance(t, tir.Ptr):
            return self.pointer("null")
        if isinstance(t, tir.Array):
            return self.array(self.type(t.elem), t.n, t.size)
        if isinstance(t, tir.Struct):
            members = [self.member(m.name, self.type(m.type), m.type.size * 8, m.offset * 8) for m in t.members]
            return self.composite("structure", t.name, t.size, members)
        raise InternalError(f"no debug type for {t!r}")

    def basic(self, name: str, size: int, encoding: str) -> str:
        return self.node(f"!DIBasicType(name: {quoted(name)}, size: {size * 8}, encoding: {encoding})")

    def pointer(self, target: str) -> str:
        return self.node(f"!DIDerivedType(tag: DW_TAG_pointer_type, baseType: {target}, size: 64)")

    def array(self, elem: str, n: int, size: int) -> str:
        dims = self.listing([self.node(f"!DISubrange(count: {n})")])
        return self.node(
            f"!DICompositeType(tag: DW_TAG_array_type, baseType: {elem}, size: {size * 8}, elements: {dims})"
        )

    def member(self, name: str, base: str, bits: int, offset: int, bitfield: bool = False) -> str:
        extra = ", flags: DIFlagBitField, extraData: i64 0" if bitfield else ""
        label = f"name: {quoted(name)}, " if name else ""
        return self.node(
            f"!DIDerivedType(tag: DW_TAG_member, {label}baseType: {base}, size: {bits}, offset: {offset}{extra})"
        )

    def composite(self, kind: str, name: str, size: int, members: list[str]) -> str:
        label = f"name: {quoted(name)}, " if name else ""
        return self.node(
            f"!DICompositeType(tag: DW_TAG_{kind}_type, {label}size: {size * 8}, elements: {self.listing(members)})"
        )

    def enum(self, name: str, size: int, signed: bool, values: list[tuple[str, int]]) -> str:
        unsigned = "" if signed else ", isUnsigned: true"
        # LLVM takes signedness from the flag and prints 64-bit values by it.
        elements = self.listing(
            [self.node(f"!DIEnumerator(name: {quoted(n)}, value: {_wrap(v, signed)}{unsigned})") for n, v in values]
        )
        kind = "DW_ATE_signed" if signed else "DW_ATE_unsigned"
        base = self.basic(_INT_NAMES[size * 8, signed], size, kind)
        return self.node(
            f"!DICompositeType(tag: DW_TAG_enumeration_type, name: {quoted(name)}, baseType: {base}, "
            f"size: {size * 8}, elements: {elements})"
        )

    # -- variables and functions

    def variable(self, name: str, type_ref: str, *, listed: bool = True) -> str:
        """The ``!dbg`` of a global variable."""
        var = self.node(
            f"distinct !DIGlobalVariable(name: {quoted(name)}, scope: {self.unit}, type: {type_ref}, "
            "isLocal: false, isDefinition: true)"
        )
        ref = self.node(f"!DIGlobalVariableExpression(var: {var}, expr: !DIExpression())")
        if listed:
            self._globals.append(ref)
        return ref

    def map_type(self, m: tir.MapDef) -> str:
        """The anonymous structure that libbpf reads a map's definition from.

        A number is a pointer to an array of that many ints, a type a pointer
        to it: libbpf's ``__uint`` and ``__type``.
        """
        members: list[tuple[str, str]] = [("type", self._uint(m.type))]
        # A ring buffer with a key or a value is refused by the kernel.
        if m.key is not None:
            members.append(("key", self.pointer(self.type(m.key))))
        if m.value is not None:
            members.append(("value", self.pointer(self.type(m.value))))
        if m.max_entries:
            members.append(("max_entries", self._uint(m.max_entries)))
        if m.flags:
            members.append(("map_flags", self._uint(m.flags)))
        if m.extra:
            members.append(("map_extra", self._uint(m.extra)))
        if m.pinned:
            members.append(("pinning", self._uint(1)))  # LIBBPF_PIN_BY_NAME
        nodes = [self.member(name, ref, 64, 64 * i) for i, (name, ref) in enumerate(members)]
        size = 8 * len(nodes)
        if m.inner is not None:  # libbpf's __array(values, …): pointers to the shape, none of them there; last
            shape = self.pointer(self.map_type(m.inner))
            nodes.append(self.member("values", self.array(shape, 0, 0), 0, 8 * size))
        return self.composite("structure", "", size, nodes)

    def _uint(self, n: int) -> str:
        return self.pointer(self.array(self.type(tir.S32), n, 4 * n))

    def subprogram(
        self, name: str, path: str, line: int, ret: tir.Mem | None, params: list[tuple[str, tir.Mem]], *, local: bool
    ) -> str:
        """A function with its parameters' names, which LLVM takes from the retained nodes."""
        file = self.file(path)
        scope = self.reserve()
        types = self.listing([self.type(ret), *(self.type(t) for _, t in params)])
        args = [
            self.node(
                f"!DILocalVariable(name: {quoted(n)}, arg: {i}, scope: {scope}, file: {file}, "
                f"line: {line}, type: {self.type(t)})"
            )
            for i, (n, t) in enumerate(params, 1)
        ]
        flags = "DISPFlagLocalToUnit | DISPFlagDefinition" if local else "DISPFlagDefinition"
        self.define(
            scope,
            f"distinct !DISubprogram(name: {quoted(name)}, scope: {file}, file: {file}, line: {line}, "
            f"type: {self.node(f'!DISubroutineType(types: {types})')}, scopeLine: {line}, "
            f"spFlags: {flags} | DISPFlagOptimized, unit: {self.unit}, retainedNodes: {self.listing(args)})",
        )
        return scope

    def finish(self, path: str) -> list[str]:
        """The module's metadata as lines of IR; ``path`` is the unit's file."""
        file = self.file(path)
        variables = self.listing(self._globals)
        self.define(
            self.unit,
            f'distinct !DICompileUnit(language: DW_LANG_C11, file: {file}, producer: "osmia", isOptimized: true, '
            f"runtimeVersion: 0, emissionKind: DebugDirectivesOnly, globals: {variables})",
        )
        version = self.node('!{i32 2, !"Debug Info Version", i32 3}')
        head = [f"!llvm.dbg.cu = !{{{self.unit}}}", f"!llvm.module.flags = !{{{version}}}"]
        return head + [f"!{i} = {text}" for i, text in enumerate(self._lines)]


def _wrap(value: int, signed: bool) -> int:
    """``value`` as the 64-bit number of that signedness."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if signed and value >> 63 else value
