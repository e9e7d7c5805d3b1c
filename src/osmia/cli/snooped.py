# SPDX-License-Identifier: Apache-2.0
"""What ksnoop shows: calls of kernel functions, with values as C writes those of their types."""

from __future__ import annotations

from osmia.cli.templates import View, mode_of
from osmia.events.decode import Decoder
from osmia.obj import btf_values
from osmia.views.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from osmia.cli.session import Session
    from osmia.tools._snoop import Value

_MARGIN = " " * 33


class SnoopView(View):
    """A block of lines for each call and for each return."""

    def __init__(self, session: Session, template: Any) -> None:
        self._template = template
        self._mode = mode_of(session)
        self._decoder = Decoder(template.ring.event)

    def begin(self) -> str:
        if self._mode == "csv":
            return "time,cpu,pid,function,returns,values\n"
        return "" if self._mode == "json" else f"{'TIME':>14} {'CPU':>4} {'PID':>8} FUNCTION/ARGS\n"

    def readers(self) -> list[tuple[str, Callable[[bytes], str]]]:
        return [(self._template.ring.live.name, self._text)]

    def _text(self, span: bytes) -> str:
        show = {"json": self._json, "csv": self._csv}.get(self._mode, self._block)
        return "".join([show(one) for one in self._decoder.objects(span)])

    def _values(self, one: Any) -> list[tuple[Value, int, list[str]]]:
        """Each value with its number and what it is in C: of a pointer the structure behind it."""
        function = self._template.functions[one.which]
        out = []
        for n, value in enumerate(function.leave if one.returns else function.entry):
            number = getattr(one, f"v{n}")
            if value.size and number:
                data = bytes(getattr(one, f"d{n}"))[: value.size]
                shown = btf_values.lines(value.btf, value.target, data)
            else:
                shown = btf_values.lines(value.btf, value.id, number.to_bytes(8, "little"))
            out.append((value, number, shown))
        return out

    def _block(self, one: Any) -> str:
        name = self._template.functions[one.which].name
        out = [f"{one.time:>14} {one.cpu:>4} {one.pid:>8} {name}("]
        values = self._values(one)
        for at, (value, number, shown) in enumerate(values):
            behind = f" *({number:#x})" if value.size and number else ""
            out.append(f"{_MARGIN}{value.text} ={behind}")
            out += [f"{_MARGIN} {line}" for line in shown]
            out[-1] += "," if at + 1 < len(values) else ""
        return "".join([escape(line) + "\n" for line in [*out, f"{'':<29});", ""]])

    def _json(self, one: Any) -> str:
        from osmia.views.machine import json_line

        values = [{"name": value.text, "value": number, "text": "\n".join(shown)}
                  for value, number, shown in self._values(one)]  # fmt: skip
        record = {"time": one.time, "cpu": one.cpu, "pid": one.pid, "returns": bool(one.returns),
                  "function": self._template.functions[one.which].name, "values": values}  # fmt: skip
        return json_line(record) + "\n"

    def _csv(self, one: Any) -> str:
        from osmia.views.machine import csv_row

        values = " ".join([f"{value.text}={number:#x}" for value, number, _ in self._values(one)])
        name = self._template.functions[one.which].name
        return csv_row((one.time, one.cpu, one.pid, name, int(bool(one.returns)), values)) + "\n"
