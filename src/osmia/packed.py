# SPDX-License-Identifier: Apache-2.0
"""All modules of osmia in one file, for a start that saves three milliseconds.

A tool imports some seventy small modules, and Python looks for each: which
directory, which suffix, which compiled file, is it as new as its source.  The
pack holds the compiled code of all of them behind an index, so that one file
is opened and one ``stat`` says whether a source has changed; what has changed
is imported in the ordinary way.

``python -m osmia.packed`` (``setup.sh`` does it) writes the pack beside the
other compiled files, and a launcher that uses it.  The pack begins with the
code of this very module, because nothing else can be imported yet.
"""

from __future__ import annotations

import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    #: Source file, whether it is a package, its time of modification (ns) and size, place of the code in the pack.
    Entry = tuple[str, bool, int, int, int, int]

LAUNCHER = """#!{python} -S
# SPDX-License-Identifier: Apache-2.0
# Made by `python -m osmia.packed`.  -S: what the site module does takes as long as a tenth of osmia's start.
import marshal, sys
sys.path.append({site!r})
try:
    with open({stem!r} % sys.implementation.cache_tag, "rb") as pack:
        exec(marshal.load(pack), {{"__name__": "osmia_packed", "pack": pack}})
except (OSError, EOFError, ValueError, TypeError):  # no pack, or a damaged one: slower, and no worse
    pass
from osmia.cli.main import entry

entry()
"""


class Finder:
    """Finds the modules of a pack, for ``sys.meta_path``; the loader of what it finds, too."""

    def __init__(self, fd: int, index: dict[str, Entry], start: int) -> None:
        self.fd = fd
        self.index = index
        self.start = start

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The spec of module ``name`` if its source is what was packed."""
        from _frozen_importlib import ModuleSpec  # importlib.machinery itself would be an import of 1 ms

        entry = self.index.get(name)
        if entry is None:
            return None
        file, package, mtime, size = entry[:4]
        try:
            info = os.stat(file)
        except OSError:
            return None
        if (info.st_mtime_ns, info.st_size) != (mtime, size):
            return None
        spec = ModuleSpec(name, self, origin=file, is_package=package)  # type: ignore[arg-type]
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [os.path.dirname(file)]
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """Nothing special."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the packed code."""
        offset, length = self.index[module.__name__ if module.__spec__ is None else module.__spec__.name][4:]
        exec(marshal.loads(os.pread(self.fd, length, self.start + offset)), module.__dict__)


def install(pack: object) -> None:
    """Use the pack, an open file from which the code of this module has just been read; ValueError if it is cut."""
    index, size = marshal.load(pack)  # type: ignore[arg-type]
    start = pack.tell()  # type: ignore[attr-defined]
    if os.fstat(pack.fileno()).st_size != start + size:  # type: ignore[attr-defined]
        raise ValueError("the pack is cut short")
    sys.meta_path.insert(0, Finder(os.dup(pack.fileno()), index, start))  # type: ignore[attr-defined]


def stem(folder: str) -> str:
    """Path of the pack of the package in ``folder``, with ``%s`` for the interpreter's tag."""
    return os.path.join(folder, "__pycache__", "modules.%s.pack")


def write(folder: str) -> str:
    """Pack the package in ``folder``; the pack's path.  Raises OSError where it cannot be written."""
    index: dict[str, Entry] = {}
    blobs: list[bytes] = []
    offset = 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for file in sorted(name for name in files if name.endswith(".py")):
            path = os.path.join(place, file)
            parts = os.path.relpath(path, os.path.dirname(folder))[:-3].split(os.sep)
            package = parts[-1] == "__init__"
            with open(path, "rb") as source:
                info = os.fstat(source.fileno())
                code = marshal.dumps(compile(source.read(), path, "exec", dont_inherit=True))
            name = ".".join(parts[:-1] if package else parts)
            index[name] = path, package, info.st_mtime_ns, info.st_size, offset, len(code)
            blobs.append(code)
            offset += len(code)
    with open(__file__, "rb") as own:
        loader = compile(own.read(), __file__, "exec", dont_inherit=True)
    out = stem(folder) % sys.implementation.cache_tag
    os.makedirs(os.path.dirname(out), exist_ok=True)
    with open(f"{out}.new", "wb") as pack:
        pack.write(marshal.dumps(loader) + marshal.dumps((index, offset)) + b"".join(blobs))
    os.replace(f"{out}.new", out)
    return out


def launcher(folder: str, python: str) -> str:
    """Text of a script that starts ``osmia`` from the package in ``folder``; empty if a script cannot name ``python``.

    The kernel takes 255 bytes of a script's first line, and no blank in the
    interpreter's path.
    """
    if len(python) > 200 or any(c.isspace() for c in python):
        return ""
    return LAUNCHER.format(python=python, site=os.path.dirname(folder), stem=stem(folder))


def main(out: str) -> None:
    """Pack the installed package, and write the launcher to ``out``."""
    folder = os.path.dirname(os.path.abspath(__file__))
    write(folder)
    text = launcher(folder, sys.executable)
    if text:
        with open(f"{out}.new", "w", encoding="utf-8") as script:
            script.write(text)
        os.chmod(f"{out}.new", 0o755)
        os.replace(f"{out}.new", out)


if __name__ == "osmia_packed":
    install(globals()["pack"])
elif __name__ == "__main__":
    main(sys.argv[1])
