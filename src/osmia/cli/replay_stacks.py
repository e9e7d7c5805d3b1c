# SPDX-License-Identifier: Apache-2.0
"""Recorded samples with stacks: folded, as records, as pictures, and for other programs.

``--html`` is the page of subsecond offsets, in which a range of time can be
chosen: samples have times, which a profile that is only counted has not.
"""

from __future__ import annotations

from osmia.cli.flame import save
from osmia.cli.replay_options import window
from osmia.errors import OptionError
from osmia.events import recording
from osmia.events.samples import Sample, SampleReader
from osmia.lang.templates import StackTable
from osmia.views.flame_svg import Look
from osmia.views.hist import Histogram, linear_slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.cli.replayed import Replayed
    from osmia.events.recording import Reader
    from osmia.views.frames import Stack


#: Rows of the heat map in a terminal: milliseconds of a second.
_ROWS = {"low": 0, "step": 50, "slots": 20}


class StackReplay:
    """All samples of a recording, in the order of time, and whatever is asked for of them."""

    def __init__(self, reader: Reader, made: Replayed) -> None:
        self._reader = reader
        self._made = made
        source = made.samples or {}
        self._unit = str(source.get("unit", "samples"))
        self._waiting = bool(source.get("waiting"))
        self._divisor = max(1, int(source.get("divisor", 1)))
        self._state = bool(source.get("state"))
        template = made.unit.template
        #: How the run folded stacks, unless the replay says otherwise.
        self._marks = {name: bool(getattr(template, name, False) if isinstance(template, StackTable)
                                  else source.get(name, name == "annotate"))
                       for name in ("annotate", "delimiter")}  # fmt: skip
        #: Times since the epoch in ns, and samples.
        self.samples: list[tuple[int, Sample]] = []

    def run(self) -> None:
        """Read, and show.  Raises UserErrors."""
        common = self._made.common
        self._read()
        if common.heatmap:
            self._made.out.write(self.heatmap())
            return
        files = [one for one in (common.svg, common.html, common.pprof, common.speedscope, common.parquet) if one.given]
        self._pictures()
        self._exports()
        if not files or common.json or common.csv:
            self._made.out.write(self.text())

    def _read(self) -> None:
        made, reader = self._made, SampleReader()
        _, offset, gmtoff = made.clocks
        low, high = window(made.common, made.started_ns, offset, gmtoff)
        for block in self._reader.blocks():
            if block.kind == recording.CLOCK:
                offset, gmtoff = recording.clock_of(block.payload)
            elif block.kind == recording.STACKS:
                reader.define(block.json())
            elif block.kind == recording.SAMPLES:
                self.samples += [
                    (one.time + offset, one) for one in reader.samples(block.payload) if low <= one.time < high
                ]
        self.samples.sort(key=lambda pair: pair[0])
        if self._state:  # the last look at what there was
            self.samples = [pair for pair in self.samples if pair[0] == self.samples[-1][0]]

    def counted(self) -> list[tuple[Stack, int]]:
        """Every stack once, with the weight of all of its samples, in the order in which they first came."""
        out: dict[Stack, int] = {}
        for _, one in self.samples:
            out[one.stack] = out.get(one.stack, 0) + one.weight
        return [(stack, sum_ // self._divisor) for stack, sum_ in out.items() if sum_ >= self._divisor]

    def _weight(self, one: Sample) -> float:
        """In the unit that is shown."""
        return one.weight if self._divisor == 1 else one.weight / self._divisor

    def text(self) -> str:
        """Folded stacks with marks, smallest first as they are printed by profilers; JSON or CSV."""
        common = self._made.common
        if common.json:
            from osmia.views.machine import json_line

            return "".join([
                json_line({**one.record(wall), "weight": self._weight(one)}) + "\n" for wall, one in self.samples
            ])  # fmt: skip
        from osmia.views.folded import fold, text

        if common.csv:
            from osmia.views.machine import csv_row

            out = [csv_row(("time", "pid", "comm", "weight", "stack")) + "\n"]
            for wall, one in self.samples:
                stack = fold(one.stack, 0, **self._marks).rpartition(" ")[0]
                out.append(csv_row((f"{wall / 1e9:.6f}", one.pid, one.comm, self._weight(one), stack)) + "\n")
            return "".join(out)
        return text(sorted(self.counted(), key=lambda pair: pair[1]), **self._marks)

    def heatmap(self) -> str:
        """Samples by second and by the time within the second, for a terminal.  OptionError for sums of anything."""
        if not self._in_time:
            raise OptionError(f"--heatmap draws samples by their times, and these are sums of {self._unit}",
                              where=self._reader.name, fix="--svg FILE draws them as a flame graph")  # fmt: skip
        from types import SimpleNamespace

        from osmia.cli.pictures import is_terminal
        from osmia.cli.replay_clock import Clock
        from osmia.views.heatmap import HeatMap
        from osmia.views.heatmap import text as drawn

        heat = HeatMap(1.0)
        for second, counts in self._by_second().items():
            heat.add(second, Histogram("linear", counts, **_ROWS))
        now, offset, gmtoff = self._made.clocks
        with Clock(SimpleNamespace(now=now, offset=offset, gmtoff=gmtoff)).installed():  # its time zone
            return drawn(heat, "ms", width=100, height=40, colour=is_terminal(self._made.out.fd))

    def _by_second(self) -> dict[int, dict[int, int]]:
        out: dict[int, dict[int, int]] = {}
        for wall, _ in self.samples:
            second, within = divmod(wall, 1_000_000_000)
            column = out.setdefault(second, {})
            slot = linear_slot(within // 1_000_000, **_ROWS)
            column[slot] = column.get(slot, 0) + 1
        return out

    @property
    def _in_time(self) -> bool:
        """Whether each sample is a point in time, and not what was added in an interval."""
        return self._unit == "samples" and all(one.weight == 1 for _, one in self.samples)

    def look(self) -> Look:
        """Title, unit and colours."""
        made = self._made
        title = f"{made.unit.name}, {made.host()}"
        return Look(title, unit=self._unit, palette="off" if self._waiting else "on")

    def _pictures(self) -> None:
        common, look = self._made.common, self.look()
        if common.svg.given:
            from osmia.views import flame, flame_svg

            save(common.svg, flame_svg.svg(flame.merge(self.counted()), look))
        if common.html.given:
            from osmia.views import flame, flame_svg, offsets

            if self._in_time:
                page = offsets.page(offsets.Samples([(wall, one.stack) for wall, one in self.samples]), look)
            else:  # weights of time or bytes: a sample is no point in time there
                page = flame_svg.page(flame.merge(self.counted()), look)
            save(common.html, page)

    def _exports(self) -> None:
        common, look = self._made.common, self.look()
        if common.pprof.given:
            from osmia.views.export_pprof import pprof

            plain = self._unit == "samples"
            begun = self.samples[0][0] if self.samples else 0
            lasted = self.samples[-1][0] - begun if self.samples else 0
            save(common.pprof, pprof(self.counted(), kind="samples" if plain else "value",
                                     unit="count" if plain else self._unit, time_ns=begun,
                                     duration_ns=lasted))  # fmt: skip
        if common.speedscope.given:
            from osmia.views.export_speedscope import speedscope

            ordered = [(one.stack, one.weight // self._divisor) for _, one in self.samples]
            save(common.speedscope, speedscope(ordered, name=look.title, unit=look.unit))
        if common.parquet.given:
            from osmia.views.export_parquet import stacks_file

            save(common.parquet, stacks_file(self.counted(), unit=look.unit, name=look.title))
