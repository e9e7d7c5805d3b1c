# SPDX-License-Identifier: Apache-2.0
"""Histograms: bcc's layouts to the character, exact merging and subtraction, percentiles with their error."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osmia.errors import InternalError, UserError
from osmia.views.hist import Histogram, loglin_bounds, loglin_slot, print_keyed, print_linear, print_log2, stars

# The machine may be busy, and the first draw of any text builds tables of Unicode.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def block(text: str) -> str:
    """A golden text as it stands in this file, without the first line break."""
    return text.lstrip("\n")


NARROW = block("""
     usecs               : count     distribution
         0 -> 1          : 5        |*****                                   |
         2 -> 3          : 0        |                                        |
         4 -> 7          : 10       |**********                              |
         8 -> 15         : 40       |****************************************|
        16 -> 31         : 3        |***                                     |
""")

WIDE = block("""
               nsecs                         : count     distribution
                   0 -> 1                    : 0        |                    |
                   2 -> 3                    : 2        |**                  |
""") + "".join(
    f"{2 ** (slot - 1):>20} -> {2**slot - 1:<20} : 0        |                    |\n" for slot in range(3, 33)
) + "          4294967296 -> 8589934591           : 20       |********************|\n"  # fmt: skip

BCC_LINEAR = block("""
     fd            : count     distribution
        0          : 1        |*************                           |
        1          : 0        |                                        |
        2          : 3        |****************************************|
""")

RANGES = block("""
     ms                  : count     distribution
            < 100        : 1        |**********                              |
       100 -> 109        : 0        |                                        |
       110 -> 119        : 4        |****************************************|
       120 -> 129        : 0        |                                        |
           >= 130        : 2        |********************                    |
""")

LOGLIN = block("""
     usecs               : count     distribution
         0 -> 4          : 0        |                                        |
         5 -> 5          : 2        |****************************************|
         6 -> 6          : 0        |                                        |
         7 -> 7          : 1        |********************                    |
         8 -> 95         : 0        |                                        |
        96 -> 103        : 1        |********************                    |
count 4  sum 117  min 5  max 100  p50 5  p90 100  p99 100  p99.9 100  (percentiles at most 12.5 % high)
""")


def test_log2_narrow() -> None:
    assert print_log2([0, 5, 0, 10, 40, 3, 0, 0], "usecs") == NARROW
    assert Histogram("log2", [0, 5, 0, 10, 40, 3]).text("usecs") == NARROW


def test_log2_wide() -> None:
    counts = [0] * 65
    counts[2], counts[33] = 2, 20
    assert print_log2(counts, "nsecs") == WIDE
    assert Histogram("log2", counts).text("nsecs") == WIDE


def test_log2_last_narrow_row_is_slot_32() -> None:
    text = print_log2([0] * 32 + [1], "x")
    assert text.splitlines()[-1] == f"2147483648 -> 4294967295 : 1        |{'*' * 40}|"


def test_log2_without_leading_zeros() -> None:
    lines = print_log2([0, 0, 0, 4, 0, 2], "x", strip_leading=True).splitlines()
    assert [line.split(" : ")[0].split() for line in lines[1:]] == [
        ["4", "->", "7"], ["8", "->", "15"], ["16", "->", "31"],
    ]  # fmt: skip
    assert Histogram("log2", [0, 0, 0, 4, 0, 2]).text("x", strip_leading=True).splitlines() == lines


def test_nothing_counted_prints_nothing() -> None:
    assert print_log2([0] * 65, "x") == ""
    assert print_log2([7], "x") == ""  # slot 0 is not a bucket
    assert print_linear([0, 0], "x") == ""
    for hist in (Histogram("log2"), Histogram("loglin"), Histogram("linear", slots=3)):
        assert hist.text("x") == ""
        assert hist.rows() == []
        assert hist.summary() == "count 0  sum 0"


def reference_log2(counts: list[int], unit: str, strip: bool) -> list[str]:
    """bcc's rules once more, in floating point and one star at a time."""
    last = max((i for i, n in enumerate(counts) if n > 0), default=-1)
    top = max(counts)
    head, body, width = ("     %-19s : count     distribution", "%10d -> %-10d : %-8d |%-*s|", 40)
    if last > 32:
        head, body, width = ("               %-29s : count     distribution", "%20d -> %-20d : %-8d |%-*s|", 20)
    lines = [head % unit] if last > 0 else []
    for i in range(1, last + 1):
        strip = strip and not counts[i]
        if strip:
            continue
        bar = ""
        while len(bar) <= width * counts[i] / top - 1 and len(bar) <= width - 1:
            bar += "*"
        low = 0 if i == 1 else 2 ** (i - 1)
        lines.append(body % (low, 2**i - 1, counts[i], width, bar))
    return lines


@pytest.mark.feature("B6 histograms printed: power-of-two")
@patient
@given(st.lists(st.integers(0, 10**7) | st.just(0), min_size=1, max_size=64), st.booleans())
def test_log2_is_bcc_s(counts: list[int], strip: bool) -> None:
    counts = [0, *counts]
    assert print_log2(counts, "usecs", strip_leading=strip).splitlines() == reference_log2(counts, "usecs", strip)


@pytest.mark.feature("B6 histograms printed: linear")
def test_linear_is_bcc_s() -> None:
    assert print_linear([1, 0, 3, 0], "fd") == BCC_LINEAR
    assert Histogram("linear", {1: 1, 3: 3}, slots=5).text("fd") == BCC_LINEAR


def test_linear_ranges_with_underflow_and_overflow() -> None:
    hist = Histogram("linear", {0: 1, 2: 4, 4: 2}, low=100, step=10, slots=3)
    assert hist.text("ms") == RANGES
    assert hist.rows() == [(None, 99, 1), (100, 109, 0), (110, 119, 4), (120, 129, 0), (130, None, 2)]


def test_linear_singles_with_underflow_and_overflow() -> None:
    text = Histogram("linear", {0: 1, 1: 2, 3: 4}, low=5, slots=2).text("n")
    assert [line[:19].strip() for line in text.splitlines()[1:]] == ["< 5", "5", "6", ">= 7"]


def test_loglin_merges_empty_runs_and_sums_up() -> None:
    hist = Histogram("loglin")
    for value in (5, 5, 7, 100):
        hist.add(value)
    assert hist.text("usecs") == LOGLIN
    assert hist.text("usecs", summary=False) == LOGLIN[: LOGLIN.index("count 4")]
    stripped = hist.text("usecs", strip_leading=True, summary=False).splitlines()
    assert stripped[1].split()[:3] == ["5", "->", "5"]


def test_loglin_turns_wide_for_large_values() -> None:
    hist = Histogram("loglin")
    hist.add(2**40)
    lines = hist.text("nsecs", summary=False).splitlines()
    assert lines[0] == "               nsecs                         : count     distribution"
    assert lines[1] == "                   0 -> 1099511627775        : 0        |                    |"
    assert lines[2] == "       1099511627776 -> 1236950581247        : 1        |********************|"


@pytest.mark.parametrize(
    ("value", "top", "bar"),
    [(0, 10, ""), (10, 10, "*" * 10), (5, 10, "*" * 5), (9, 100, ""), (10, 100, "*"), (19, 100, "*"),
     (11, 10, "*" * 9 + "+"), (1000, 10, "*" * 9 + "+"), (0, 0, "")],
)  # fmt: skip
def test_stars(value: int, top: int, bar: str) -> None:
    assert stars(value, top, 10) == bar


values = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 300), max_size=30)
shapes: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({"kind": "log2"}),
    st.integers(0, 6).map(lambda bits: {"kind": "loglin", "bits": bits}),
    st.tuples(st.integers(0, 50), st.integers(1, 9), st.integers(1, 20)).map(
        lambda p: {"kind": "linear", "low": p[0], "step": p[1], "slots": p[2]}
    ),
)


def filled(shape: dict[str, Any], numbers: list[int]) -> Histogram:
    hist = Histogram(**shape)
    for number in numbers:
        hist.add(number)
    return hist


@patient
@given(shapes, values, values)
def test_merge_is_counting_both(shape: dict[str, Any], one: list[int], two: list[int]) -> None:
    a, b = filled(shape, one), filled(shape, two)
    assert a.merge(b) == b.merge(a) == filled(shape, one + two)
    assert a == filled(shape, one)  # a new value: neither operand has changed
    a.merge(b).add(1)
    assert a == filled(shape, one)
    assert b == filled(shape, two)


@patient
@given(shapes, values, values)
def test_minus_gives_the_interval_back(shape: dict[str, Any], before: list[int], during: list[int]) -> None:
    interval = filled(shape, before + during).minus(filled(shape, before))
    expected = filled(shape, during)
    assert (interval.counts, interval.count, interval.sum) == (expected.counts, expected.count, expected.sum)
    assert interval.min in (None, expected.min)
    assert interval.max in (None, expected.max)
    if during and (not before or max(during) > max(before)):
        assert interval.max == max(during)
    if during and (not before or min(during) < min(before)):
        assert interval.min == min(during)


@patient
@given(shapes, values)
def test_facts_and_rows(shape: dict[str, Any], numbers: list[int]) -> None:
    hist = filled(shape, numbers)
    assert hist.count == len(numbers) == sum(count for _, _, count in hist.rows())
    assert hist.sum == sum(numbers)
    assert (hist.min, hist.max) == ((min(numbers), max(numbers)) if numbers else (None, None))
    rows = hist.rows()
    for (_, high, _), (low, _, _) in pairwise(rows):
        assert high is not None
        assert low == high + 1  # no gap, no overlap
    for low, high, count in rows:
        assert count == sum((low is None or low <= n) and (high is None or n <= high) for n in numbers)


@patient
@given(shapes, st.lists(st.integers(0, 10**6), min_size=1), st.sampled_from([0, 50, 90, 99, 99.9, 100]))
def test_percentile_is_an_upper_bound_in_the_right_bucket(shape: dict[str, Any], numbers: list[int], q: float) -> None:
    hist = filled(shape, numbers)
    found = hist.percentile(q)
    true = sorted(numbers)[max(-(-int(q * 10) * len(numbers) // 1000), 1) - 1]
    assert found is not None
    assert true <= found <= max(numbers)
    assert hist.slot(found) == hist.slot(true)


def test_the_error_stated_is_the_width_of_a_bucket() -> None:
    assert Histogram("loglin").error() == "12.5 %"
    assert Histogram("loglin", bits=7).error() == "0.78125 %"
    assert Histogram("log2").error() == "100 %"
    assert Histogram("linear", step=10, slots=2).error() == "9"
    assert Histogram("linear", slots=2).error() == ""


def test_summary_without_known_extremes_states_bounds() -> None:
    hist = Histogram("loglin", {loglin_slot(100): 3, loglin_slot(1000): 1})
    low, high = loglin_bounds(loglin_slot(100))[0], loglin_bounds(loglin_slot(1000))[1]
    assert hist.summary() == (
        f"count 4  min >={low}  max <={high}  p50 103  p90 {high}  p99 {high}  p99.9 {high}"
        "  (percentiles at most 12.5 % high)"
    )
    over = Histogram("linear", {3: 1}, step=10, slots=2)
    assert over.percentile(50) is None
    assert over.summary() == "count 1  min >=20  p50 >=20  p90 >=20  p99 >=20  p99.9 >=20  (percentiles at most 9 high)"


def test_json_has_the_buckets_and_the_facts() -> None:
    hist = Histogram("loglin", bits=2)
    for value in (1, 9, 9):
        hist.add(value)
    assert json.loads(json.dumps(hist.to_json())) == {
        "kind": "loglin", "bits": 2, "count": 3, "sum": 19, "min": 1, "max": 9,
        "percentiles": {"p50": 9, "p90": 9, "p99": 9, "p99.9": 9},
        "buckets": [{"low": 1, "high": 1, "count": 1}, {"low": 8, "high": 9, "count": 2}],
    }  # fmt: skip


def test_negative_values_are_never_bucketed() -> None:
    for kind in ("log2", "loglin"):
        with pytest.raises(ValueError, match="not an unsigned"):
            Histogram(kind).add(-1)


def test_shapes_that_cannot_be() -> None:
    with pytest.raises(UserError, match="unknown kind"):
        Histogram("log10")
    with pytest.raises(UserError, match="at least one bucket"):
        Histogram("linear")
    with pytest.raises(UserError, match="sub-bucket bits"):
        Histogram("loglin", bits=17)
    with pytest.raises(InternalError, match="slot 65"):
        Histogram("log2", {65: 1})
    with pytest.raises(InternalError, match="slot 0"):
        Histogram("log2", [1])
    with pytest.raises(UserError, match="do not fit; record both"):
        Histogram("loglin").merge(Histogram("loglin", bits=4))
    with pytest.raises(UserError, match="do not fit"):
        Histogram("log2").minus(Histogram("loglin"))
    with pytest.raises(InternalError, match="-1 values"):
        Histogram("log2", [0, 1]).minus(Histogram("log2", [0, 2]))


@pytest.mark.feature("B6 histograms printed: by key")
def test_keyed_histograms_in_sections() -> None:
    one = Histogram("log2", [0, 1])
    hists = {b"sdb": one, b"sda\x1b": one}
    body = one.text("usecs")
    assert print_keyed(hists, "usecs", "disk") == f"\ndisk = sda\\x1b\n{body}\ndisk = sdb\n{body}"
    assert print_keyed(hists, "usecs", "disk", sort=list) == f"\ndisk = sdb\n{body}\ndisk = sda\\x1b\n{body}"
    by_name = print_keyed({10: one, 9: one}, "usecs", "pid", lambda pid: f"pid {pid}\n", sort=lambda k: sorted(k)[::-1])
    assert by_name == f"\npid = pid 10\\n\n{body}\npid = pid 9\\n\n{body}"
    assert print_keyed({2: one, "1": one}, "usecs", "k") == f"\nk = 2\n{body}\nk = 1\n{body}"
    late = Histogram("log2", [0, 0, 3])
    assert "0 -> 1" not in print_keyed({1: late}, "usecs", "k", strip_leading=True)
