# SPDX-License-Identifier: Apache-2.0
"""Map definitions: the ``.maps`` section, whose content is nothing and whose types say all.

A definition is a struct variable; ``__uint(name, N)`` is a member that points
to an array of N ints, ``__type(name, T)`` one that points to a T,
``__array(values, T)`` an array of pointers to T (libbpf's convention).
"""

from __future__ import annotations

from osmia.errors import NotSupported, UserError
from osmia.obj.btf import Btf, Member
from osmia.obj.consts import (
    BPF_MAP_TYPE_ARRAY_OF_MAPS,
    BPF_MAP_TYPE_HASH_OF_MAPS,
    BTF_KIND_ARRAY,
    BTF_KIND_DATASEC,
    BTF_KIND_ENUM,
    BTF_KIND_ENUM64,
    BTF_KIND_FUNC_PROTO,
    BTF_KIND_PTR,
    BTF_KIND_STRUCT,
    BTF_KIND_VAR,
)
from osmia.obj.spec import MapSpec

_UINTS = {
    "type": "type", "key_size": "key_size", "value_size": "value_size", "max_entries": "max_entries",
    "map_flags": "flags", "numa_node": "numa_node", "pinning": "pinning", "map_extra": "extra",
}
_OF_MAPS = (BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS)


def read_maps(btf: Btf, where: str) -> dict[str, MapSpec]:
    """Every definition in the ``.maps`` section, by name.  ``where`` names the object in messages."""
    section = btf.find(".maps", BTF_KIND_DATASEC)
    if not section:
        raise UserError("section .maps is not described in .BTF", where=where, fix="compile with -g")
    out = {}
    for var_id, _, _ in btf.get(section).variables:
        var = btf.get(var_id)
        if var.kind != BTF_KIND_VAR:
            raise UserError("damaged object file: section .maps describes something that is no variable", where=where)
        out[var.name] = _definition(btf, var.name, var.type_id, where)
    return out


def _definition(btf: Btf, name: str, type_id: int, where: str) -> MapSpec:
    definition = btf.get(btf.resolve(type_id))
    if definition.kind != BTF_KIND_STRUCT:
        raise UserError(f"map {name!r} is not defined by a struct", where=where)
    spec = MapSpec(name, 0)
    for member in definition.members:
        if member.name in _UINTS:
            setattr(spec, _UINTS[member.name], _uint(btf, name, member, where))
        elif member.name == "key":
            spec.key_tid, spec.key_size = _type(btf, name, member, spec.key_size, where)
        elif member.name == "value":
            spec.value_tid, spec.value_size = _type(btf, name, member, spec.value_size, where)
        elif member.name == "values":
            _values(btf, spec, member, where)
        else:
            raise NotSupported(f"map {name!r} has an unknown attribute {member.name!r}", where=where)
    if spec.type in _OF_MAPS:
        # The slots are file descriptors; BTF of the value would be the inner map's.
        spec.value_size, spec.value_tid = 4, 0
        if spec.type == BPF_MAP_TYPE_ARRAY_OF_MAPS:
            spec.key_size = 4
    return spec


def _uint(btf: Btf, map_name: str, member: Member, where: str) -> int:
    t = btf.get(btf.resolve(member.type_id))
    if t.kind == BTF_KIND_PTR:
        array = btf.get(btf.resolve(t.type_id))
        if array.kind == BTF_KIND_ARRAY:
            return array.nelems
    elif t.kind in (BTF_KIND_ENUM, BTF_KIND_ENUM64) and len(t.enumerators) == 1:
        return t.enumerators[0][1]  # __ulong(): for numbers that an array cannot have as its length
    raise UserError(f"map {map_name!r}: attribute {member.name!r} is not a number", where=where, fix="use __uint()")


def _type(btf: Btf, map_name: str, member: Member, declared: int, where: str) -> tuple[int, int]:
    t = btf.get(btf.resolve(member.type_id))
    if t.kind != BTF_KIND_PTR:
        raise UserError(f"map {map_name!r}: attribute {member.name!r} is not a type", where=where, fix="use __type()")
    size = btf.size_of(t.type_id)
    if declared and declared != size:
        raise UserError(
            f"map {map_name!r}: {member.name}_size is {declared} but its type has {size} bytes", where=where
        )
    return t.type_id, size


def _values(btf: Btf, spec: MapSpec, member: Member, where: str) -> None:
    array = btf.get(btf.resolve(member.type_id))
    pointer = btf.get(btf.resolve(array.elem_id)) if array.kind == BTF_KIND_ARRAY else None
    if pointer is None or pointer.kind != BTF_KIND_PTR:
        raise UserError(f"map {spec.name!r}: values is not an array of pointers", where=where, fix="use __array()")
    if btf.get(btf.resolve(pointer.type_id)).kind == BTF_KIND_FUNC_PROTO:
        return  # a program array: its slots are filled after loading
    spec.inner = _definition(btf, f"{spec.name}.inner", pointer.type_id, where)
