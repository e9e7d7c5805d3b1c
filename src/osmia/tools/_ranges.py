# SPDX-License-Identifier: Apache-2.0
"""Options that take a port or a range of ports: one number, the lower end from bit 16 up; 0 is no limit."""

from __future__ import annotations

from osmia.tools._tcp import port


def ports(word: str) -> int:
    """The ``parse``: 80, or 3000-3006."""
    first, dash, last = word.partition("-")
    low, high = sorted((port(first), port(last if dash else first)))
    return low << 16 | high


def within(number, limits):
    return not limits or limits >> 16 <= number <= limits & 0xFFFF
