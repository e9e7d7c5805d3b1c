# SPDX-License-Identifier: Apache-2.0
"""Format strings as bcc's trace takes them: what each value is taken as, and how it is shown."""

from __future__ import annotations

from osmia.probespec.tree import Text

#: What a value is shown as: a number, text, one character, or the name of what is at an address.
INTEGER, STRING, CHARACTER, KERNEL_SYMBOL, USER_SYMBOL = "integer", "string", "character", "kernel", "user"
_SIZES = {"": 4, "h": 2, "hh": 1, "l": 8, "ll": 8, "z": 8, "j": 8, "t": 8}


class Conversion:
    """One ``%…``: ``what`` it is, the integer type that the value is cut to, and Python's format for it.

    ``flags`` are those between the percent sign and the letter: width, zero, minus.
    """

    __slots__ = ("bytes", "flags", "letter", "signed", "what")

    def __init__(self, what: str, letter: str, flags: str, size: int, signed: bool) -> None:
        self.what = what
        self.letter = letter
        self.flags = flags
        self.bytes = size
        self.signed = signed

    @property
    def python(self) -> str:
        """The same for Python's ``%`` operator."""
        letter = {"u": "d", "i": "d", "p": "x", "K": "s", "U": "s", "c": "s"}.get(self.letter, self.letter)
        return f"%{self.flags}{letter}" if self.letter != "p" else f"%#{self.flags}x"


class Format:
    """A format string: ``pieces`` are texts and :class:`Conversion` objects, in order."""

    __slots__ = ("pieces",)

    def __init__(self, pieces: list[str | Conversion]) -> None:
        self.pieces = pieces

    @property
    def conversions(self) -> list[Conversion]:
        return [piece for piece in self.pieces if isinstance(piece, Conversion)]

    @property
    def python(self) -> str:
        """The format string for Python's ``%`` operator."""
        return "".join([
            piece.replace("%", "%%") if isinstance(piece, str) else piece.python for piece in self.pieces
        ])  # fmt: skip


def parse(source: Text, start: int, end: int, text: str) -> Format:
    """The format string ``text``, which was typed from ``start`` to ``end``.  Raises CompileError."""
    pieces: list[str | Conversion] = []
    plain, at = "", 0
    while at < len(text):
        if text[at] != "%":
            plain += text[at]
            at += 1
            continue
        if text[at : at + 2] == "%%":
            plain += "%"
            at += 2
            continue
        stop, made = _conversion(text, at)
        if made is None:
            shown = text[at : stop + 1]
            found = source.text.find(shown, start, end)
            place = found if found >= 0 else start
            source.fail(place, place + len(shown), f"{shown!r} shows nothing",
                        "there are %d %u %x %ld %lu %lx %lld %llu %llx %c %s %p %K %U, and %% for a percent sign")
        if plain:
            pieces.append(plain)
        pieces.append(made)
        plain, at = "", stop
    if plain:
        pieces.append(plain)
    return Format(pieces)


def _conversion(text: str, at: int) -> tuple[int, Conversion | None]:
    """``(where it ends, the conversion)`` that begins at ``at``; None for what is none."""
    stop = at + 1
    while stop < len(text) and text[stop] in "-+ #0123456789.":
        stop += 1
    flags = text[at + 1 : stop]
    if text[stop : stop + 2] in ("kS", "uS"):
        letter = "K" if text[stop] == "k" else "U"
        return stop + 2, Conversion(KERNEL_SYMBOL if letter == "K" else USER_SYMBOL, letter, flags, 8, False)
    size = ""
    while stop < len(text) and text[stop] in "hlzjt":
        size += text[stop]
        stop += 1
    letter = text[stop : stop + 1]
    if size not in _SIZES or not letter:
        return stop, None
    if letter in "diuxXo":
        return stop + 1, Conversion(INTEGER, letter, flags, _SIZES[size], letter in "di")
    whats = {"s": STRING, "c": CHARACTER, "K": KERNEL_SYMBOL, "U": USER_SYMBOL, "p": INTEGER}
    if letter not in whats or size:
        return stop, None
    return stop + 1, Conversion(whats[letter], letter, flags, 1 if letter == "c" else 8, False)
