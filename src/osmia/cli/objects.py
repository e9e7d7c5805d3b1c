# SPDX-License-Identifier: Apache-2.0
"""From a unit to its object: the cached one where it is still right, else the one that came with osmia, else compiled.

What comes with osmia (:mod:`osmia.cli.shipped`) wins over the compiler: made
of the same sources it is the same object.  Reading it takes some milliseconds,
so it is put into the cache, too, in the form that is read at once.

A cached object is right when everything that went into it is as it was: the
tool's file and those that it took kernel functions from, the module
constants that were baked in, osmia's own compiler, the kernel's types, and
the tracepoints that were asked for and not there.  All of that is written in
front of the object and compared; nothing is trusted because of its name.

What is compiled for a run has each program once, for the hook that this kernel
seems to have, and not the programs that the options leave out: half of a
plan's programs are never loaded.  Such a narrow object says so, and a whole
one is compiled as soon as a run wants something else.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib

from osmia.cli import image, plans
from osmia.errors import NotFound
from osmia.kernel import btf_source, cache, tracefs
from osmia.lang.builtins import conditions
from osmia.obj import meta
from osmia.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from osmia.compiler.stages import First
    from osmia.lang.options import Option
    from osmia.lang.unit import Unit
    from osmia.obj.btf import Btf
    from osmia.obj.spec import ObjectSpec

_LENGTH = struct.Struct("<I")
#: Objects that are kept of a tool whose programs depend on its command line.
KEPT = 64
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def stamp(path: str) -> str:
    """Modification time (ns) and size of a file; empty when there is none."""
    try:
        info = os.stat(path)
    except OSError:
        return ""
    return f"{info.st_mtime_ns} {info.st_size}"


def fingerprint() -> str:
    """The version of the compiler: osmia's, and the newest file of the folders that decide what is compiled."""
    newest = 0
    for folder in ("compiler", "lang", "obj"):
        with os.scandir(os.path.join(_ROOT, folder)) as entries:
            for entry in entries:
                if entry.name.endswith(".py"):
                    newest = max(newest, entry.stat().st_mtime_ns)
    return f"{__version__} {newest}"


def _key(path: str) -> list[tuple[str, ...]]:
    chosen = os.environ.get("OSMIA_BTF", "")
    if btf_source.is_chosen():
        chosen = btf_source.find()
    return [
        ("tool", path, stamp(path)),
        ("osmia", fingerprint(), image.FORMAT),
        ("kernel", btf_source.kernel_id()),
        ("btf", chosen, stamp(chosen) if chosen else ""),
        ("off", os.environ.get("OSMIA_FEATURES_OFF", "")),
    ]


def _still_right(records: list[tuple[str, ...]], key: list[tuple[str, ...]]) -> str:
    """Empty, or what has changed."""
    if records[: len(key)] != key:
        return "another tool, compiler or kernel"
    for record in records[len(key) :]:
        kind = record[0]
        if kind == "file" and stamp(record[1]) != record[2]:
            return record[1]
        if kind == "const":
            module = sys.modules.get(record[1])
            if module is None or repr(getattr(module, record[2], None)) != record[3]:
                return f"{record[1]}.{record[2]}"
        if kind == "absent" and tracefs.exists(record[1], record[2]):
            return f"tracepoint {record[1]}:{record[2]}"
        if kind == "modules" and record[1] != ",".join(btf_source.modules()):
            return "loaded modules"
    return ""


def spec_of(unit: Unit, note: Callable[[str], None], whole: bool = False) -> ObjectSpec:
    """The spec of ``unit``'s object; ``note`` is told where it came from.  Raises what compiling raises.

    It has what this run wants, ``whole``: all hooks of all plans.
    """
    path = str(unit.namespace.get("__file__") or "")
    path = os.path.abspath(path) if path else ""
    if not os.path.isfile(path):
        note("compiled now: it has no file, so nothing to recognise it by in the cache")
        return _parsed(compile_now(unit, _off(), None if whole else plans.first)[0], unit.name)
    off = _off()
    name, key = _entry(unit.name, path, off), _key(path)
    if unit.made_of:
        # Of such objects a number are kept, and what is another's place is written anew: the key tells.
        name = f"{name.removesuffix('.spec')}-{zlib.crc32(unit.made_of.encode('utf-8', 'surrogateescape')) % KEPT}.spec"
        key.append(("made of", unit.made_of))
    found, reason = cache.read(name), "compiled: nothing usable in the cache"
    if found is not None:
        changed, spec = _unpack(found, key)
        reason = f"compiled anew: changed since it was cached: {changed}"
        if spec is not None and plans.narrow(spec) and (whole or not plans.satisfied(unit.progs, spec)):
            whole, spec = True, None
        if spec is not None:
            note("object that came with osmia, taken from the cache" if ("from", "osmia") in meta.load(_head(found))
                 else "compiled object taken from the cache")  # fmt: skip
            return spec
    elf, records = _shipped(unit.name, path, len(off) == len(conditions()), note)
    if not elf:
        note("compiled with all hooks: the object has not what this run wants" if whole else reason)
        elf, records = compile_now(unit, off, None if whole else plans.first)
    spec = _parsed(elf, unit.name)
    head = meta.dump(key + records)
    # Taken now, before options are written into the spec, and kept when the programs run.
    _unwritten[name] = _LENGTH.pack(len(head)) + head + image.dump(spec), note
    return spec


def _shipped(name: str, path: str, plain: bool, note: Callable[[str], None]) -> tuple[bytes, list[tuple[str, ...]]]:
    """The object that came with osmia and what it depends on; nothing where there is none, or it is not right."""
    from osmia.cli import shipped

    elf, made, reason = shipped.find(name, path, plain)
    if reason:
        note(f"the object that came with osmia is not used: {reason}")
    if elf:
        note("object that came with osmia")
    return elf, [("from", "osmia"), *[(*one, stamp(one[1])) if one[0] == "file" else one for one in made]]


def _off() -> list[Option]:
    """What this run does without: options that whole subprograms depend on, and that are not given."""
    return [one for one in conditions() if not one.value]


def _entry(name: str, path: str, off: list[Option]) -> str:
    """The cache entry's name: the unit's, if a file can be called so, and a checksum of where it is.

    What is compiled for a run without filters is another object than what can do them.
    """
    path += "".join(sorted(f" -{one.flags[0]}" for one in off))
    plain = all(c.isascii() and (c.isalnum() or c in "._-") for c in name) and not name.startswith(".")
    return f"{name if plain else 'unit'}-{zlib.crc32(path.encode('utf-8', 'surrogateescape')):08x}.spec"


def _parsed(elf: bytes, name: str) -> ObjectSpec:
    from osmia.obj.elf import parse_object

    return parse_object(elf, name)


def _head(data: bytes) -> bytes:
    """The records in front of a cached image."""
    return data[4 : 4 + _LENGTH.unpack_from(data)[0]]


def _unpack(data: bytes, key: list[tuple[str, ...]]) -> tuple[str, ObjectSpec | None]:
    """``("", spec)``, or what has changed and None."""
    if len(data) < 4:
        return "damaged", None
    end = 4 + _LENGTH.unpack_from(data)[0]
    if end > len(data):
        return "damaged", None
    reason = _still_right(meta.load(_head(data)), key)
    if reason:
        return reason, None
    try:
        return "", image.load(data[end:])
    except (ValueError, TypeError, EOFError, AttributeError):
        return "damaged", None


def tracepoint_source(absent: list[tuple[str, ...]]) -> Callable[[str, str], str | None]:
    """What gives the compiler the records of tracepoints; ``absent`` collects what was asked for in vain."""

    def tracepoint_format(category: str, name: str) -> str | None:
        if not tracefs.exists(category, name):
            absent.append(("absent", category, name))
            return None
        return tracefs.format(category, name)

    return tracepoint_format


def module_source(asked: list[tuple[str, ...]]) -> Callable[[str, str], Btf | None]:
    """What gives the compiler the types of modules; ``asked`` then says which were loaded."""

    def module_types(module: str, function: str) -> Btf | None:
        from osmia.kernel import functions

        asked.append(("modules", ",".join(btf_source.modules())))
        return functions.module_types(module, function)

    return module_types


#: Objects that are yet to be put into the cache.
_unwritten: dict[str, tuple[bytes, Callable[[str], None]]] = {}


def settle() -> None:
    """Keep what was compiled, and wait for the end of what has compiled it; that can wait until the programs run."""
    while _unwritten:
        name, (data, note) = _unwritten.popitem()
        refused = cache.write(name, data)
        if refused:
            note(f"not cached: {refused}")
    emit = sys.modules.get("osmia.compiler.emit")
    if emit is not None:
        emit.settle()


def compile_now(
    unit: Unit, without: Collection[Option] = (), first: First | None = None
) -> tuple[bytes, list[tuple[str, ...]]]:
    """Compile; the object, and the records of what it depends on.

    ``without``: for runs in which these are off; ``first``: for one hook of each plan (see
    :func:`osmia.compiler.stages.build`).
    """
    from osmia.cli import ahead
    from osmia.compiler.emit import Compiler

    btf = btf_source.kernel_btf()
    compiler = Compiler()  # before anything else is imported: what this process has by then is copied when it changes
    from osmia.compiler.stages import compile_unit

    absent: list[tuple[str, ...]] = []
    modules: list[tuple[str, ...]] = []
    try:
        made = compile_unit(unit, btf=btf, tracepoint_format=tracepoint_source(absent),
                            module_types=module_source(modules), compiler=compiler,
                            meanwhile=lambda: ahead.now(unit), without=without, first=first)  # fmt: skip
    except NotFound as err:
        # The compiler knows no machine; which names are near is known here.
        for _, category, name in absent:
            if f"{category}:{name}" in err.what:
                err.fix = tracefs.suggest(category, name) or err.fix
        raise
    records = absent + modules[:1]
    records += [("file", file, stamp(file)) for file in made.files]
    records += [("const", *const) for const in made.consts]
    return made.object, records
