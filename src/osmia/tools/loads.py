# SPDX-License-Identifier: Apache-2.0
"""Print the load averages, with three decimal places."""

from __future__ import annotations

import time

from osmia.kernel.proc import loads
from osmia.lang.options import option
from osmia.lang.templates import Listing
from osmia.tools._show import seconds, whole

duration = option("-d", "--duration", type=float, parse=seconds, metavar="SECONDS", help="end after this many seconds")
interval = option("interval", type=float, default=1.0, parse=seconds, help="seconds between lines (default: 1)")
count = option("count", type=int, parse=whole, help="number of lines")


def records():
    """One now, and one each interval, until it is enough or Ctrl-C is pressed."""
    start, number = time.monotonic(), 0
    try:
        while not (count and number >= count):
            one, five, fifteen = loads()
            yield {"time": round(time.time(), 3), "load1": one, "load5": five, "load15": fifteen}
            number += 1
            following = start + number * interval.value
            if duration and following >= start + duration.value:
                time.sleep(max(0.0, start + duration.value - time.monotonic()))
                return
            time.sleep(max(0.0, following - time.monotonic()) if not count or number < count else 0)
    except KeyboardInterrupt:
        return


def line(record):
    when = time.strftime("%H:%M:%S", time.localtime(record["time"]))
    return f"{when} load averages: {record['load1']:.3f} {record['load5']:.3f} {record['load15']:.3f}"


tool = Listing(
    records,
    text=line,
    fields=("time", "load1", "load5", "load15"),
    heading="Reading load averages... Hit Ctrl-C to end.\n",
)
