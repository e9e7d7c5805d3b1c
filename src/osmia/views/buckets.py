# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of histogram buckets: value to slot, slot to range.

These definitions are the only ones: the kernel side is generated from the
same formulas, and the property tests hold them against brute force.  All of
them are for what a u64 can hold; a negative value belongs in no bucket (a
duration below zero is a clock that went backwards) and whoever reads it
counts it apart.
"""

from __future__ import annotations

from osmia.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Slots of a log2 histogram, slot 0 included, which no value falls into.
LOG2_SLOTS = 65

#: Sub-bucket bits of a log-linear histogram: 8 buckets for each power of two.
LOGLIN_BITS = 3

#: The inclusive range of a bucket; None is "no bound on this side".
Bounds = tuple["int | None", "int | None"]


def _unsigned(value: int) -> int:
    if not 0 <= value < 1 << 64:
        raise ValueError(f"{value} is not an unsigned 64-bit value")
    return value


def log2_slot(value: int) -> int:
    """The slot of ``value`` as bcc's ``bpf_log2l`` counts it: 1 for 0 and 1, else floor(log2) + 1.

    Raises :class:`ValueError` for what is no u64.
    """
    return max(_unsigned(value).bit_length(), 1)


def log2_bounds(slot: int) -> tuple[int, int]:
    """The lowest and highest value of log2 slot 1 to 64: ``(0, 1)``, ``(2, 3)``, ``(4, 7)`` ..."""
    if not 1 <= slot < LOG2_SLOTS:
        raise ValueError(f"no log2 slot {slot}")
    return (1 << (slot - 1) if slot > 1 else 0), (1 << slot) - 1


def linear_slot(value: int, low: int, step: int, slots: int) -> int:
    """The slot of ``value`` among ``slots`` buckets of ``step`` from ``low`` on.

    Slots 1 to ``slots`` are the buckets, slot 0 holds what is below ``low``
    and slot ``slots + 1`` what is above the last bucket.
    """
    return min(max((value - low) // step + 1, 0), slots + 1)


def linear_bounds(slot: int, low: int, step: int, slots: int) -> Bounds:
    """The range of a linear slot; ``(None, low - 1)`` for slot 0, ``(end, None)`` for the last."""
    if not 0 <= slot <= slots + 1:
        raise ValueError(f"no linear slot {slot}")
    start = low + (slot - 1) * step
    return (start if slot else None), (start + step - 1 if slot <= slots else None)


def loglin_slots(bits: int = LOGLIN_BITS) -> int:
    """How many slots a log-linear histogram of all u64 values has: 496 for 3 bits."""
    return (64 - bits + 1) << bits


def loglin_slot(value: int, bits: int = LOGLIN_BITS) -> int:
    """The log-linear slot: each power of two is split in ``2**bits`` equal buckets.

    Values below ``2**bits`` have a slot each, so small numbers are exact; a
    bucket is never wider than its lowest value divided by ``2**bits``.
    Raises :class:`ValueError` for what is no u64.
    """
    if _unsigned(value) < 1 << bits:
        return value
    exponent = value.bit_length() - 1
    return ((exponent - bits + 1) << bits) + ((value >> (exponent - bits)) & ((1 << bits) - 1))


def loglin_bounds(slot: int, bits: int = LOGLIN_BITS) -> tuple[int, int]:
    """The lowest and highest value of a log-linear slot, both inclusive."""
    if not 0 <= slot < loglin_slots(bits):
        raise ValueError(f"no log-linear slot {slot}")
    group = slot >> bits
    if not group:
        return slot, slot
    low = ((1 << bits) + (slot & ((1 << bits) - 1))) << (group - 1)
    return low, low + (1 << (group - 1)) - 1


def rank_of(q: float, total: int) -> int:
    """The nearest rank (1 to ``total``) of percentile ``q``: ceil(q % of total), at least 1.

    ``q`` counts to six decimals and no further, so that 99.9 % of 1000 is 999
    and not, by binary fractions, 1000.  Raises
    :class:`~osmia.errors.UserError` for a ``q`` outside 0 to 100.
    """
    if not 0 <= q <= 100:
        raise UserError(f"there is no percentile {q}", fix="give a number from 0 to 100")
    return max(-(-round(q * 10**6) * total // 10**8), 1)


def percentile(counts: Iterable[int], bounds: Sequence[Bounds], q: float) -> int | None:
    """Percentile ``q`` (0 to 100): the highest value of the bucket that holds its rank.

    ``counts`` and ``bounds`` run in parallel, from the lowest bucket to the
    highest.  The true value (by nearest rank) lies in that bucket, hence at
    most its width less one below the answer.  None if there are no counts, or
    if the bucket has no upper bound.
    """
    counts = list(counts)
    total = sum(counts)
    if not total:
        return None
    rank = rank_of(q, total)
    for count, (_, high) in zip(counts, bounds, strict=True):
        rank -= count
        if rank <= 0:
            return high
    return None
