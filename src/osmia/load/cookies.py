# SPDX-License-Identifier: Apache-2.0
"""Attach cookies for kernels that have none.

A program asks with ``bpf_get_attach_cookie()`` (5.15) for the number of the
attachment that made it run.  Where the kernel cannot tell, one copy of the
program is loaded per attachment, with the number in place of the call: both
are one instruction that sets r0.
"""

from __future__ import annotations

import struct

from osmia.obj import consts

_INSN = 8
_CALL = struct.pack("<BBhi", 0x85, 0, 0, consts.BPF_FUNC_get_attach_cookie)


def asked_for(insns: bytes | bytearray) -> bool:
    """Whether the code asks for its cookie."""
    return bool(_places(insns))


def replace(insns: bytearray, number: int) -> None:
    """Make every request for the cookie yield ``number`` (below 2**31)."""
    for at in _places(insns):
        struct.pack_into("<BBhi", insns, at, 0xB7, 0, 0, number)


def _places(insns: bytes | bytearray) -> list[int]:
    out = []
    at = insns.find(_CALL)
    while at >= 0:
        if at % _INSN == 0:
            out.append(at)
        at = insns.find(_CALL, at + 1)
    return out
