# SPDX-License-Identifier: Apache-2.0
"""The osmia section: any text survives, one record a line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osmia.obj import meta

RECORDS = st.lists(st.lists(st.text(st.characters()), min_size=1, max_size=5).map(tuple).filter(lambda r: r != ("",)))


def test_layout() -> None:
    assert meta.dump([("print", "1", "a\tb\n"), ("map", "m", "")]) == b"print\t1\ta\\tb\\n\nmap\tm\t\n"
    assert meta.load(b"print\t1\ta\\tb\\n\nmap\tm\t\n") == [("print", "1", "a\tb\n"), ("map", "m", "")]
    assert meta.load(b"") == [] and meta.dump([]) == b""


def test_c_string() -> None:
    assert meta.load(b"a\tb\n\0\0") == [("a", "b")]


AWKWARD = ["\\n", "\\\\n", "\\\n", "\\\t\\t", "\\", "\\\\", "\\0", "\0", "\r", "\x1b[2J", "\udc80"]


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_text(text: str) -> None:
    data = meta.dump([("x", text)])
    assert meta.load(data) == [("x", text)] and data.count(b"\n") == 1 and data.count(b"\t") == 1 and b"\0" not in data


def test_empty_records_are_refused() -> None:
    for record in ((), ("",)):
        with pytest.raises(ValueError, match="a field"):
            meta.dump([record])


@given(RECORDS)
def test_round_trip(records: list[tuple[str, ...]]) -> None:
    records = [tuple(f.encode("utf-8", "replace").decode() for f in r) for r in records]
    data = meta.dump(records)
    assert meta.load(data) == records
    assert data.count(b"\n") == len(records)
