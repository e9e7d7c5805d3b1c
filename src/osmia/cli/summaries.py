# SPDX-License-Identifier: Apache-2.0
"""Histograms and counts, every interval or at the end.

The kernel's counters are never cleared: an interval is the difference of two
snapshots, so nothing that is counted while user space reads gets lost, and
the intervals add up to the whole.
"""

from __future__ import annotations

import time

from osmia.cli.table import column, is_number, plain, visible
from osmia.cli.templates import View, mode_of
from osmia.lang.hist import Hist, Linear, LogLinear
from osmia.lang.maps import Map, Ring
from osmia.lang.types import Event, tuple_layout
from osmia.views.hist import Histogram as Picture
from osmia.views.hist import print_keyed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from osmia.cli.session import Session
    from osmia.lang.hist import ByCpu, Snapshot
    from osmia.lang.templates import CountTable, Histogram
    from osmia.lang.unit import Unit


def shape(hist: Hist | ByCpu) -> dict[str, int]:
    """The parameters of its buckets, as ``views`` calls them."""
    form: Any = hist  # by kind: it may be one that stands in for a histogram
    if hist.kind == LogLinear.kind:
        return {"bits": form.bits}
    if hist.kind == Linear.kind:
        return {"low": form.low, "step": form.step, "slots": form.slots - 2}
    return {}


def picture(hist: Hist | ByCpu, shot: Snapshot) -> Picture:
    """A snapshot as ``views`` knows it."""
    return Picture(hist.kind, shot.counts, sum=shot.sum, min=shot.min, max=shot.max, **shape(hist))


class Intervals:
    """Differences between successive readings of a histogram, by key; keys with nothing new are left out."""

    def __init__(self, hist: Hist | ByCpu) -> None:
        self._hist = hist
        self._before: dict[Any, Picture] = {}

    def next(self) -> dict[Any, Picture]:
        """What was counted since the last call."""
        now = {key: picture(self._hist, shot) for key, shot in self._hist.snapshots().items()}
        new = {}
        for key, one in now.items():
            before = self._before.get(key)
            difference = one if before is None else one.minus(before)
            if difference.count:
                new[key] = difference
        self._before = now
        return new

    def whole(self) -> dict[Any, Picture]:
        """All that was counted up to the last call of :meth:`next`."""
        return {key: one for key, one in self._before.items() if one.count}


class HistogramView(View):
    """The histogram template."""

    def __init__(self, session: Session, template: Histogram) -> None:
        self._session = session
        self._template = template
        self._intervals = Intervals(template.hist)
        self._mode = mode_of(session)
        self._shown = 0
        unit = template.unit
        self._unit: str = (unit() if callable(unit) else unit) or template.hist.unit
        self.interval = template.interval

    def begin(self) -> str:
        if self._mode == "csv":
            return "time,key,low,high,count\n"
        banner = self._template.banner_text() if self._mode == "table" else ""
        return f"{banner}\n" if banner else ""

    def summary(self, last: bool) -> str:
        return self._print(self._intervals.next(), last)

    def skip(self) -> None:
        self._intervals.next()

    def _print(self, new: dict[Any, Picture], last: bool) -> str:
        self._shown += 1
        if last and not new and self._shown > 1:
            return ""  # stopped right after an interval: there is no other one
        return self._show(new)

    def _show(self, new: dict[Any, Picture]) -> str:
        if self._mode == "json":
            return self._json(new)
        if self._mode == "csv":
            return self._csv(new)
        return self._text(new)

    def _label(self, key: Any) -> str:
        label = self._template.label
        return label(key) if label is not None else key_text(key)

    def _text(self, new: dict[Any, Picture]) -> str:
        out = "\n"
        if wants_time(self._session):
            out += time.strftime("%H:%M:%S") + "\n"
        template = self._template
        footer = template.footer
        if template.text is not None:
            out += _line(template.text(new))
        elif template.hist.keyed:
            out += print_keyed(new, self._unit, template.section or template.hist.name, self._label, sort=_ordered)
        else:
            out += "".join([one.text(self._unit) for one in new.values()])
        if footer is not None:
            whole = Picture(template.hist.kind, (), sum=0, **shape(template.hist))
            for one in new.values():
                whole = whole.merge(one)
            out += _line(footer(whole))
        return out

    def _json(self, new: dict[Any, Picture]) -> str:
        from osmia.views.machine import json_line

        keyed = self._template.hist.keyed
        histograms = []
        for key in _ordered(new):
            head = {"key": plain(key), "label": self._label(key)} if keyed else {}
            histograms.append({**head, **new[key].to_json()})
        record = {"time": round(time.time(), 6), "unit": self._unit, "histograms": histograms}
        if self._template.record is not None:
            record = {**self._template.record(new), **record}
        if keyed:
            record["section"] = self._template.section or self._template.hist.name
        return json_line(record) + "\n"

    def _csv(self, new: dict[Any, Picture]) -> str:
        from osmia.views.machine import csv_row

        now = f"{time.time():.6f}"
        keyed = self._template.hist.keyed
        out = []
        for key in _ordered(new):
            name = self._label(key) if keyed else ""
            out += [csv_row((now, name, low, high, n)) + "\n" for low, high, n in new[key].rows()]
        return "".join(out)


def wants_time(session: Session) -> bool:
    """Whether a time is to be shown with each interval: the tool's own ``--timestamp``, or the common one."""
    return bool(session.common.timestamp)


def _line(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def _ordered(keyed: Iterable[Any]) -> list[Any]:
    """Keys in an order of their own: that of the kernel's tables is arbitrary, and another one in a replay."""
    keys = list(keyed)
    try:
        return sorted(keys)
    except TypeError:  # structures
        pass
    try:
        return sorted(keys, key=lambda key: tuple(vars(key).values()))
    except TypeError:  # structures of structures
        return sorted(keys, key=key_text)


def key_text(key: Any) -> str:
    """A key for people, not yet escaped."""
    if isinstance(key, tuple):
        return " ".join([key_text(part) for part in key])
    if isinstance(key, Event):
        return " ".join([key_text(part) for part in vars(key).values()])
    return key.decode("utf-8", "surrogateescape") if isinstance(key, bytes) else str(key)


class Entry:
    """One line of a count table: ``key``, ``count``, and the fields of either that is a structure."""

    def __init__(self, key: Any, count: Any) -> None:
        for part in (key, count):
            if isinstance(part, Event):
                self.__dict__.update(vars(part))
        if isinstance(key, tuple):
            self.__dict__.update({f"f{i}": part for i, part in enumerate(key)})
        self.key = key
        self.count = count


class CountView(View):
    """Counts per key, smallest first."""

    def __init__(self, session: Session, template: CountTable) -> None:
        from osmia.views.table import Table

        self._session = session
        self._template = template
        self._mode = mode_of(session)
        self._before: dict[str, dict[Any, Any]] = {}
        self._shown = 0
        self._since = 0.0
        self.interval = template.interval
        self._columns = visible(template.columns)
        kinds = {**field_kinds(template.map), **{name: one.value for name, one in template.more.items()}}
        last = len(self._columns) - 1
        self._table = Table([column(col, None if col.row else kinds.get(col.field), i == last)
                             for i, col in enumerate(self._columns)])  # fmt: skip

    def begin(self) -> str:
        if self._mode == "csv":
            from osmia.views.machine import csv_header

            return csv_header([col.heading for col in self._columns]) + "\n"
        banner = self._template.banner_text() if self._mode == "table" else ""
        return f"{banner}\n" if banner else ""

    def _new(self) -> list[Entry]:
        template = self._template
        # What goes with a count is read before it is: nothing is shown of a key that has no count yet.
        more = {name: self._difference(name, one) for name, one in template.more.items()}
        entries = [Entry(key, value) for key, value in self._difference("count", template.map).items()]
        for entry in entries:
            entry.__dict__.update({name: values.get(entry.key, 0) for name, values in more.items()})
        if template.sort is not None:
            entries.sort(key=template.sort, reverse=True)
        elif all(isinstance(entry.count, int) for entry in entries):
            entries.sort(key=lambda entry: entry.count)
        return entries[: int(template.most) or None]

    def _difference(self, name: str, table: Map) -> dict[Any, Any]:
        """What was added to each number since the last time, also to those of a structure; the rest as it is."""
        taken = self._template.taken and table.live is not None  # a recording has its tables as they grow
        now, before = self._named(table.take() if taken else table.items()), self._before.get(name, {})
        self._before[name] = {} if taken else now
        new = {key: _added(value, before.get(key)) for key, value in now.items()}
        # In the order of the keys, not of the kernel's table: those of one count are shown so.
        return {key: new[key] for key in _ordered(new) if _something(new[key])}

    def _named(self, items: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
        """By key, or by the name that the template has for a key."""
        if self._template.name is None:
            return dict(items)
        out: dict[Any, Any] = {}
        for key, value in items:
            if value:
                name = self._template.name(key)
                out[name] = out.get(name, 0) + value
        return out

    def skip(self) -> None:
        self._new()
        self._since = time.monotonic()

    def summary(self, last: bool) -> str:
        entries = self._new()
        now = time.monotonic()
        seconds, self._since = now - (self._since or self._session.started), now
        self._shown += 1
        if last and not entries and self._shown > 1:
            return ""
        if self._mode == "json":
            from osmia.views.machine import json_line

            rows = [{col.field: plain(_value(col, one)) for col in self._columns} for one in entries]
            return json_line({"time": round(time.time(), 6), "rows": rows}) + "\n"
        cells = [tuple([_shown(col, one) for col in self._columns]) for one in entries]
        if self._mode == "csv":
            from osmia.views.machine import csv_row

            return "".join([csv_row(row) + "\n" for row in cells])
        if self._template.text is not None:
            head = self._head() if self._template.screen is not None else ""
            return head + _line(self._template.text(entries, seconds))
        return self._head() + self._table.header() + "\n" + self._table.rows(cells)

    def _head(self) -> str:
        """What stands above a table."""
        now = time.strftime("%H:%M:%S") + "\n" if wants_time(self._session) else ""
        if self._template.screen is None:
            return "\n" + now
        from osmia.cli.page import page

        loads = self._template.loads
        return page(self._session.out.fd, clear=not self._template.screen, loads=loads() if callable(loads) else loads)


def _added(now: Any, before: Any) -> Any:
    """``now`` without ``before``; all of it where it is less: removed to make room for others, and counted anew."""
    if before is None:
        return now
    if isinstance(now, int):
        return now - before if now >= before else now
    if not isinstance(now, Event):
        return now
    fields = vars(now).items()
    if any(isinstance(value, int) and value < getattr(before, field) for field, value in fields):
        return now
    return type(now)(**{field: _added(value, getattr(before, field)) for field, value in fields})


def _something(new: Any) -> bool:
    """Whether something was added: what is no number is always shown."""
    if isinstance(new, Event):
        numbers = [value for value in vars(new).values() if isinstance(value, int)]
        return any(numbers) or not numbers
    return not isinstance(new, int) or bool(new)


def field_kinds(table: Map) -> dict[str, Any]:
    """The types of what an :class:`Entry` of the map has."""
    kinds: dict[str, Any] = {"key": table.key, "count": table.value}
    for part in (table.key, table.value):
        if isinstance(part, type) and issubclass(part, Event):
            kinds.update({field.name: field.type for field in part.layout()})
        elif isinstance(part, tuple):
            kinds.update({field.name: field.type for field in tuple_layout(part)})
    return kinds


def _value(col: Any, entry: Entry) -> Any:
    return getattr(entry, col.field) if col.row is None else col.row(entry)


def _shown(col: Any, entry: Entry) -> Any:
    value = _value(col, entry)
    if col.show is not None:
        return col.show(value)
    return key_text(value) if isinstance(value, (tuple, Event)) else value


def rings_of(unit: Unit) -> list[Ring]:
    """The unit's rings."""
    return [one for one in unit.maps.values() if isinstance(one, Ring)]


class EverythingView(View):
    """Without a template: at the end, every histogram and map in order of definition, if anything is in it."""

    def __init__(self, session: Session) -> None:
        self._mode = mode_of(session)
        self._unit = session.unit
        self._session = session
        self._last: dict[str, Any] = {}

    def summary(self, last: bool) -> str:
        shown: list[tuple[str, Any, Any]] = []
        for name, one in self._unit.maps.items():
            if name.startswith("_"):
                continue
            content = self._content(one)
            if content:
                shown.append((name, one, content))
        if self._mode != "table":
            return self._machine(shown)
        blocks = [self._block(name, one, content, len(shown) > 1) for name, one, content in shown]
        return "\n" + "\n".join(blocks) if blocks else ""

    def _content(self, one: Any) -> dict[Any, Any]:
        if isinstance(one, Hist):
            pictures = {key: picture(one, shot) for key, shot in one.snapshots().items()}
            return {key: drawn for key, drawn in pictures.items() if drawn.count}
        if isinstance(one, Map) and (one.live is not None or self._session.replayed):
            found = dict(one.items())
            found = {key: found[key] for key in _ordered(found)}
            # The elements of an array exist from the start: those that are zero say nothing.
            return {key: value for key, value in found.items() if value or not isinstance(value, (int, list))}
        return {}

    def _block(self, name: str, one: Any, content: dict[Any, Any], named: bool) -> str:
        if isinstance(one, Hist):
            if one.keyed:
                return print_keyed(content, one.unit, name, key_text, sort=_ordered).lstrip("\n")
            text = content[None].text(one.unit)
            return f"{name}:\n{text}" if named else text
        from osmia.views.escape import escape

        rows = [(escape(key_text(key)), value) for key, value in content.items()]
        by_count: Callable[[tuple[str, Any]], Any] = lambda row: row[1]  # noqa: E731
        rows.sort(key=by_count if is_number(one.value) else None)
        width = max(len(key) for key, _ in rows)
        lines = [f"  {key:<{width}}  {escape(key_text(value))}" for key, value in rows]
        return f"{name}:\n" + "\n".join(lines) + "\n"

    def _machine(self, shown: list[tuple[str, Any, Any]]) -> str:
        if self._mode == "csv":
            from osmia.views.machine import csv_row

            return "".join([
                csv_row((name, key_text(key), value.count if isinstance(value, Picture) else key_text(value))) + "\n"
                for name, _, content in shown for key, value in content.items()
            ])  # fmt: skip
        from osmia.views.machine import json_line

        out = []
        for name, _, content in shown:
            entries = [{"key": plain(key), "value": v.to_json() if isinstance(v, Picture) else plain(v)}
                       for key, v in content.items()]  # fmt: skip
            out.append(json_line({"name": name, "entries": entries}) + "\n")
        return "".join(out)
