# SPDX-License-Identifier: Apache-2.0
"""Machine output: valid whatever the names hold, one record a line, integers exact."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osmia.views.hist import Histogram
from osmia.views.machine import csv_header, csv_row, json_line

# The machine may be busy, and the first draw of any text builds tables of Unicode.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(st.characters()), st.binary()
)
records = st.dictionaries(
    st.text(st.characters()) | st.binary(),
    st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)),
    max_size=5,
)


def strict(line: str) -> Any:
    """Read JSON as a strict reader does: no NaN, no unpaired surrogate anywhere."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    value = json.loads(line, parse_constant=refuse)
    json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


@patient
@given(records)
def test_json_is_valid_for_anything(record: dict[Any, Any]) -> None:
    line = json_line(record)
    assert line.isascii()
    assert line.isprintable()
    strict(line)


@patient
@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text(), max_size=5))
def test_json_keeps_what_json_can_hold(record: dict[str, Any]) -> None:
    assert strict(json_line(record)) == record


@pytest.mark.parametrize(
    ("record", "line"),
    [
        ({"pid": 1, "comm": "cat"}, '{"pid":1,"comm":"cat"}'),
        ({"v": 2**64 - 1, "w": -(2**63)}, '{"v":18446744073709551615,"w":-9223372036854775808}'),
        ({"b": b"ab\xff", "ok": "größe".encode()}, '{"b":"ab\\\\xff","ok":"gr\\u00f6\\u00dfe"}'),
        ({"s": "x\udcff"}, '{"s":"x\\\\xff"}'),
        ({"s": "\ud83d\ude00"}, '{"s":"\\\\ud83d\\\\ude00"}'),  # two lone halves, not an emoji
        ({"s": "\U0001f600"}, '{"s":"\\ud83d\\ude00"}'),
        ({"s": "\x1b[m\x9b\x7f\u202e"}, '{"s":"\\u001b[m\\u009b\\u007f\\u202e"}'),
        ({"f": math.nan, "g": -math.inf, "h": 1.5}, '{"f":null,"g":null,"h":1.5}'),
        ({b"k\xff": 1, (1, b"a"): 2, None: 3, True: 4}, '{"k\\\\xff":1,"1,a":2,"null":3,"true":4}'),
        ({"t": (1, 2), "s": {3}}, '{"t":[1,2],"s":[3]}'),
        ({}, "{}"),
    ],
)
def test_json_examples(record: dict[Any, Any], line: str) -> None:
    assert json_line(record) == line


def test_json_takes_histograms_also_beside_odd_values() -> None:
    hist = Histogram("log2")
    hist.add(5)
    for record in ({"h": hist}, {"h": hist, "x": math.nan}):
        assert strict(json_line(record))["h"]["buckets"] == [{"low": 4, "high": 7, "count": 1}]


def test_json_refuses_what_it_cannot_write() -> None:
    with pytest.raises(TypeError, match="type object"):
        json_line({"x": object()})


@patient
@given(st.lists(scalars, min_size=1))
def test_csv_is_one_line_and_reads_back(values: list[Any]) -> None:
    line = csv_row(values)
    line.encode("utf-8")
    assert "\n" not in line
    assert "\r" not in line
    (back,) = csv.reader(io.StringIO(line))
    assert len(back) == len(values)
    for value, field in zip(values, back, strict=True):
        if value is None:
            assert field == ""
        elif isinstance(value, int) and not isinstance(value, bool):
            assert int(field) == value
        elif isinstance(value, str) and value.isprintable():
            assert field == value


def test_csv_examples() -> None:
    assert csv_header(["pid", "comm", "path"]) == "pid,comm,path"
    assert csv_row([1, 'a"b', "x,y", None, True, 1.5]) == '1,"a""b","x,y",,true,1.5'
    assert csv_row([b"a\xff", "n\nl", 2**64 - 1]) == "a\\xff,n\\nl,18446744073709551615"
