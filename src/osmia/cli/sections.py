# SPDX-License-Identifier: Apache-2.0
"""Sections of the kernel that took long: each as a block in bcc's form, or as one JSON object."""

from __future__ import annotations

from osmia.cli.with_stacks import EventsWithStacks
from osmia.errors import OptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.cli.session import Session
    from osmia.lang.templates import EventTable

_RULE = "=" * 35


class SectionsView(EventsWithStacks):
    """Events have ``ns``, ``pid``, ``tid``, ``comm``, and the addresses of two calls at either end.

    These are ``begin``, ``begin_parent``, ``end``, ``end_parent``: where the calls return to.
    """

    def __init__(self, session: Session, template: EventTable) -> None:
        super().__init__(session, template)
        if self._mode == "csv":
            raise OptionError("a section is no row of a table", where="option --csv", fix="use --json")

    def begin(self) -> str:
        return f"{self._template.banner_text()}\n" if self._mode == "table" else ""

    def _below(self, line: str, one: Any) -> str:
        begin, outer_begin, end, outer_end = [
            self._names.kernel.stack((address, address))[1].label  # the second one is where a call returns to
            for address in (one.begin, one.begin_parent, one.end, one.end_parent)
        ]
        if self._mode == "json":
            from osmia.views.machine import json_line

            names = {"begin_at": begin, "begin_from": outer_begin, "end_at": end, "end_from": outer_end}
            return super()._below(f"{line[:-1]},{json_line(names)[1:]}", one)
        from osmia.views.escape import escape

        head = f"TASK: {escape(one.comm)} (pid {one.pid:>5} tid {one.tid:>5}) Total Time: {one.ns / 1000:<9.3f}us"
        out = [_RULE, head, "", f"Section start: {begin} -> {outer_begin}", f"Section end:   {end} -> {outer_end}"]
        out += [f"  {escape(frame.label)}" for frame in self._sides(one)[0]]
        return "\n".join([*out, _RULE, "", ""])
