# SPDX-License-Identifier: Apache-2.0
"""Kernel code given as text becomes an imported module of its own file."""

from __future__ import annotations

import atexit
import importlib.util
import itertools
import os
import shutil
import sys
import tempfile
from types import ModuleType

import osmia

_numbers = itertools.count(1)
_folder = ""


def folder() -> str:
    """A directory for the modules of this test run."""
    global _folder
    if not _folder:
        _folder = tempfile.mkdtemp(prefix="osmia-tests-")
        atexit.register(shutil.rmtree, _folder, True)
    return _folder


def module(text: str, name: str = "") -> ModuleType:
    """``text`` as an imported module of its own file, as if after ``from osmia import *``."""
    name = name or f"kernel_code_{next(_numbers)}"
    path = os.path.join(folder(), f"{name}.py")
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    vars(made).update({word: getattr(osmia, word) for word in osmia.__all__})
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made
