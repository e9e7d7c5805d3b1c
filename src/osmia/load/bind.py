# SPDX-License-Identifier: Apache-2.0
"""The author's objects meet the live ones: maps, variables, programs to jump to."""

from __future__ import annotations

import struct

from osmia.errors import InternalError, UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from osmia.load.object import LiveObject
    from osmia.load.program import LiveProg


class Variable:
    """One variable of a data section, in the kernel's own memory: reads and writes cost no system call (5.5)."""

    __slots__ = ("_at", "_view", "name", "size")

    ncpus = 1

    def __init__(self, view: Any, name: str, offset: int, size: int) -> None:
        self._view = view
        self._at = offset
        self.name = name
        self.size = size

    def lookup(self, key: bytes) -> bytes:
        """Its bytes."""
        return bytes(self._view[self._at : self._at + self.size])

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """Set its bytes."""
        if len(value) != self.size:
            raise ValueError(f"{self.name}: a value has {self.size} bytes, not {len(value)}")
        self._view[self._at : self._at + self.size] = value


def bind(live: LiveObject, records: list[tuple[str, ...]], find: Callable[[str, str], Any]) -> list[Any]:
    """Give each object that ``records`` name its live map; those that got one.

    ``find(module, variable)`` gives the author's object.
    """
    bound = []
    for record in records:
        if record[0] == "map" and record[1] in live.maps:
            item = find(record[2], record[3])
            item.live = live.maps[record[1]]
            if hasattr(item, "loaded"):  # an array of programs
                item.loaded = _by_function(live, records)
        elif record[0] == "global" and record[1] in live.variables:
            item = find(record[2], record[3])
            item.live = _variable(live, record[1])
        else:
            continue
        bound.append(item)
    return bound


def fill(bound: list[Any]) -> None:
    """Put what the author's objects were given before the load into their live maps.

    A pinned map that was there already keeps what it holds.  UserError where
    something does not fit.
    """
    for item in bound:
        if getattr(item.live, "reused", False):
            continue
        try:
            item.fill()
        except (ValueError, TypeError, OverflowError, struct.error) as err:
            raise UserError(f"what was put into it does not fit: {err}", where=f"map {item.name}") from None


def _variable(live: LiveObject, name: str) -> Variable:
    section, offset, size = live.variables[name]
    view = live.views.get(section)
    if view is None:
        view = live.views[section] = live.maps[section].view(writable=True)
    return Variable(view, name, offset, size)


def _by_function(live: LiveObject, records: list[tuple[str, ...]]) -> dict[str, LiveProg]:
    """The loaded programs by the names of their functions."""
    return {record[2]: live.progs[record[1]] for record in records if record[0] == "prog" and record[1] in live.progs}


def fill_jumps(live: LiveObject, records: list[tuple[str, ...]]) -> None:
    """Put the programs that others jump to into their slots; what was not loaded leaves its slot empty."""
    by_function = _by_function(live, records)
    for record in records:
        if record[0] != "tail" or record[1] not in live.maps:
            continue
        one = by_function.get(record[3])
        if one is None:
            continue
        index = int(record[2])
        array = live.maps[record[1]]
        if index >= array.max_entries:
            raise InternalError(f"slot {index} of {record[1]}, which has {array.max_entries}")
        array.update(struct.pack("<I", index), struct.pack("<I", one.fd))
