# SPDX-License-Identifier: Apache-2.0
"""What was lost, exactly: the kernel half counts it, here it gets words.

Every place where the kernel half may drop something has a slot in the
per-CPU array ``osmia_loss``; the object's records say what each slot stands
for.  Counters are per CPU and only ever added to, so the sums are exact.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from osmia.lang.maps import Live

MAP = "osmia_loss"


class Slot:
    """One kind of loss: ``kind`` (``ring``, ``map``, ``negative``, ``text``) and ``what`` it happened to."""

    __slots__ = ("index", "kind", "what")

    def __init__(self, index: int, kind: str, what: str) -> None:
        self.index = index
        self.kind = kind
        self.what = what


class Losses:
    """The loss counters of one object; ``more`` gives losses that are counted elsewhere."""

    __slots__ = ("_live", "_more", "slots")

    def __init__(
        self, records: list[tuple[str, ...]], live: Live | None,
        more: Callable[[], list[tuple[Slot, int]]] | None = None,
    ) -> None:  # fmt: skip
        self._more = more
        self.slots = [Slot(int(r[1]), r[2], r[3]) for r in records if r[0] == "loss" and len(r) >= 4]
        self._live = live

    def read(self) -> list[tuple[Slot, int]]:
        """Every slot that is not zero, with its sum over the CPUs; then what ``more`` (see :mod:`missed`) says."""
        found = self._more() if self._more is not None else []
        if self._live is None:
            return found
        for slot in self.slots:
            raw = self._live.lookup(struct.pack("<I", slot.index))
            if raw:
                total = sum(struct.unpack(f"<{len(raw) // 8}Q", raw[: len(raw) // 8 * 8]))
                if total:
                    found.append((slot, total))
        return found


#: What is said of each kind: its first word is what it happened to, ``{n}`` how often, ``{s}`` makes that a plural,
#: and ``{room}`` is what there was room for.
_SENTENCES = {
    "ring": "{what}: {n} event{s} lost: ring full{room}",
    "taken": "{what}: {n} event{s} lost: another thread had preempted one that was being put together",
    "map": "{what}: {n} update{s} lost: map full{room}",
    "recorder": "{what}: {n} event{s} not recorded while it was being read",
    "stack": "{what}: {n} stack{s} lost: another one has the same place (give it more entries)",
    "places": "{what}: {n} stack{s} lost: there is room for {room} different ones",
    "memory": "{what}: {n} stack{s} lost: the memory for stacks is full",
    "unread": "{what}: {n} stack{s} could not be read",
    "counter": "{what}: {n} reading{s} of the counter failed",
    "negative": "{what}: {n} negative value{s} not in the histogram (a clock went backwards?)",
    "missed": "{what}: {n} hit{s} missed by the probe (recursion, or too many calls at once)",
    "skipped": "{what}: {n} run{s} skipped: a program was running on that CPU already",
    "gone": "{what} was unloaded while it was traced",
    "away": "{what}: no samples for {n} ms, because the CPU was offline",
}


def sentence(slot: Slot, count: int, sizes: dict[str, int]) -> str:
    """One line for people; ``sizes`` holds bytes of rings and entries of maps by name."""
    size, room = sizes.get(slot.what, 0), ""
    if slot.kind == "ring" and size:
        room = f" ({_bytes(size)}; --ring-size makes it larger)"
    elif slot.kind == "map" and size:
        room = f" ({size:,} entries)"
    elif slot.kind == "places":
        room = f"{sizes.get(f'{slot.what}_ids', 0):,}"
    words = _SENTENCES.get(slot.kind, "{n} lost: {what}")
    return words.format(what=slot.what, n=f"{count:,}", s="" if count == 1 else "s", room=room)


def as_json(found: list[tuple[Slot, int]]) -> dict[str, Any]:
    """The last record of a JSON stream: ``{"lost": {...}}``, empty where nothing was lost."""
    out: dict[str, int] = {}
    for slot, count in found:
        key = slot.what if slot.kind == "text" else f"{slot.what}: {slot.kind}"
        out[key] = out.get(key, 0) + count
    return {"lost": out}


def _bytes(size: int) -> str:
    for unit, shift in (("GB", 30), ("MB", 20), ("KB", 10)):
        if size >= 1 << shift and not size & ((1 << shift) - 1):
            return f"{size >> shift} {unit}"
    return f"{size} bytes"
