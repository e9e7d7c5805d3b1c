# SPDX-License-Identifier: Apache-2.0
"""Events as rows: from a span of the ring to text, for people, JSON or CSV.

Three ways lead there, the first that fits is taken: lines whose front is
looked up by the record's bytes (0.2 to 0.5 µs an event), decoded rows
formatted one ``%`` each (0.5 to 0.8 µs), and event objects for columns that
are computed and for ``keep`` (2 µs and more).
"""

from __future__ import annotations

from osmia.events.decode import CUT, Decoder, Splitter, Texts
from osmia.lang.templates import Col
from osmia.lang.types import Bytes, Int, Path, Str, Strs, has_count, is_enum
from osmia.views.columns import Column
from osmia.views.table import Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from osmia.lang.templates import EventTable
    from osmia.lang.types import Event, Field

#: Kernel words to people's words, for columns that have no heading of their own; the one place for it.
_HEADINGS = {"tgid": "PID", "ppid": "PPID", "comm": "COMM", "ts": "TIME"}


def default_columns(event: type[Event]) -> list[Col]:
    """A column for each field that does not begin with an underscore."""
    names = [field.name for field in event.layout()]
    out = []
    for name in names:
        if name.startswith("_"):
            continue
        heading = "TID" if name == "pid" and "tgid" in names else _HEADINGS.get(name, name.upper())
        out.append(Col(name, heading))
    return out


def visible(columns: Sequence[Col]) -> list[Col]:
    """The columns whose ``when`` holds."""
    return [col for col in columns if (col.when() if callable(col.when) else col.when)]


def is_number(kind: Any) -> bool:
    """Whether values of ``kind`` are integers."""
    return kind is int or (isinstance(kind, type) and issubclass(kind, Int) and not is_enum(kind))


def column(col: Col, kind: Any, last: bool) -> Column:
    """How ``views`` writes the column; ``kind`` is its field's type, None for a computed one."""
    number = is_number(kind)
    width = col.width
    if not width and not last:
        width = _width(kind, number)
    shown_as = "int" if number and col.show is None and col.row is None else "str"
    return Column(col.heading, col.field, width, col.align or (">" if number else "<"), shown_as)


def _width(kind: Any, number: bool) -> int:
    if number:
        return 7 if kind is not int and kind.size <= 4 else 12
    if isinstance(kind, type) and issubclass(kind, (Str, Bytes)):
        return min(kind.n, 16)
    return 8


class EventView:
    """Rows of an event table in one of the modes ``table``, ``json``, ``csv``.

    ``header()`` is the first line (empty for JSON); ``text(span)`` the lines
    of a span, each ended by a newline, and ``records(span)`` those of each
    event, without the last newline.
    """

    __slots__ = ("_below", "_columns", "_event", "_keep", "_kinds", "_make", "_table", "header")

    def __init__(self, template: EventTable, mode: str) -> None:
        self._event: type[Event] = template.ring.event
        self._kinds = {field.name: field.type for field in self._event.layout()}
        self._keep = template.keep
        columns = default_columns(self._event) if template.columns is None else list(template.columns)
        columns = columns if mode == "json" else visible(columns)
        self._below = [col for col in columns if col.below is not None] if mode == "table" else []
        self._columns = [col for col in columns if col not in self._below]
        self._table = Table([
            column(col, None if col.row is not None else self._kinds.get(col.field), i == len(self._columns) - 1)
            for i, col in enumerate(self._columns)
        ])  # fmt: skip
        if mode == "json":
            self.header = ""
            self._make: Callable[[bytes], str] = _Json(self).text
        elif mode == "csv":
            from osmia.views.machine import csv_header

            self.header = csv_header([col.heading for col in self._columns]) + "\n"
            decoder = Decoder(self._event)
            self._make = lambda span: self._csv(decoder, span)
        else:
            self.header = self._table.header() + "\n"
            self._make = self._fastest()

    def text(self, span: bytes) -> str:
        """The lines of a span."""
        return self._make(span)

    def records(self, span: bytes) -> list[str]:
        """The same for each event of it."""
        return self._blocks(Decoder(self._event), span) if self._below else self._make(span).split("\n")[:-1]

    def _blocks(self, decoder: Decoder, span: bytes) -> list[str]:
        """Each row with the lines below it."""
        from osmia.views.escape import escape

        out = []
        for one in decoder.objects(span):
            if self._keep is None or self._keep(one):
                row = self._table.row([_cell(col, one) for col in self._columns])
                lines = [line for col in self._below if col.below is not None for line in col.below(one)]
                out.append("\n".join([row, *[line if line.isprintable() else escape(line) for line in lines]]))
        return out

    def _fastest(self) -> Callable[[bytes], str]:
        if self._below:
            decoder = Decoder(self._event)
            return lambda span: "".join([block + "\n" for block in self._blocks(decoder, span)])
        fields = [col.field for col in self._columns]
        if self._keep is not None or any(col.row is not None for col in self._columns) or len(fields) > len({*fields}):
            decoder = Decoder(self._event)
            return lambda span: self._table.rows(self._computed(decoder, span))
        return _Lines(self._event, self._columns, self._table, self._kinds).text

    def _computed(self, decoder: Decoder, span: bytes) -> list[tuple[Any, ...]]:
        columns, keep = self._columns, self._keep
        objects = decoder.objects(span)
        if keep is not None:
            objects = [one for one in objects if keep(one)]
        return [tuple([_cell(col, one) for col in columns]) for one in objects]

    def _csv(self, decoder: Decoder, span: bytes) -> str:
        from osmia.views.machine import csv_row

        rows = self._computed(decoder, span)
        return "".join([csv_row(row) + "\n" for row in rows])


def _cell(col: Col, one: Any) -> Any:
    value = getattr(one, col.field) if col.row is None else col.row(one)
    if col.show is not None:
        return col.show(value)
    if isinstance(value, list):
        return " ".join(value) + (CUT if getattr(value, "truncated", False) else "")
    return value


class _Json:
    """One object per event: all its fields, and the computed columns; the same whatever is shown."""

    __slots__ = ("_computed", "_decoder", "_keep", "_marks")

    def __init__(self, view: EventView) -> None:
        event: type[Event] = view._event
        names = [field.name for field in event.layout() if not field.name.startswith("_")]
        self._computed = [col for col in view._columns if col.row is not None and col.field not in view._kinds]
        whole = view._keep is not None or self._computed  # they may ask for any field
        self._decoder = Decoder(event) if whole else Decoder(event, names)
        self._keep = view._keep
        self._marks = [f.name for f in event.layout() if _is_list(f)]

    def text(self, span: bytes) -> str:
        from osmia.views.machine import json_line

        out = []
        for one in self._decoder.objects(span):
            if self._keep is not None and not self._keep(one):
                continue
            record = {name: plain(value) for name, value in vars(one).items() if not name.startswith("_")}
            for name in self._marks:
                record[name + "_truncated"] = bool(getattr(getattr(one, name), "truncated", False))
            for col in self._computed:
                record[col.field] = plain(col.row(one)) if col.row is not None else None
            out.append(json_line(record))
        out.append("")
        return "\n".join(out)


def _is_list(field: Field) -> bool:
    kind = field.type
    return isinstance(kind, type) and issubclass(kind, Strs) and not issubclass(kind, Path)


def plain(value: Any) -> Any:
    """What JSON can hold: structures as objects, enumerations as numbers."""
    if isinstance(value, (str, int, float, bytes)) or value is None:
        return value
    if hasattr(value, "layout"):
        return {name: plain(one) for name, one in vars(value).items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return str(value)


class _Lines:
    """Table lines at full speed: every text is escaped when it is first met, never again."""

    __slots__ = ("_decoder", "_fronts", "_last", "_one", "_splitter", "_strikes", "_table")

    def __init__(self, event: type[Event], columns: list[Col], table: Table, kinds: dict[str, Any]) -> None:
        shows = {col.field: col.show for col in columns if col.show is not None}
        fields = [col.field for col in columns]
        self._table = table
        self._decoder = Decoder(event, fields, shows=shows, escaped=True)
        self._splitter: Splitter | None = None
        self._strikes = 0
        layout = event.layout()
        tail = layout.tail
        front = [field for field in layout if field.name in fields and field is not tail]
        fixed = [name for name in fields if tail is None or name != tail.name]
        with_tail = tail is not None and tail.name in fields
        # Only a tail that is the last column can be joined to a front that was looked up.
        if not front or (with_tail and fields[-1] != (tail.name if tail else "")):
            return
        low, high = front[0].offset, front[-1].offset + front[-1].size
        start = -1
        if with_tail and tail is not None:
            start = tail.offset - (4 if has_count(tail.type) else 0)
        self._splitter = Splitter(low, high, start)
        shown = [column(col, kinds.get(col.field), not with_tail and i == len(fixed) - 1)
                 for i, col in enumerate(columns[: len(fixed)])]  # fmt: skip
        last = [not with_tail and i == len(fixed) - 1 for i in range(len(fixed))]
        template = " ".join([c.template(flag) for c, flag in zip(shown, last, strict=True)])
        if with_tail:
            template += " "
        rows, count = self._decoder.rows, len(fixed)
        before, after = bytes(low), bytes(layout.fixed - high)
        # A record with an empty tail.
        head = layout.fixed.to_bytes(4, "little") + bytes(4)
        pad = bytes(-layout.fixed % 8)
        self._fronts = Texts(lambda raw: template % rows(head + before + raw + after + pad)[0][:count], 4096)
        self._last: Any = self._decoder.texts_of_tail()
        self._one = not with_tail

    def text(self, span: bytes) -> str:
        if self._splitter is None:
            return self._table.rows(self._decoder.rows(span), escaped=True)
        fronts = self._fronts
        before, resets = len(fronts), fronts.resets
        if self._one:
            lines = [fronts[a] for (a,) in self._splitter.pairs(span)]
        else:
            last = self._last
            lines = [fronts[a] + last[b] for a, b in self._splitter.pairs(span)]
        if len(lines) >= 64:
            self._judge(len(lines), len(fronts) - before + (fronts.resets - resets) * fronts.limit)
        if not lines:
            return ""
        lines.append("")
        return "\n".join(lines)

    def _judge(self, lines: int, misses: int) -> None:
        """Give the dictionary up when it does not pay: a miss costs five times what a hit saves."""
        if misses * 5 > lines:
            self._strikes += 1
            if self._strikes >= 3:
                self._splitter = None
                self._fronts.clear()
        else:
            self._strikes = 0
