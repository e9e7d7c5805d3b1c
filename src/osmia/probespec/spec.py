# SPDX-License-Identifier: Apache-2.0
"""What a probe specification says, without looking at the machine.

The forms are those of bcc's tools::

    FUNCTION   p:FUNCTION   p::FUNCTION     a function of the kernel
    FILE:FUNCTION           p:FILE:FUNCTION one of a program or library
    t:CATEGORY:EVENT                        a tracepoint
    u:FILE:NAME   u:FILE:PROVIDER:NAME      a static probe of a program

Names may be patterns; whether they are the shell's or regular expressions is
the tool's business, so the last part may have any characters, colons too.
"""

from __future__ import annotations

from osmia.errors import OptionError

#: Kinds of places: a kernel function, a function of a program, a tracepoint, a static probe of a program.
FUNCTION, USER, TRACEPOINT, STATIC = "kernel function", "user function", "tracepoint", "static probe"
_LETTERS = ("p", "t", "u")
_FORMS = {
    "p": "p:FUNCTION or p:FILE:FUNCTION, as in p:vfs_read or p:c:malloc",
    "t": "t:CATEGORY:EVENT, as in t:sched:sched_switch",
    "u": "u:FILE:NAME or u:FILE:PROVIDER:NAME, as in u:python3:gc__start",
}


class Spec:
    """One specification: its ``kind``, ``file`` and ``name``; ``text`` is what was typed.

    ``file`` is a tracepoint's category, and empty for functions of the kernel.
    """

    __slots__ = ("file", "kind", "name", "text")

    def __init__(self, kind: str, file: str, name: str, text: str) -> None:
        self.kind = kind
        self.file = file
        self.name = name
        self.text = text

    def __repr__(self) -> str:
        return f"<Spec {self.kind} {self.place}>"

    @property
    def place(self) -> str:
        """``FILE:NAME``, ``CATEGORY:EVENT``, or the name alone."""
        return f"{self.file}:{self.name}" if self.file else self.name


def parse(text: str) -> Spec:
    """The specification ``text``.  OptionError names the form that it does not have."""
    letter, colon, rest = text.partition(":")
    if not text or text.split() != [text]:
        raise _wrong(text, _FORMS["p"])
    if not colon:
        return Spec(FUNCTION, "", text, text)
    if letter not in _LETTERS:
        if len(letter) == 1 and letter.isalpha() and ":" in rest:
            raise _wrong(text, f"one of the kinds {', '.join(one + ':' for one in _LETTERS)}")
        letter, rest = "p", text
    file, colon, name = rest.partition(":")
    if letter == "p":
        if not colon:
            file, name = "", rest
        kind = USER if file else FUNCTION
    else:
        kind = TRACEPOINT if letter == "t" else STATIC
    if not name or (kind in (TRACEPOINT, STATIC) and not file):
        raise _wrong(text, _FORMS[letter])
    return Spec(kind, file, name, text)


def _wrong(text: str, form: str) -> OptionError:
    return OptionError(f"{text!r} does not say what to trace", where="probe", fix=f"write {form}")
