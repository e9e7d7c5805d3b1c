# SPDX-License-Identifier: Apache-2.0
"""Stacks and records as Parquet files, for pandas, DuckDB, Spark and their like.

Written by pyarrow, an optional extra (``pip install 'osmia[parquet]'``); where
it is missing, one sentence says so.  Everything else in osmia works without.
"""

from __future__ import annotations

from osmia.errors import NotSupported
from osmia.views.frames import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from osmia.views.frames import Stack


def stacks_file(stacks: Iterable[tuple[Stack, int]], *, unit: str = "samples", name: str = "") -> bytes:
    """A file with a row for each stack: ``frames`` and ``kinds`` (lists, root first) and ``count``.

    The file's metadata says what is counted (``osmia.unit``) and by whom
    (``osmia.name``).  Raises :class:`~osmia.errors.NotSupported` without
    pyarrow.
    """
    arrow, _ = _pyarrow()
    frames, kinds, counts = [], [], []
    for stack, count in stacks:
        frames.append([clean(frame) for frame, _ in stack])
        kinds.append([kind for _, kind in stack])
        counts.append(count)
    texts = arrow.list_(arrow.string())
    columns = {
        "frames": arrow.array(frames, texts), "kinds": arrow.array(kinds, texts), "count": _column(arrow, counts),
    }  # fmt: skip
    return _file(columns, {"osmia.unit": unit, "osmia.name": name})


def records_file(records: Iterable[Mapping[str, Any]], *, name: str = "") -> bytes:
    """A file with a row for each record, such as those that ``--json`` prints.

    The columns are the fields in the order they are first seen; a field that
    a record lacks is null.  Integers keep all of their 64 bits.  A field
    whose values are of different types becomes text.  Raises
    :class:`~osmia.errors.NotSupported` without pyarrow.
    """
    arrow, _ = _pyarrow()
    rows = list(records)
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    columns = {clean(field): _column(arrow, [_plain(row.get(field)) for row in rows]) for field in names}
    return _file(columns, {"osmia.name": name})


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise NotSupported(
            "Parquet files need the Python package pyarrow", fix="install it: pip install 'osmia[parquet]'"
        ) from None
    return pyarrow, pyarrow.parquet


def _column(arrow: Any, values: list[Any]) -> Any:
    """An array of the narrowest type that holds all of ``values`` unchanged."""
    there = [value for value in values if value is not None]
    if there and all(isinstance(value, int) and not isinstance(value, bool) for value in there):
        low, high = min(there), max(there)
        if low >= -(1 << 63) and high < 1 << 63:
            return arrow.array(values, arrow.int64())
        if low >= 0 and high < 1 << 64:
            return arrow.array(values, arrow.uint64())
        return arrow.array([None if value is None else str(value) for value in values], arrow.string())
    try:
        return arrow.array(values)
    except (arrow.ArrowInvalid, arrow.ArrowTypeError, OverflowError):
        return arrow.array([None if value is None else str(value) for value in values], arrow.string())


def _plain(value: Any) -> Any:
    """What pyarrow takes: text without unpaired surrogates, lists for tuples."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return value


def _file(columns: Mapping[str, Any], notes: Mapping[str, str]) -> bytes:
    import io

    arrow, parquet = _pyarrow()
    table = arrow.table(dict(columns)).replace_schema_metadata({key: _plain(text) for key, text in notes.items()})
    out = io.BytesIO()
    parquet.write_table(table, out, compression="zstd")
    return out.getvalue()
