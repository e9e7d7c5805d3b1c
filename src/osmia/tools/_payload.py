# SPDX-License-Identifier: Apache-2.0
"""User half: how bytes that programs exchange are shown, as text or in hexadecimal."""

from __future__ import annotations

from osmia.tools._show import whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Of one message: events are put together in per-CPU memory, of which there is 32768 (PCPU_MIN_UNIT_SIZE).
MOST = 32000
_BYTES_A_LINE = 16


def at_most(word: str) -> int:
    """The ``parse`` of a number of bytes; ValueError."""
    number = whole(word)
    if number > MOST:
        raise ValueError(f"{word} bytes are too many: at most {MOST}")
    return number


def shown(hexdump: Any) -> Callable[[bytes], str]:
    """A column's ``show``: as UTF-8, in which a byte that is not is ``\\xNN``, or in hexadecimal."""
    return lambda raw: raw.hex() if hexdump else raw.decode("utf-8", "backslashreplace")


def exact(raw: bytes) -> str | None:
    """In hexadecimal, where the text does not say exactly what the bytes are; else None."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return raw.hex()
    return None


def lines(raw: bytes, hexdump: bool) -> list[str]:
    """For people; the carriage return before a newline is not shown."""
    if hexdump:
        return [raw[at : at + _BYTES_A_LINE].hex() for at in range(0, len(raw), _BYTES_A_LINE)]
    return [line.expandtabs() for line in raw.decode("utf-8", "surrogateescape").replace("\r\n", "\n").split("\n")]


def block(hexdump: Any) -> Callable[[Any], list[str]]:
    """A column's ``below``, of events with the fields ``size``, ``lost`` and ``_data``; none where nothing was sent."""

    def below(e: Any) -> list[str]:
        if not e.size:
            return []
        end = f" (TRUNCATED, {e.lost} bytes lost)" if e.lost else ""
        return ["----- DATA -----", *lines(e._data, bool(hexdump)), f"----- END DATA{end} -----", ""]

    return below
