# SPDX-License-Identifier: Apache-2.0
"""Tools that tell what there is and trace nothing: what a :class:`osmia.lang.templates.Listing` describes, written."""

from __future__ import annotations

from osmia.views.escape import escape
from osmia.views.output import Writer, open_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.cli.common import Common
    from osmia.lang.unit import Unit


def show(unit: Unit, common: Common) -> int:
    """Write the whole list; the exit status.  Raises UserErrors."""
    template: Any = unit.template
    if template.prepare is not None:
        template.prepare()
    out = open_output(common.output.value) if common.output else Writer(1)
    try:
        if common.json:
            from osmia.views.machine import json_line

            for record in template.records():
                out.write(json_line(record) + "\n")
        elif common.csv:
            from osmia.views.machine import csv_header, csv_row

            out.write(csv_header(list(template.fields)) + "\n")
            for record in template.records():
                out.write(csv_row([record.get(field, "") for field in template.fields]) + "\n")
        else:
            _text(template, out)
    finally:
        out.close()
    return 0


def _text(template: Any, out: Writer) -> None:
    """For people: names come from files and processes, so they are escaped."""
    records = template.records()
    if not callable(template.heading):
        out.write(template.heading)
    first = True
    for record in records:
        if first and callable(template.heading):
            out.write(template.heading())
        first = False
        out.write("".join([escape(line) + "\n" for line in template.text(record).split("\n")]))
    if first and callable(template.heading):
        out.write(template.heading())
