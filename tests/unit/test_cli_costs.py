# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of ``--stats`` and ``--max-overhead``, without a kernel."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from osmia.cli import costs
from osmia.cli.common import percent
from osmia.cli.costs import Meter, Sample
from osmia.cli.signals import Stop
from osmia.errors import TooCostly


@pytest.mark.parametrize(("word", "value"), [("5", 5.0), ("0.25", 0.25), ("100", 100.0), ("7.5%", 7.5)])
def test_shares(word: str, value: float) -> None:
    assert percent(word) == value


@pytest.mark.parametrize("word", ["0", "-1", "101", "5%%", "%", "", "much", "nan", "inf"])
def test_no_shares(word: str) -> None:
    with pytest.raises(ValueError, match="more than 0 and at most 100 percent"):
        percent(word)


def test_differences_and_shares() -> None:
    before = Sample(10.0, 5_000_000, {"enter": (100, 40_000, 0)})
    after = Sample(12.0, 45_000_000, {"enter": (300, 20_040_000, 2), "leave": (7, 100_000, 0)})
    between = after.minus(before)
    assert (between.at, between.own) == (2.0, 40_000_000)
    assert between.programs == {"enter": (200, 20_000_000, 2), "leave": (7, 100_000, 0)}
    assert between.in_programs() == 20_100_000
    # Four seconds of CPU time were there on two CPUs.
    assert between.percent(2) == (pytest.approx(0.5025), pytest.approx(1.0))


class Clock:
    """A meter whose samples are given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit: float) -> None:
        self.now = Sample(100.0, 0, {})
        monkeypatch.setattr(Meter, "sample", lambda _: self.now)
        monkeypatch.setattr("osmia.kernel.cpus.online", lambda: [0, 1])
        session: Any = SimpleNamespace(live=None, links=[], stop=Stop(), unit=SimpleNamespace(name="tool"))
        self.stop: Stop = session.stop
        self.meter = Meter(session, "", limit)

    def tick(self, seconds: float, ns: int, own: int) -> bool:
        """A window; whether the run is over."""
        before = self.now.programs.get("p", (0, 0, 0))
        self.now = Sample(self.now.at + seconds, self.now.own + own, {"p": (before[0] + 1, before[1] + ns, 0)})
        self.meter.tick()
        return self.stop.asked


def test_each_window_counts_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is on the last window, not on the mean of the run; programs and osmia are added."""
    clock = Clock(monkeypatch, 5.0)
    assert clock.stop.tick_at == 101.0
    assert not clock.tick(1.0, 50_000_000, 49_000_000)  # 4.95 % of two CPUs
    assert clock.stop.tick_at == 102.0 and clock.meter.refusal() is None
    assert not clock.tick(1.0, 0, 0)
    assert clock.tick(1.0, 60_000_000, 41_000_000)
    refusal = clock.meter.refusal()
    assert isinstance(refusal, TooCostly) and refusal.exit_status == 3
    assert str(refusal) == (
        "tool: detached after 3.0 s: tracing took 5 % of the time of 2 CPUs in the last 1.0 s (programs 3 %, osmia "
        "itself 2 %), more than --max-overhead 5; trace less (with a filter such as -p or --cgroup), or allow more"
    )


def test_a_window_may_be_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """What took longer to come round is divided by the time that it took."""
    clock = Clock(monkeypatch, 5.0)
    assert not clock.tick(4.0, 200_000_000, 100_000_000)
    assert clock.meter.peak == pytest.approx(3.75)


def test_the_clock_of_a_run() -> None:
    """Ticks shorten the sleep, and come when they are due."""
    stop = Stop()
    assert stop.left(60.0) == 60.0
    ticks = []

    def tick() -> None:
        ticks.append(1)
        stop.tick_at += 1000

    stop.tick, stop.tick_at = tick, costs.time.monotonic() + 5
    assert 0 < stop.left(60.0) <= 5 and not stop.over() and not ticks
    stop.tick_at = costs.time.monotonic()
    assert stop.left(60.0) == 0.0
    assert not stop.over() and ticks == [1]
    assert not stop.over() and ticks == [1]
