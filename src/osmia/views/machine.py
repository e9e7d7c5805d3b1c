# SPDX-License-Identifier: Apache-2.0
"""Records for machines: JSON lines and CSV.

Both are pure ASCII or valid UTF-8 whatever the traced world put into its
names, hold one record a line, and are safe to look at in a terminal.  Integers
stay integers: 64-bit values are written as numbers, digit for digit.  Bytes
that are not UTF-8 appear as ``\\xNN``, since neither format can hold them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

_encode: Callable[[Any], str] | None = None
_csv_line: Callable[[Iterable[Any]], Any] | None = None


def json_line(obj: Mapping[str, Any]) -> str:
    """``obj`` as one line of JSON, ASCII only and without the newline.

    Beyond what JSON knows, it takes bytes (read as UTF-8), tuples, sets,
    keys that are bytes or tuples, and objects with a ``to_json`` method.  A
    float that is not finite becomes ``null``.  Raises :class:`TypeError` for
    any other object: that is a mistake of the tool, not of its user.
    """
    global _encode
    if _encode is None:
        import json

        _encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_default).encode
    try:
        line = _encode(obj)
    except (TypeError, ValueError):  # a key that is no text, a NaN
        return _encode(_valid(obj))
    # An unpaired surrogate would be written as \udcNN, which strict readers
    # refuse.  A pair (any emoji) looks similar and only costs a second pass.
    return _encode(_valid(obj)) if "\\ud" in line else line


def csv_header(names: Iterable[str]) -> str:
    """The first line of a CSV file (RFC 4180, but without its line end)."""
    return csv_row(names)


def csv_row(values: Iterable[Any]) -> str:
    """One record, without the newline.

    None is an empty field, booleans are ``true`` and ``false``, control
    characters in text appear as escapes (so that one record is one line).
    """
    global _csv_line
    if _csv_line is None:
        import csv

        _csv_line = csv.writer(_Echo(), lineterminator="").writerow
    line: str = _csv_line([_field(value) for value in values])
    return line


class _Echo:
    """A "file" for csv: ``writerow`` returns what ``write`` does, which is the line."""

    __slots__ = ()

    def write(self, text: str) -> str:
        return text


def _field(value: Any) -> Any:
    from osmia.views.escape import escape, escape_bytes

    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return escape_bytes(bytes(value))
    return escape(str(value))


def _default(value: Any) -> Any:
    """What to write for an object that JSON does not know."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    to_json = getattr(value, "to_json", None)
    if to_json is None:
        raise TypeError(f"a value of type {type(value).__name__} cannot be written as JSON")
    return to_json()


def _text(text: str) -> str:
    """``text`` without unpaired surrogates (each code point of a str stands alone)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        from osmia.views.escape import escape

        return "".join([escape(char) if "\ud800" <= char <= "\udfff" else char for char in text])
    return text


def _key(key: Any) -> str:
    if isinstance(key, str):
        return _text(key)
    if isinstance(key, bytes):
        return key.decode("utf-8", "backslashreplace")
    if isinstance(key, tuple):
        return ",".join([_key(part) for part in key])
    if isinstance(key, bool) or key is None:
        return {None: "null", True: "true", False: "false"}[key]
    return _text(str(key))


def _valid(value: Any) -> Any:
    """A copy of ``value`` that every JSON reader accepts."""
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, int):  # bool is an int
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None  # inf - inf and nan - nan are nan
    if isinstance(value, dict):
        return {_key(key): _valid(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_valid(item) for item in value]
    return _valid(_default(value))
