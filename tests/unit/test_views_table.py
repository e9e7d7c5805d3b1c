# SPDX-License-Identifier: Apache-2.0
"""Columns and tables: what a line looks like, and that no name can forge one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osmia.errors import InternalError, UserError
from osmia.views.columns import Column
from osmia.views.table import Table

# The machine may be busy, and the first draw of any text builds tables of Unicode.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def opens() -> Table:
    return Table(
        [
            Column("PID", width=7, kind="int"),
            Column("COMM", width=16),
            Column("FD", width=4, align=">", kind="int"),
            Column("ERR", width=3, align=">", kind="int"),
            Column("PATH"),
        ]
    )


def test_header_and_row_stand_where_opensnoop_puts_them() -> None:
    table = opens()
    assert table.header() == "PID     COMM               FD ERR PATH"
    assert table.row((1234, "cat", 3, 0, "/etc/passwd")) == "1234    cat                 3   0 /etc/passwd"
    assert table.fields == ("pid", "comm", "fd", "err", "path")


def test_rows_is_one_line_a_row() -> None:
    table = opens()
    rows = [(1, "a", 3, 0, "/x"), (2, "b", -1, 2, "/y")]
    assert table.rows(rows) == "".join(table.row(row) + "\n" for row in rows)
    assert table.rows(iter(rows)) == table.rows(rows)
    assert table.rows([list(row) for row in rows]) == table.rows(rows)
    assert table.rows([]) == ""
    assert table.rows(rows, escaped=True) == table.rows(rows)


def test_a_list_of_one_value_is_a_row() -> None:
    assert Table([Column("NAME")]).rows([["a"], ["b"]]) == "a\nb\n"
    assert Table([Column("NAME")]).row(["a"]) == "a"


def test_a_long_value_pushes_and_is_not_cut() -> None:
    table = Table([Column("COMM", width=4), Column("N", kind="int", width=2), Column("X")])
    assert table.row(("longername", 12345, "x")) == "longername 12345 x"


@pytest.mark.parametrize(
    ("column", "value", "cell"),
    [
        (Column("V", width=6, kind="int"), -5, "-5    |"),
        (Column("V", width=6, kind="int", align=">"), 2**64 - 1, "18446744073709551615|"),
        (Column("V", width=8, kind="float", align=">"), 1.23456, "   1.235|"),
        (Column("V", width=8, kind="float", precision=1), 1.25, "1.2     |"),
        (Column("V", width=8, kind="hex"), 255, "0xff    |"),
        (Column("V", width=8, kind="hex", align=">"), 255, "    0xff|"),
        (Column("FLAGS", width=8, kind="oct"), 0o2000000, "02000000|"),
        (Column("MODE", width=4, kind="oct"), 0o644, "0644|"),
        (Column("MODE", width=6, kind="oct", precision=4), 0o644, "0644  |"),
        (Column("TIME(s)", width=11, kind="time"), 1.5, "1.500000   |"),
        (Column("V", width=5), None, "-    |"),
        (Column("V", width=5, kind="int", align=">"), None, "    -|"),
        (Column("V", width=5, kind="int"), "?", "?    |"),
        (Column("V", width=5), b"ab\xff", "ab\\xff|"),
        (Column("V", width=5), bytearray(b"ab"), "ab   |"),
        (Column("V", width=5), "None", "None |"),
        (Column("V", width=5), "b'x'", "b'x' |"),
        (Column("V", width=7, format=lambda v: f"<{v}>"), 7, "<7>    |"),
        (Column("V", width=7, kind="int", format=hex), 7, "0x7    |"),
        (Column("V", width=7, format=lambda v: "a\x1b"), 7, "a\\x1b  |"),
    ],
)
def test_kinds(column: Column, value: Any, cell: str) -> None:
    table = Table([column, Column("|")])
    expected = f"{cell[:-1]} |"
    assert table.row((value, "|")) == expected
    assert table.rows([(value, "|")]) == expected + "\n"


def test_last_column_has_no_trailing_blanks_but_keeps_right_alignment() -> None:
    assert Table([Column("A"), Column("B", width=9)]).row(("x", "y")) == "x y"
    right = Table([Column("A"), Column("LAT", width=7, align=">", kind="float", precision=2)])
    assert right.row(("x", 1.5)) == "x    1.50"
    assert right.header() == "A     LAT"


def test_heading_widens_its_column() -> None:
    table = Table([Column("LONGNAME", width=3, kind="int"), Column("X")])
    assert table.header().index("X") == table.row((1, "x")).index("x")


def test_bytes_and_none_in_a_block_of_ordinary_rows() -> None:
    table = opens()
    rows = [(n, "cat", 3, 0, "/x") for n in range(50)]
    rows[20] = (20, b"cat", 3, 0, None)  # type: ignore[assignment]
    lines = table.rows(rows).splitlines()
    assert lines[19:22] == [
        "19      cat                 3   0 /x",
        "20      cat                 3   0 -",
        "21      cat                 3   0 /x",
    ]


def test_field_is_the_heading_unless_given() -> None:
    assert Column("PID").field == "pid"
    assert Column("LAT(ms)", "latency").field == "latency"


def test_unknown_kind_and_alignment_are_refused() -> None:
    with pytest.raises(UserError) as caught:
        Column("PID", kind="number")
    assert str(caught.value) == "column PID: unknown kind 'number'; use one of int, str, float, hex, oct, time"
    with pytest.raises(UserError, match="unknown alignment"):
        Column("PID", align="^")


@pytest.mark.parametrize("row", [(), (1, "a", 3, 0), (1, "a", 3, 0, "x", "y")])
def test_wrong_number_of_values(row: tuple[Any, ...]) -> None:
    with pytest.raises(InternalError, match="5 columns"):
        opens().row(row)
    with pytest.raises(InternalError, match="5 columns"):
        opens().rows([row])


def test_a_name_cannot_forge_a_row_nor_drive_the_terminal() -> None:
    table = opens()
    nasty = (1, "a\x1b[31m", 3, 0, "/x\n666     root                3   0 /etc/shadow")
    fine = (2, "b", 3, 0, "/y")
    text = table.rows([fine, nasty, fine])
    assert text.count("\n") == 3
    assert text.splitlines()[0] == text.splitlines()[2] == table.row(fine)
    assert text.splitlines()[1] == (
        "1       a\\x1b[31m           3   0 /x\\n666     root                3   0 /etc/shadow"
    )


values = st.one_of(st.none(), st.text(st.characters()), st.binary(), st.integers())


@patient
@given(st.lists(st.tuples(st.integers() | st.none(), values, st.floats(allow_nan=False), values), max_size=8))
def test_any_rows_are_safe_and_bulk_equals_single(rows: list[tuple[Any, ...]]) -> None:
    table = Table(
        [Column("N", width=6, kind="int"), Column("A", width=8), Column("F", kind="float"), Column("B", width=3)]
    )
    text = table.rows(rows)
    lines = text.split("\n")
    assert lines.pop() == ""
    assert lines == [table.row(row) for row in rows]
    assert all(line.isprintable() for line in lines)
