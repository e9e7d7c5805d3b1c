# SPDX-License-Identifier: Apache-2.0
"""What a column of a table is: heading, field, width, and how a value is written.

A plain class with ``__slots__``: tables are on the warm path of every tool.
"""

from __future__ import annotations

from osmia.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: How the values of a column are written; see :class:`Column`.
KINDS = ("int", "str", "float", "hex", "oct", "time")

_DECIMALS = {"float": 3, "time": 6}


class Column:
    """One column.

    ``name`` is the heading (``"PID"``), ``field`` the key of the value in the
    row (default: ``name`` in lower case), ``width`` the width in characters,
    at least that of the heading; a longer value is never cut, it pushes.
    ``align`` is ``"<"`` or ``">"``.  ``kind`` says how a value is written:

    * ``int``: decimal
    * ``str``: text, escaped (bytes are read as UTF-8)
    * ``float``: ``precision`` decimals, 3 unless told
    * ``hex``: with ``0x`` in front
    * ``oct``: as C's ``%0Wo``, at least ``precision`` digits, ``width`` unless told
    * ``time``: seconds, ``precision`` decimals, 6 unless told

    ``format`` makes the text itself: a function from the value to a string,
    which is then escaped and padded.  It costs a call a row.

    Raises :class:`~osmia.errors.UserError` for an unknown kind or alignment.
    """

    __slots__ = ("align", "field", "format", "kind", "name", "precision", "width")

    def __init__(
        self,
        name: str,
        field: str = "",
        width: int = 0,
        align: str = "<",
        kind: str = "str",
        format: Callable[[Any], str] | None = None,
        precision: int | None = None,
    ) -> None:
        if kind not in KINDS:
            raise UserError(f"unknown kind {kind!r}", where=f"column {name}", fix=f"use one of {', '.join(KINDS)}")
        if align not in ("<", ">"):
            raise UserError(f"unknown alignment {align!r}", where=f"column {name}", fix="use '<' or '>'")
        if precision is None:
            precision = width if kind == "oct" else _DECIMALS.get(kind, 0)
        self.name = name
        self.field = field or name.lower()
        self.width = max(width, len(name))
        self.align = align
        self.kind = kind
        self.format = format
        self.precision = precision

    def conversion(self) -> str:
        """The conversion of a value without padding, for the ``%`` operator: ``d``, ``.3f``, ``#x`` ..."""
        if self.format is not None or self.kind == "str":
            return "s"
        if self.kind == "int":
            return "d"
        if self.kind == "hex":
            return "#x"
        return f".{self.precision}{'o' if self.kind == 'oct' else 'f'}"

    def padding(self, last: bool) -> str:
        """The padding that goes before the conversion: ``-16``, ``7``; a last column has no trailing blanks."""
        if self.align == ">":
            return str(self.width)
        return "" if last else f"-{self.width}"

    def template(self, last: bool = False) -> str:
        """The whole conversion, such as ``%-7d``, ``%#-10x`` or ``%9.3f``."""
        conversion = self.conversion()
        flag = "#" if conversion[0] == "#" else ""
        return f"%{flag}{self.padding(last)}{conversion.lstrip('#')}"
