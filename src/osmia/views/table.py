# SPDX-License-Identifier: Apache-2.0
"""Tables: one line an event, one ``%`` operation a line.

Formatting is the largest part of what an event costs in user space, so the
whole line is one precompiled template.  Whether it is safe to print is looked
at afterwards and for the whole block at once: nothing that the traced world
put into a name can be unprintable in the line without being unprintable in
the name.  Only a line that fails is made again, column by column.  Safe is
therefore the default: in batches of 2000 rows it takes 80 ns a row beside 340
for the formatting.
"""

from __future__ import annotations

from osmia.errors import InternalError
from osmia.views.escape import escape, escape_bytes, is_safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from osmia.views.columns import Column

#: What a value that is None looks like.
MISSING = "-"


def _plain(text: str) -> bool:
    """Whether lines came out as meant: printable, and no None or bytes took its ``repr`` into a text column.

    A name that really is ``None`` only sends its line the slow way.  Quotes
    are looked for alone first: one character is found fifty times as fast as two.
    """
    if not is_safe(text) or "None" in text:
        return False
    return not ("'" in text and "b'" in text) and not ('"' in text and 'b"' in text)


class Table:
    """A table of the given columns.

    A row is a sequence of one value per column, in their order.  ``str``
    columns take str, bytes or anything that has a ``str()``; None shows as
    ``-`` in every column.
    """

    __slots__ = ("_calls", "_paddings", "_template", "columns", "fields")

    def __init__(self, columns: Iterable[Column]) -> None:
        self.columns = tuple(columns)
        self.fields = tuple(column.field for column in self.columns)
        last = len(self.columns) - 1
        self._template = " ".join([c.template(i == last) for i, c in enumerate(self.columns)])
        self._paddings = " ".join([f"%{c.padding(i == last)}s" for i, c in enumerate(self.columns)])
        self._calls = tuple([(i, c.format) for i, c in enumerate(self.columns) if c.format is not None])

    def header(self) -> str:
        """The line of headings."""
        return self._paddings % tuple([column.name for column in self.columns])

    def row(self, values: Sequence[Any]) -> str:
        """One line, escaped.

        Raises :class:`~osmia.errors.InternalError` when the number of values
        is not that of the columns.
        """
        if not self._calls:
            try:
                line = self._template % tuple(values)
            except TypeError:
                return self._careful(values)
            # The common case of _plain, without its calls.
            if (line.isprintable() and "'" not in line and '"' not in line and "None" not in line) or _plain(line):
                return line
        return self._careful(values)

    def rows(self, rows: Iterable[Sequence[Any]], *, escaped: bool = False) -> str:
        """Many lines, each ended by a newline; the empty string for no rows.

        With ``escaped`` the caller promises that every text is escaped
        already (:class:`~osmia.views.escape.EscapeCache`) and that no value
        is None or bytes: nothing is looked at again.
        """
        if not isinstance(rows, list):
            rows = list(rows)
        if not rows:
            return ""
        if type(rows[0]) is not tuple:  # % takes a list for one value
            rows = [tuple(values) for values in rows]
        if self._calls:
            return "\n".join([self._careful(values) for values in rows]) + "\n"
        template = self._template
        try:
            lines = [template % values for values in rows]
        except TypeError:
            return "\n".join([self.row(values) for values in rows]) + "\n"
        if not escaped and not _plain("".join(lines)):
            careful = self._careful
            lines = [line if _plain(line) else careful(values) for line, values in zip(lines, rows, strict=True)]
        lines.append("")
        return "\n".join(lines)

    def _careful(self, values: Sequence[Any]) -> str:
        """One line, column by column: for None, bytes, formatters and what must be escaped."""
        if len(values) != len(self.columns):
            raise InternalError(f"a row of {len(values)} values for the {len(self.columns)} columns {self.fields}")
        return self._paddings % tuple([_cell(c, v) for c, v in zip(self.columns, values, strict=True)])


def _cell(column: Column, value: Any) -> str:
    """One value as escaped text, not yet padded."""
    if value is None:
        return MISSING
    if column.format is not None:
        return escape(column.format(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return escape_bytes(bytes(value))
    conversion = column.conversion()
    if conversion == "s" or isinstance(value, str):
        # A text in a column of numbers ("?", "N/A") is a text all the same.
        return escape(str(value))
    return escape(("%" + conversion) % value)
