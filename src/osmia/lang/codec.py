# SPDX-License-Identifier: Apache-2.0
"""Python values to bytes of map keys and values, and back."""

from __future__ import annotations

import struct

from osmia.lang.types import Address, Array, Bytes, Event, Field, Int, Layout, Str, is_enum, tuple_layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def text(raw: bytes) -> str:
    """The string in a ``Str``: up to the first NUL; bytes that are no UTF-8 become surrogates (PEP 383)."""
    end = raw.find(0)
    return (raw if end < 0 else raw[:end]).decode("utf-8", "surrogateescape")


def struct_code(kind: Any) -> str:
    """The :mod:`struct` code of one value of ``kind`` (structures and arrays as raw bytes)."""
    if kind is bool:
        return "?"
    if kind is int:
        return "q"
    if isinstance(kind, tuple):
        return f"{tuple_layout(kind).size}s"
    if is_enum(kind):
        return "i"
    if issubclass(kind, Int):
        return str(kind.code)
    if issubclass(kind, Address):
        return "Q"
    if issubclass(kind, (Str, Bytes)):
        return f"{kind.n}s"
    if issubclass(kind, Array):
        return f"{kind.n * struct.calcsize('=' + struct_code(kind.elem))}s"
    if issubclass(kind, Event):
        return f"{kind.layout().size}s"
    raise TypeError(f"{kind!r} cannot be decoded")


def layout_format(fields: list[Field], size: int) -> str:
    """The ``struct`` format of ``fields`` with explicit padding, ``size`` bytes long."""
    out, at = "<", 0
    for field in fields:
        if field.offset > at:
            out += f"{field.offset - at}x"
        out += struct_code(field.type)
        at = field.offset + field.size
    return out + (f"{size - at}x" if size > at else "")


def converter(kind: Any) -> Callable[[Any], Any] | None:
    """What turns the raw unpacked value of ``kind`` into the user's value; None where nothing is to be done."""
    if isinstance(kind, tuple) or (isinstance(kind, type) and issubclass(kind, (Event, Array))):
        return decoder(kind)
    if is_enum(kind):
        return lambda value: _enum(kind, value)
    if isinstance(kind, type) and issubclass(kind, Str):
        return text
    return None


def _enum(kind: Any, value: int) -> Any:
    try:
        return kind(value)
    except ValueError:  # a value that the author's enumeration does not name
        return value


def decoder(kind: Any) -> Callable[[bytes], Any]:
    """A function from the bytes of one ``kind`` to its value."""
    if isinstance(kind, tuple):
        return _fields_decoder(tuple_layout(kind), tuple)
    if isinstance(kind, type) and issubclass(kind, Event):
        layout = kind.layout()
        names = [field.name for field in layout]
        return _fields_decoder(layout, lambda values: kind(**dict(zip(names, values, strict=True))))
    if isinstance(kind, type) and issubclass(kind, Array):
        code = struct.Struct(f"<{kind.n}{struct_code(kind.elem)}" if _scalar(kind.elem) else "<0s")
        if _scalar(kind.elem):
            return lambda raw: list(code.unpack(raw))
        inner = decoder(kind.elem)
        step = struct.calcsize("=" + struct_code(kind.elem))
        return lambda raw: [inner(raw[at : at + step]) for at in range(0, len(raw), step)]
    packed = struct.Struct("<" + struct_code(kind))
    convert = converter(kind)
    if convert is None:
        return lambda raw: packed.unpack(raw)[0]
    return lambda raw: convert(packed.unpack(raw)[0])


def _scalar(kind: Any) -> bool:
    return kind is bool or kind is int or (isinstance(kind, type) and (issubclass(kind, Int)) and not is_enum(kind))


def _fields_decoder(layout: Layout, make: Callable[[Any], Any]) -> Callable[[bytes], Any]:
    packed = struct.Struct(layout_format(layout.fields, layout.size))
    converts = [converter(field.type) for field in layout]
    if not any(converts):
        return lambda raw: make(packed.unpack(raw))
    return lambda raw: make(
        [value if to is None else to(value) for to, value in zip(converts, packed.unpack(raw), strict=True)]
    )


def encode(kind: Any, value: Any) -> bytes:
    """The bytes of ``value`` as a ``kind``; TypeError or ValueError where it does not fit."""
    if isinstance(kind, tuple):
        if not isinstance(value, tuple) or len(value) != len(kind):
            raise TypeError(f"the key is a tuple of {len(kind)} values, not {value!r}")
        return _encode_fields(tuple_layout(kind), list(value))
    if isinstance(kind, type) and issubclass(kind, Event):
        return _encode_fields(kind.layout(), [getattr(value, field.name) for field in kind.layout()])
    if isinstance(kind, type) and issubclass(kind, Array):
        return b"".join(encode(kind.elem, one) for one in value)
    if isinstance(kind, type) and issubclass(kind, Str):
        raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value)
        return raw[: kind.n - 1].ljust(kind.n, b"\0")
    if isinstance(kind, type) and issubclass(kind, Bytes):
        return bytes(value)[: kind.n].ljust(kind.n, b"\0")
    try:
        return struct.pack("<" + struct_code(kind), value)
    except struct.error as err:
        raise ValueError(f"{value!r} does not fit in {getattr(kind, '__name__', kind)}: {err}") from None


def _encode_fields(layout: Layout, values: list[Any]) -> bytes:
    out = bytearray(layout.size)
    for field, value in zip(layout, values, strict=True):
        out[field.offset : field.offset + field.size] = encode(field.type, value)
    return bytes(out)
