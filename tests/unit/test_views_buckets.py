# SPDX-License-Identifier: Apache-2.0
"""Bucket arithmetic against plain Python: every value in exactly one bucket, and in the right one."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osmia.errors import UserError
from osmia.views.buckets import (
    LOG2_SLOTS,
    linear_bounds,
    linear_slot,
    log2_bounds,
    log2_slot,
    loglin_bounds,
    loglin_slot,
    loglin_slots,
    percentile,
    rank_of,
)

# The machine may be busy.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Powers of two and their neighbours are where a bucket function goes wrong.
edges = st.builds(lambda e, d: min(max((1 << e) + d, 0), 2**64 - 1), st.integers(0, 64), st.integers(-2, 2))
u64 = st.integers(0, 2**64 - 1) | st.integers(0, 5000) | edges
bit_counts = st.integers(0, 8)


@patient
@given(u64)
def test_log2_slot_is_found_by_halving(value: int) -> None:
    slot, rest = 1, value
    while rest > 1:
        rest //= 2
        slot += 1
    assert log2_slot(value) == slot
    low, high = log2_bounds(slot)
    assert low <= value <= high


def test_log2_slots_follow_each_other() -> None:
    assert [log2_slot(v) for v in (0, 1, 2, 3, 4, 7, 8, 2**63, 2**64 - 1)] == [1, 1, 2, 2, 3, 3, 4, 64, 64]
    assert log2_bounds(1) == (0, 1)
    assert log2_bounds(64) == (2**63, 2**64 - 1)
    for slot in range(1, LOG2_SLOTS - 1):
        assert log2_bounds(slot)[1] + 1 == log2_bounds(slot + 1)[0]


@patient
@given(u64, bit_counts)
def test_loglin_slot_holds_its_value_and_is_narrow(value: int, bits: int) -> None:
    slot = loglin_slot(value, bits)
    assert 0 <= slot < loglin_slots(bits)
    low, high = loglin_bounds(slot, bits)
    assert low <= value <= high
    assert (high - low + 1) << bits <= max(low, 1 << bits)


@pytest.mark.parametrize("bits", range(9))
def test_loglin_slots_cover_all_values_without_gap(bits: int) -> None:
    following = 0
    for slot in range(loglin_slots(bits)):
        low, high = loglin_bounds(slot, bits)
        assert low == following
        assert loglin_slot(low, bits) == loglin_slot(high, bits) == slot
        following = high + 1
    assert following == 2**64


@patient
@given(st.integers(8, 2**50))
def test_loglin_slot_by_floating_point(value: int) -> None:
    exponent = math.floor(math.log2(value))
    if not 2**exponent <= value < 2 ** (exponent + 1):  # log2 rounded to the next power
        exponent += 1 if value >= 2 ** (exponent + 1) else -1
    eighth = (value - 2**exponent) * 8 // 2**exponent
    assert loglin_slot(value) == (exponent - 2) * 8 + eighth


def test_loglin_known_slots() -> None:
    assert [loglin_slot(v) for v in (0, 7, 8, 15, 16, 17, 18, 31, 32)] == [0, 7, 8, 15, 16, 16, 17, 23, 24]
    assert loglin_slots() == 496
    assert loglin_slot(2**64 - 1) == 495


@pytest.mark.parametrize("value", [-1, -(2**63), 2**64])
def test_what_is_no_u64_has_no_slot(value: int) -> None:
    with pytest.raises(ValueError, match="not an unsigned"):
        log2_slot(value)
    with pytest.raises(ValueError, match="not an unsigned"):
        loglin_slot(value)


def test_slots_that_do_not_exist() -> None:
    for slot in (0, 65, -1):
        with pytest.raises(ValueError, match="no log2 slot"):
            log2_bounds(slot)
    for slot in (-1, 496):
        with pytest.raises(ValueError, match="no log-linear slot"):
            loglin_bounds(slot)
    for slot in (-1, 12):
        with pytest.raises(ValueError, match="no linear slot"):
            linear_bounds(slot, 0, 1, 10)


@patient
@given(st.integers(-300, 3000), st.integers(-100, 100), st.integers(1, 50), st.integers(1, 40))
def test_linear_slot_by_search(value: int, low: int, step: int, slots: int) -> None:
    expected = 0 if value < low else slots + 1
    for index in range(slots):
        if value in range(low + index * step, low + (index + 1) * step):
            expected = index + 1
    slot = linear_slot(value, low, step, slots)
    assert slot == expected
    first, last = linear_bounds(slot, low, step, slots)
    assert first is None or first <= value
    assert last is None or value <= last


def test_linear_edges() -> None:
    assert linear_bounds(0, 10, 5, 2) == (None, 9)
    assert linear_bounds(1, 10, 5, 2) == (10, 14)
    assert linear_bounds(2, 10, 5, 2) == (15, 19)
    assert linear_bounds(3, 10, 5, 2) == (20, None)


@patient
@given(st.lists(st.integers(0, 10**6), min_size=1), st.floats(0, 100), st.integers(0, 6))
def test_percentile_lies_in_the_bucket_of_the_true_one(values: list[int], q: float, bits: int) -> None:
    counts = [0] * loglin_slots(bits)
    for value in values:
        counts[loglin_slot(value, bits)] += 1
    found = percentile(counts, [loglin_bounds(s, bits) for s in range(len(counts))], q)
    true = sorted(values)[rank_of(q, len(values)) - 1]
    assert found is not None
    assert loglin_slot(found, bits) == loglin_slot(true, bits)
    assert true <= found
    assert (found - true) << bits <= true  # the error that the summary states


@patient
@given(st.integers(0, 10000), st.integers(1, 10**7))
def test_rank_is_the_exact_ceiling(hundredths: int, total: int) -> None:
    q = hundredths / 100
    exact = -(-hundredths * total // 10000)
    assert rank_of(q, total) == max(exact, 1)


def test_percentile_edges() -> None:
    bounds = [(0, 9), (10, 19), (20, None)]
    assert percentile([0, 0, 0], bounds, 50) is None
    assert percentile([1, 0, 0], bounds, 0) == 9
    assert percentile([1, 1, 0], bounds, 50) == 9
    assert percentile([1, 1, 0], bounds, 50.1) == 19
    assert percentile([1, 1, 1], bounds, 100) is None
    assert rank_of(99.9, 1000) == 999
    for q in (-1, 100.5, float("nan")):
        with pytest.raises(UserError, match="there is no percentile"):
            percentile([1, 0, 0], bounds, q)
