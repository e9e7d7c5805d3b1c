# SPDX-License-Identifier: Apache-2.0
"""The stages of a compilation, one after the other, each of which can be looked at.

``unit`` → typed program (:func:`typed`) → LLVM IR (:func:`ir`) → object
(:func:`compile_unit`).  Nothing here knows the machine: the kernel's types
come in as a :class:`osmia.obj.btf.Btf`.
"""

from __future__ import annotations

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
from osmia.errors import CompileError, NotFound, UserError
from osmia.lang.probes import Hook, Prog
from osmia.lang.unit import Unit
from osmia.obj.btf import Btf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from osmia.compiler.emit import Compiler
    from osmia.lang.options import Option

    Formats = Callable[[str, str], str | None]
    ModuleTypes = Callable[[str, str], Btf | None]
    First = Callable[[Prog], Hook | None]

STAGES = ("typed", "ir", "asm", "btf")


class Compiled:
    """An object and what it was made of.

    ``files``: the source files it depends on; ``consts``: module constants
    that are baked in, as ``(module, name, repr)``.
    """

    def __init__(self, object: bytes, files: list[str], consts: list[tuple[str, str, str]]) -> None:
        self.object = object
        self.files = files
        self.consts = consts


def build(
    unit: Unit, btf: Btf | None, tracepoint_format: Formats | None, module_types: ModuleTypes | None = None,
    without: Collection[Option] = (), first: First | None = None,
) -> Builder:  # fmt: skip
    """The front end: ``unit`` as a typed program, with what was learnt on the way.

    Each program is compiled for all hooks of its plan, or for one only:
    ``first`` gives the hook to begin with, None for a program that is not wanted.

    Raises CompileError where a function cannot be compiled, NotFound where a
    tracepoint or type does not exist.
    """
    if not unit.progs:
        raise UserError("nothing to compile: the module has no probe", where=unit.name,
                        fix='decorate a function: @tracepoint("sched:sched_switch")')
    mod = Builder(unit, Kernel(btf, tracepoint_format, module_types), without)
    for name, item in unit.maps.items():
        del name
        mod.map(item)
    narrow = False
    for prog in unit.progs:
        if first is None:
            _compile_plan(mod, prog)
        elif not _compile_one(mod, prog, first(prog)):
            narrow = True
    if narrow:
        mod.meta.append(("narrow",))
    mod.finish()
    return mod


def _compile_plan(mod: Builder, prog: Prog) -> None:
    """Compile ``prog`` for each hook of its plan; what these types lack is left out, as long as one hook remains."""
    missing = [err for hook in prog.hooks if (err := _compile_hook(mod, prog, hook)) is not None]
    if len(missing) == len(prog.hooks) and not prog.optional:
        raise missing[0]


def _compile_one(mod: Builder, prog: Prog, first: Hook | None) -> bool:
    """Compile ``prog`` for ``first``, or for the first hook after it that can be had; whether all hooks were tried."""
    if first is None:
        return False
    at = prog.hooks.index(first)
    missing: dict[Hook, NotFound] = {}
    for hook in prog.hooks[at:] + prog.hooks[:at]:
        err = _compile_hook(mod, prog, hook)
        if err is None:
            return len(missing) + 1 == len(prog.hooks)
        missing[hook] = err
    if not prog.optional:
        raise missing[prog.hooks[0]]
    return True


def _compile_hook(mod: Builder, prog: Prog, hook: Hook) -> NotFound | None:
    try:
        compile_prog(mod, prog, hook)
    except NotFound as err:
        mod.meta.append(("left", prog.elf_name(hook), err.what))
        return err
    return None


def typed(
    unit: Unit, *, btf: Btf | None, tracepoint_format: Formats | None = None, module_types: ModuleTypes | None = None
) -> tir.Module:
    """The typed program of ``unit``."""
    return build(unit, btf, tracepoint_format, module_types).module


def _ir(mod: Builder) -> str:
    from osmia.compiler.lower import lower

    sources = {name: file.text for name, file in mod.sources.files.items()}
    return lower(mod.module, sources)


def _emit(mod: Builder, text: str, compiler: Compiler, meanwhile: Callable[[], None] | None = None) -> bytes:
    """The object; what LLVM refuses, or dies of, becomes a compile error at the line that it names."""
    from osmia.compiler.emit import BackendError

    try:
        return compiler.finish(text, meanwhile=meanwhile)
    except BackendError as err:
        file, _, place = err.where.partition(".py:")
        file = f"{file}.py" if place else mod.module.funcs[-1].file
        numbers = [int(n) for n in place.split(":") if n.isdecimal()] or [mod.module.funcs[-1].line]
        source = mod.sources.files[file].line(numbers[0]) if file in mod.sources.files else ""
        column = len(source) - len(source.lstrip())
        raise CompileError(err.what, file=file, line=numbers[0], column=column, end_column=len(source),
                           source=source, fix=err.fix) from None  # fmt: skip


def compile_unit(
    unit: Unit, *, btf: Btf | None, tracepoint_format: Formats | None = None, module_types: ModuleTypes | None = None,
    compiler: Compiler | None = None, meanwhile: Callable[[], None] | None = None, without: Collection[Option] = (),
    first: First | None = None,
) -> Compiled:  # fmt: skip
    """Compile ``unit`` to an object file (``.object``: ELF bytes), by ``compiler`` if one has been started already.

    ``meanwhile`` is called while LLVM works.  The object is for runs in which
    the options ``without`` are off: what only they want is left out.  With
    ``first`` it has each program for one hook (see :func:`build`).
    """
    if compiler is None:
        from osmia.compiler.emit import Compiler

        compiler = Compiler()
    try:
        mod = build(unit, btf, tracepoint_format, module_types, without, first)
        text = _ir(mod)
    except BaseException:
        compiler.abandon()
        raise
    data = _emit(mod, text, compiler, meanwhile)
    consts = [(module, name, text) for (module, name), text in mod.constants.items()]
    return Compiled(data, sorted(mod.sources.files), consts)


def dump(
    unit: Unit, stage: str, *, btf: Btf | None, tracepoint_format: Formats | None = None,
    module_types: ModuleTypes | None = None,
) -> str:  # fmt: skip
    """One stage of the compilation of ``unit`` as text: ``typed``, ``ir``, ``asm`` or ``btf``."""
    mod = build(unit, btf, tracepoint_format, module_types)
    if stage == "typed":
        from osmia.compiler.dump import dump as show

        return show(mod.module)
    text = _ir(mod)
    if stage == "ir":
        return text
    if stage == "asm":
        from osmia.compiler.emit import assembly

        return assembly(text)
    if stage == "btf":
        from osmia.compiler.emit import Compiler
        from osmia.obj.btf_text import listing
        from osmia.obj.elf import parse_object

        return listing(Btf(parse_object(_emit(mod, text, Compiler()), unit.name).btf))
    raise UserError(f"there is no stage {stage!r}", fix=f"stages are {', '.join(STAGES)}")
