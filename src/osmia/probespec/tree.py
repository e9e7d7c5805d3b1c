# SPDX-License-Identifier: Apache-2.0
"""Syntax trees of expressions that people type in specifications.

They are Python's own trees (:mod:`_ast`), with a few kinds more for what
only C can say.  What is below an :class:`InC` node means what it means in C:
``/`` cuts, ``!x`` is 0 or 1, types are 32 or 64 bits wide and signed or not.
"""

from __future__ import annotations

from _ast import AST, expr

from osmia.errors import CompileError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


class InC(expr):
    """``value``, with C's meaning; ``text``: the string that it leads to is wanted, and not an address."""

    _fields = ("value",)

    def __init__(self, value: expr, text: bool = False) -> None:
        super().__init__()
        self.value = value
        self.text = text


class _OnOperand(expr):
    _fields = ("operand",)

    def __init__(self, operand: expr) -> None:
        super().__init__()
        self.operand = operand


class Cast(_OnOperand):
    """``(kind)operand``; ``kind`` as C spells it, ``user``: it says ``__user``."""

    def __init__(self, operand: expr, kind: str, user: bool = False) -> None:
        super().__init__(operand)
        self.kind = kind
        self.user = user


class AddressOf(_OnOperand):
    """``&operand``."""


class SizeOf(expr):
    """``sizeof(kind)``."""

    _fields = ()

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind


class InSpace(_OnOperand):
    """``operand@user``, ``operand@kernel``: where the memory is that it leads to."""

    def __init__(self, operand: expr, space: str) -> None:
        super().__init__(operand)
        self.space = space


#: The kinds that Python does not have.
KINDS = (InC, Cast, AddressOf, SizeOf, InSpace)


class Text:
    """What was typed: ``name`` is what it is called in messages, ``text`` all of it."""

    __slots__ = ("name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text

    def place(self, at: int) -> tuple[int, int]:
        """``(line, offset in it in bytes)`` of the character ``at``, as trees have it."""
        before = self.text[:at]
        start = before.rfind("\n") + 1
        return before.count("\n") + 1, len(before[start:].encode("utf-8", "surrogateescape"))

    def set_place(self, node: AST, start: int, end: int) -> None:
        """Say that ``node`` stands from ``start`` to ``end``."""
        node.lineno, node.col_offset = self.place(start)  # type: ignore[attr-defined]
        node.end_lineno, node.end_col_offset = self.place(end)  # type: ignore[attr-defined]

    def fail(self, start: int, end: int, what: str, fix: str = "") -> NoReturn:
        """Refuse the text from ``start`` to ``end``: CompileError."""
        line = self.text.count("\n", 0, start)
        begin = self.text.rfind("\n", 0, start) + 1
        source = self.text[begin:].partition("\n")[0]
        raise CompileError(what, file=self.name, line=line + 1, column=start - begin, source=source, fix=fix,
                           end_column=max(end - begin, start - begin + 1))  # fmt: skip
