# SPDX-License-Identifier: Apache-2.0
"""The ``osmia`` section of an object: what our own user half needs to know beyond the ELF.

Text, so that ``readelf -p osmia`` shows it: one record a line, fields
separated by tabs, with backslash, tab, newline and NUL escaped.  Other
loaders skip the section.
"""

from __future__ import annotations

SECTION = "osmia"


def dump(records: list[tuple[str, ...]]) -> bytes:
    """Records as the section's bytes.  An empty record is refused: it could not be told from a blank line."""
    lines = []
    for record in records:
        line = "\t".join([_escape(field) for field in record])
        if not line:
            raise ValueError("a record needs a field that is not empty")
        lines.append(line + "\n")
    return "".join(lines).encode("utf-8", "surrogateescape")


def load(data: bytes) -> list[tuple[str, ...]]:
    """The records of the section; trailing NULs (a C compiler's, an assembler's) are ignored."""
    text = bytes(data).rstrip(b"\0").decode("utf-8", "surrogateescape")
    out = []
    for line in text.split("\n"):
        if line:
            fields = line.split("\t")
            out.append(tuple([_unescape(f) for f in fields] if "\\" in line else fields))
    return out


def _escape(field: str) -> str:
    return field.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\0", "\\0")


def _unescape(field: str) -> str:
    if "\\" not in field:
        return field
    # Split at escaped backslashes first, so that each part's escapes are unambiguous.
    parts = field.split("\\\\")
    return "\\".join([p.replace("\\t", "\t").replace("\\n", "\n").replace("\\0", "\0") for p in parts])
