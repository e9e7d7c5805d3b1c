# SPDX-License-Identifier: Apache-2.0
"""Waits by thread, lock and user stack: as libbpf-tools' futexctn prints them, or as JSON with named frames."""

from __future__ import annotations

import sys
import time

from osmia.cli.stack_hists import Labels, Recorded, StackHistogramView
from osmia.cli.stacks import Watched, believable
from osmia.cli.summaries import HistogramView, wants_time
from osmia.views.frames import TRUNCATED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from osmia.cli.session import Session
    from osmia.lang.waits import Waits
    from osmia.symbols.frame import Frame
    from osmia.views.hist import Histogram as Picture


class WaitLabels(Labels):
    """The same with the user stack (``user``) of a process."""

    def __init__(self, template: Waits) -> None:
        super().__init__(template.user_stacks)
        self._named: dict[tuple[int, int, int], tuple[list[Frame], bool]] = {}
        self.watched = Watched(self._names)

    def stack(self, key: Any) -> tuple[list[Frame], bool]:
        place = (key.user, key.pid, key.since)
        known = self._named.get(place)
        if known is None:
            trace = self._stacks.get(key.user) if key.user else None
            known = [], False
            if trace is not None:
                frames, whole = believable(self._names.user_stack(key.pid, trace, key.since), trace.cut)
                known = frames, not whole
            self._named[place] = known
        return known

    def close(self) -> None:
        """Forget the processes."""
        self._names.close()


class WaitView(StackHistogramView):
    """The template :class:`osmia.lang.waits.Waits`."""

    def __init__(self, session: Session, template: Waits) -> None:
        assert not session.replayed or template.label is not None
        self._live = None if session.replayed else WaitLabels(template)
        super().__init__(session, template, self._live or Recorded(template.label))  # type: ignore[arg-type]

    def readers(self) -> list[tuple[str, Callable[[bytes], str]]]:
        """Which processes there are; a replay knows the names already."""
        ring = getattr(sys.modules.get("osmia.lang.images"), "images", None)
        if ring is None or getattr(ring, "live", None) is None:
            return []
        return [(ring.live.name, self._first_stacks)]

    def _first_stacks(self, span: bytes) -> str:
        from osmia.events.decode import Decoder
        from osmia.lang.images import Image

        if self._live is not None:
            self._live.watched.began([(row[0], row[1]) for row in Decoder(Image).rows(span)])
        return ""

    def _show(self, new: dict[Any, Picture]) -> str:
        """What looks the same is shown as one, the longest wait of all together at the end."""
        alike: dict[tuple[Any, ...], Any] = {}
        merged: dict[Any, Picture] = {}
        for key, one in new.items():
            first = alike.setdefault((self._label(key), key.pid, key.tid), key)
            merged[first] = merged[first].merge(one) if first in merged else one
        ordered = dict(sorted(merged.items(), key=lambda item: (item[1].sum or 0, vars(item[0]).get("lock", 0))))
        return HistogramView._show(self, ordered)

    def _label(self, key: Any) -> str:
        return f"{key.lock:#x};{self._labels.folded(key)}"

    def _text(self, new: dict[Any, Picture]) -> str:
        from osmia.views.escape import escape

        out = "\n" + time.strftime("%H:%M:%S") + "\n" if wants_time(self._session) else ""
        for key, one in new.items():
            out += f"\n\n{escape(key.comm)}[{key.tid or key.pid}] lock {key.lock:#x} {self._sum(one)}\n"
            if key.tid:
                frames, cut = self._labels.stack(key)
                lines = ["-", *[frame.label for frame in frames], *[TRUNCATED] * cut, "-"]
                out += "".join([f"    {escape(line)}\n" for line in lines])
            out += one.text(self._unit)
        return out

    def _sum(self, one: Picture) -> str:
        """Extremes of an interval are known only if they are new ones; else how far the buckets go."""
        slots = [slot for slot, n in one.counts.items() if n]
        low = one.min if one.min is not None else one.bounds(min(slots))[0]
        high = str(one.max) if one.max is not None else f"<= {one.bounds(max(slots))[1]}"
        unit, average = self._unit, (one.sum or 0) // one.count
        return f"contended {one.count} times, {average} avg {unit} [max: {high} {unit}, min {low} {unit}]"

    def _json(self, new: dict[Any, Picture]) -> str:
        from osmia.views.machine import json_line

        histograms = []
        for key, one in new.items():
            frames, cut = self._labels.stack(key) if key.tid else ([], False)
            user = [{"label": frame.label, **frame.record()} for frame in frames]
            head = {"pid": key.pid, "tid": key.tid, "comm": key.comm, "lock": key.lock, "user": user,
                    "cut": ["user"] * cut}  # fmt: skip
            histograms.append({**head, **one.to_json()})
        return json_line({"time": round(time.time(), 6), "unit": self._unit, "histograms": histograms}) + "\n"

    def finish(self) -> str:
        if self._live is not None:
            self._live.close()
        return ""
