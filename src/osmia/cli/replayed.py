# SPDX-License-Identifier: Apache-2.0
"""What stands in a replay where a run has its session: the unit, its tables, and what was known of the machine.

The unit is the tool's own if it is there and still has the types of the
recording; else one is made from the recording's schema, with a column for
each field.  A Python file that was recorded is never executed.
"""

from __future__ import annotations

import json
import struct
import sys
from contextlib import suppress

from osmia.cli.replay_options import ReplayCommon
from osmia.errors import OsmiaError, UserError
from osmia.events.decode import DISCARD, uniform
from osmia.events.schema import TIME_FIELD, event_from, event_of
from osmia.events.snapshots import State, describe, rebuilt
from osmia.events.transport import TRACE_PIPE
from osmia.lang.hist import Hist
from osmia.lang.maps import Map, Ring
from osmia.lang.templates import Col, CountTable, EventTable, Histogram
from osmia.lang.types import Event, tuple_layout, u64
from osmia.lang.unit import Unit
from osmia.views.escape import escape
from osmia.views.output import Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.cli.args import Parser
    from osmia.events.recording import Reader

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
#: What a text of ``print(f"…")`` may ask of :meth:`str.format`: a number, and a short form without names in it.
_FIELD = r"[^{}]|\{\{|\}\}|\{\d{0,3}(![rsa])?(:[^{}]{0,12})?\}"
_WIDEST = 4096


class Lines:
    """The trace pipe of a replay: the same lines, without the pipe."""

    lost = 0

    def lines(self, span: bytes) -> list[str]:
        """The lines of a span."""
        return [line for line in span.decode("utf-8", "surrogateescape").split("\n") if line]


class Replayed:
    """As :class:`osmia.cli.session.Session`, for views; all in it was recorded.

    By the numbers of the sources: ``readers`` (what kind of spans), ``tables``, ``times`` (offset of an event's
    time in its record), ``least`` (bytes of the smallest record).
    """

    replayed = True
    verbose = False
    live = None
    user = None
    meter = None

    def __init__(self, header: dict[str, Any], unit: Unit, common: ReplayCommon, parser: Parser) -> None:
        self.header = header
        self.unit = unit
        self.common = common
        self.parser = parser
        self.out: Writer = Writer(1)
        self.rings: dict[str, Any] = {TRACE_PIPE: Lines()}
        self.records: list[tuple[str, ...]] = _prints(header.get("prints", []))
        self.notes: list[str] = []
        self.readers: dict[int, str] = {}
        self.tables: dict[int, State] = {}
        self.times: dict[int, int] = {}
        self.least: dict[int, int] = {}
        self.samples: dict[str, Any] | None = None
        self.sources: dict[int, dict[str, Any]] = {}
        clocks = header["clocks"]
        self.clocks = (int(clocks["monotonic_ns"]), int(clocks["wall_ns"]) - int(clocks["monotonic_ns"]),
                       int(clocks["gmtoff"]))  # fmt: skip
        self.started_ns = int(header.get("started_ns", self.clocks[0]))
        self.started = self.started_ns / 1e9

    @property
    def own_interval(self) -> bool:
        """Whether the replay has other intervals than the run had."""
        return self.common.own_interval

    def programs(self) -> list[tuple[int, str]]:
        """None is loaded."""
        return []

    def host(self) -> str:
        """The name of the traced machine."""
        machine = self.header.get("machine")
        return str(machine.get("host", "?")) if isinstance(machine, dict) else "?"

    def prepare(self) -> None:
        """After the options are known: what the template of a run would find."""
        started = self.header.get("tool_started_ns")
        shows = sys.modules.get("osmia.tools._show")
        if shows is not None and isinstance(started, int) and started:
            shows.STARTED = started  # type: ignore[attr-defined]
        if shows is not None:
            shows.REPLAYED = True  # type: ignore[attr-defined]
        # What it looks for may be on the machine of the recording only; what it found there is recorded.
        with suppress(OsmiaError, OSError):
            self.unit.prepare()
        template = self.unit.template
        self._check_interval()
        for number, state in self.tables.items():
            source = self.sources[number]
            if isinstance(template, Histogram) and isinstance(state.table, Hist):
                template.hist = state.table
                template.section = str(source.get("section", ""))
                template.unit = str(source.get("shown_unit", state.table.unit))
                template.label = lambda key, labels=state.labels: labels.get(key, str(key))
            elif isinstance(template, CountTable) and isinstance(state.table, Map) and source.get("shown"):
                template.map = state.table

    def _check_interval(self) -> None:
        step = self.header.get("step")
        asked = self.common.seconds_between()
        if self.own_interval and self.tables and isinstance(step, (int, float)) and asked < step * 0.999:
            raise UserError(
                f"the recording has a snapshot each {step:g} s, so an interval of {asked:g} s cannot be shown",
                where="replay", fix="choose a longer one, or record with a shorter one",
            )  # fmt: skip

    def import_views(self) -> None:
        """Everything that shows times, so that it gets the recording's clock."""
        import osmia.cli.summaries
        import osmia.views.heatmap

        if self.common.pictures():
            import osmia.cli.pictures
        if getattr(self.unit.template, "stacks", None) is not None:
            import osmia.cli.stack_hists  # noqa: F401


def session_of(reader: Reader) -> Replayed:
    """What is to be replayed.  Raises UserError where the header is damaged."""
    try:
        return _session(reader)
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise UserError(f"its header is damaged: {type(err).__name__}: {err}", where=reader.name) from None


def _session(reader: Reader) -> Replayed:
    from osmia.cli.common import parser_of

    header = reader.header
    sources = {int(one["number"]): dict(one) for one in header["sources"]}
    unit, why = _tool(header, sources)
    if unit is None:
        unit = _generic(header, sources)
    banner = header.get("template", {}).get("banner")
    if banner is not None and unit.template is not None:
        unit.template.banner = str(banner)  # the tool makes it of what was typed, which is not all recorded
    common = ReplayCommon()
    parser = parser_of(unit, common)
    parser.program = "replay"
    made = Replayed(header, unit, common, parser)
    made.sources = sources
    if why:
        made.notes.append(f"{reader.name}: {why}; shown by the recording's own description")
    for number, source in sources.items():
        _connect(made, number, source)
    return made


def _connect(made: Replayed, number: int, source: dict[str, Any]) -> None:
    kind = source["type"]
    if kind in ("prints", "lines"):
        made.readers[number] = kind
        made.least[number] = 8 if kind == "prints" else 0
    elif kind == "samples":
        made.samples = source
    elif kind == "events":
        ring = _by_name(made.unit, source["name"])
        assert isinstance(ring, Ring)
        layout = ring.event.layout()
        made.least[number] = layout.fixed
        for field in layout:
            if field.name == TIME_FIELD and field.type is u64:
                made.times[number] = field.offset
        template = made.unit.template
        if not isinstance(template, EventTable) or template.ring is ring:
            made.readers[number] = kind
    elif kind in ("histogram", "map") and not (source.get("read") and _by_name(made.unit, source["name"]) is None):
        table = _by_name(made.unit, source["name"])
        if source.get("by_cpu") and isinstance(table, Hist) and not table.keyed:
            table = rebuilt(source)  # what was read as one histogram per CPU has the CPU as its key here
        assert isinstance(table, (Hist, Map))
        made.tables[number] = State(table)


def _by_name(unit: Unit, name: str) -> Any:
    return next((one for one in unit.maps.values() if one.name == name), None)


def _tool(header: dict[str, Any], sources: dict[int, dict[str, Any]]) -> tuple[Unit | None, str]:
    """The tool that was recorded, if it can show what is there; else why not (empty: it was no tool)."""
    from osmia.cli import catalog
    from osmia.cli.main import tool_unit

    name = str(header["tool"])
    if header.get("file"):
        return None, ""
    if not catalog.exists(name):
        return None, f"this osmia has no tool {escape(name)}"
    unit = tool_unit(name)
    for source in sources.values():
        one = _by_name(unit, source["name"])
        if source["type"] == "events":
            same = isinstance(one, Ring) and event_of(one.event) == source["schema"]
        elif source["type"] in ("histogram", "map"):
            same = isinstance(one, (Hist, Map))
            if isinstance(one, Hist) and source.get("by_cpu") and not one.keyed:
                same = describe(one.by_cpu()).items() <= source.items()
            elif isinstance(one, (Hist, Map)):
                same = describe(one).items() <= source.items()
        else:
            same = True
        if not same:
            return None, f"{name} has changed since it was recorded"
    return unit, ""


def _generic(header: dict[str, Any], sources: dict[int, dict[str, Any]]) -> Unit:
    """A unit with what the recording describes, and the template that fits."""
    space: dict[str, Any] = {}
    for source in sources.values():
        kind = source["type"]
        if kind == "events":
            made: Any = Ring(event_from(source["schema"]))
        elif kind in ("histogram", "map") and not source.get("read"):
            made = rebuilt(source)
        else:
            continue
        made.name = str(source["name"])
        space[made.name] = made
    rings = [one for one in space.values() if isinstance(one, Ring)]
    tables = [one for one in space.values() if not isinstance(one, Ring)]
    template = header.get("template", {})
    kind, banner = template.get("kind", ""), str(template.get("banner", ""))
    if len(rings) == 1 and not tables:
        fields = [field.name for field in rings[0].event.layout()]
        space["tool"] = EventTable(rings[0], _told(template, fields))
    elif len(tables) == 1 and isinstance(tables[0], Hist) and kind == "Histogram":
        space["tool"] = Histogram(tables[0], banner=banner)
    elif kind == "CountTable":
        shown = [space[str(one["name"])] for one in sources.values() if one.get("shown")]
        more = {str(name): space[str(one)] for name, one in template.get("more", {}).items()}
        if len(shown) == 1 and all(isinstance(one, Map) for one in (*shown, *more.values())):
            columns = [*_columns(shown[0]), *map(Col, more)]
            known = [*(col.field for col in columns), "key", "count"]
            space["tool"] = CountTable(shown[0], _told(template, known) or columns, banner=banner, more=more)
    return Unit(str(header["tool"]), space)


def _told(template: dict[str, Any], fields: list[str]) -> list[Col] | None:
    """The columns that the tool had, if it is told and they are ``fields``."""
    told = template.get("columns")
    if not told or any(one["field"] not in fields or one["align"] not in ("", "<", ">") for one in told):
        return None
    return [Col(one["field"], str(one["heading"]), min(int(one["width"]), 200), align=one["align"]) for one in told]


def _columns(table: Map) -> list[Col]:
    """A column for each part of the key, and the value's."""
    key, value = table.key, table.value
    if isinstance(key, tuple):
        out = [Col(field.name) for field in tuple_layout(key)]
    elif isinstance(key, type) and issubclass(key, Event):
        out = [Col(field.name) for field in key.layout()]
    else:
        out = [Col("key")]
    if isinstance(value, type) and issubclass(value, Event):
        return out + [Col(field.name) for field in value.layout()]
    return [*out, Col("count")]


def _prints(said: Any) -> list[tuple[str, ...]]:
    """The forms of ``print(f"…")``: they go to :meth:`str.format`, so anything but plain ones is refused."""
    import re

    out = []
    for record in said:
        _, number, text, codes, *_ = [str(part) for part in record]
        widths = [int(width) for width in re.findall(r"\d+", "".join(re.findall(r"\{[^{}]*:([^{}]*)\}", text)))]
        fine = re.fullmatch(f"(?:{_FIELD})*", text, re.DOTALL) and not any(width > _WIDEST for width in widths)
        if not fine or not number.isdecimal() or not re.fullmatch(r"(?:[iub]|s\d{1,5}|[ ,])*", codes):
            raise ValueError(f"{text[:40]!r} is no text of a print")
        out.append(tuple([str(part) for part in record]))
    return out


def check_span(span: bytes, least: int) -> None:
    """Raise UserError unless ``span`` is made of whole records of at least ``least`` bytes."""
    if not least or uniform(span) >= least:
        return
    at, end = 0, len(span)
    while at + 8 <= end:
        (length,) = _U32.unpack_from(span, at)
        if length < DISCARD and length < least:
            break
        at += ((length & (DISCARD - 1)) + 15) & -8
    if at != end:
        raise UserError("a span of events is damaged", where="recording")


def within(span: bytes, at: int, low: int, high: int) -> bytes:
    """The records of ``span`` whose time, ``at`` bytes into them, is from ``low`` up to before ``high``."""
    out = []
    start, end = 0, len(span)
    while start < end:
        (length,) = _U32.unpack_from(span, start)
        following = start + (((length & (DISCARD - 1)) + 15) & -8)
        if length < DISCARD and low <= _U64.unpack_from(span, start + 8 + at)[0] < high:
            out.append(span[start:following])
        start = following
    return b"".join(out)


def losses(record: dict[str, Any]) -> list[list[Any]]:
    """The entries of a block of losses.  Raises UserError where it is damaged."""
    try:
        return [[int(i), str(kind), str(what), int(n), int(size)] for i, kind, what, n, size in record["lost"]]
    except (KeyError, TypeError, ValueError):
        raise UserError("a block of losses is damaged", where="recording") from None


def harmless(raw: bytes) -> str:
    """Text of a file for a terminal: lines and tabs as they are, everything else that is not printable as escapes."""
    lines = raw.decode("utf-8", "backslashreplace").split("\n")
    return "\n".join(["\t".join(map(escape, line.split("\t"))) for line in lines])


def rows(text: str) -> list[dict[str, Any]]:
    """Records of ``--json`` as flat rows: a row for each bucket of a histogram, for each line of a table of counts."""
    out: list[dict[str, Any]] = []
    for line in text.splitlines():
        record = json.loads(line)
        if "histograms" in record:
            for one in record["histograms"]:
                head = {"time": record["time"], "key": one.get("key"), "label": one.get("label")}
                out += [{**head, **bucket, "unit": record["unit"]} for bucket in one["buckets"]]
        elif isinstance(record.get("rows"), list) and "time" in record:
            out += [{"time": record["time"], **row} for row in record["rows"]]
        elif "lost" not in record and "cost" not in record:
            out.append(record)
    return out
