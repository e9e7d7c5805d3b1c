# SPDX-License-Identifier: Apache-2.0
"""Folded stacks: one line a stack, ``comm;frame;frame count``, as flame-graph scripts read them.

The form is that of bcc's ``profile -f`` to the byte, with its two options:
``annotate`` (bcc's ``-a``) marks kernel frames with ``_[k]``, and inlined and
JIT-compiled ones as flame-graph scripts expect, ``delimiter`` (bcc's ``-d``)
puts a frame ``-`` between user and kernel.  :func:`read` understands either.

Two things would break readers of the format and are changed in names: ``;``
becomes ``:``, as stack collapsers have always done, and a last frame that ends
in a blank and a number (``kworker 12``) gets ``_`` for the blank, because
scripts take two numbers at the end of a line for a comparison.
"""

from __future__ import annotations

from osmia.errors import UserError
from osmia.views.frames import INLINED, JIT, KERNEL, OTHER, clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from osmia.views.frames import Frame, Stack

_MARKS = {KERNEL: "_[k]", INLINED: "_[i]", JIT: "_[j]"}
_KINDS = {mark: kind for kind, mark in _MARKS.items()}
_DELIMITERS = ("-", "--")
DELIMITER = "-"


def fold(stack: Stack, count: int, *, annotate: bool = False, delimiter: bool = False) -> str:
    """One line, without its newline.  ``stack`` begins with the frame of the process (``(comm, "")``).

    ``delimiter`` puts ``-`` where user frames are followed by kernel frames;
    a stack of one side only gets none.
    """
    names = []
    user = False
    for name, kind in stack:
        text = clean(name).replace(";", ":")
        if kind == KERNEL:
            if delimiter and user:
                names.append(DELIMITER)
            user = False
        elif kind != OTHER:
            user = True
        names.append(text + _MARKS.get(kind, "") if annotate else text)
    if names:
        names[-1] = _not_a_number(names[-1])
    return f"{';'.join(names)} {count}"


def text(stacks: Iterable[tuple[Stack, int]], *, annotate: bool = False, delimiter: bool = False) -> str:
    """All of ``stacks``, a line each, in the order given."""
    return "".join([fold(stack, count, annotate=annotate, delimiter=delimiter) + "\n" for stack, count in stacks])


def read(lines: Iterable[str], where: str = "folded stacks") -> Iterator[tuple[Stack, int]]:
    """The stacks of folded ``lines`` (a file, or ``text.splitlines()``); empty lines are skipped.

    Marks become kinds again; without marks, what follows a delimiter is
    kernel and all else of no known kind.  ``where`` is the file's name, for
    messages.  Raises :class:`~osmia.errors.UserError` naming the line that
    does not end in a whole number.
    """
    known: dict[str, Frame] = {}
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line:
            continue
        head, _, tail = line.rpartition(" ")
        if not head or not (tail.isascii() and tail.isdigit()):
            raise UserError(
                "a folded stack ends in a blank and a whole number",
                where=f"{where}:{number}",
                fix="write lines such as: comm;main;work 42",
            )
        yield _stack(head.rstrip(), known), int(tail)


def _stack(head: str, known: dict[str, Frame]) -> Stack:
    out = []
    for word in head.split(";"):
        frame = known.get(word)
        if frame is None:
            frame = known[word] = (word, OTHER) if word in _DELIMITERS else _frame(word)
        out.append(frame)
    for mark in _DELIMITERS:
        if (mark, OTHER) in out[1:]:
            at = out.index((mark, OTHER), 1)
            return (*out[:at], *[(name, KERNEL) for name, _ in out[at + 1 :]])
    return tuple(out)


def _frame(word: str) -> Frame:
    kind = _KINDS.get(word[-4:], OTHER)
    name = word[:-4] if kind else word
    return clean(name), kind


def _not_a_number(name: str) -> str:
    """``name`` without a blank before a number at its end."""
    head, blank, tail = name.rpartition(" ")
    digits = tail.replace(".", "", 1)
    if blank and digits.isascii() and digits.isdigit():
        return f"{head}_{tail}"
    return name
