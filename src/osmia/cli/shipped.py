# SPDX-License-Identifier: Apache-2.0
"""The objects that a wheel brings along, so that a tool needs no compiler.

An object is CO-RE and does not depend on the values of options, so one serves
every kernel; a tool with filters has another for runs without them.
It is right as long as the files that it was made of are what they were, by
size and checksum, and the module constants that were baked in; then nothing is
compiled, also where there is a compiler.  ``NAME.made`` says what that is, in
records as :mod:`osmia.obj.meta` writes them: ``osmia`` version, ``file`` name
from the package's folder on, size and CRC-32, ``const`` module, name, repr, and
last ``object`` size and CRC-32 of what ``NAME.bpf.o.z`` unpacks to: an object is a fifth of its size there
(zlib), and unpacked in less than a millisecond, once.
"""

from __future__ import annotations

import os
import sys
import zlib

from osmia.obj import meta
from osmia.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.compiler.stages import Compiled

OBJECT, MADE = ".bpf.o.z", ".made"
#: In the name of the object for runs without filters: what only they want is left out of it.
PLAIN = ".plain"
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(_PACKAGE, "data", "objects")


def names() -> list[str]:
    """The tools that have an object before anybody says what to trace: neither lists nor made of a specification."""
    from osmia.cli import catalog
    from osmia.cli.main import tool_unit

    units = {name: tool_unit(name) for name in catalog.names()}
    return [name for name, unit in units.items()
            if unit.progs and (unit.template is None or unit.template.declares is None)]  # fmt: skip


def describe(made: Compiled) -> bytes:
    """The text of ``NAME.made``; the files that ``made`` names are taken from the current folder."""
    records: list[tuple[str, ...]] = [("osmia", __version__)]
    records += [("file", name, *_sum(_contents(name))) for name in made.files]
    records += [("const", *const) for const in made.consts]
    return meta.dump([*records, ("object", *_sum(made.object))])


def _contents(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _sum(data: bytes) -> tuple[str, str]:
    return str(len(data)), f"{zlib.crc32(data):08x}"


def find(name: str, path: str, plain: bool = False) -> tuple[bytes, list[tuple[str, ...]], str]:
    """``(object, what it was made of, "")`` for the tool ``name`` whose file is ``path``, or the reason why not.

    ``plain``: the one without what only filters want, where the tool has them.
    There is no reason (and no object) where none was shipped.  The records
    are those of :func:`osmia.cli.objects.compile_now`, but for the stamps of the files.
    """
    if path != os.path.join(_PACKAGE, "tools", f"{name}.py") or os.environ.get("OSMIA_SHIPPED") == "0":
        return b"", [], ""
    if plain and os.path.exists(os.path.join(FOLDER, name + PLAIN + MADE)):
        name += PLAIN
    try:
        records = meta.load(_contents(os.path.join(FOLDER, name + MADE)))
        data = zlib.decompress(_contents(os.path.join(FOLDER, name + OBJECT)))
    except OSError:
        return b"", [], ""
    except zlib.error:
        return b"", [], "it is damaged"
    reason = _changed(records, data)
    if reason:
        return b"", [], reason
    root = os.path.dirname(_PACKAGE)
    return data, [
        ("file", os.path.join(root, record[1])) if record[0] == "file" else record
        for record in records if record[0] in ("file", "const")
    ], ""  # fmt: skip


def _changed(records: list[tuple[str, ...]], data: bytes) -> str:
    """Empty, or what is not as it was when the object was made."""
    if not records or records[-1] != ("object", *_sum(data)) or records[0][0] != "osmia":
        return "it is damaged"
    if records[0][1] != __version__:
        return f"it belongs to osmia {records[0][1]}"
    root = os.path.dirname(_PACKAGE)
    for kind, *values in records[1:-1]:
        if kind == "file":
            try:
                same = tuple(values[1:]) == _sum(_contents(os.path.join(root, values[0])))
            except OSError:
                same = False
            if not same:
                return f"{values[0]} has changed"
        elif kind == "const":
            module = sys.modules.get(values[0])
            if module is None or repr(getattr(module, values[1], None)) != values[2]:
                return f"{values[0]}.{values[1]} has changed"
    return ""
