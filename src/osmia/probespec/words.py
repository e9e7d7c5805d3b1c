# SPDX-License-Identifier: Apache-2.0
"""From the text of an expression to its words, each with its place."""

from __future__ import annotations

from osmia.probespec.tree import Text

NAME, NUMBER, STRING, MARK, END = "name", "number", "string", "mark", "end"
#: The longest first: each is tried in this order.
_MARKS = (
    "->", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "//",
    "+", "-", "*", "/", "%", "&", "|", "^", "~", "!", "<", ">", "?", ":", "(", ")", "[", "]", ".", ",", "@", "=",
)  # fmt: skip
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\", '"': '"', "'": "'", "a": "\a", "e": "\x1b"}


class Word:
    """One word: its ``kind``, ``text`` (of a string its value), ``value`` of a number, and where it stands."""

    __slots__ = ("end", "kind", "start", "suffix", "text", "value")

    def __init__(self, kind: str, text: str, start: int, end: int, value: int = 0, suffix: str = "") -> None:
        self.kind = kind
        self.text = text
        self.start = start
        self.end = end
        self.value = value
        self.suffix = suffix

    def __repr__(self) -> str:
        return f"<{self.kind} {self.text!r}>"


def words(source: Text, start: int, end: int) -> list[Word]:
    """The words of ``source`` from ``start`` to ``end``; the last one is of the kind ``END``.  Raises CompileError."""
    text, at, out = source.text, start, []
    while at < end:
        c = text[at]
        if c.isspace():
            at += 1
            continue
        if c.isalpha() or c in "_$":
            stop = at + 1
            while stop < end and (text[stop].isalnum() or text[stop] in "_$"):
                stop += 1
            out.append(Word(NAME, text[at:stop], at, stop))
        elif c.isdigit():
            out.append(_number(source, at, end))
        elif c in "\"'":
            out.append(_string(source, at, end))
        else:
            mark = next((m for m in _MARKS if text.startswith(m, at) and at + len(m) <= end), "")
            if not mark:
                source.fail(at, at + 1, f"{c!r} has no meaning in an expression")
            out.append(Word(MARK, mark, at, at + len(mark)))
        at = out[-1].end
    out.append(Word(END, "", end, end))
    return out


def _number(source: Text, at: int, end: int) -> Word:
    text, stop = source.text, at
    while stop < end and (text[stop].isalnum() or text[stop] == "_"):
        stop += 1
    if stop + 1 < end and text[stop] == "." and text[stop + 1].isdigit():
        source.fail(at, stop + 2, "the kernel has no fractions", "count in a smaller unit, such as ns")
    body = text[at:stop]
    digits = body.rstrip("uUlL")
    suffix = body[len(digits) :].lower()
    try:
        octal = len(digits) > 1 and digits[0] == "0" and digits.isdigit()
        value = int(digits, 8) if octal else int(digits, 0)
    except ValueError:
        source.fail(at, stop, f"{body!r} is not a number")
    if value >> 64:
        source.fail(at, stop, f"{body} does not fit in 64 bits")
    return Word(NUMBER, body, at, stop, value, suffix)


def _string(source: Text, at: int, end: int) -> Word:
    """Between quotes of either kind; one character between single quotes is a number, as in C."""
    text, quote, stop, made = source.text, source.text[at], at + 1, ""
    while stop < end and text[stop] != quote:
        if text[stop] == "\\" and stop + 1 < end:
            stop += 1
            if text[stop] == "x" and stop + 2 < end:
                try:
                    made += chr(int(text[stop + 1 : stop + 3], 16))
                except ValueError:
                    source.fail(stop - 1, stop + 3, "\\x is followed by two hexadecimal digits")
                stop += 3
                continue
            made += _ESCAPES.get(text[stop], "\\" + text[stop])
        else:
            made += text[stop]
        stop += 1
    if stop >= end:
        source.fail(at, end, f"the text has no second {quote}")
    if quote == "'" and len(made) == 1:
        return Word(NUMBER, text[at : stop + 1], at, stop + 1, ord(made))
    return Word(STRING, made, at, stop + 1)
