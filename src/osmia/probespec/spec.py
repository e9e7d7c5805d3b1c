# SPDX-License-Identifier: Apache-2.0
"""What a probe specification says, without looking at the machine.

The forms are those of bcc's tools::

    FUNCTION   p:FUNCTION   p::FUNCTION     a function of the kernel
    FILE:FUNCTION           p:FILE:FUNCTION one of a program or library
    r:FUNCTION r::FUNCTION  r:FILE:FUNCTION its return, where a tool can use that
    t:CATEGORY:EVENT                        a tracepoint
    u:FILE:NAME   u:FILE:PROVIDER:NAME      a static probe of a program

Names may be patterns; whether they are the shell's or regular expressions is
the tool's business, so the last part may have any characters, colons too.  A
function may have an offset: ``vfs_read+0x10``.
"""

from __future__ import annotations

from osmia.errors import OptionError

#: Kinds of places: a kernel function, a function of a program, a tracepoint, a static probe of a program.
FUNCTION, USER, TRACEPOINT, STATIC = "kernel function", "user function", "tracepoint", "static probe"
#: The letters that most tools take, and those of tools that look at what functions return, too.
ENTRIES, WITH_RETURNS = "ptu", "prtu"
_FORMS = {
    "p": "p:FUNCTION or p:FILE:FUNCTION, as in p:vfs_read or p:c:malloc",
    "r": "r:FUNCTION or r:FILE:FUNCTION, as in r:vfs_read or r:c:malloc",
    "t": "t:CATEGORY:EVENT, as in t:sched:sched_switch",
    "u": "u:FILE:NAME or u:FILE:PROVIDER:NAME, as in u:python3:gc__start",
}


class Spec:
    """One specification: its ``kind``, ``file`` and ``name``; ``text`` is what was typed.

    ``file`` is a tracepoint's category, and empty for functions of the
    kernel.  ``returns``: it is a function's return that is meant.
    """

    __slots__ = ("file", "kind", "name", "returns", "text")

    def __init__(self, kind: str, file: str, name: str, text: str, returns: bool = False) -> None:
        self.kind = kind
        self.file = file
        self.name = name
        self.text = text
        self.returns = returns

    def __repr__(self) -> str:
        return f"<Spec {'return of ' * self.returns}{self.kind} {self.place}>"

    @property
    def place(self) -> str:
        """``FILE:NAME``, ``CATEGORY:EVENT``, or the name alone."""
        return f"{self.file}:{self.name}" if self.file else self.name

    @property
    def letter(self) -> str:
        """``p``, ``r``, ``t`` or ``u``."""
        if self.kind == TRACEPOINT:
            return "t"
        if self.kind == STATIC:
            return "u"
        return "r" if self.returns else "p"

    @property
    def function(self) -> str:
        """The name without the offset in the function."""
        return self.name.partition("+")[0]

    @property
    def offset(self) -> int:
        """Bytes behind the function's first instruction.  OptionError where that is no number."""
        _, plus, text = self.name.partition("+")
        if not plus:
            return 0
        try:
            return int(text, 0)
        except ValueError:
            raise OptionError(f"{text!r} is not an offset in bytes", where=f"probe {self.text}",
                              fix="write it as in vfs_read+0x10") from None  # fmt: skip

    @property
    def is_pattern(self) -> bool:
        """Whether the name is a shell pattern."""
        return any(c in self.name for c in "*?[")


def parse(text: str, letters: str = ENTRIES) -> Spec:
    """The specification ``text``, of one of the kinds ``letters``.  OptionError names the form that it does not have.

    A kind that is left empty is ``p`` (``::vfs_read``, ``:c:malloc``).
    """
    letter, colon, rest = text.partition(":")
    if not text or text.split() != [text]:
        raise _wrong(text, _FORMS["p"])
    if not colon:
        return Spec(FUNCTION, "", text, text)
    if not letter:
        letter = "p"
    elif letter not in letters or len(letter) > 1:
        if len(letter) == 1 and letter.isalpha() and (":" in rest or letter in _FORMS):
            raise _wrong(text, f"one of the kinds {', '.join(one + ':' for one in letters)}")
        letter, rest = "p", text
    file, colon, name = rest.partition(":")
    if letter in "pr":
        if not colon:
            file, name = "", rest
        kind = USER if file else FUNCTION
    else:
        kind = TRACEPOINT if letter == "t" else STATIC
    if not name or (kind in (TRACEPOINT, STATIC) and not file):
        raise _wrong(text, _FORMS[letter])
    return Spec(kind, file, name, text, letter == "r")


def _wrong(text: str, form: str) -> OptionError:
    return OptionError(f"{text!r} does not say what to trace", where="probe", fix=f"write {form}")
