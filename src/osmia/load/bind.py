# SPDX-License-Identifier: Apache-2.0
"""The author's objects meet the live ones: maps, variables, programs to jump to."""

from __future__ import annotations

import struct

from osmia.errors import InternalError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from osmia.load.object import LiveObject


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
        elif record[0] == "global" and record[1] in live.variables:
            item = find(record[2], record[3])
            item.live = _variable(live, record[1])
        else:
            continue
        bound.append(item)
    return bound


def _variable(live: LiveObject, name: str) -> Variable:
    section, offset, size = live.variables[name]
    view = live.views.get(section)
    if view is None:
        view = live.views[section] = live.maps[section].view(writable=True)
    return Variable(view, name, offset, size)


def fill_jumps(live: LiveObject, records: list[tuple[str, ...]]) -> None:
    """Put the programs that others jump to into their slots; what was not loaded leaves its slot empty."""
    by_function = {record[2]: record[1] for record in records if record[0] == "prog" and record[1] in live.progs}
    for record in records:
        if record[0] != "tail" or record[1] not in live.maps:
            continue
        name = by_function.get(record[3])
        if name is None:
            continue
        index = int(record[2])
        array = live.maps[record[1]]
        if index >= array.max_entries:
            raise InternalError(f"slot {index} of {record[1]}, which has {array.max_entries}")
        array.update(struct.pack("<I", index), struct.pack("<I", live.progs[name].fd))
