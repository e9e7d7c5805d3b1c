# SPDX-License-Identifier: Apache-2.0
"""Syntax trees: what the compiler needs of :mod:`ast`, without what that module costs at import.

:mod:`ast` brings ``enum``, ``re``, ``contextlib`` and ``collections`` along,
8 ms of a cold start.  The node classes come from ``_ast``, where the
interpreter keeps them; the few functions are written here and mean the same.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _ast import *  # noqa: F403
    from _ast import AST, Module, PyCF_ONLY_AST, expr, stmt
    from collections.abc import Iterator
    from typing import TypeVar

    N = TypeVar("N", bound=AST)
else:
    from _ast import *  # noqa: F403
    from _ast import AST, PyCF_ONLY_AST

_PLACE = ("lineno", "col_offset", "end_lineno", "end_col_offset")


def parse(text: str, file: str) -> Module:
    """The tree of ``text``, a module; SyntaxError for what is none."""
    return compile(text, file, "exec", PyCF_ONLY_AST, dont_inherit=True)  # type: ignore[return-value]


def children(node: AST) -> Iterator[AST]:
    """The nodes directly below ``node``."""
    for name in node._fields:
        child = getattr(node, name, None)
        if isinstance(child, AST):
            yield child
        elif child.__class__ is list:
            for one in child:
                if isinstance(one, AST):
                    yield one


def walk(node: AST) -> Iterator[AST]:
    """``node`` and every node below, level by level."""
    found = [node]
    for one in found:  # grows while it is walked
        yield one
        found.extend(children(one))


def copy_location(made: N, like: AST) -> N:
    """``made``, at the place in the source of ``like``."""
    for name in _PLACE:
        if hasattr(like, name):
            setattr(made, name, getattr(like, name))
    return made


def fix_missing_locations(node: stmt) -> None:
    """Give what is below ``node`` and has no place the place of what is above it."""
    for child in children(node):
        if isinstance(child, (expr, stmt)) and not hasattr(child, "lineno"):
            copy_location(child, node)
        if isinstance(child, (expr, stmt)):
            fix_missing_locations(child)  # type: ignore[arg-type]


def unparse(node: AST) -> str:
    """The source text of ``node`` (for error messages: imports :mod:`ast`)."""
    import ast

    return ast.unparse(node)
