# SPDX-License-Identifier: Apache-2.0
"""Times by caller: a table in bcc's form, JSON, CSV, and flame graphs of the whole stacks."""

from __future__ import annotations

import sys
import time

from osmia.cli.stacks import Row, StackView, of_tracing
from osmia.errors import NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.cli.session import Session
    from osmia.lang.callers import CallerTable, Times
    from osmia.symbols.frame import Frame

    Rows = list[tuple[Times, list[Frame]]]

#: What is measured: how ``-S`` calls it, and the word in headings.
WAIT, HOLD = ("acq", "Wait"), ("hld", "Hold")
_FIELDS = {"max": "longest", "total": "total", "count": "count"}


def untraced(side: list[Frame]) -> list[Frame]:
    """A kernel stack without pieces of tracing in its midst: functions that are traced are called by one.

    Such a piece is made anew whenever somebody else begins or ends tracing the same function, so by the time of the
    report its name may be gone; all other kernel functions have names.
    """
    return [frame for frame in side if frame.name and not of_tracing(frame.name)] or side


class CallerView(StackView):
    """A table of waits and one of holding, every interval, or at the end."""

    def __init__(self, session: Session, template: CallerTable) -> None:
        super().__init__(session, template)
        self._table = template
        self.interval = self._asked
        asked = [field.partition("_") for field in str(template.sort).split(",")]
        self._sort = {kind: _FIELDS[field] for kind, _, field in reversed(asked)}
        #: What pictures and recordings have: what ``-S`` is about, the waits where it says nothing.
        self._drawn = HOLD if template.sort.given and asked[0][0] == HOLD[0] else WAIT
        self._kinds = [WAIT]
        if session.replayed or any(prog in session.running for prog in template.holding):
            self._kinds.append(HOLD)

    def begin(self) -> str:
        self._tell_what_is_missing()
        if self._alone or self._mode == "json":
            return ""
        if self._mode == "csv":
            return "caller,average,count,max,total,lock,what\n"
        return f"{self._table.banner}\n"

    def _tell_what_is_missing(self) -> None:
        if HOLD in self._kinds or not any(prog.enabled for prog in self._table.holding):
            return
        text = "times that locks are held cannot be measured: this kernel lets nobody trace the functions of locking"
        if self._table.sort.given and HOLD[0] in self._sort:
            raise NotSupported(text, where="option -S", fix="sort by acq_max, acq_total or acq_count")
        if self._mode == "table" or self._session.verbose:
            sys.stderr.write(f"osmia: {text} (-v says why)\n")

    def summary(self, last: bool) -> str:
        found = [(kind, self._measured(kind)) for kind in self._kinds]
        self._shown += 1
        if self._alone or (last and self._shown > 1 and not any(rows for _, rows in found)):
            return ""
        for kind, rows in found:
            field = self._sort.get(kind[0], "longest")
            rows.sort(key=lambda pair: getattr(pair[0], field), reverse=True)
        return "".join([self._table_of(kind, rows[: int(self._table.most)]) for kind, rows in found])

    def _measured(self, kind: tuple[str, str]) -> Rows:
        """What was measured since the last time, by what is shown of it; and all of it for the pictures."""
        found = list(self._table.times() if kind is WAIT else self._table.held())
        frames = self._frames([one.key for one in found])
        rows: dict[tuple[object, ...], tuple[Times, list[Frame]]] = {}
        for one in found:
            side, whole = frames.get((one.key.stack, 0, 0), ([], True))
            side = untraced(side)
            if kind is self._drawn:
                cut = frozenset(() if whole else ("stack",))
                row = Row(one.key, one.total, {"stack": side} if side else {}, cut)
                self._all.append((self._folded(row), one.total))
                if self.sink is not None:
                    self._hand_over(row, time.monotonic_ns())
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

    def _table_of(self, kind: tuple[str, str], rows: Rows) -> str:
        from osmia.views.escape import escape

        word = kind[1]
        if self._mode == "json":
            return self._objects(word.lower(), rows)
        if self._mode == "csv":
            from osmia.views.machine import csv_row

            return "".join([
                csv_row((str(side[0]) if side else "", one.total // one.count, one.count, one.longest, one.total,
                         one.kind, word.lower())) + "\n"
                for one, side in rows
            ])  # fmt: skip
        out = [f"\n{'Caller':>40} {'Avg ' + word:>12} {'Count':>8} {'Max ' + word:>12} {'Total ' + word:>14}  Lock\n"]
        for one, side in rows:
            caller = escape(str(side[0])) if side else "[no stack]"
            out.append(f"{caller:>40} {one.total // one.count:12} {one.count:8} {one.longest:12} {one.total:14}"
                       f"  {one.kind}\n")  # fmt: skip
            out += [f"{escape(str(frame)):>40}\n" for frame in side[1:]]
        return "".join(out)

    def _objects(self, what: str, rows: Rows) -> str:
        from osmia.views.machine import json_line

        now = round(time.time(), 6)
        return "".join([
            json_line({
                "time": now, "what": what, "caller": side[0].label if side else "", "lock": one.kind,
                "count": one.count, "total": one.total, "max": one.longest, "unit": "ns",
                "stack": [{"label": frame.label, **frame.record()} for frame in side],
            }) + "\n"
            for one, side in rows
        ])  # fmt: skip
