# SPDX-License-Identifier: Apache-2.0
"""Bars of stars: the histogram layouts that people know from bcc.

The column positions are bcc's to the character (``print_log2_hist`` and
``print_linear_hist`` of its Python front end), since scripts
parse them and eyes are used to them.  Ranges that do not fit are written in
bcc's wide layout with half the stars.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from osmia.views.buckets import Bounds

_STARS = 40
#: From here on a bound needs more than ten digits.
_WIDE = 1 << 32


def stars(value: int, top: int, width: int) -> str:
    """A bar of ``width`` stars for ``top``, rounded down; longer ones end in ``+`` at ``width``."""
    if top <= 0:
        return ""
    bar = "*" * min(width * value // top, width)
    return bar[:-1] + "+" if value > top else bar


def print_log2(counts: Sequence[int], unit: str, *, strip_leading: bool = False) -> str:
    """A log2 histogram as bcc prints it; the empty string if nothing was counted.

    ``counts`` are indexed by slot (:func:`~osmia.views.buckets.log2_slot`);
    slot 0 is not shown.  Rows run from slot 1 to the last one that is not
    zero; ``strip_leading`` leaves out zero rows at the start.
    """
    from osmia.views.buckets import log2_bounds

    used = [slot for slot, count in enumerate(counts) if slot and count]
    if not used:
        return ""
    first = used[0] if strip_leading else 1
    return print_ranges([(log2_bounds(slot), counts[slot]) for slot in range(first, used[-1] + 1)], unit)


def print_linear(counts: Sequence[int], unit: str) -> str:
    """A linear histogram as bcc prints it: one row for each index up to the last that is not zero."""
    last = max((index for index, count in enumerate(counts) if count), default=-1)
    return print_singles([(str(index), counts[index]) for index in range(last + 1)], unit)


def print_singles(rows: Iterable[tuple[str, int]], unit: str) -> str:
    """Rows of ``(label, count)`` in bcc's linear layout; the empty string if there are none."""
    rows = list(rows)
    if not rows:
        return ""
    top = max(count for _, count in rows)
    lines = [f"     {unit:<13} : count     distribution"]
    lines += [f"        {label:<10} : {count:<8} |{stars(count, top, _STARS):<{_STARS}}|" for label, count in rows]
    return "\n".join(lines) + "\n"


def print_ranges(rows: Iterable[tuple[Bounds, int]], unit: str) -> str:
    """Rows of ``((low, high), count)``, bounds inclusive, in bcc's log2 layout.

    A missing bound is written ``< N`` or ``>= N``.  The empty string if there
    are no rows.
    """
    rows = list(rows)
    if not rows:
        return ""
    top = max(count for _, count in rows)
    wide = any(bound is not None and abs(bound) >= _WIDE for bounds, _ in rows for bound in bounds)
    digits, width, indent = (20, _STARS // 2, 15) if wide else (10, _STARS, 5)
    label = 2 * digits + 4 - indent
    lines = [f"{'':{indent}}{unit:<{label}} : count     distribution"]
    for bounds, count in rows:
        bar = f"{stars(count, top, width):<{width}}"
        lines.append(f"{_range(bounds, digits)} : {count:<8} |{bar}|")
    return "\n".join(lines) + "\n"


def _range(bounds: Bounds, digits: int) -> str:
    low, high = bounds
    if low is None:
        return f"{'':{digits}}  < {0 if high is None else high + 1:<{digits}}"
    if high is None:
        return f"{'':{digits}} >= {low:<{digits}}"
    return f"{low:>{digits}} -> {high:<{digits}}"
