# SPDX-License-Identifier: Apache-2.0
"""Times by caller: a table in bcc's form, JSON, CSV, and flame graphs of the whole stacks."""

from __future__ import annotations

import time

from osmia.cli.stacks import Row, StackView

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.cli.session import Session
    from osmia.lang.callers import CallerTable, Times
    from osmia.symbols.frame import Frame

_FIELDS = {"acq_max": "longest", "acq_total": "total", "acq_count": "count"}


class CallerView(StackView):
    """A table every interval, or at the end."""

    def __init__(self, session: Session, template: CallerTable) -> None:
        super().__init__(session, template)
        self._table = template
        self.interval = self._asked

    def begin(self) -> str:
        if self._alone or self._mode == "json":
            return ""
        if self._mode == "csv":
            return "caller,average,count,max,total,lock\n"
        return f"{self._table.banner}\n"

    def summary(self, last: bool) -> str:
        rows = self._measured()
        self._shown += 1
        if self._alone or (last and not rows and self._shown > 1):
            return ""
        field = _FIELDS[str(self._table.sort)]
        rows.sort(key=lambda pair: getattr(pair[0], field), reverse=True)
        return self._table_of(rows[: int(self._table.most)])

    def _measured(self) -> list[tuple[Times, list[Frame]]]:
        """What was measured since the last time, by what is shown of it; and all of it for the pictures."""
        found = list(self._table.times())
        frames = self._frames([one.key for one in found])
        rows: dict[tuple[object, ...], tuple[Times, list[Frame]]] = {}
        for one in found:
            side, whole = frames.get((one.key.stack, 0, 0), ([], True))
            cut = frozenset(() if whole else ("stack",))
            self._all.append((self._folded(Row(one.key, one.total, {"stack": side} if side else {}, cut)), one.total))
            side = self._outside(side)
            if not (side[0].name if side else "").startswith(str(self._table.caller)):
                continue
            shown = side[: int(self._table.frames)]
            looks = (one.kind, *map(str, shown))
            same = rows.setdefault(looks, (one, shown))[0]
            if same is not one:
                same.add(one.count, one.longest, one.total)
        return list(rows.values())

    def _outside(self, side: list[Frame]) -> list[Frame]:
        for at, frame in enumerate(side):
            if not self._table.inner(frame.name):
                return side[at:]
        return side

    def _table_of(self, rows: list[tuple[Times, list[Frame]]]) -> str:
        from osmia.views.escape import escape

        if self._mode == "json":
            return self._objects(rows)
        if self._mode == "csv":
            from osmia.views.machine import csv_row

            return "".join([
                csv_row((str(side[0]) if side else "", one.total // one.count, one.count, one.longest, one.total,
                         one.kind)) + "\n"
                for one, side in rows
            ])  # fmt: skip
        word = self._table.word
        out = [f"\n{'Caller':>40} {'Avg ' + word:>12} {'Count':>8} {'Max ' + word:>12} {'Total ' + word:>14}  Lock\n"]
        for one, side in rows:
            caller = escape(str(side[0])) if side else "[no stack]"
            out.append(f"{caller:>40} {one.total // one.count:12} {one.count:8} {one.longest:12} {one.total:14}"
                       f"  {one.kind}\n")  # fmt: skip
            out += [f"{escape(str(frame)):>40}\n" for frame in side[1:]]
        return "".join(out)

    def _objects(self, rows: list[tuple[Times, list[Frame]]]) -> str:
        from osmia.views.machine import json_line

        now = round(time.time(), 6)
        return "".join([
            json_line({
                "time": now, "caller": side[0].label if side else "", "lock": one.kind, "count": one.count,
                "total": one.total, "max": one.longest, "unit": "ns",
                "stack": [{"label": frame.label, **frame.record()} for frame in side],
            }) + "\n"
            for one, side in rows
        ])  # fmt: skip
