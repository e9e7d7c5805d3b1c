# SPDX-License-Identifier: Apache-2.0
"""What hardirqs and softirqs share: their options, and sums or counts in place of histograms."""

from __future__ import annotations

from osmia.errors import OptionError
from osmia.lang.builtins import cpu
from osmia.lang.options import option
from osmia.lang.types import s32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


# include/linux/interrupt.h: the same numbers since 4.2
SOFTIRQS = ("hi", "timer", "net_tx", "net_rx", "block", "irq_poll", "tasklet", "sched", "hrtimer", "rcu")
KINDS = 16  # room for more of them


def softirq_name(vec: int) -> str:
    """What the kernel calls a kind of soft interrupt."""
    return SOFTIRQS[vec] if vec < len(SOFTIRQS) else str(vec)


def cpu_number(word: str) -> int:
    """What ``-c`` means: one of the CPUs of this machine; ValueError."""
    from osmia.kernel import cpus

    known = cpus.online()
    if not word.isdecimal() or int(word) not in known:
        raise ValueError(f"there is no CPU {word!r} that is online: {', '.join(map(str, known))}")
    return int(word)


nanoseconds = option("-N", "--nanoseconds", help="nanoseconds instead of microseconds")
events = option("-C", "--events", "--count", help="show how many there were instead of the time they took")
dist = option("-d", "--dist", help="show the times as histograms")
only = option("-c", "--cpu", type=s32, default=-1, parse=cpu_number, metavar="CPU", help="trace this CPU only")


def here():
    """Whether the current CPU is asked for."""
    return only < 0 or cpu() == only


def unit() -> str:
    """Of the times."""
    return "nsecs" if nanoseconds else "usecs"


def prepared(tool: Any, what: str, heading: str, width: int) -> None:
    """What ``prepare`` does: forms of output, as bcc's."""
    if events and (dist or nanoseconds):
        where = f"{heading.lower()}s"
        raise OptionError("-C counts, so -d and -N do not go with it", where=where, fix="leave them out")
    tool.banner = f"Tracing {what} event{'s' if events else ' time'}... Hit Ctrl-C to end."
    if dist:
        return

    def number(one: Any) -> Any:
        return one.count if events else one.sum // (1 if nanoseconds else 1000)

    def table(new: dict[Any, Any]) -> str:
        from osmia.views.escape import escape

        head = f"{heading:<{width}} {'TOTAL_' + ('count' if events else unit()):>11}"
        keys = sorted(new, key=lambda key: -number(new[key]))
        return "\n".join([head, *[f"{escape(tool.label(key)):<{width}} {number(new[key]):>11}" for key in keys]])

    tool.text = table
