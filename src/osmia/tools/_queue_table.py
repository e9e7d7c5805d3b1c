# SPDX-License-Identifier: Apache-2.0
"""User half of netqtop: the two tables of a device's queues, as bcc prints them."""

from __future__ import annotations

import time

from osmia.lang.options import option
from osmia.tools._devices import queues

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DIRECTIONS = ("TX", "RX")
SIZES = ("[0, 64)", "[64, 512)", "[512, 2K)", "[2K, 16K)", "[16K, 64K)", "[64K, ..)")

throughput = option("-t", "--throughput", help="show bytes and packets a second, too (BPS, PPS)")


def short(number: float) -> str:
    """1536 is 1.5K."""
    for unit, letter in ((1 << 20, "M"), (1 << 10, "K")):
        if number >= unit:
            return f"{round(number / unit, 2)}{letter}"
    return str(round(number, 2))


def part(direction: str, entries: list[Any], seconds: float) -> str:
    """The table of one direction: a row for each queue, also those that were idle, and one for all."""
    shown = SIZES if any(one.f2 == 5 for one in entries) else SIZES[:5]  # as bcc has it; larger ones are rare
    rows = [("QueueID", "avg_size", *shown, *(("BPS", "PPS") if throughput else ()))]
    most = max([queues(direction.lower()), *(one.f1 + 1 for one in entries)])
    for name in [*range(most), "Total"]:
        some = [one for one in entries if name in (one.f1, "Total")]
        total, number = sum(one.bytes for one in some), sum(one.count for one in some)
        cells = [total / number if number else 0]
        cells += [sum(one.count for one in some if one.f2 == size) for size in range(len(shown))]
        cells += [total / seconds, number / seconds] if throughput else []
        rows.append((name, *map(short, cells)))
    lines = [" " + "".join([f"{cell:<11}" for cell in row]).rstrip() for row in rows]
    return "\n".join([direction, *lines])


def table(entries: list[Any], seconds: float) -> str:
    """As bcc prints it."""
    sent, received = (part(one, [entry for entry in entries if DIRECTIONS[entry.f0] == one], seconds)
                      for one in DIRECTIONS)  # fmt: skip
    return f"{time.asctime()}\n{sent}\n\n{received}\n" + "-" * (95 if throughput else 77)
