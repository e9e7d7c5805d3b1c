# SPDX-License-Identifier: Apache-2.0
"""Look-ups in the table of system call arguments."""

from __future__ import annotations

_rows: dict[str, str] = {}


def _table() -> dict[str, str]:
    if not _rows:
        from osmia.compiler.syscall_args import TABLE

        for row in TABLE.splitlines():
            name, _, args = row.partition(" ")
            _rows[name] = args
    return _rows


def arguments(name: str) -> list[tuple[str, str]] | None:
    """``(name, C type)`` of each argument of the call; None where there is no such call."""
    row = _table().get(name)
    if row is None:
        return None
    return [(part.partition("=")[0], part.partition("=")[2]) for part in row.split(";") if part]


def names() -> list[str]:
    """All calls that the table knows."""
    return list(_table())
