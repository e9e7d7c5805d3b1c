# SPDX-License-Identifier: Apache-2.0
"""What all pictures of stacks are made from: frames, stacks and counts.

A frame is ``(name, kind)``; a stack is a tuple of frames, root first; a
weighed stack is ``(stack, count)``, where the count may be samples,
nanoseconds or bytes.  Nothing else is asked for, so stacks from the kernel,
from a file of folded stacks and from a test's literals are the same to every
picture and every export.

Names come from the traced world.  :func:`clean` makes them one printable
line before they go anywhere; what a format needs beyond that (``;`` in folded
stacks, ``<`` in SVG) it does itself.
"""

from __future__ import annotations

from osmia.views.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: One frame: its name and one of :data:`KINDS`.
Frame = tuple[str, str]
#: Frames, root first.
Stack = tuple[Frame, ...]

KERNEL, USER, JIT, INLINED, OTHER = "k", "u", "j", "i", ""

#: What the kinds are called where people read them.
KINDS = {
    KERNEL: "kernel",
    USER: "user",
    JIT: "JIT-compiled",
    INLINED: "inlined",
    OTHER: "",
}

#: Name of the frame at the root of stacks that were cut: callers above it are not known.
TRUNCATED = "[truncated]"
#: Name of a frame without one.
UNKNOWN = "[unknown]"


def clean(name: str) -> str:
    """``name`` as one printable line; ``[unknown]`` if there is nothing in it."""
    return escape(name) or UNKNOWN


def cut_stack(stack: Stack, above: int = 1) -> Stack:
    """``stack`` with a ``[truncated]`` frame where its callers are missing: below the ``above`` first frames.

    ``above`` is the number of frames that are no callers but headings, such
    as the name of the process (hence 1).
    """
    return (*stack[:above], (TRUNCATED, OTHER), *stack[above:])


def is_cut(stack: Stack) -> bool:
    """Whether the stack has a ``[truncated]`` frame."""
    return any(name == TRUNCATED for name, _ in stack)


def cut_share(stacks: Iterable[tuple[Stack, int]]) -> tuple[int, int]:
    """``(count of stacks that were cut, count of all)``."""
    cut = total = 0
    for stack, count in stacks:
        total += count
        if is_cut(stack):
            cut += count
    return cut, total


def cut_sentence(cut: int, total: int, unit: str = "samples") -> str:
    """One sentence that says how much of the picture is incomplete; empty if nothing is."""
    if not cut:
        return ""
    percent = f"{100 * cut / total:.1f}"
    if percent == "0.0":
        percent = "less than 0.1"
    return f"{cut:,} of {total:,} {unit} ({percent} %) have stacks that were cut: see {TRUNCATED}"
