# SPDX-License-Identifier: Apache-2.0
"""User half: how the tools show times and refuse options of bcc's that osmia answers otherwise."""

from __future__ import annotations

import time

from osmia.errors import OptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: When the tool began, as a ``ktime()`` in ns; a replay sets it to that of the recording.
STARTED = time.monotonic_ns()
#: Whether events are shown that were recorded: what runs on this machine now has nothing to do with them.
REPLAYED = False


def elapsed(digits: int, *, from_first: bool = False, unit: int = 1_000_000_000) -> Callable[[int], str]:
    """A column's ``show``: the time from the start of the tool, or from the first row, for a ``ktime()`` in ns.

    In seconds, or in units of ``unit`` ns; without ``digits`` a whole number that is not rounded up.
    """
    first = 0

    def show(ktime: int) -> str:
        nonlocal first
        first = first or ktime
        zero = first if from_first else STARTED
        return f"{(ktime - zero) / unit:.{digits}f}" if digits else str((ktime - zero) // unit)

    return show


def clock(ktime: int) -> str:
    """HH:MM:SS, local time, of a ``ktime()`` in ns."""
    wall = time.time() - (time.monotonic_ns() - ktime) / 1e9
    return time.strftime("%H:%M:%S", time.localtime(wall))


def seconds(word: str) -> float:
    """The ``parse`` of a time in seconds, more than 0; ValueError."""
    value = float(word)
    if not 0 < value < 1e9:
        raise ValueError(f"{word} is not a time: more than 0 seconds is needed")
    return value


def ms(ns: int) -> str:
    """A column's ``show``: so many ns in milliseconds."""
    return f"{ns / 1e6:.2f}"


def us(ns: int) -> str:
    """The same in microseconds."""
    return f"{ns / 1e3:.2f}"


def milliseconds(word: str) -> int:
    """The ``parse`` of a time in milliseconds, which is kept in nanoseconds; ValueError."""
    value = float(word)
    if not 0 <= value < 1e9:
        raise ValueError(f"{word} is not a time: 0 milliseconds or more are needed")
    return round(value * 1e6)


def refused(flag: str, instead: str) -> Callable[[str], Any]:
    """The ``parse`` of an option that bcc has and osmia answers otherwise: it says with what."""

    def parse(word: str) -> Any:
        raise OptionError(f"{flag} needs a map that bcc has pinned", fix=instead)

    return parse


def hertz(word: str) -> int:
    """The ``parse`` of an option for a frequency: samples a second; ValueError."""
    if not word.isdecimal() or not 1 <= int(word) <= 10_000:
        raise ValueError(f"{word!r} is not a frequency: 1 to 10000 samples a second")
    return int(word)


def pattern(word: str) -> str:
    """``word``, which is to be a regular expression; ValueError where it is none."""
    import re

    try:
        re.compile(word)
    except re.error as err:
        raise ValueError(f"{word!r} is not a regular expression: {err}") from None
    return word


def whole(word: str) -> int:
    """A whole number from 1; ValueError."""
    if not (word.isascii() and word.isdecimal()) or not int(word):
        raise ValueError(f"{word!r} is not a whole number from 1")
    return int(word)


def microseconds(word: str) -> int:
    """The ``parse`` of an argument that is a number of microseconds, 0 too; ValueError."""
    if not word.isdecimal():
        raise ValueError(f"{word!r} is not a whole number of microseconds")
    return int(word)
