# SPDX-License-Identifier: Apache-2.0
"""Summarize packets and their sizes on each queue of a network device."""

from __future__ import annotations

import time

from osmia import Col, PerCpuHash, count_table, first_of, option, raw_tracepoint, tp_btf
from osmia.lang.types import u32, u64
from osmia.tools._devices import chosen, device, needed, queues  # noqa: F401 - an option

DIRECTIONS = ("TX", "RX")
SIZES = ("[0, 64)", "[64, 512)", "[512, 2K)", "[2K, 16K)", "[16K, 64K)", "[64K, ..)")

throughput = option("-t", "--throughput", help="show bytes and packets a second, too (BPS, PPS)")

packets = PerCpuHash[tuple[u32, u32, u32], u64](16384)  # direction, queue, size
octets = PerCpuHash[tuple[u32, u32, u32], u64](16384)


def size_of(length):
    """Which of ``SIZES``."""
    if length < 512:
        return 0 if length < 64 else 1
    if length < 16384:
        return 2 if length < 2048 else 3
    return 4 if length < 65536 else 5


def count(direction, queue, length):
    octets[direction, queue, size_of(length)] += length
    packets[direction, queue, size_of(length)] += 1


@first_of(tp_btf("net_dev_start_xmit"), raw_tracepoint("net_dev_start_xmit"))
def sent(skb, dev):
    if chosen(dev):
        count(0, skb.queue_mapping, skb.len)


@first_of(tp_btf("netif_receive_skb"), raw_tracepoint("netif_receive_skb"))
def received(skb):
    """The queue is counted from 1 here, 0: not known (skb_get_rx_queue() in include/linux/skbuff.h)."""
    if chosen(skb.dev):
        count(1, skb.queue_mapping - 1 if skb.queue_mapping else 0, skb.len)


def short(number):
    """1536 is 1.5K."""
    for unit, letter in ((1 << 20, "M"), (1 << 10, "K")):
        if number >= unit:
            return f"{round(number / unit, 2)}{letter}"
    return str(round(number, 2))


def part(direction, entries, seconds):
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


def table(entries, seconds):
    """As bcc prints it."""
    sent, received = (part(one, [entry for entry in entries if DIRECTIONS[entry.f0] == one], seconds)
                      for one in DIRECTIONS)  # fmt: skip
    return f"{time.asctime()}\n{sent}\n\n{received}\n" + "-" * (95 if throughput else 77)


tool = count_table(
    packets,
    [
        Col("direction", "DIRECTION", row=lambda one: DIRECTIONS[one.f0]),
        Col("queue", "QUEUE", row=lambda one: one.f1),
        Col("size", "SIZE", row=lambda one: SIZES[one.f2]),
        Col("count", "PACKETS"),
        Col("bytes", "BYTES"),
    ],
    more={"bytes": octets},
    sort=lambda one: [-part for part in one.key],
    text=table,
    interval=1.0,
    prepare=lambda: needed("netqtop"),
)
