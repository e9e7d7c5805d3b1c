# SPDX-License-Identifier: Apache-2.0
"""syscall(2) and the addresses that its arguments need.

``_ctypes``, the C half of :mod:`ctypes`, is used directly: the Python half
costs 3 ms of a warm start's 25 ms and offers nothing that is needed here.
The names used exist unchanged in CPython 3.8 to 3.14.
"""

from __future__ import annotations

import _ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: (bpf, perf_event_open, prctl) per machine; aarch64, riscv64 and loongarch64 share the generic table.
_NUMBERS = {
    "x86_64": (321, 298, 157),
    "s390x": (351, 331, 172),
    "ppc64le": (361, 319, 171),
    "aarch64": (280, 241, 167),
    "riscv64": (280, 241, 167),
    "loongarch64": (280, 241, 167),
}
MACHINE = os.uname().machine
NR_BPF, NR_PERF_EVENT_OPEN, NR_PRCTL = _NUMBERS.get(MACHINE, (0, 0, 0))


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "l"


class _Char(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "c"


class _CharP(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "z"


class _VoidP(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "P"


class _Function(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Long


_dlopen: Any = _ctypes.dlopen  # its type stub lacks None: the process itself
_function: Any = _Function(_ctypes.dlsym(_dlopen(None, 0), "syscall"))
_address_of: Any = _ctypes.addressof
_errno: Any = _ctypes.get_errno
_from_buffer: Any = _Char.from_buffer
_pointer_at: Any = _VoidP.from_buffer


def syscall(number: int, *args: int) -> int:
    """One raw system call: the result, or ``-errno``.  Arguments are C longs (addresses included)."""
    result: int = _function(_Long(number), *[_Long(a) for a in args])
    return -_errno() if result == -1 else result


def address(buffer: bytes | bytearray | memoryview) -> int:
    """Address of a buffer's bytes; 0 for an empty one.

    The caller keeps the buffer alive (and a bytearray unresized) until the
    kernel is done with it.
    """
    if not len(buffer):
        return 0
    if isinstance(buffer, bytes):
        found: int = _pointer_at(_CharP(buffer)).value
    else:
        found = _address_of(_from_buffer(buffer))
    return found
