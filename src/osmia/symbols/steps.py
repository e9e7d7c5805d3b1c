# SPDX-License-Identifier: Apache-2.0
"""Which instructions the kernel can step over at a breakpoint in a user program, seen from their first bytes.

A breakpoint replaces an instruction's first byte; the instruction itself is
executed elsewhere.  x86-64 refuses that for some of them (``good_insns_64``
and ``is_prefix_bad`` in ``arch/x86/kernel/uprobes.c``), and one such place
makes it refuse the whole set of a link.  Finding it by trying takes seconds,
looking at the bytes does not.  What passes here may still be refused.
"""

from __future__ import annotations

import os

#: Bytes that have to be looked at: prefixes and the first byte of the operation.
LENGTH = 16
_PREFIXES = frozenset((0x66, 0xF2, 0xF3, 0x64, 0x65))
_BAD_PREFIXES = frozenset((0x26, 0x2E, 0x36, 0x3E, 0xF0))  # es, cs, ss, ds, lock
_REX = range(0x40, 0x50)
#: Vector instructions (VEX, EVEX), input and output, interrupts, and what 64-bit code does not have.
_BAD = frozenset((
    0x06, 0x07, 0x0E, 0x16, 0x17, 0x1E, 0x1F, 0x27, 0x2F, 0x37, 0x3F, 0x60, 0x61, 0x62, 0x6C, 0x6D, 0x6E, 0x6F, 0x82,
    0x9A, 0xC4, 0xC5, 0xCC, 0xCD, 0xCE, 0xCF, 0xD4, 0xD5, 0xD6, 0xE4, 0xE5, 0xE6, 0xE7, 0xEA, 0xEC, 0xED, 0xEE, 0xEF,
    0xF1, 0xF4, 0xFA, 0xFB,
))  # fmt: skip
_HERE = os.uname().machine


def possible(code: bytes, machine: str = _HERE) -> bool:
    """Whether nothing speaks against a breakpoint at ``code``, the first bytes of an instruction."""
    if machine != "x86_64":
        return True
    for at, byte in enumerate(code):
        if byte in _BAD_PREFIXES:
            return False
        if byte in _PREFIXES:
            continue
        if byte in _REX:  # the last of the prefixes
            return at + 1 >= len(code) or code[at + 1] not in _BAD
        return byte not in _BAD
    return True
