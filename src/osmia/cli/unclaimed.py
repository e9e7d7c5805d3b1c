# SPDX-License-Identifier: Apache-2.0
"""How much of the CPUs runs something, and how much is idle although something waits: one line an interval."""

from __future__ import annotations

import time

from osmia.cli.summaries import CountView, wants_time
from osmia.errors import OptionError
from osmia.kernel import cpus
from osmia.lang.unclaimed import BITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.cli.session import Session
    from osmia.lang.unclaimed import Unclaimed

_FIELD = (1 << BITS) - 1
#: Seconds between looks at the samples, where they are shown themselves.
_RAW_INTERVAL = 0.2


class Sums:
    """What rounds of samples say together; ``number`` CPUs are looked at in each."""

    def __init__(self, rounds: list[int], number: int) -> None:
        self.rounds = self.skewed = self.running = self.unclaimed = 0
        self._number = number
        for packed in rounds:
            self._add(packed)

    def _add(self, packed: int) -> None:
        seen, running, skewed = (packed >> n * BITS & _FIELD for n in range(3))
        queued = packed >> 3 * BITS
        if seen != self._number or skewed:  # what it says is not of one time, or not of all CPUs
            self.skewed += 1
            return
        self.rounds += 1
        self.running += running
        self.unclaimed += min(self._number - running, queued)

    def percent(self, of: int) -> float:
        """A share of all samples."""
        return 100 * of / (self.rounds * self._number) if self.rounds else 0.0


class UnclaimedView(CountView):
    """Rounds are taken out of the kernel's table when they are over."""

    def __init__(self, session: Session, template: Unclaimed) -> None:
        super().__init__(session, template)
        self._samples = template.samples
        self._raw = bool(template.raw or template.full)
        self._full = bool(template.full)
        self._cpus = cpus.online()
        if self._raw:
            if session.common.seconds_between():
                raise OptionError("samples are shown as they come, and not in intervals", where=session.unit.name,
                                  fix="leave the interval, or -j and -J, out")  # fmt: skip
            self.interval = _RAW_INTERVAL

    def begin(self) -> str:
        if not self._raw:
            if self._mode == "json":
                return ""
            interval = self._session.common.seconds_between() or self.interval
            return f"Sampling run queues... Output every {interval:g} seconds. Hit Ctrl-C to end.\n"
        if self._mode == "json":
            return ""
        heads = ["TIME"] if wants_time(self._session) else []
        heads += ["TIMESTAMP_ns", *[f"CPU{cpu}" for cpu in self._cpus]]
        return ",".join(heads + [f"OFFSET_ns_CPU{cpu}" for cpu in self._cpus if self._full]) + "\n"

    def _over(self, table: Any) -> dict[Any, Any]:
        """What is in the table but for its last round, which is not over."""
        found = dict(table.items())
        last = max([_round(key) for key in found], default=0)
        done = {key: found[key] for key in sorted(found) if _round(key) < last}
        table.delete_many(list(done))
        return done

    def skip(self) -> None:
        self._over(self._samples if self._raw else self._template.map)

    def summary(self, last: bool) -> str:
        self._shown += 1
        if self._raw:
            return self._lines(self._over(self._samples))
        sums = Sums([*self._over(self._template.map).values()], len(self._cpus))
        if last and self._shown > 1 and sums.rounds + sums.skewed < 2:
            return ""  # stopped right after an interval: there is no other one
        running, unclaimed = sums.percent(sums.running), sums.percent(sums.unclaimed)
        if self._mode == "json":
            from osmia.views.machine import json_line

            record = {"time": round(time.time(), 6), "cpu": round(running, 2), "unclaimed": round(unclaimed, 2)}
            return json_line({**record, "rounds": sums.rounds, "skewed": sums.skewed}) + "\n"
        line = f"%CPU {running:6.2f}%, unclaimed idle {unclaimed:.2f}%"
        if sums.skewed:
            line += f" ({sums.skewed} of {sums.rounds + sums.skewed} rounds incomplete)"
        return (time.strftime("%H:%M:%S ") if wants_time(self._session) else "") + line + "\n"

    def _lines(self, samples: dict[Any, Any]) -> str:
        """A line for each round: the lengths of all queues, -1 where there is no sample."""
        rounds: dict[int, dict[int, Any]] = {}
        for (number, cpu), sample in samples.items():
            rounds.setdefault(number, {})[cpu] = sample
        return "".join([self._line(found) for found in rounds.values()])

    def _line(self, found: dict[int, Any]) -> str:
        first = min([one.ts for one in found.values()])
        lengths = [found[cpu].length if cpu in found else -1 for cpu in self._cpus]
        offsets = [found[cpu].ts - first if cpu in found else -1 for cpu in self._cpus]
        if self._mode == "json":
            from osmia.views.machine import json_line

            return json_line({"ts": first, "cpus": self._cpus, "lengths": lengths, "offsets": offsets}) + "\n"
        words = [time.strftime("%H:%M:%S")] if wants_time(self._session) else []
        return ",".join([*words, *map(str, [first, *lengths, *(offsets if self._full else ())])]) + "\n"


def _round(key: Any) -> int:
    """The round that a key of either table is about."""
    return int(key[0] if isinstance(key, tuple) else key)
