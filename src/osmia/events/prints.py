# SPDX-License-Identifier: Apache-2.0
"""``print(f"…")`` from kernel code.

The kernel half sends only the values; the text stays here, in the object's
``print`` records.  A record of the ring is: u32 number of the print, u32
padding, then each value as its code says: ``i`` s64, ``u`` u64, ``b`` a bool
in a u64, ``sN`` N bytes holding a NUL-terminated string.
"""

from __future__ import annotations

import struct

from osmia.views.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RING = "osmia_print"
_HEAD = struct.Struct("<I4xI4x")  # of the ring: length; of ours: number
_DISCARD = 1 << 30


class Form:
    """One print: a :meth:`str.format` text, and how its values are packed."""

    __slots__ = ("_kinds", "_packed", "text", "where")

    def __init__(self, text: str, codes: str, where: str = "") -> None:
        self.text = text
        self.where = where
        self._kinds = _split(codes)
        self._packed = struct.Struct("<" + "".join([_struct_code(kind) for kind in self._kinds]))

    def line(self, span: bytes, at: int) -> str:
        """The text for the values at ``at``, escaped."""
        values = [_value(kind, raw) for kind, raw in zip(self._kinds, self._packed.unpack_from(span, at), strict=True)]
        return self.text.format(*values)


def _split(codes: str) -> list[str]:
    """``"is16u"`` → ``["i", "s16", "u"]``."""
    out: list[str] = []
    for char in codes:
        if char.isdigit():
            out[-1] += char
        elif char not in " ,":
            out.append(char)
    return out


def _struct_code(kind: str) -> str:
    return {"i": "q", "u": "Q", "b": "Q"}.get(kind) or kind[1:] + "s"


def _value(kind: str, raw: Any) -> Any:
    if kind == "b":
        return bool(raw)
    if kind[0] == "s":
        return escape(raw.partition(b"\0")[0].decode("utf-8", "surrogateescape"))
    return raw


class Printer:
    """The prints of one object."""

    __slots__ = ("forms",)

    def __init__(self, records: list[tuple[str, ...]]) -> None:
        self.forms = {int(r[1]): Form(*r[2:5]) for r in records if r[0] == "print"}

    def lines(self, span: bytes) -> list[str]:
        """One text for each record of ``span`` (see :mod:`osmia.events.decode`), without newlines."""
        out, at, end = [], 0, len(span)
        while at < end:
            length, number = _HEAD.unpack_from(span, at)
            if length < _DISCARD:
                form = self.forms.get(number)
                if form is not None:
                    out.append(form.line(span, at + 16))
            at += ((length & (_DISCARD - 1)) + 15) & -8
        return out
