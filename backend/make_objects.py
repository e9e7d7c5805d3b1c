# SPDX-License-Identifier: Apache-2.0
"""Compile every tool to the object that a wheel ships: ``python make_objects.py SRC OUT``.

SRC holds the package; of each tool OUT gets ``NAME.bpf.o.z``, an ordinary BPF
object, and ``NAME.made``, what it was made of (``osmia.cli.shipped`` reads
it).  Nothing of this machine goes into either: the types come from
``kernel_types.txt``, and files are named from the package's folder on.
"""

from __future__ import annotations

import os
import sys
import zlib
from concurrent.futures import ProcessPoolExecutor
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location
from multiprocessing import get_context
from types import CodeType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kernel_types import KernelTypes


class Loader(SourceFileLoader):
    """Loads a module such that its functions say ``osmia/tools/x.py`` when asked where they are."""

    def get_code(self, fullname: str) -> CodeType:
        """The code, compiled now: what Python keeps beside it has the whole path."""
        path = self.get_filename(fullname)
        return compile(self.get_data(path), os.path.relpath(path), "exec", dont_inherit=True)


class Finder:
    """Finds osmia in the current folder, for ``sys.meta_path``."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> object:
        """The spec of a module of osmia."""
        if name.partition(".")[0] != "osmia":
            return None
        place = os.path.abspath(name.replace(".", os.sep))
        package = os.path.join(place, "__init__.py")
        file = package if os.path.exists(package) else f"{place}.py"
        return spec_from_file_location(name, file, loader=Loader(name, file)) if os.path.exists(file) else None


def make(name: str, types: KernelTypes, out: str) -> int:
    """One tool's files, twice where it has filters: with them, and for runs without; bytes of the objects."""
    from osmia.cli import shipped
    from osmia.cli.main import tool_unit
    from osmia.compiler.stages import compile_unit
    from osmia.lang.builtins import conditions

    whole = b""
    for kind, without in ("", []), (shipped.PLAIN, conditions()):
        made = compile_unit(tool_unit(name), btf=types.btf, tracepoint_format=types.tracepoint_format, without=without)
        if made.object == whole:
            return len(whole)
        for suffix, data in ((shipped.OBJECT, zlib.compress(made.object, 9)), (shipped.MADE, shipped.describe(made))):
            with open(os.path.join(out, name + kind + suffix), "wb") as file:
                file.write(data)
        size, whole = len(whole) + len(made.object), made.object
    return size


_given: list[Any] = []


def _make(name: str) -> int:
    """In a child."""
    return make(name, *_given)


def main(source: str, out: str) -> None:
    """All tools of the package in the folder ``source``, into the folder ``out``."""
    out = os.path.abspath(out)
    os.makedirs(out, exist_ok=True)
    os.chdir(source)
    sys.meta_path.insert(0, Finder)  # type: ignore[arg-type]
    from kernel_types import KernelTypes

    from osmia.cli import shipped

    _given[:] = KernelTypes.read(), out
    names = shipped.names()
    # All CPUs: forked children have the modules and the types already.
    with ProcessPoolExecutor(mp_context=get_context("fork")) as pool:
        sizes = list(pool.map(_make, names, chunksize=4))
    sys.stdout.write(f"{len(sizes)} objects, {sum(sizes):,} bytes\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
