# SPDX-License-Identifier: Apache-2.0
"""Exact intervals: what a map holds at one time, and what came between two times.

Counters in the kernel are never cleared, because what is counted between
reading and clearing would be lost.  An interval is a difference::

    before = counts.snapshot()
    time.sleep(1)
    for key, n in (counts.snapshot() - before).items():
        ...

The intervals of a run add up to its whole, whatever happens meanwhile.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class Snapshot(dict):  # type: ignore[type-arg]
    """Entries of a map at ``time`` (monotonic, seconds); ``seconds`` is the length of a difference."""

    def __init__(self, entries: Iterable[tuple[Any, Any]], seconds: float = 0.0) -> None:
        super().__init__(entries)
        self.time = time.monotonic()
        self.seconds = seconds

    def __sub__(self, older: Snapshot) -> Snapshot:
        """What was added since ``older``, by key; keys with nothing new are left out.

        A key that is new counts in full, and so does one whose value has
        become smaller: it was removed and counted anew.  Structures are
        subtracted field by field, lists element by element; what is no
        number counts as new when it differs.
        """
        out = []
        for key, value in self.items():
            new = _minus(value, older[key]) if key in older else value
            if _something(new):
                out.append((key, new))
        return Snapshot(out, self.time - older.time)

    def total(self) -> Any:
        """The sum of the values."""
        return sum(self.values())


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _minus(new: Any, old: Any) -> Any:
    if _is_number(new) and _is_number(old):
        return new if new < old else new - old
    if isinstance(new, (list, tuple)) and len(new) == len(old):
        return type(new)(_minus(a, b) for a, b in zip(new, old, strict=True))
    fields = getattr(new, "__dict__", None)
    if fields and type(new) is type(old):
        made = object.__new__(type(new))
        made.__dict__.update({name: _minus(value, getattr(old, name)) for name, value in fields.items()})
        return made
    return None if new == old else new


def _something(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_something(one) for one in value)
    fields = getattr(value, "__dict__", None)
    if fields:
        return any(_something(one) for one in fields.values())
    return bool(value)


class Intervals:
    """Successive differences of one map: ``step()`` gives what came since the last call (at first: since the start)."""

    def __init__(self, item: Any) -> None:
        self._item = item
        self._before: Snapshot = item.snapshot()

    def step(self) -> Snapshot:
        """The snapshot of the interval that ends now; the next one begins."""
        now: Snapshot = self._item.snapshot()
        gone, self._before = self._before, now
        return now - gone
