# SPDX-License-Identifier: Apache-2.0
"""What is held, by the calls that took it: as text in bcc's form, JSON, CSV, flame graphs."""

from __future__ import annotations

import time

from osmia.cli.stacks import Row, StackView
from osmia.views.frames import TRUNCATED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from osmia.cli.session import Session
    from osmia.lang.leaks import Held, HeldTable
    from osmia.symbols.frame import Frame

#: Seconds between summaries where nothing is said, as in bcc.
_USUAL = 5.0


class HeldView(StackView):
    """The state of what is held, every interval and at the end."""

    def __init__(self, session: Session, template: HeldTable) -> None:
        super().__init__(session, template)
        self._held = template
        self.interval = self._asked or _USUAL

    def begin(self) -> str:
        if self._alone or self._mode == "json":
            return ""
        if self._mode == "csv":
            return "bytes,allocations,pid,stack\n"
        return self._template.banner_text() + "\n"

    def readers(self) -> list[tuple[str, Callable[[bytes], str]]]:
        ring = self._held.calls.live
        return super().readers() + ([(ring.name, self._calls)] if ring is not None else [])  # type: ignore[attr-defined]

    def _calls(self, span: bytes) -> str:
        """Single calls as they come."""
        from osmia.cli.table import EventView

        if self._alone:
            return ""
        if self._mode == "table":
            from osmia.events.decode import Decoder

            decoded = Decoder(self._held.calls.event)
            return "".join([self._held.call(call) + "\n" for call in decoded.objects(span)])
        if self._mode == "json":
            from osmia.lang.templates import EventTable

            return EventView(EventTable(self._held.calls), "json").text(span)
        return ""

    def summary(self, last: bool) -> str:
        if not last:
            self._watched.refresh()
        held = {(one.key.pid, one.key.since, one.key.stack): one for one in self._held.held()}
        frames = self._frames([one.key for one in held.values()])
        rows = []
        for one in held.values():
            side, whole = frames.get((one.key.stack, one.key.pid, one.key.since), ([], True))
            cut = frozenset(() if whole else ("stack",))
            rows.append((one, Row(one.key, one.amount, {"stack": side} if side else {}, cut)))
        by_count = str(self._held.order) == "count"
        rows.sort(key=lambda pair: (pair[0].count, pair[0].amount) if by_count else (pair[0].amount, pair[0].count))
        self._all = [(self._folded(row), row.count) for _, row in rows]
        if self.sink is not None:
            now = time.monotonic_ns()
            for _, row in rows:
                self._hand_over(row, now)
        if self._alone:
            return ""
        return self._show(rows[-int(self._held.top) :])

    def _show(self, rows: list[tuple[Held, Row]]) -> str:
        if self._mode == "json":
            return self._objects(rows)
        if self._mode == "csv":
            from osmia.views import folded
            from osmia.views.machine import csv_row

            return "".join([
                csv_row((one.amount, one.count, one.key.pid, folded.fold(self._folded(row), 0)[:-2])) + "\n"
                for one, row in rows
            ])  # fmt: skip
        out = [f"[{time.strftime('%H:%M:%S')}] Top {len(rows)} stacks with outstanding allocations:\n"]
        for one, row in rows:
            out += [f"\taddr = {address:#x} size = {size}\n" for address, size in sorted(one.pieces)]
            out.append(f"\t{one.amount} bytes in {one.count} allocations from stack\n")
            out += [f"\t\t{line}\n" for line in _lines(row)]
        return "".join(out)

    def _objects(self, rows: list[tuple[Held, Row]]) -> str:
        from osmia.views.machine import json_line

        now = round(time.time(), 6)
        out = []
        for one, row in rows:
            side = row.sides.get("stack", [])
            record: dict[str, Any] = {
                "time": now, "bytes": one.amount, "allocations": one.count, "pid": one.key.pid,
                "stack": [{"label": frame.label, **frame.record()} for frame in side], "cut": bool(row.cut),
            }  # fmt: skip
            if one.pieces:
                record["pieces"] = [{"address": address, "size": size} for address, size in sorted(one.pieces)]
            out.append(json_line(record) + "\n")
        return "".join(out)


def _lines(row: Row) -> list[str]:
    from osmia.views.escape import escape

    side: list[Frame] = row.sides.get("stack", [])
    lines = [escape(f"{frame} [{frame.module_name}]" if _says_where(frame) else str(frame)) for frame in side]
    return ([*lines, TRUNCATED] if row.cut else lines) or ["[no stack]"]


def _says_where(frame: Frame) -> bool:
    """Whether a named frame of a program is followed by the file that it is from."""
    return bool(frame.name and frame.module and frame.kind == "user")
