# SPDX-License-Identifier: Apache-2.0
"""Golden files of errors: ``### name``, source text, ``---``, the error as it is rendered (paths as ``FILE``)."""

from __future__ import annotations

import pathlib
import warnings

from mini_btf import mini_btf, tracepoint_format
from sources import module

from osmia.compiler.builder import Builder
from osmia.compiler.stages import build
from osmia.errors import CompileError
from osmia.lang.unit import Unit

PLACE = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "errors"


def cases(name: str) -> dict[str, tuple[str, str]]:
    """``{name: (source, expected)}`` of a golden file."""
    out = {}
    for section in (PLACE / name).read_text(encoding="utf-8").split("### ")[1:]:
        title, _, rest = section.partition("\n")
        source, _, expected = rest.partition("---\n")
        assert title not in out, f"{title} is there twice"
        out[title] = source, expected.rstrip("\n")
    return out


def front_end(text: str) -> Builder:
    """The front end's result for ``text``, with the types of the small kernel."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        made = module(text)
    return build(Unit("test", vars(made)), mini_btf(), tracepoint_format)


def error_of(text: str) -> CompileError:
    """The CompileError that ``text`` gives; AssertionError where it compiles."""
    try:
        front_end(text)
    except CompileError as err:
        return err
    raise AssertionError("this compiles")


def rendered(err: CompileError) -> str:
    """The error as shown to the user, with the file's name taken out."""
    return err.render().replace(err.file, "FILE")
