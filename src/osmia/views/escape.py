# SPDX-License-Identifier: Apache-2.0
"""Names from the traced world, made harmless before they reach a terminal.

A process chooses its own name and its own paths, and the tracer is usually
root: an escape sequence in a comm must not drive root's terminal, a bidi
override must not reorder a line, a newline must not forge a row.  What Python
itself calls printable passes unchanged (that includes every letter of every
script); everything else becomes a visible escape as in a Python literal:
``\\n``, ``\\x1b``, ``\\u202e``.  Bytes that were not UTF-8 come out as ``\\xNN``.

Backslashes are left alone, so that ordinary text is never changed and
escaping twice is the same as escaping once.  The text is for people; machine
output (:mod:`osmia.views.machine`) has its own rules.
"""

from __future__ import annotations

#: The ASCII characters that must not reach a terminal: C0 and DEL.
ASCII_CONTROLS = bytes(range(32)) + b"\x7f"

_SHORT = {9: "\\t", 10: "\\n", 13: "\\r"}


class _Escapes(dict[int, str]):
    """A table for ``str.translate``, computed on demand and never stored.

    Nothing is stored because the traced world chooses the keys: over a long
    run they could be every code point there is.
    """

    def __missing__(self, code: int) -> str:
        if 0xDC80 <= code <= 0xDCFF:  # a raw byte, as the surrogateescape handler keeps it
            return f"\\x{code - 0xDC00:02x}"
        char = chr(code)
        if char.isprintable():
            return char
        if code < 0x100:
            return f"\\x{code:02x}"
        return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_ESCAPES = _Escapes(_SHORT)


def escape(text: str) -> str:
    """``text`` with every character that is not printable as a visible escape.

    Printable is what :meth:`str.isprintable` says: controls (C0, C1, DEL),
    lone surrogates, bidi and zero-width characters, line separators and
    unassigned code points are not.  A byte kept by ``surrogateescape`` shows
    as ``\\xNN``.  Idempotent.
    """
    if text.isprintable():
        return text
    return text.translate(_ESCAPES)


def escape_bytes(raw: bytes) -> str:
    """``raw`` read as UTF-8 and escaped; bytes that are not UTF-8 show as ``\\xNN``."""
    text = raw.decode("utf-8", "surrogateescape")
    if text.isprintable():
        return text
    return text.translate(_ESCAPES)


def is_safe(text: str) -> bool:
    """Whether ``text`` can be printed as it is; the same as :meth:`str.isprintable`.

    Written for large blocks: on ASCII text it takes a third of the time
    (0.6 instead of 2 ns a character), because deleting the controls from the
    encoded bytes is one table-driven loop.
    """
    if text.isascii():
        raw = text.encode()
        return len(raw.translate(None, ASCII_CONTROLS)) == len(raw)
    return text.isprintable()


class EscapeCache(dict[bytes, str]):
    """``cache[raw]`` is ``escape_bytes(raw)``, remembered: names repeat.

    A hit costs one dictionary look-up (some 40 ns against 190).  When
    ``limit`` different names have been seen the cache starts afresh, so that
    names that never repeat cost no memory.
    """

    __slots__ = ("limit",)

    def __init__(self, limit: int = 4096) -> None:
        super().__init__()
        self.limit = limit

    def __missing__(self, raw: bytes) -> str:
        if len(self) >= self.limit:
            self.clear()
        text = self[raw] = escape_bytes(raw)
        return text
