# SPDX-License-Identifier: Apache-2.0
"""The cached form of an object is the object."""

from __future__ import annotations

from typing import Any

import pytest

from osmia.cli import image
from osmia.obj.spec import FuncSpec, MapSpec, ObjectSpec, ProgSpec, Reloc


def sample() -> ObjectSpec:
    spec = ObjectSpec("sample")
    spec.license, spec.btf, spec.meta = "GPL", b"\x9f\xeb", b"map\tx\n"
    outer = spec.maps["outer"] = MapSpec("outer", 12, 4, 4, 3)
    outer.inner = MapSpec("inner", 1, 4, 8, 10)
    data = spec.maps[".rodata"] = MapSpec(".rodata", 2, 4, 16, 1)
    data.contents, data.variables = bytearray(b"0123456789abcdef"), {"pid": (0, 8), "uid": (8, 4)}
    prog = spec.progs["enter"] = ProgSpec("enter", bytes(16), "tracepoint/a/b")
    prog.hook, prog.type, prog.target, prog.sleepable = "tracepoint", 5, "a:b", True
    prog.relocs = [Reloc(0, "map", "outer"), Reloc(8, "data", ".rodata", 8)]
    prog.core_relos, prog.func_info, prog.line_info = [(0, 1, 2, 3)], [(0, 4)], [(0, 1, 2, 3)]
    spec.funcs["helper"] = FuncSpec("helper", b"\x95" + bytes(7))
    return spec


def plain(one: Any) -> Any:
    """Everything in a spec, as values that can be compared."""
    if isinstance(one, (ObjectSpec, MapSpec, FuncSpec, Reloc)):
        names = [name for base in type(one).__mro__ for name in getattr(base, "__slots__", ())]
        return {name: plain(getattr(one, name)) for name in names}
    if isinstance(one, dict):
        return {key: plain(value) for key, value in one.items()}
    if isinstance(one, list):
        return [plain(value) for value in one]
    return one


def test_nothing_is_lost() -> None:
    spec = sample()
    again = image.load(image.dump(spec))
    assert plain(again) == plain(spec)
    assert isinstance(again.progs["enter"], ProgSpec)
    again.maps[".rodata"].set("pid", b"\xff" * 8)  # options are written into what was read
    assert plain(again) != plain(spec)


@pytest.mark.parametrize("data", [b"", b"x", image.dump(sample())[:-30], b"i\0\0\0\0"])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, TypeError, EOFError)):
        image.load(data)
