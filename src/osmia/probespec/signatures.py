# SPDX-License-Identifier: Apache-2.0
"""Signatures as C writes them: ``(int fd, const char __user *name)``."""

from __future__ import annotations

from osmia.probespec.expressions import Parser
from osmia.probespec.tree import Text
from osmia.probespec.words import NAME


class Param:
    """A parameter: its ``name``, its type as C spells it, and whether that says ``__user``."""

    __slots__ = ("kind", "name", "user")

    def __init__(self, name: str, kind: str, user: bool = False) -> None:
        self.name = name
        self.kind = kind
        self.user = user

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}>"


def parameters(source: Text, start: int, end: int) -> list[Param]:
    """The parameters between the parentheses; none for ``void`` and for nothing.  Raises CompileError."""
    parser = Parser(source, start, end)
    out: list[Param] = []
    while not parser.ended():
        first = parser.word
        if first.kind != NAME:
            parser.fail(first, "a parameter is written TYPE NAME", "a filter stands behind a space: FUNCTION (FILTER)")
        kind, user = parser.type_name()
        name = parser.next().text if parser.word.kind == NAME else ""
        if parser.take("["):  # an array is passed as a pointer
            while not parser.take("]"):
                if parser.ended():
                    parser.fail(first, "this array has no ]")
                parser.next()
            kind += " *"
        if kind == "void" and not name and not out and parser.ended():
            break
        if kind == "void":
            parser.fail(first, "a parameter cannot be void", "void * is a pointer to anything")
        if name and any(one.name == name for one in out):
            parser.fail(first, f"two parameters are called {name}")
        out.append(Param(name, kind, user))
        if not parser.ended() and not parser.take(","):
            parser.fail(parser.word, "a comma is missing between parameters",
                        "a filter stands behind a space: FUNCTION (FILTER)")
    return out
