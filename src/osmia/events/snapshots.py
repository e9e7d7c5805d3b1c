# SPDX-License-Identifier: Apache-2.0
"""Histograms and maps in recordings: what has changed since the snapshot before, key by key.

The kernel's counters only grow, and a snapshot stores their values, not the
growth: an interval is the difference of any two, so a replay can choose other
intervals than the run had, and its sums are those of the run.
"""

from __future__ import annotations

import struct

from osmia.errors import UserError
from osmia.events.schema import kind_of, names, type_of
from osmia.lang.codec import decoder, encode
from osmia.lang.hist import ByCpu, Hist, Linear, LogLinear, Snapshot, linear_hist, log2_hist, loglin_hist
from osmia.lang.maps import Hash, Map
from osmia.lang.types import Event, s64, u64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    #: What can be recorded: a histogram, one that is read as one per CPU, a map.
    Table: TypeAlias = Hist | ByCpu | Map

_HISTS = (Hist, ByCpu)
_COUNTS = struct.Struct("<II")  # keys that changed, keys that are gone
_ENTRY = struct.Struct("<HHI")  # bytes of the key, of its label, of the value
_GONE = struct.Struct("<H")
_HIST = struct.Struct("<QQQI")  # sum, min, max, buckets that hold something
_BUCKET = struct.Struct("<IQ")
_LONGEST_LABEL = 0xFFFF


def describe(table: Table) -> dict[str, Any]:
    """A histogram or map as a recording's header describes it."""
    if isinstance(table, _HISTS):
        form: Any = table  # by kind: it may be one that stands in for a histogram
        out: dict[str, Any] = {"type": "histogram", "name": form.name, "kind": form.kind, "unit": form.unit}
        if isinstance(table, ByCpu):
            out["by_cpu"] = True
        if form.kind == LogLinear.kind:
            out["bits"] = form.bits
        elif form.kind == Linear.kind:
            out |= {"low": form.low, "high": form.high, "step": form.step}
        return {**out, "key": type_of(table.key) if table.keyed else None, "key_parts": names(table.key)}
    return {"type": "map", "name": table.name, "key": type_of(table.key), "key_parts": names(table.key),
            "value": type_of(_value_type(table))}  # fmt: skip


def _value_type(table: Map) -> Any:
    """Of what is stored: of a per-CPU map the sum, which may need more bits than each part."""
    if not table.percpu:
        return table.value
    return s64 if getattr(table.value, "signed", True) else u64


def rebuilt(said: dict[str, Any]) -> Hist | Map:
    """The histogram or map that :func:`describe` described.  Raises UserError."""
    try:
        key = kind_of(said["key"]) if said["key"] is not None else None
        if said["type"] == "map":
            made: Any = Hash[key, kind_of(said["value"])]()
        elif said["kind"] == "log2":
            made = log2_hist(str(said["unit"]), key=key)
        elif said["kind"] == "loglin":
            made = loglin_hist(str(said["unit"]), key=key, bits=said["bits"])
        else:
            made = linear_hist(str(said["unit"]), key=key, low=said["low"], high=said["high"], step=said["step"])
        made.name = str(said["name"])
    except (KeyError, TypeError) as err:
        raise UserError(f"its schema is damaged: {err}", where="recording") from None
    found: Hist | Map = made
    return found


def state_of(table: Table) -> dict[Any, Any]:
    """What is in it now: by key, snapshots of a histogram, values of a map."""
    return table.snapshots() if isinstance(table, _HISTS) else dict(table.items())


class Changes:
    """Successive snapshots of one table, as bytes; ``label`` is what people call a key."""

    def __init__(self, table: Table, label: Callable[[Any], str] | None = None) -> None:
        self._table = table
        self._label = label
        self._value = None if isinstance(table, _HISTS) else _value_type(table)
        self._before: dict[bytes, bytes] = {}

    def next(self, state: dict[Any, Any]) -> bytes | None:
        """What has changed in ``state`` since the last call; None if nothing has."""
        table = self._table
        hist = isinstance(table, _HISTS)
        keyed = not isinstance(table, _HISTS) or table.keyed
        now: dict[bytes, bytes] = {}
        changed: list[bytes] = []
        for key, value in state.items():
            raw = encode(table.key, key) if keyed else b""
            packed = _hist(value) if hist else encode(self._value, value)
            now[raw] = packed
            if self._before.get(raw) != packed:
                label = self._label(key) if self._label is not None and keyed else ""
                text = label.encode("utf-8", "surrogateescape")[:_LONGEST_LABEL]
                changed.append(_ENTRY.pack(len(raw), len(text), len(packed)) + raw + text + packed)
        gone = [_GONE.pack(len(raw)) + raw for raw in self._before if raw not in now]
        self._before = now
        if not changed and not gone:
            return None
        return b"".join([_COUNTS.pack(len(changed), len(gone)), *changed, *gone])


def _hist(shot: Snapshot) -> bytes:
    filled = [(slot, count) for slot, count in enumerate(shot.counts) if count]
    return _HIST.pack(shot.sum, shot.min, shot.max, len(filled)) + b"".join([_BUCKET.pack(*one) for one in filled])


class State:
    """A table as snapshots build it up: the table itself, as if it were live, and the labels of its keys."""

    def __init__(self, table: Hist | Map) -> None:
        self.table = table
        self.labels: dict[Any, str] = {}
        self._key = decoder(table.key) if not isinstance(table, Hist) or table.keyed else lambda raw: None
        self._value = self._shot if isinstance(table, Hist) else decoder(table.value)
        self.content: dict[Any, Any] = {}
        table.live = None
        table._sim = self.content

    def apply(self, payload: bytes) -> None:
        """Go on to the next snapshot.  Raises UserError where it is damaged."""
        try:
            self._apply(payload)
        except (struct.error, IndexError, ValueError) as err:
            raise UserError(f"a snapshot of {self.table.name} is damaged: {err}", where="recording") from None

    def _apply(self, payload: bytes) -> None:
        changed, gone = _COUNTS.unpack_from(payload)
        at = _COUNTS.size
        for _ in range(changed):
            key_size, label_size, value_size = _ENTRY.unpack_from(payload, at)
            at += _ENTRY.size
            label_at, value_at = at + key_size, at + key_size + label_size
            key = self._key(payload[at:label_at])
            at = value_at + value_size
            self.content[key] = self._value(payload[value_at:at])
            self.labels[key] = payload[label_at:value_at].decode("utf-8", "surrogateescape")
        for _ in range(gone):
            (key_size,) = _GONE.unpack_from(payload, at)
            at += _GONE.size + key_size
            self.content.pop(self._key(payload[at - key_size : at]), None)

    def _shot(self, raw: bytes) -> Snapshot:
        total, low, high, filled = _HIST.unpack_from(raw)
        assert isinstance(self.table, Hist)
        counts = [0] * self.table.slots
        for i in range(filled):
            slot, count = _BUCKET.unpack_from(raw, _HIST.size + i * _BUCKET.size)
            counts[slot] = count
        return Snapshot(counts, total, low, high)


def recordable(table: Map) -> bool:
    """Whether keys and values are plain data: programs, other maps and lists of structures per CPU are not."""
    number = isinstance(table.value, type) and issubclass(table.value, int) and table.value is not bool
    if table.percpu and not number:
        return False
    for kind in (table.key, table.value):
        try:
            type_of(kind)
        except (TypeError, AttributeError):
            return False
        if isinstance(kind, type) and issubclass(kind, Event) and kind.layout().tail is not None:
            return False
    return True
