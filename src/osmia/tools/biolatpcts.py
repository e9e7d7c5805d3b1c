# SPDX-License-Identifier: Apache-2.0
"""Show percentiles of the latency of a disk's I/O, by operation."""

from __future__ import annotations

from osmia import before_attach, exists, first_of, histogram, ktime, loglin_hist, lost, option, raw_tracepoint, tp_btf
from osmia.errors import OptionError
from osmia.lang.types import u32
from osmia.tools import _bio, _latencies
from osmia.tools._bio import DISCARD, OPERATION, disk_number
from osmia.tools._latencies import begin, insert, issue, latency_of, merge  # noqa: F401 - programs

KINDS = {0: "read", 1: "write", 3: "discard", 2: "flush"}  # REQ_OP_*, in the order in which they are shown
ON_DEVICE, AFTER_ALLOC, FROM_ALLOC = 0, 1, 2
ONLY_START = -1.0
WHICH = ("on-device", "after-rq-alloc", "from-rq-alloc")


def percentages(word):
    """``-p``: the texts, which are kept as they are, in the order of what they mean."""
    words = word.split(",")
    for one in words:
        if not one.replace(".", "", 1).isdecimal() or float(one) > 100:
            raise ValueError(f"{one!r} is not a percentile: numbers from 0 to 100 are, separated by commas")
    return ",".join(sorted(words, key=float))


def every(word):
    """``-i``: seconds; 0 (for the user -1) one summary, at the end; ``ONLY_START`` (for the user 0) none."""
    value = float(word)
    if value < 0 and value != -1:
        raise ValueError(f"{word} is no interval: seconds are, and 0, and -1")
    return value if value > 0 else 0.0 if value else ONLY_START


def latency(word):
    """``-w``."""
    if word not in WHICH:
        raise ValueError(f"{word!r} is none of {', '.join(WHICH)}")
    return WHICH.index(word)


device = option("dev", type=u32, parse=disk_number, metavar="DEV", help="the disk: its name, path or MAJOR:MINOR")
interval = option("-i", "--interval", type=float, default=3.0, parse=every, metavar="SECONDS",
                  help="seconds between summaries (default: 3; -1: one at the end; 0: end after starting)")  # fmt: skip
which = option("-w", "--which", type=u32, parse=latency, metavar="WHICH",
               help=f"which latency: {', '.join(WHICH)} (default: on-device)")  # fmt: skip
pcts = option("-p", "--pcts", type=str, default="1,5,10,16,25,50,75,84,90,95,99,100", parse=percentages,
              metavar="PCT,...", help="percentiles (default: 1,5,10,16,25,50,75,84,90,95,99,100)")  # fmt: skip
json = option("-j", "--json", help="print JSON, one object per summary and line")

latencies = loglin_hist("nsecs", bits=5, key=u32, max_entries=4)


@first_of(tp_btf("block_rq_complete"), raw_tracepoint("block_rq_complete"))
def complete(rq, error, n):
    """A part of the request is done; the last one, when nothing remains."""
    spent = latency_of(rq, n)
    operation = rq.cmd_flags & OPERATION
    if spent is None or operation > DISCARD:
        return
    if which == FROM_ALLOC:
        if not exists(rq.alloc_time_ns) or not rq.alloc_time_ns:
            lost("requests, since the kernel keeps no time of their allocation (it does with iocost)")
            return
        spent = ktime() - rq.alloc_time_ns
    latencies[operation].add(spent)


@before_attach
def only_start():
    if interval.value == ONLY_START:
        raise SystemExit(0)


def found(hists):
    """Percentiles in ns by operation and text; None where nothing was counted."""
    return {kind: {pct: hists[number].percentile(float(pct)) if number in hists else None
                   for pct in str(pcts).split(",")} for number, kind in KINDS.items()}  # fmt: skip


def shown(ns):
    if ns is None:
        return "-"
    us = ns / 1000
    return f"{us / 1e6:.1f}s" if us > 1e6 else f"{us / 1e3:.0f}ms" if us > 1e4 else (
        f"{us / 1e3:.1f}ms" if us > 1e3 else f"{us:.0f}us")  # fmt: skip


def table(hists):
    """As bcc prints it."""
    words = str(pcts).split(",")
    rows = [f"{_bio.disk_name(int(device)):<7}" + "".join(f" {word:>5}" for word in words)]
    for kind, values in found(hists).items():
        rows.append(f"{kind:<7}" + "".join(f" {shown(values[word]):>{max(len(word), 5)}}" for word in words))
    return "\n".join(rows)


def record(hists):
    """The names that bcc's JSON has, in seconds; 0 where nothing was counted."""
    return {kind: {pct: (ns or 0) / 1e9 for pct, ns in values.items()} for kind, values in found(hists).items()}


def prepare():
    if not device.given:
        raise OptionError("which disk?", where="biolatpcts", fix="name it: osmia biolatpcts sda")
    _bio.disk.value = device.value
    _latencies.queued.value = which.value != ON_DEVICE
    _latencies.choose()
    tool.interval = 0.0 if interval.given else interval.value


tool = histogram(latencies, section="operation", label=lambda number: KINDS.get(number, "?"), text=table, record=record,
                 prepare=prepare)  # fmt: skip
