# SPDX-License-Identifier: Apache-2.0
"""Types of the kernel as the front end sees them: from BTF, or from the author's flavour classes."""

from __future__ import annotations

from osmia.compiler import tir
from osmia.lang.types import Address, KStruct, size_align
from osmia.obj import consts
from osmia.obj.btf import Btf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_STRUCT, _UNION = (consts.BTF_KIND_STRUCT,), (consts.BTF_KIND_UNION,)
# How C programmers spell integers, and how compilers name them in BTF.
_C_NAMES = {
    "unsigned": "unsigned int", "long": "long int", "unsigned long": "long unsigned int", "short": "short int",
    "unsigned short": "short unsigned int", "long long": "long long int",
    "unsigned long long": "long long unsigned int", "bool": "_Bool",
}
_BOOL_ENCODING = 4  # BTF_INT_BOOL, include/uapi/linux/btf.h


class KT:
    """One kernel type, typedefs and qualifiers removed.

    ``kind`` is ``int bool char ptr struct union array enum float void func``;
    ``size`` in bytes; ``target()`` is the pointee or element, ``n`` the
    number of elements, ``member(name)`` a field.
    """

    def __init__(self, kernel: Kernel, kind: str, name: str, size: int, signed: bool = False, id: int = 0) -> None:
        self.kernel = kernel
        self.kind = kind
        self.name = name
        self.size = size
        self.signed = signed
        self.id = id
        self.n = 0
        self.target_id = 0
        self.fixed_target: KT | None = None  # for pointers that no BTF describes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KT) and (self.kind, self.name, self.size, self.id, self.target_id) == (
            other.kind, other.name, other.size, other.id, other.target_id,
        )

    def __hash__(self) -> int:
        return hash((self.kind, self.name, self.size))

    def __str__(self) -> str:
        if self.kind == "ptr":
            return f"{self.target()} *"
        if self.kind == "array":
            return f"{self.target()}[{self.n}]"
        return f"{self.kind} {self.name}" if self.kind in ("struct", "union", "enum") else self.name or self.kind

    def target(self) -> KT:
        """What a pointer points to, or the type of an array's elements."""
        return self.fixed_target or self.kernel.by_id(self.target_id)

    def member(self, name: str) -> tuple[tir.KField, KT] | None:
        """The field ``name``, also through anonymous members: its place and its type."""
        found = self.kernel.btf.find_member(self.id, name) if self.kernel.btf is not None else None
        if found is None:
            return None
        path, bit_offset = found
        kind = self.kernel.by_id(path[-1].type_id)
        return tir.KField(name, bit_offset, path[-1].bitfield_size, kind.tir()), kind

    def fields(self) -> list[str]:
        """Names of the fields, for suggestions."""
        out: list[str] = []
        if self.kernel.btf is not None and self.id:
            self._collect(self.id, out, 0)
        return out

    def _collect(self, id: int, out: list[str], depth: int) -> None:
        btf = self.kernel.btf
        assert btf is not None
        for member in btf.get(btf.resolve(id)).members:
            if member.name:
                out.append(member.name)
            elif depth < 8:
                self._collect(member.type_id, out, depth + 1)

    def tir(self) -> tir.KType:
        """The type as the back end describes it to LLVM."""
        if self.kind in ("struct", "union"):
            return tir.KStruct(self.name, self.kind, self.size, 0 if self.name else self.id)
        if self.kind == "array":
            return tir.KArray(self.target().tir(), self.n)
        if self.kind == "enum":
            return tir.KEnum(self.name, self.size, self.signed)
        if self.kind == "float":
            return tir.KFloat(self.size)
        if self.kind in ("int", "bool", "char"):
            return tir.KInt(self.name, self.size, self.signed)
        return tir.KPtr()


class Flavour(KT):
    """A structure that the author described (:class:`osmia.lang.types.KStruct`)."""

    def __init__(self, kernel: Kernel, cls: type[KStruct]) -> None:
        mangled = "_" + cls.__name__.lstrip("_") + "__"  # how Python spells a name like __state in a class
        notes = {
            name[len(mangled) - 2 :] if name.startswith(mangled) else name: kind
            for name, kind in getattr(cls, "__annotations__", {}).items()
        }
        super().__init__(kernel, "struct", cls.__name__, 8 * max(1, len(notes)))
        self.notes: dict[str, Any] = notes
        self.owner = cls

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Flavour) and self.owner is other.owner

    def __hash__(self) -> int:
        return hash(self.owner)

    def member(self, name: str) -> tuple[tir.KField, KT] | None:
        if name not in self.notes:
            return None
        kind = self.notes[name]
        if isinstance(kind, str):
            import sys

            kind = eval(kind, dict(vars(sys.modules[self.owner.__module__])))
        place = 64 * list(self.notes).index(name)
        if isinstance(kind, type) and issubclass(kind, Address):
            made = KT(self.kernel, "ptr", "", 8)
            made.target_id = self.kernel.named(kind.target).id
        else:
            size, _ = size_align(kind)
            made = KT(self.kernel, "int", kind.__name__, size, bool(getattr(kind, "signed", False)))
        return tir.KField(name, place, 0, made.tir()), made

    def fields(self) -> list[str]:
        return list(self.notes)


class Kernel:
    """The types of one kernel; ``btf`` is None where it has none.

    ``module_types(module, function)`` gives the BTF of a module (by name, or
    the one that has the function where the name is empty).  ``fixed``: the
    types are those of one program, which no other kernel lays out otherwise.
    """

    fixed = False

    def __init__(
        self, btf: Btf | None, tracepoint_format: Callable[[str, str], str | None] | None = None,
        module_types: Callable[[str, str], Btf | None] | None = None,
    ) -> None:  # fmt: skip
        self.btf = btf
        self.format = tracepoint_format
        self.module_types = module_types
        self._extended: dict[int, Kernel] = {}
        self._types: dict[int, KT] = {}
        self.void = KT(self, "void", "void", 0)
        self._prefixed: list[tuple[str, int]] | None = None

    def with_types(self, btf: Btf) -> Kernel:
        """The same kernel seen with a module's types."""
        made = self._extended.get(id(btf))
        if made is None:
            made = self._extended[id(btf)] = Kernel(btf, self.format, self.module_types)
        return made

    def by_id(self, id: int) -> KT:
        """The type with BTF id ``id``."""
        made = self._types.get(id)
        if made is None:
            made = self._types[id] = self._make(id)
        return made

    def _make(self, id: int) -> KT:
        if self.btf is None or id == 0:
            return self.void
        btf = self.btf
        real = btf.resolve(id)
        if real == 0:
            return self.void
        t = btf.get(real)
        k = t.kind
        if k == consts.BTF_KIND_INT:
            kind = "bool" if t.encoding & _BOOL_ENCODING else "char" if t.name == "char" else "int"
            return KT(self, kind, t.name, t.size, t.signed, real)
        if k in (consts.BTF_KIND_STRUCT, consts.BTF_KIND_UNION):
            return KT(self, "struct" if k == consts.BTF_KIND_STRUCT else "union", t.name, t.size, id=real)
        if k in (consts.BTF_KIND_ENUM, consts.BTF_KIND_ENUM64):
            return KT(self, "enum", t.name, t.size, t.signed, real)
        if k == consts.BTF_KIND_PTR:
            made = KT(self, "ptr", "", 8, id=real)
            made.target_id = t.type_id
            return made
        if k == consts.BTF_KIND_ARRAY:
            made = KT(self, "array", "", btf.size_of(real), id=real)
            made.target_id, made.n = t.elem_id, t.nelems
            return made
        if k == consts.BTF_KIND_FLOAT:
            return KT(self, "float", t.name, t.size, id=real)
        if k == consts.BTF_KIND_FWD:
            full = btf.find(t.name, _STRUCT) or btf.find(t.name, _UNION)
            return self.by_id(full) if full else KT(self, "struct", t.name, 0, id=real)
        return KT(self, "func", t.name, 0, id=real)

    def named(self, name: str) -> KT:
        """``struct x``, ``union x``, ``char``, ``void`` or a typedef's name; KeyError where there is none."""
        name = " ".join(name.split())
        name = _C_NAMES.get(name, name)
        if name == "void":
            return self.void
        if name == "char":
            return KT(self, "char", "char", 1, True)
        if self.btf is None:
            raise KeyError(name)
        kinds = {"struct": _STRUCT, "union": _UNION, "enum": (consts.BTF_KIND_ENUM, consts.BTF_KIND_ENUM64)}
        word, _, rest = name.partition(" ")
        if word in kinds:
            id = self.btf.find(rest, kinds[word])
        else:
            id = self.btf.find(name, (consts.BTF_KIND_TYPEDEF, consts.BTF_KIND_INT))
        if not id:
            raise KeyError(name)
        return self.by_id(id)

    def flavour(self, cls: type[KStruct]) -> KT:
        """The author's description of a structure."""
        return Flavour(self, cls)

    def record(self, category: str, event: str) -> KT | None:
        """The structure of a tracepoint's record, or None where the event is unknown here.

        The structure is named after the event or after its class (one class
        serves many events); the tracefs format says which class has the same
        fields at the same offsets.
        """
        if self.btf is not None:
            id = self.btf.find(f"trace_event_raw_{event}", _STRUCT)
            if id:
                return self.by_id(id)
        text = self.format(category, event) if self.format is not None else None
        if text is None:
            return None
        from osmia.obj import synth

        if self.btf is None:
            return self._from_format(text, event)
        want = {
            (f.name, f.offset) for f in synth.parse_format(text)[2] if not f.name.startswith("common_")
        }
        if self._prefixed is None:
            self._prefixed = self.btf.find_prefix("trace_event_raw_")
        best = [id for _, id in self._prefixed if self._places(id) == want]
        near = sorted(best, key=lambda id: -_common(self.btf.get(id).name[16:], event))  # type: ignore[union-attr]
        return self.by_id(near[0]) if near else self._from_format(text, event)

    def _places(self, id: int) -> set[tuple[str, int]]:
        assert self.btf is not None
        out = set()
        for member in self.btf.get(id).members:
            name = member.name
            for prefix in ("__data_loc_", "__rel_loc_"):
                name = name.removeprefix(prefix)
            if name not in ("ent", "__data"):
                out.add((name, member.bit_offset // 8))
        return out

    def _from_format(self, text: str, event: str) -> KT | None:
        from osmia.obj import synth

        name = synth.struct_name(event)
        made = Kernel(Btf(synth.btf_from_formats({name: text})))
        id = made.btf.find(name, _STRUCT) if made.btf is not None else 0
        return made.by_id(id) if id else None

    def tracepoint_args(self, event: str) -> list[KT] | None:
        """Types of a raw tracepoint's arguments (from ``btf_trace_NAME``); None where the event is unknown."""
        if self.btf is None:
            return None
        id = self.btf.find(f"btf_trace_{event}", (consts.BTF_KIND_TYPEDEF,))
        if not id:
            return None
        pointer = self.btf.get(self.btf.resolve(id))
        proto = self.btf.get(self.btf.resolve(pointer.type_id))
        return [self.by_id(p) for _, p in proto.params[1:]]

    def suggest(self, prefix: str, name: str, kinds: tuple[int, ...]) -> list[str]:
        """Names near to ``name`` among the BTF names that start with ``prefix``."""
        import difflib

        if self.btf is None:
            return []
        names = [n.removeprefix(prefix) for n, _ in self.btf.find_prefix(prefix, kinds)]
        return difflib.get_close_matches(name, names, 3)


def _common(a: str, b: str) -> int:
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n
