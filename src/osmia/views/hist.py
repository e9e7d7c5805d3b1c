# SPDX-License-Identifier: Apache-2.0
"""Histograms as values: log2, linear and log-linear, mergeable and subtractable.

A :class:`Histogram` is a snapshot of what the kernel counted.  Snapshots add
up across CPUs, keys and hosts (``merge``) and an interval is the difference
of two of them (``minus``): the kernel side is never cleared, so nothing that
happens between reading and clearing can be lost.
"""

from __future__ import annotations

from osmia.errors import InternalError, UserError
from osmia.views.bars import print_linear, print_log2, print_ranges, print_singles, stars
from osmia.views.buckets import (
    LOG2_SLOTS,
    LOGLIN_BITS,
    linear_bounds,
    linear_slot,
    log2_bounds,
    log2_slot,
    loglin_bounds,
    loglin_slot,
    loglin_slots,
    percentile,
    rank_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from osmia.views.buckets import Bounds

__all__ = [
    "LOG2_SLOTS", "LOGLIN_BITS", "PERCENTILES", "Histogram", "linear_bounds", "linear_slot", "log2_bounds",
    "log2_slot", "loglin_bounds", "loglin_slot", "loglin_slots", "percentile", "print_keyed", "print_linear",
    "print_log2", "stars",
]  # fmt: skip

#: The percentiles of a summary.
PERCENTILES = (50, 90, 99, 99.9)


class Histogram:
    """Counts by slot, and what is known of the values themselves.

    ``kind`` is ``"log2"``, ``"linear"`` (with ``low``, ``step``, ``slots``:
    see :func:`linear_slot`) or ``"loglin"`` (with ``bits``: see
    :func:`loglin_slot`).  ``counts`` is a sequence indexed by slot or a
    mapping from slot to count.  ``sum``, ``min`` and ``max`` are those of the
    values, None where they are not known; ``count`` is the sum of the counts.

    Raises :class:`~osmia.errors.UserError` for an unknown kind or impossible
    parameters and :class:`~osmia.errors.InternalError` for a count in a slot
    that the kind does not have.
    """

    __slots__ = ("count", "counts", "kind", "max", "min", "params", "sum")

    def __init__(
        self,
        kind: str,
        counts: Mapping[int, int] | Sequence[int] = (),
        *,
        sum: int | None = None,
        min: int | None = None,
        max: int | None = None,
        bits: int = LOGLIN_BITS,
        low: int = 0,
        step: int = 1,
        slots: int = 0,
    ) -> None:
        self.kind = kind
        self.params = _params(kind, bits, low, step, slots)
        items = counts.items() if hasattr(counts, "items") else enumerate(counts)
        self.counts: dict[int, int] = {slot: n for slot, n in items if n}
        first, last = self._slots()
        self.count = 0
        for slot, n in self.counts.items():
            if n < 0 or not first <= slot <= last:
                raise InternalError(f"a {kind} histogram cannot have {n} values in slot {slot}")
            self.count += n
        self.sum: int | None = sum if self.count else 0
        self.min: int | None = min if self.count else None
        self.max: int | None = max if self.count else None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # mutable: see add

    def __repr__(self) -> str:
        return f"<{self.kind} histogram of {self.count} values {self.params or ''}>"

    def slot(self, value: int) -> int:
        """The slot that ``value`` falls into; raises :class:`ValueError` for a negative one (not if linear)."""
        if self.kind == "log2":
            return log2_slot(value)
        if self.kind == "loglin":
            return loglin_slot(value, **self.params)
        return linear_slot(value, **self.params)

    def bounds(self, slot: int) -> Bounds:
        """The inclusive range of ``slot``; None where a linear histogram has no bound."""
        if self.kind == "log2":
            return log2_bounds(slot)
        if self.kind == "loglin":
            return loglin_bounds(slot, **self.params)
        return linear_bounds(slot, **self.params)

    def add(self, value: int, times: int = 1) -> None:
        """Count ``value``, as the kernel side does."""
        slot = self.slot(value)
        self.counts[slot] = self.counts.get(slot, 0) + times
        if not self.count:
            self.min = self.max = value
        else:
            self.min = None if self.min is None else min(self.min, value)
            self.max = None if self.max is None else max(self.max, value)
        self.sum = None if self.sum is None else self.sum + value * times
        self.count += times

    def merge(self, other: Histogram) -> Histogram:
        """Both together.

        Raises :class:`~osmia.errors.UserError` when kind or parameters
        differ: buckets of another shape cannot be added exactly.
        """
        self._same_shape(other)
        if not other.count or not self.count:
            return (self if self.count else other)._with(dict((self if self.count else other).counts))
        counts = dict(self.counts)
        for slot, n in other.counts.items():
            counts[slot] = counts.get(slot, 0) + n
        result = self._with(counts)
        result.sum = None if self.sum is None or other.sum is None else self.sum + other.sum
        result.min = None if self.min is None or other.min is None else min(self.min, other.min)
        result.max = None if self.max is None or other.max is None else max(self.max, other.max)
        return result

    def minus(self, earlier: Histogram) -> Histogram:
        """What was counted since the snapshot ``earlier``.

        ``min`` and ``max`` of the interval are known only if they are new
        extremes; else None, and only the bounds of the outer buckets remain.
        Raises :class:`~osmia.errors.UserError` for another shape and
        :class:`~osmia.errors.InternalError` if a count went backwards, as it
        does when somebody cleared the map in between.
        """
        self._same_shape(earlier)
        counts = dict(self.counts)
        for slot, n in earlier.counts.items():
            counts[slot] = counts.get(slot, 0) - n
        result = self._with(counts)
        if result.count:
            result.sum = None if self.sum is None or earlier.sum is None else self.sum - earlier.sum
            if earlier.count:
                result.min = None if earlier.min in (None, self.min) else self.min
                result.max = None if earlier.max in (None, self.max) else self.max
        return result

    def percentile(self, q: float) -> int | None:
        """Percentile ``q`` (0 to 100) as the highest value of its bucket, but never above ``max``.

        None if the histogram is empty or the value lies in an overflow slot
        and ``max`` is not known.  :meth:`error` says how much too high it may be.
        """
        if not self.count:
            return None
        rank = rank_of(q, self.count)
        high: int | None = None
        for slot in sorted(self.counts):
            rank -= self.counts[slot]
            if rank <= 0:
                high = self.bounds(slot)[1]
                break
        if self.max is None:
            return high
        return self.max if high is None else min(high, self.max)

    def error(self) -> str:
        """How far a percentile may lie above the true value, in words: ``12.5 %``, ``9``, or empty if exact."""
        if self.kind == "linear":
            return str(self.params["step"] - 1) if self.params["step"] > 1 else ""
        return f"{100 / (1 << self.params.get('bits', 0)):g} %"

    def rows(self) -> list[tuple[int | None, int | None, int]]:
        """The rows of a picture, ``(low, high, count)``, up to the last slot that holds anything.

        Log2 and linear: every slot, zeros too (underflow only if it holds
        something).  Log-linear: each run of empty slots is one row.
        """
        if not self.counts:
            return []
        last = max(self.counts)
        if self.kind != "loglin":
            slots = range(1 - (0 in self.counts), last + 1)
            return [(*self.bounds(slot), self.counts.get(slot, 0)) for slot in slots]
        rows: list[tuple[int | None, int | None, int]] = []
        following = 0
        for slot in sorted(self.counts):
            if slot > following:
                rows.append((self.bounds(following)[0], self.bounds(slot - 1)[1], 0))
            rows.append((*self.bounds(slot), self.counts[slot]))
            following = slot + 1
        return rows

    def text(self, unit: str, *, strip_leading: bool = False, summary: bool | None = None) -> str:
        """The picture, in bcc's layout, headed by ``unit``; the empty string if empty.

        ``strip_leading`` leaves out empty rows at the start.  ``summary``
        adds the line of :meth:`summary` (default: for log-linear only).
        """
        rows = self.rows()
        if not rows:
            return ""
        if strip_leading:
            while not rows[0][2]:
                del rows[0]
        if self.kind == "linear" and self.params["step"] == 1:
            out = print_singles([(_single(low, high), count) for low, high, count in rows], unit)
        else:
            out = print_ranges([((low, high), count) for low, high, count in rows], unit)
        if self.kind == "loglin" if summary is None else summary:
            out += self.summary() + "\n"
        return out

    def summary(self) -> str:
        """One line: count, sum, min, max, percentiles and how exact these are."""
        parts = [f"count {self.count}"]
        if self.sum is not None:
            parts.append(f"sum {self.sum}")
        if not self.count:
            return "  ".join(parts)
        low, high = self.bounds(min(self.counts))[0], self.bounds(max(self.counts))[1]
        for name, value, sign, bound in (("min", self.min, ">=", low), ("max", self.max, "<=", high)):
            if value is not None:
                parts.append(f"{name} {value}")
            elif bound is not None:
                parts.append(f"{name} {sign}{bound}")
        for q in PERCENTILES:
            found = self.percentile(q)
            parts.append(f"p{q:g} {f'>={self.bounds(max(self.counts))[0]}' if found is None else found}")
        error = self.error()
        return "  ".join(parts) + (f"  (percentiles at most {error} high)" if error else "")

    def to_json(self) -> dict[str, Any]:
        """The whole histogram as plain values; ``buckets`` lists those that hold something."""
        buckets = []
        for slot in sorted(self.counts):
            low, high = self.bounds(slot)
            buckets.append({"low": low, "high": high, "count": self.counts[slot]})
        return {
            "kind": self.kind,
            **self.params,
            "count": self.count,
            "sum": self.sum,
            "min": self.min,
            "max": self.max,
            "percentiles": {f"p{q:g}": self.percentile(q) for q in PERCENTILES},
            "buckets": buckets,
        }

    def _slots(self) -> tuple[int, int]:
        """The first and the last slot that can hold anything."""
        if self.kind == "log2":
            return 1, LOG2_SLOTS - 1
        return 0, loglin_slots(self.params["bits"]) - 1 if self.kind == "loglin" else self.params["slots"] + 1

    def _with(self, counts: dict[int, int]) -> Histogram:
        return Histogram(self.kind, counts, sum=self.sum, min=self.min, max=self.max, **self.params)

    def _same_shape(self, other: Histogram) -> None:
        if self.kind != other.kind or self.params != other.params:
            raise UserError(
                f"a {self.kind} histogram {self.params or ''} and a {other.kind} one {other.params or ''} do not fit",
                fix="record both with the same kind and parameters",
            )


def print_keyed(
    hists: Mapping[Any, Histogram],
    unit: str,
    section: str,
    key_format: Callable[[Any], str] | None = None,
    *,
    sort: Callable[[list[Any]], Iterable[Any]] | None = None,
    strip_leading: bool = False,
) -> str:
    """One block a key, each headed ``\\nSECTION = key`` as bcc heads them.

    ``key_format`` writes a key (default: text and bytes as they are, anything
    else by ``str``); the result is escaped.  bcc prints in the order of the
    kernel's hash table, which is arbitrary; here the keys are sorted if they
    can be.  ``sort`` takes the list of keys and returns them in another order
    (bcc's ``bucket_sort_fn``); ``sort=list`` keeps that of ``hists``.
    """
    from osmia.views.escape import escape, escape_bytes

    keys = list(hists)
    if sort is not None:
        keys = list(sort(keys))
    else:
        try:
            keys.sort()
        except TypeError:  # keys of several types: the order they came in
            keys = list(hists)
    out = []
    for key in keys:
        if key_format is None and isinstance(key, bytes):
            name = escape_bytes(key)
        else:
            name = escape(key_format(key) if key_format is not None else str(key))
        out.append(f"\n{section} = {name}\n{hists[key].text(unit, strip_leading=strip_leading)}")
    return "".join(out)


def _params(kind: str, bits: int, low: int, step: int, slots: int) -> dict[str, int]:
    if kind == "log2":
        return {}
    if kind == "loglin":
        if not 0 <= bits <= 16:
            raise UserError(f"{bits} sub-bucket bits", where="log-linear histogram", fix="use 0 to 16, such as 3")
        return {"bits": bits}
    if kind == "linear":
        if step < 1 or slots < 1:
            raise UserError(
                f"{slots} buckets of {step}", where="linear histogram", fix="use at least one bucket of at least 1"
            )
        return {"low": low, "step": step, "slots": slots}
    raise UserError(f"unknown kind of histogram {kind!r}", fix="use log2, linear or loglin")


def _single(low: int | None, high: int | None) -> str:
    if low is None:
        return f"< {0 if high is None else high + 1}"
    return f">= {low}" if high is None else str(low)
