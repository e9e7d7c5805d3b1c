# SPDX-License-Identifier: Apache-2.0
"""From a Python function object to its syntax tree, with the text for diagnostics.

The file is read once and parsed once; functions that were typed in (``-e``,
a REPL, a notebook) are found through :mod:`linecache`.
"""

from __future__ import annotations

import ast
import os
from types import FunctionType

from osmia.errors import CompileError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class File:
    """One parsed source file."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.lines = text.splitlines()
        self.tree = ast.parse(text, name)
        self._functions: dict[int, list[ast.AST]] = {}

    def functions(self, line: int) -> list[ast.AST]:
        """Functions and lambdas that start (with their decorators) on ``line``."""
        if not self._functions:
            for node in ast.walk(self.tree):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
                    self._functions.setdefault(first, []).append(node)
        return self._functions.get(line, [])

    def line(self, number: int) -> str:
        """The text of a line, from 1; empty where there is none."""
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""


class Source:
    """A function's tree in its file, and the names it can see."""

    def __init__(self, function: FunctionType, file: File, node: ast.FunctionDef) -> None:
        self.function = function
        self.file = file
        self.node = node
        closure = function.__closure__ or ()
        self.cells = dict(zip(function.__code__.co_freevars, closure, strict=False))

    def lookup(self, name: str) -> tuple[bool, Any]:
        """``(found, object)`` of a name that is not a local variable."""
        if name in self.cells:
            try:
                return True, self.cells[name].cell_contents
            except ValueError:  # assigned later than the probe was compiled
                return False, None
        scope = self.function.__globals__
        if name in scope:
            return True, scope[name]
        builtins = scope.get("__builtins__", {})
        space = builtins if isinstance(builtins, dict) else vars(builtins)
        return (True, space[name]) if name in space else (False, None)


class Sources:
    """All files that a compilation read."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}

    def file(self, name: str, scope: dict[str, Any], line: int) -> File:
        """Read and parse a file."""
        if name not in self.files:
            text = _read(name, scope)
            if text is None:
                raise CompileError(
                    "the source text of this function cannot be found, and kernel code is compiled from its text",
                    file=name, line=line, fix="put the function into a file",
                )
            self.files[name] = File(name, text)
        return self.files[name]

    def of(self, function: FunctionType) -> Source:
        """The source of ``function``; CompileError for a lambda or where the text has changed."""
        code = function.__code__
        file = self.file(code.co_filename, function.__globals__, code.co_firstlineno)
        for node in file.functions(code.co_firstlineno):
            if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
                return Source(function, file, node)
            if isinstance(node, ast.AsyncFunctionDef) and node.name == code.co_name:
                self._refuse(file, node, "an async function cannot run in the kernel", "write a plain def")
            if isinstance(node, ast.Lambda) and code.co_name == "<lambda>":
                self._refuse(file, node, "a lambda cannot be compiled for the kernel", "write it as a def")
        raise CompileError(
            f"the text of {code.co_name}() is not where it was when it was imported",
            file=code.co_filename, line=code.co_firstlineno, fix="start again: the file has changed",
        )

    @staticmethod
    def _refuse(file: File, node: ast.expr | ast.stmt, what: str, fix: str) -> None:
        raise CompileError(
            what, file=file.name, line=node.lineno, column=node.col_offset,
            end_column=node.col_offset + 1, source=file.line(node.lineno), fix=fix,
        )


def _read(name: str, scope: dict[str, Any]) -> str | None:
    if os.path.isfile(name):
        with open(name, encoding="utf-8") as stream:
            return stream.read()
    import linecache

    lines = linecache.getlines(name, scope)
    return "".join(lines) or None
