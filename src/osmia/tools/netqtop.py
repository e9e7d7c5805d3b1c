# SPDX-License-Identifier: Apache-2.0
"""Summarize packets and their sizes on each queue of a network device."""

from __future__ import annotations

from osmia import Col, PerCpuHash, count_table, first_of, raw_tracepoint, tp_btf
from osmia.lang.types import u32, u64
from osmia.tools._devices import chosen, device, needed  # noqa: F401 - an option
from osmia.tools._queue_table import DIRECTIONS, SIZES, table, throughput  # noqa: F401 - an option

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
