# SPDX-License-Identifier: Apache-2.0
"""What argdist shows: for each specification its counts or its histogram, every interval, as bcc prints them."""

from __future__ import annotations

import time

from osmia.cli.summaries import Intervals
from osmia.cli.templates import View, mode_of
from osmia.views.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.cli.session import Session
    from osmia.lang.traced import Distributions


class DistributionsView(View):
    """Distributions of several specifications."""

    def __init__(self, session: Session, template: Distributions) -> None:
        options = template.options
        self._session = session
        self._mode = mode_of(session)
        self._probes = template.probes
        self.interval = float(options["interval"].value)
        self._most = int(options["number"].value or 0)
        self._top = int(options["top"].value or 0)
        self._whole = bool(options["cumulative"])
        self._shown = 0
        self._before: list[dict[Any, int]] = [{} for _ in self._probes]
        self._intervals = [Intervals(one.map) if one.histogram else None for one in self._probes]

    def begin(self) -> str:
        return "time,specifier,value,count\n" if self._mode == "csv" else ""

    def summary(self, last: bool) -> str:
        if self._most and self._shown >= self._most:
            return ""
        blocks = []
        new = False
        for at in range(len(self._probes)):
            found = self._histogram(at) if self._intervals[at] is not None else self._counts(at)
            new = new or bool(found)
            blocks.append(found)
        if last and not new and self._shown:
            return ""  # stopped right after an interval: there is no other one
        self._shown += 1
        if self._most and self._shown >= self._most:
            self._session.stop.asked = True
        if self._mode == "json":
            return self._json(blocks)
        if self._mode == "csv":
            return self._csv(blocks)
        head = time.strftime("[%H:%M:%S]\n")
        return head + "".join([self._text(at, found) for at, found in enumerate(blocks)])

    # -- what was counted

    def _counts(self, at: int) -> list[tuple[Any, int]]:
        """``(key, count)``, smallest first."""
        now = dict(self._probes[at].map.items())
        before, self._before[at] = self._before[at], now
        if not self._whole:
            now = {key: count - before.get(key, 0) for key, count in now.items() if count != before.get(key, 0)}
        rows = sorted(now.items(), key=lambda row: (row[1], tuple(vars(row[0]).values())))
        return rows[-self._top :] if self._top else rows

    def _histogram(self, at: int) -> Any:
        """The histogram; None where nothing was added."""
        intervals = self._intervals[at]
        assert intervals is not None
        new = intervals.next()
        if self._whole:
            new = intervals.whole()
        return new.get(None)

    # -- how it is shown

    def _event(self, at: int, key: Any) -> str:
        labels = self._probes[at].labels
        if not labels:
            return "total calls"
        values = vars(key).values()
        return ", ".join([f"{label} = {escape(str(value))}" for label, value in zip(labels, values, strict=True)])

    def _text(self, at: int, found: Any) -> str:
        probe = self._probes[at]
        statement = probe.statement
        if probe.histogram:
            label = statement.label or probe.labels[0]
            return found.text(escape(label)) if found is not None else ""
        out = f"{escape(statement.title)}\n\t{'COUNT':<10} EVENT\n"
        return out + "".join([f"\t{count:<10} {self._event(at, key)}\n" for key, count in found])

    def _json(self, blocks: list[Any]) -> str:
        from osmia.views.machine import json_line

        shown = []
        for at, found in enumerate(blocks):
            probe = self._probes[at]
            record: dict[str, Any] = {"specifier": probe.statement.source.text, "label": probe.statement.label}
            if probe.histogram:
                record["value"] = probe.labels[0]
                record["histogram"] = found.to_json() if found is not None else None
            else:
                record["names"] = probe.labels
                values = [list(vars(key).values()) if probe.labels else [] for key, _ in found]
                record["counts"] = [
                    {"values": one, "count": count} for one, (_, count) in zip(values, found, strict=True)
                ]
            shown.append(record)
        return json_line({"time": round(time.time(), 6), "specifiers": shown}) + "\n"

    def _csv(self, blocks: list[Any]) -> str:
        from osmia.views.machine import csv_row

        out, now = [], f"{time.time():.6f}"
        for at, found in enumerate(blocks):
            probe = self._probes[at]
            title = probe.statement.title
            if not probe.histogram:
                out += [csv_row((now, title, self._event(at, key), count)) for key, count in found]
            elif found is not None:
                out += [csv_row((now, title, f"{low}..{high}", count)) for low, high, count in found.rows()]
        return "".join([row + "\n" for row in out])
