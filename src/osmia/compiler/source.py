# SPDX-License-Identifier: Apache-2.0
"""From a Python function object to its syntax tree, with the text for diagnostics.

A file is read once, and of its text only the functions that are wanted are
parsed; functions that were typed in (``-e``, a REPL, a notebook) are found
through :mod:`linecache`.
"""

from __future__ import annotations

import os
from types import FunctionType

from osmia.compiler import syntax as ast
from osmia.errors import CompileError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


_DEF = ("def ", "async def ")
#: Ends of a block that are tried before the whole file is parsed instead.
_MAX_TRIES = 16


def _margin(line: str) -> int:
    return len(line) - len(line.lstrip())


class File:
    """One source file; only the functions that are asked for are parsed."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.lines = text.split("\n")
        self._functions: dict[int, list[ast.AST]] = {}
        self._whole = False

    def function(self, line: int, name: str) -> ast.FunctionDef | None:
        """The function ``name`` that starts (with its decorators) on ``line``, if it stands in a block of its own."""
        for end in self._ends(line):
            # Blank lines in front keep the numbers; what is indented needs something to be in.
            indented = self.lines[line - 1][:1].isspace() and line > 1
            before = "\n" * (line - 2) + "if 1:\n" if indented else "\n" * (line - 1)
            try:
                tree = ast.parse(before + "\n".join(self.lines[line - 1 : end]) + "\n", self.name)
            except SyntaxError:  # the block goes on, or is none
                continue
            body: list[ast.stmt] = tree.body
            if body and isinstance(body[0], ast.If):
                body = body[0].body
            if len(body) == 1 and isinstance(body[0], ast.FunctionDef) and body[0].name == name:
                return body[0]
            return None
        return None

    def _ends(self, line: int) -> Iterator[int]:
        """Where the block that starts on ``line`` may end: before lines that are indented no more than its first.

        A line like that may stand within a block, too (in a text of several
        lines, between brackets, below a decorator), so there are several.
        """
        if not 0 < line <= len(self.lines):
            return
        margin = _margin(self.lines[line - 1])
        begun = self.lines[line - 1].lstrip().startswith(_DEF)
        tries = 0
        for at in range(line, len(self.lines)):
            text = self.lines[at].strip()
            if text and text[0] not in "#)]" and _margin(self.lines[at]) <= margin:
                if not begun:  # still among the decorators
                    begun = text.startswith(_DEF)
                    continue
                yield at
                tries += 1
                if tries > _MAX_TRIES:
                    return
        yield len(self.lines)

    def functions(self, line: int) -> list[ast.AST]:
        """Functions and lambdas that start (with their decorators) on ``line``, wherever they stand; parses it all."""
        if not self._whole:
            self._whole = True
            for node in ast.walk(ast.parse(self.text, self.name)):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
                    self._functions.setdefault(first, []).append(node)
        return self._functions.get(line, [])

    def line(self, number: int) -> str:
        """The text of a line, from 1; empty where there is none."""
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""


class Built:
    """What stands for the text of a function that was not typed as one: its tree, and the file that errors point into.

    ``scope`` says what names mean in expressions that are not Python's (see
    :mod:`osmia.compiler.cnames`).
    """

    def __init__(self, file: File, node: ast.FunctionDef, scope: Any = None) -> None:
        self.file = file
        self.node = node
        self.scope = scope


class Source:
    """A function's tree in its file, and the names it can see; ``scope`` as in :class:`Built`."""

    def __init__(self, function: FunctionType, file: File, node: ast.FunctionDef, scope: Any = None) -> None:
        self.function = function
        self.file = file
        self.node = node
        self.scope = scope
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
        """Read a file."""
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
        built = getattr(function, "built", None)
        if isinstance(built, Built):
            from osmia.compiler import cexprs  # noqa: F401 - what handles the nodes of such trees registers itself

            self.files[built.file.name] = built.file
            return Source(function, built.file, built.node, built.scope)
        file = self.file(code.co_filename, function.__globals__, code.co_firstlineno)
        found = file.function(code.co_firstlineno, code.co_name)
        if found is not None:
            return Source(function, file, found)
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
