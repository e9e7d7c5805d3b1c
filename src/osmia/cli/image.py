# SPDX-License-Identifier: Apache-2.0
"""A parsed object as bytes that Python reads back at once.

Reading an ELF file takes 1.5 ms of a warm start and the modules for it
another; what is in the cache is therefore the spec itself, in
:mod:`marshal`'s format.  That format may differ between Python versions, so
:data:`FORMAT` belongs to whatever decides whether an image fits.
"""

from __future__ import annotations

import marshal
import sys

from osmia.obj.spec import FuncSpec, MapSpec, ObjectSpec, ProgSpec, Reloc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: What an image depends on besides its content: the layout below, and Python.
FORMAT = f"1 {marshal.version} {sys.implementation.cache_tag}"

_MAP = tuple(name for name in MapSpec.__slots__ if name != "inner")
_PROG = (*FuncSpec.__slots__, *ProgSpec.__slots__)


def _values(one: Any, names: tuple[str, ...]) -> list[Any]:
    return [getattr(one, name) for name in names]


def _map(one: MapSpec | None) -> list[Any] | None:
    if one is None:
        return None
    return [*[bytes(v) if isinstance(v, bytearray) else v for v in _values(one, _MAP)], _map(one.inner)]


def _function(one: FuncSpec, names: tuple[str, ...]) -> list[Any]:
    relocs = [(r.offset, r.kind, r.target, r.addend) for r in one.relocs]
    return [relocs if name == "relocs" else getattr(one, name) for name in names]


def dump(spec: ObjectSpec) -> bytes:
    """The image of ``spec``."""
    return marshal.dumps((
        spec.name, spec.license, bytes(spec.btf), bytes(spec.meta),
        [_map(one) for one in spec.maps.values()],
        [_function(one, _PROG) for one in spec.progs.values()],
        [_function(one, FuncSpec.__slots__) for one in spec.funcs.values()],
    ))  # fmt: skip


def _fill(one: Any, names: tuple[str, ...], values: list[Any]) -> Any:
    for name, value in zip(names, values, strict=True):
        setattr(one, name, [Reloc(*r) for r in value] if name == "relocs" else value)
    return one


def _read_map(values: list[Any]) -> MapSpec:
    made: MapSpec = _fill(MapSpec.__new__(MapSpec), _MAP, values[:-1])
    if made.contents is not None:
        made.contents = bytearray(made.contents)
    made.inner = None if values[-1] is None else _read_map(values[-1])
    return made


def load(data: bytes) -> ObjectSpec:
    """The spec of an image; ValueError, TypeError or EOFError for what is none."""
    name, license, btf, meta, maps, progs, funcs = marshal.loads(data)
    spec = ObjectSpec(name)
    spec.license, spec.btf, spec.meta = license, btf, meta
    for values in maps:
        one = _read_map(values)
        spec.maps[one.name] = one
    for values in progs:
        prog: ProgSpec = _fill(ProgSpec.__new__(ProgSpec), _PROG, values)
        spec.progs[prog.name] = prog
    for values in funcs:
        function: FuncSpec = _fill(FuncSpec.__new__(FuncSpec), FuncSpec.__slots__, values)
        spec.funcs[function.name] = function
    return spec
