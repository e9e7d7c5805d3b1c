# SPDX-License-Identifier: Apache-2.0
"""Histograms: counted in the kernel, exactly, keyed or not.

Every histogram holds per CPU (and per key) the count of each bucket, the sum
of the values and the largest and smallest one.  Slots are defined here once,
for the kernel half and for :mod:`osmia.views.hist` alike:

* log2 as bcc counts: 0 and 1 in slot 1, else ``floor(log2 v) + 1``;
* linear: slot 0 below ``low``, then ``step`` wide ones, a last one above;
* log-linear: ``2**bits`` equal slots in each power of two.

Negative values are in no bucket: they are counted as lost, with their cause.
"""

from __future__ import annotations

import struct

from osmia.lang.codec import decoder, encode
from osmia.lang.maps import PERCPU_ARRAY, PERCPU_HASH, MapBase, _plain
from osmia.lang.types import size_align, u32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

U64 = (1 << 64) - 1


class Snapshot:
    """The state of one histogram at one time: ``counts`` by slot, ``sum``, ``min``, ``max`` (0 where empty)."""

    __slots__ = ("counts", "max", "min", "sum")

    def __init__(self, counts: list[int], total: int = 0, low: int = 0, high: int = 0) -> None:
        self.counts = counts
        self.sum = total
        self.min = low
        self.max = high

    @property
    def count(self) -> int:
        """How many values were added."""
        return sum(self.counts)


class Hist(MapBase):
    """Base of the histograms; made by :func:`log2_hist`, :func:`linear_hist`, :func:`loglin_hist`.

    In memory a histogram is an array of u64: sum, ``~min``, max, then one
    per slot (``~min`` so that fresh zeroed memory is right).
    """

    kind = ""
    slots = 0
    HEAD = 3

    def __init__(self, unit: str, key: Any, max_entries: int) -> None:
        super().__init__()
        self.unit = unit
        self.key = None if key is None else _plain(key)
        self.keyed = key is not None
        if self.keyed:
            size_align(self.key)
        self.max_entries = max_entries if self.keyed else 1
        self.map_type = PERCPU_HASH if self.keyed else PERCPU_ARRAY
        self._sim: dict[Any, Snapshot] = {}

    def slot(self, value: int) -> int:
        """The bucket of ``value`` (not negative)."""
        raise NotImplementedError

    def add(self, value: int, n: int = 1) -> None:
        """Count ``value`` (``n`` times)."""
        self._add(None, value, n)

    def __getitem__(self, key: Any) -> Keyed:
        """The histogram under ``key``: ``h[key].add(v)``."""
        if not self.keyed:
            raise TypeError("this histogram has no key: h.add(v), or make it with key=TYPE")
        return Keyed(self, key)

    def _add(self, key: Any, value: int, n: int) -> None:
        if value < 0:
            return
        shot = self._sim.setdefault(key, Snapshot([0] * self.slots))
        if not shot.count or value < shot.min:
            shot.min = value
        shot.max = max(shot.max, value)
        shot.counts[self.slot(value)] += n
        shot.sum = (shot.sum + value * n) & U64  # wraps, as the kernel's does

    def fill(self) -> None:
        # On one CPU, because those of all are added up.
        for key, shot in self._sim.items():
            words = (shot.sum, U64 - shot.min if shot.count else 0, shot.max, *shot.counts)
            raw = struct.pack(f"<{len(words)}Q", *words)
            assert self.live is not None
            place = encode(self.key, key) if self.keyed else bytes(4)
            self.live.update(place, raw.ljust(self.live.ncpus * len(raw), b"\0"))

    def snapshots(self) -> dict[Any, Snapshot]:
        """All histograms by key (None where there is no key), summed over the CPUs."""
        if self.live is None:
            return dict(self._sim)
        read = decoder(self.key) if self.keyed else None
        out: dict[Any, Snapshot] = {}
        for key, raw in self.live.items():
            out[None if read is None else read(key)] = self._sum(raw, self.live.ncpus)
        return out

    def by_cpu(self) -> ByCpu:
        """The same histogram as one per CPU, for a template's ``hist``; only where it has no key."""
        return ByCpu(self)

    def _sum(self, raw: bytes, ncpus: int) -> Snapshot:
        counts = [0] * self.slots
        total, inverse, high = 0, 0, 0
        for one in self._words(raw, ncpus):
            if not any(one):
                continue
            total += one[0]
            inverse, high = max(inverse, one[1]), max(high, one[2])
            counts = [a + b for a, b in zip(counts, one[self.HEAD :], strict=True)]
        return Snapshot(counts, total & U64, U64 - inverse if any(counts) else 0, high)

    def _words(self, raw: bytes, ncpus: int) -> list[tuple[int, ...]]:
        """What each CPU holds."""
        form = struct.Struct(f"<{self.HEAD + self.slots}Q")
        return [form.unpack_from(raw, at) for at in range(0, ncpus * form.size, form.size)]


class ByCpu:
    """A histogram without key as one per CPU, which is how the kernel half keeps it: the number of the CPU is the key.

    It stands in for the histogram where histograms are read; everything but
    the snapshots is the histogram's own.
    """

    keyed = True
    key = u32

    def __init__(self, hist: Hist) -> None:
        if hist.keyed:
            raise TypeError("by_cpu() is for a histogram without a key: make the CPU a part of the key")
        self._hist = hist

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hist, name)

    def snapshots(self) -> dict[int, Snapshot]:
        """By CPU, those that counted anything.  What runs as plain Python runs on CPU 0."""
        hist = self._hist
        if hist.live is None:
            return dict.fromkeys((0,), hist._sim[None]) if hist._sim else {}
        out: dict[int, Snapshot] = {}
        for one in hist.live.items():  # a single one
            for cpu, words in enumerate(hist._words(one[1], hist.live.ncpus)):
                counts = [*words[hist.HEAD :]]
                if any(counts):
                    out[cpu] = Snapshot(counts, words[0], U64 - words[1], words[2])
        return out


class Keyed:
    """One histogram of a keyed family."""

    __slots__ = ("_hist", "_key")

    def __init__(self, hist: Hist, key: Any) -> None:
        self._hist = hist
        self._key = key

    def add(self, value: int, n: int = 1) -> None:
        self._hist._add(self._key, value, n)


class Log2(Hist):
    """Power-of-two buckets, as bcc's."""

    kind = "log2"
    slots = 65

    def slot(self, value: int) -> int:
        return max(1, min(value, U64).bit_length())


class Linear(Hist):
    """Buckets of equal width: ``low``, ``low + step``, … below ``high``; one below and one above."""

    kind = "linear"

    def __init__(self, unit: str, key: Any, max_entries: int, low: int, high: int, step: int) -> None:
        super().__init__(unit, key, max_entries)
        if step < 1 or high <= low or low < 0 or (high - low + step - 1) // step > 4000:
            raise TypeError("linear_hist: 0 <= low < high, step >= 1, and at most 4000 buckets")
        self.low, self.high, self.step = low, high, step
        self.slots = (high - low + step - 1) // step + 2

    def slot(self, value: int) -> int:
        if value < self.low:
            return 0
        return min((value - self.low) // self.step, self.slots - 2) + 1


class LogLinear(Hist):
    """``2**bits`` buckets in each power of two: relative error below ``2**-bits``."""

    kind = "loglin"

    def __init__(self, unit: str, key: Any, max_entries: int, bits: int) -> None:
        super().__init__(unit, key, max_entries)
        if not 1 <= bits <= 5:
            raise TypeError("loglin_hist: bits is from 1 to 5")
        self.bits = bits
        self.slots = (64 - bits + 1) << bits

    def slot(self, value: int) -> int:
        value = min(value, U64)
        if value < 1 << self.bits:
            return value
        exponent = value.bit_length() - 1
        return ((exponent - self.bits + 1) << self.bits) + (
            (value >> (exponent - self.bits)) & ((1 << self.bits) - 1)
        )


def log2_hist(unit: str = "value", *, key: Any = None, max_entries: int = 1024) -> Log2:
    """A histogram in powers of two; ``unit`` is its heading (``"usecs"``), ``key`` a type for one per key.

    Example::

        sizes = log2_hist("bytes", key=Comm)

        @tracepoint("syscalls:sys_exit_read")
        def leave(call):
            if call.ret > 0:
                sizes[current.comm].add(call.ret)
    """
    return Log2(unit, key, max_entries)


def linear_hist(
    unit: str = "value", *, low: int = 0, high: int = 100, step: int = 1, key: Any = None, max_entries: int = 1024
) -> Linear:
    """A histogram of ``step`` wide buckets from ``low`` to ``high``.

    Example::

        descriptors = linear_hist("fd", low=0, high=64, step=4)

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            descriptors.add(call.fd)
    """
    return Linear(unit, key, max_entries, low, high, step)


def loglin_hist(unit: str = "value", *, bits: int = 3, key: Any = None, max_entries: int = 256) -> LogLinear:
    """A log-linear histogram: percentiles to within ``2**-bits`` of the value.

    Example::

        since = PerThread[u64]()
        took = loglin_hist("nsecs", bits=4)

        @tracepoint("syscalls:sys_enter_read")
        def enter(call):
            since.value = ktime()

        @tracepoint("syscalls:sys_exit_read")
        def leave(call):
            start = since.take()
            if start is not None:
                took.add(ktime() - start)
    """
    return LogLinear(unit, key, max_entries, bits)
