# SPDX-License-Identifier: Apache-2.0
"""Kernel half of biosnoop's ``-P``: whether a request begins where the one before it on its disk ended."""

from __future__ import annotations

from osmia.lang.drift import request_disk
from osmia.lang.maps import Hash
from osmia.lang.options import option
from osmia.lang.types import u32, u64

UNKNOWN, SEQUENTIAL, RANDOM = 0, 1, 2
PATTERNS = "?SR"  # how they are shown

pattern = option("-P", "--pattern", help="show whether a request begins where the one before ended (S) or not (R)")
ends = Hash[u32, u64](1024)  # disk -> the sector after the last request that is done


def pattern_of(rq, one):
    """How the request lies to the one that was done before it on its disk."""
    if not pattern or not one.bytes:
        return UNKNOWN
    number = request_disk(rq)
    before = ends.get(number, 0)
    ends[number] = one.sector + one.bytes // 512
    if not before:
        return UNKNOWN
    return SEQUENTIAL if before == one.sector else RANDOM
