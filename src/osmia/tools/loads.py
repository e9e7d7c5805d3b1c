# SPDX-License-Identifier: Apache-2.0
"""Print the load averages, with three decimal places."""

from __future__ import annotations

import signal
import time

from osmia.kernel.proc import loads
from osmia.lang.options import option
from osmia.lang.templates import Listing
from osmia.tools._show import seconds, whole

duration = option("-d", "--duration", type=float, parse=seconds, metavar="SECONDS", help="end after this many seconds")
interval = option("interval", type=float, default=1.0, parse=seconds, help="seconds between lines (default: 1)")
count = option("count", type=int, parse=whole, help="number of lines")


ENDS = {signal.SIGINT, signal.SIGTERM}


def records():
    """One now, and one each interval, until it is enough or Ctrl-C is pressed."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)  # they end the run while it sleeps, and nothing else
    start, number = time.monotonic(), 0
    while True:
        one, five, fifteen = loads()
        yield {"time": round(time.time(), 3), "load1": one, "load5": five, "load15": fifteen}
        number += 1
        until = start + number * interval.value
        over = bool(duration) and until >= start + duration.value
        if over:
            until = start + duration.value
        if number == count or signal.sigtimedwait(ENDS, max(0.0, until - time.monotonic())) or over:
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
