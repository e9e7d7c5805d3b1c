# SPDX-License-Identifier: Apache-2.0
"""The stages of a compilation, one after the other, each of which can be looked at.

``unit`` → typed program (:func:`typed`) → LLVM IR (:func:`ir`) → object
(:func:`compile_unit`).  Nothing here knows the machine: the kernel's types
come in as a :class:`osmia.obj.btf.Btf`.
"""

from __future__ import annotations

from collections.abc import Callable

from osmia.compiler import (  # what handles each kind of node registers itself when imported
    assign,  # noqa: F401
    exprs,  # noqa: F401
    flow,  # noqa: F401
    lookups,  # noqa: F401
    stmts,  # noqa: F401
    tir,
)
from osmia.compiler.builder import Builder
from osmia.compiler.entry import compile_prog
from osmia.compiler.ktypes import Kernel
from osmia.errors import UserError
from osmia.lang.unit import Unit
from osmia.obj.btf import Btf

STAGES = ("typed", "ir", "asm", "btf")
Formats = Callable[[str, str], "str | None"]


class Compiled:
    """An object and what it was made of.

    ``files``: the source files it depends on; ``consts``: module constants
    that are baked in, as ``(module, name, repr)``.
    """

    def __init__(self, object: bytes, files: list[str], consts: list[tuple[str, str, str]]) -> None:
        self.object = object
        self.files = files
        self.consts = consts


def build(unit: Unit, btf: Btf | None, tracepoint_format: Formats | None) -> Builder:
    """The front end: ``unit`` as a typed program, with what was learnt on the way.

    Raises CompileError where a function cannot be compiled, NotFound where a
    tracepoint or type does not exist.
    """
    if not unit.progs:
        raise UserError("nothing to compile: the module has no probe", where=unit.name,
                        fix='decorate a function: @tracepoint("sched:sched_switch")')
    mod = Builder(unit, Kernel(btf, tracepoint_format))
    for name, item in unit.maps.items():
        del name
        mod.map(item)
    for prog in unit.progs:
        for hook in prog.hooks:
            compile_prog(mod, prog, hook)
    mod.finish()
    return mod


def typed(unit: Unit, *, btf: Btf | None, tracepoint_format: Formats | None = None) -> tir.Module:
    """The typed program of ``unit``."""
    return build(unit, btf, tracepoint_format).module


def _ir(mod: Builder) -> str:
    from osmia.compiler.lower import lower

    sources = {name: file.text for name, file in mod.sources.files.items()}
    return lower(mod.module, sources)


def compile_unit(unit: Unit, *, btf: Btf | None, tracepoint_format: Formats | None = None) -> Compiled:
    """Compile ``unit`` to an object file (``.object``: ELF bytes)."""
    from osmia.compiler.emit import compile_ir

    mod = build(unit, btf, tracepoint_format)
    data = compile_ir(_ir(mod))
    consts = [(module, name, text) for (module, name), text in mod.constants.items()]
    return Compiled(data, sorted(mod.sources.files), consts)


def dump(unit: Unit, stage: str, *, btf: Btf | None, tracepoint_format: Formats | None = None) -> str:
    """One stage of the compilation of ``unit`` as text: ``typed``, ``ir``, ``asm`` or ``btf``."""
    mod = build(unit, btf, tracepoint_format)
    if stage == "typed":
        from osmia.compiler.dump import dump as show

        return show(mod.module)
    text = _ir(mod)
    if stage == "ir":
        return text
    from osmia.compiler.emit import assembly, compile_ir

    if stage == "asm":
        return assembly(text)
    if stage == "btf":
        from osmia.obj.btf_text import listing
        from osmia.obj.elf import parse_object

        return listing(Btf(parse_object(compile_ir(text), unit.name).btf))
    raise UserError(f"there is no stage {stage!r}", fix=f"stages are {', '.join(STAGES)}")
