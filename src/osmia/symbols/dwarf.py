# SPDX-License-Identifier: Apache-2.0
"""The pieces of DWARF that unwinding needs: numbers, encoded pointers, expressions.

DWARF 5 chapters 2.5 and 7.6; pointer encodings: Linux Standard Base, "DWARF
Exception Header Encoding".  Whatever is read comes from files of others:
IndexError and struct.error say that it ends too early.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ABSENT = 0xFF
_PC_RELATIVE, _DATA_RELATIVE = 0x10, 0x30
_ULEB, _SLEB = 0x01, 0x09
#: Formats of encoded pointers by the low four bits.
_FIXED = {0x00: "<Q", 0x02: "<H", 0x03: "<I", 0x04: "<Q", 0x0A: "<h", 0x0B: "<i", 0x0C: "<q"}
_TOP = (1 << 64) - 1
_DEEPEST = 64  # values on an expression's stack
_LONGEST = 1000  # operations


class Bad(ValueError):
    """Something that is not understood, or that cannot be."""


def uleb(data: memoryview, at: int) -> tuple[int, int]:
    """``(number, where the next thing is)``."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise Bad("a number of too many bytes")


def sleb(data: memoryview, at: int) -> tuple[int, int]:
    """The same for signed numbers."""
    start = at
    value, at = uleb(data, at)
    bits = 7 * (at - start)
    return value - (1 << bits) if data[at - 1] & 0x40 else value, at


def pointer(data: memoryview, at: int, encoding: int, address: int, base: int = 0) -> tuple[int, int]:
    """``(address that is meant, where the next thing is)``.

    ``address`` is where ``data`` begins in memory, ``base`` what
    data-relative ones count from.
    """
    start = address + at
    kind = encoding & 0x0F
    if kind == _ULEB:
        value, at = uleb(data, at)
    elif kind == _SLEB:
        value, at = sleb(data, at)
    elif kind in _FIXED:
        form = _FIXED[kind]
        (value,) = struct.unpack_from(form, data, at)
        at += struct.calcsize(form)
    else:
        raise Bad(f"pointer encoding {encoding:#x}")
    relative = encoding & 0x70
    if relative == _PC_RELATIVE:
        value += start
    elif relative == _DATA_RELATIVE:
        value += base
    elif relative:
        raise Bad(f"pointer encoding {encoding:#x}")
    return value & _TOP, at


def size_of(encoding: int) -> int:
    """Bytes of a pointer of fixed size; 0 for the others."""
    form = _FIXED.get(encoding & 0x0F)
    return struct.calcsize(form) if form else 0


# --- expressions --------------------------------------------------------------------------------------------------

_BINARY: dict[int, Callable[[int, int], int]] = {
    0x1A: lambda a, b: a & b,
    0x1C: lambda a, b: a - b,
    0x1E: lambda a, b: a * b,
    0x21: lambda a, b: a | b,
    0x22: lambda a, b: a + b,
    0x24: lambda a, b: a << b if b < 64 else 0,
    0x25: lambda a, b: a >> b if b < 64 else 0,
    0x27: lambda a, b: a ^ b,
    0x29: lambda a, b: int(_signed(a) == _signed(b)),
    0x2A: lambda a, b: int(_signed(a) >= _signed(b)),
    0x2B: lambda a, b: int(_signed(a) > _signed(b)),
    0x2C: lambda a, b: int(_signed(a) <= _signed(b)),
    0x2D: lambda a, b: int(_signed(a) < _signed(b)),
    0x2E: lambda a, b: int(_signed(a) != _signed(b)),
}
_CONSTANTS = {0x08: "<B", 0x09: "<b", 0x0A: "<H", 0x0B: "<h", 0x0C: "<I", 0x0D: "<i", 0x0E: "<Q", 0x0F: "<q"}
_DEREF, _DEREF_SIZE, _DUP, _DROP, _OVER, _SWAP = 0x06, 0x94, 0x12, 0x13, 0x14, 0x16
_CONST_U, _CONST_S, _PLUS_U, _NOP = 0x10, 0x11, 0x23, 0x96
_LIT, _BREG = 0x30, 0x70


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def evaluate(
    code: bytes, registers: Mapping[int, int], read: Callable[[int], int], start: int | None = None
) -> int:  # fmt: skip
    """The value of an expression.

    ``registers`` is by DWARF number, ``read`` gives the eight bytes at an
    address, ``start`` lies on the stack at first.  Raises Bad for unknown
    operations, KeyError for an unknown register, and whatever ``read``
    raises.
    """
    data, at, steps = memoryview(code), 0, 0
    stack: list[int] = [] if start is None else [start]
    while at < len(data):
        op = data[at]
        at += 1
        steps += 1
        if steps > _LONGEST or len(stack) > _DEEPEST:
            raise Bad("an expression without end")
        if _LIT <= op < _LIT + 32:
            stack.append(op - _LIT)
        elif _BREG <= op < _BREG + 32:
            offset, at = sleb(data, at)
            stack.append(registers[op - _BREG] + offset & _TOP)
        elif op in _CONSTANTS:
            stack.append(struct.unpack_from(_CONSTANTS[op], data, at)[0] & _TOP)
            at += struct.calcsize(_CONSTANTS[op])
        elif op in (_CONST_U, _PLUS_U):
            value, at = uleb(data, at)
            stack.append((value if op == _CONST_U else stack.pop() + value) & _TOP)
        elif op == _CONST_S:
            value, at = sleb(data, at)
            stack.append(value & _TOP)
        elif op in _BINARY:
            right = stack.pop()
            stack.append(_BINARY[op](stack.pop(), right) & _TOP)
        elif op == _DEREF:
            stack.append(read(stack.pop()))
        else:
            at = _shuffle(op, stack, data, at, read)
    return stack[-1]


def _shuffle(op: int, stack: list[int], data: memoryview, at: int, read: Callable[[int], int]) -> int:
    """The rarer operations; where the next one is."""
    if op == _DUP:
        stack.append(stack[-1])
    elif op == _DROP:
        stack.pop()
    elif op == _OVER:
        stack.append(stack[-2])
    elif op == _SWAP:
        stack[-1], stack[-2] = stack[-2], stack[-1]
    elif op == _DEREF_SIZE:
        size = data[at]
        if size not in (1, 2, 4, 8):
            raise Bad(f"a value of {size} bytes")
        stack.append(read(stack.pop()) & ((1 << 8 * size) - 1))
        return at + 1
    elif op != _NOP:
        raise Bad(f"operation {op:#x}")
    return at
