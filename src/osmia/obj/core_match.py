# SPDX-License-Identifier: Apache-2.0
"""The matching half of CO-RE: which member of which target type is meant.

An access string such as ``0:3:1`` walks from a type: an index into an array
of that type (0 as a rule), then one index per member or array element.  The
walk is turned into names, and the names are walked again in the target.
"""

from __future__ import annotations

from osmia.errors import UserError
from osmia.obj.btf import Btf, Type
from osmia.obj.consts import (
    BPF_CORE_ENUMVAL_EXISTS,
    BPF_CORE_ENUMVAL_VALUE,
    BPF_CORE_FIELD_RSHIFT_U64,
    BTF_KIND_ARRAY,
    BTF_KIND_ENUM,
    BTF_KIND_ENUM64,
    BTF_KIND_FLOAT,
    BTF_KIND_FUNC_PROTO,
    BTF_KIND_FWD,
    BTF_KIND_INT,
    BTF_KIND_PTR,
    BTF_KIND_STRUCT,
    BTF_KIND_UNION,
    BTF_KIND_UNKN,
)

ENUMS = (BTF_KIND_ENUM, BTF_KIND_ENUM64)
_COMPOSITES = (BTF_KIND_STRUCT, BTF_KIND_UNION)
_OPAQUE = (BTF_KIND_UNKN, BTF_KIND_STRUCT, BTF_KIND_UNION, BTF_KIND_FWD, *ENUMS)
_MAX_DEPTH = 32


class Misfit(UserError):
    """A relocation that contradicts its types or its instruction; the caller adds which one and where."""


class Access:
    """One named step: member ``index`` of ``type_id``, or (``name`` empty) element ``index`` of type ``type_id``."""

    __slots__ = ("index", "name", "type_id")

    def __init__(self, type_id: int, index: int, name: str = "") -> None:
        self.type_id = type_id
        self.index = index
        self.name = name


class Spec:
    """An access in one type system: from ``root`` through ``accesses`` to ``bit_offset``, or an ``enumerator``."""

    __slots__ = ("accesses", "bit_offset", "enumerator", "root")

    def __init__(self, root: int) -> None:
        self.root = root
        self.accesses: list[Access] = []
        self.bit_offset = 0
        self.enumerator = 0

    def text(self, btf: Btf) -> str:
        """``task_struct.se.load[0]``, or ``enum_name::VALUE``."""
        t = btf.get(self.root)
        out = essential(t.name) or btf.name_of(self.root)
        for i, access in enumerate(self.accesses):
            if access.name:
                out += f".{access.name}"
            elif i or access.index:
                out += f"[{access.index}]"
        t = btf.get(btf.resolve(self.root))
        if not self.accesses and self.enumerator >= 0 and t.kind in ENUMS and self.enumerator < len(t.enumerators):
            out += f"::{essential(t.enumerators[self.enumerator][0])}"
        return out


def essential(name: str) -> str:
    """The name without its flavour: ``task_struct___old`` is ``task_struct``."""
    cut = name.find("___", 1)
    return name[:cut] if 0 < cut < len(name) - 3 else name


def parse(btf: Btf, type_id: int, access: str, kind: int) -> Spec:
    """The local side of a relocation.  Raises :class:`Misfit` when the access string does not fit the type."""
    try:
        indexes = [int(part) for part in access.split(":")]
    except ValueError:
        raise Misfit(f"access string {access!r} is not understood") from None
    spec = Spec(type_id)
    if min(indexes) < 0:
        raise Misfit(f"access string {access!r} is not understood")
    if kind in (BPF_CORE_ENUMVAL_EXISTS, BPF_CORE_ENUMVAL_VALUE):
        t = btf.get(btf.resolve(type_id))
        if t.kind not in ENUMS or len(indexes) != 1 or indexes[0] >= len(t.enumerators):
            raise Misfit(f"access string {access!r} does not name an enumerator")
        spec.enumerator = indexes[0]
        return spec
    if kind > BPF_CORE_FIELD_RSHIFT_U64:
        spec.enumerator = -1
        return spec  # about the type as a whole
    _walk(btf, spec, indexes, access)
    return spec


def _walk(btf: Btf, spec: Spec, indexes: list[int], access: str) -> None:
    id = btf.resolve(spec.root)
    spec.accesses.append(Access(id, indexes[0]))
    spec.bit_offset = indexes[0] * btf.size_of(id) * 8
    for index in indexes[1:]:
        t = btf.get(id)
        if t.kind in _COMPOSITES and index < len(t.members):
            member = t.members[index]
            spec.bit_offset += member.bit_offset
            if member.name:
                spec.accesses.append(Access(id, index, member.name))
            id = btf.resolve(member.type_id)
        elif t.kind == BTF_KIND_ARRAY and (index < t.nelems or _flexible(btf, spec, t)):
            id = btf.resolve(t.elem_id)
            spec.accesses.append(Access(id, index))
            spec.bit_offset += index * btf.size_of(id) * 8
        else:
            raise Misfit(f"access string {access!r} does not fit {btf.name_of(spec.root)}")


def _flexible(btf: Btf, spec: Spec, array: Type) -> bool:
    """Whether an array without a length is the last member of its structure, so that any index is in it."""
    last = spec.accesses[-1]
    return not array.nelems and bool(last.name) and last.index == len(btf.get(last.type_id).members) - 1


def match(local: Btf, spec: Spec, target: Btf, candidate: int, kind: int) -> Spec | None:
    """The same access in the target's type ``candidate``; ``None`` when it has no such thing."""
    found = Spec(candidate)
    if kind in (BPF_CORE_ENUMVAL_EXISTS, BPF_CORE_ENUMVAL_VALUE):
        name = essential(local.get(local.resolve(spec.root)).enumerators[spec.enumerator][0])
        for i, (other, _) in enumerate(target.get(target.resolve(candidate)).enumerators):
            if essential(other) == name:
                found.enumerator = i
                return found
        return None
    if kind > BPF_CORE_FIELD_RSHIFT_U64:
        return found if types_compatible(local, spec.root, target, candidate) else None
    return found if _match_field(local, spec, target, found) else None


def _match_field(local: Btf, spec: Spec, target: Btf, found: Spec) -> bool:
    id = target.resolve(found.root)
    for i, access in enumerate(spec.accesses):
        if access.name:
            member_type = local.get(access.type_id).members[access.index].type_id
            next_id = _match_member(local, member_type, access.name, target, id, found, 0)
            if next_id is None:
                return False
            id = target.resolve(next_id)
            continue
        if i:
            t = target.get(id)
            if t.kind != BTF_KIND_ARRAY or (access.index >= t.nelems and not _flexible(target, found, t)):
                return False
            id = target.resolve(t.elem_id)
        found.accesses.append(Access(id, access.index))
        found.bit_offset += access.index * target.size_of(id) * 8
    return True


def _match_member(
    local: Btf, local_type: int, name: str, target: Btf, id: int, found: Spec, depth: int
) -> int | None:
    """Step into the member of that name, looking through anonymous ones; its type, or ``None``."""
    t = target.get(id)
    if t.kind not in _COMPOSITES or depth > _MAX_DEPTH:
        return None
    start = found.bit_offset
    for index, member in enumerate(t.members):
        found.bit_offset = start + member.bit_offset
        if not member.name:
            inside = target.resolve(member.type_id)
            type_id = _match_member(local, local_type, name, target, inside, found, depth + 1)
            if type_id is not None:
                return type_id
        elif member.name == name and fields_compatible(local, local_type, target, member.type_id):
            found.accesses.append(Access(id, index, name))
            return member.type_id
    found.bit_offset = start
    return None


def _kinds_compatible(a: Type, b: Type) -> bool:
    return a.kind == b.kind or (a.kind in ENUMS and b.kind in ENUMS)


def fields_compatible(local: Btf, local_id: int, target: Btf, target_id: int) -> bool:
    """Whether a member may stand for another: same kind, and names where they count (enumerations)."""
    for _ in range(_MAX_DEPTH):
        a, b = local.get(local.resolve(local_id)), target.get(target.resolve(target_id))
        if a.kind in _COMPOSITES and b.kind in _COMPOSITES:
            return True
        if not _kinds_compatible(a, b):
            return False
        if a.kind in (BTF_KIND_PTR, BTF_KIND_FLOAT):
            return True
        if a.kind in ENUMS or a.kind == BTF_KIND_FWD:
            return not a.name or not b.name or essential(a.name) == essential(b.name)
        if a.kind == BTF_KIND_INT:
            return not a.offset and not b.offset  # an offset marks the bit fields of very old compilers
        if a.kind != BTF_KIND_ARRAY:
            return False
        local_id, target_id = a.elem_id, b.elem_id
    return False


def types_compatible(local: Btf, local_id: int, target: Btf, target_id: int, depth: int = 0) -> bool:
    """Whether two types are the same to CO-RE: same shape of pointers, arrays and prototypes down to opaque names."""
    for _ in range(_MAX_DEPTH):
        a, b = local.get(local.resolve(local_id)), target.get(target.resolve(target_id))
        if depth > _MAX_DEPTH or not _kinds_compatible(a, b):
            return False
        if a.kind in _OPAQUE:
            return True
        if a.kind == BTF_KIND_INT:
            return not a.offset and not b.offset
        if a.kind == BTF_KIND_PTR:
            local_id, target_id = a.type_id, b.type_id
        elif a.kind == BTF_KIND_ARRAY:
            local_id, target_id = a.elem_id, b.elem_id
        elif a.kind == BTF_KIND_FUNC_PROTO:
            if len(a.params) != len(b.params):
                return False
            pairs = zip(a.params, b.params, strict=True)
            if not all(types_compatible(local, p[1], target, q[1], depth + 1) for p, q in pairs):
                return False
            local_id, target_id = a.type_id, b.type_id
        else:
            return False
    return False
