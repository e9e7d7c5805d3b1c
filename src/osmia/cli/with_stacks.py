# SPDX-License-Identifier: Apache-2.0
"""Events as rows, each with the stacks that led to it below.

The events have the fields ``pid``, ``comm``, ``user`` and ``kernel``, the last two
numbers of the template's ``stacks``.  Stacks are named as the events come, so
a process is looked at while it is likely to live.
"""

from __future__ import annotations

from osmia.cli.stacks import believable, traced
from osmia.cli.templates import EventsView, mode_of
from osmia.events.decode import Decoder
from osmia.symbols.symbolizer import Symbolizer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from osmia.cli.session import Session
    from osmia.lang.templates import EventTable
    from osmia.symbols.frame import Frame


class EventsWithStacks(EventsView):
    """With ``template.folded`` only the stacks, one line each; in JSON they are in the record."""

    def __init__(self, session: Session, template: EventTable) -> None:
        super().__init__(session, template)
        self._names = Symbolizer(programs=session.programs)
        self._decoder = Decoder(template.ring.event)
        self._stacks: Any = template.stacks
        self._folded = bool(template.folded)
        self._mode = mode_of(session)

    def begin(self) -> str:
        return "" if self._folded and self._mode == "table" else super().begin()

    def readers(self) -> list[tuple[str, Callable[[bytes], str]]]:
        ((ring, text),) = super().readers()
        return [(ring, lambda span: self._with_stacks(span, text))]

    def _with_stacks(self, span: bytes, text: Callable[[bytes], str]) -> str:
        keep = self._template.keep
        events = [one for one in self._decoder.objects(span) if keep is None or keep(one)]
        if self._folded and self._mode == "table":
            return "".join([self._line(one) for one in events])
        lines = text(span).split("\n")[: len(events)]
        if self._mode == "csv":
            return "".join([line + "\n" for line in lines])
        return "".join([self._below(line, one) for line, one in zip(lines, events, strict=True)])

    def _sides(self, one: Any) -> tuple[list[Frame], list[Frame]]:
        """The kernel's frames and the program's, innermost first."""
        kernel = self._stacks.get(one.kernel) if one.kernel else None
        user = self._stacks.get(one.user) if one.user else None
        return (
            traced(self._names.kernel.stack(kernel)) if kernel is not None else [],
            believable(self._names.user_stack(one.pid, user, 0), user.cut)[0] if user is not None else [],
        )

    def _below(self, line: str, one: Any) -> str:
        kernel, user = self._sides(one)
        if self._mode == "json":
            from osmia.views.machine import json_line

            more = {
                name: [{"label": frame.label, **frame.record()} for frame in side]
                for name, side in (("kernel_stack", kernel), ("user_stack", user))
            }
            return f"{line[:-1]},{json_line(more)[1:]}\n"
        from osmia.views.escape import escape

        return line + "\n" + "".join([f"    {escape(frame.label)}\n" for frame in (*kernel, *user)])

    def _line(self, one: Any) -> str:
        from osmia.views import folded
        from osmia.views.frames import KERNEL, OTHER, USER

        kernel, user = self._sides(one)
        stack = [(one.comm, OTHER)]
        stack += [(frame.label, USER) for frame in reversed(user)]
        stack += [(frame.label, KERNEL) for frame in reversed(kernel)]
        return folded.text([(tuple(stack), 1)], annotate=False, delimiter=bool(kernel and user))

    def finish(self) -> str:
        self._names.close()
        return ""
