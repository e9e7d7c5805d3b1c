# SPDX-License-Identifier: Apache-2.0
"""The programs of trace: what each specification wants to know, as an event of one common kind.

One ring carries the events of all specifications, so that they come in the
order in which they happened; an event has room for the values of the
specification that has most of them.
"""

from __future__ import annotations

from osmia.compiler import syntax as ast
from osmia.compiler.built import in_c
from osmia.lang.maps import Ring
from osmia.lang.types import Comm, Event, Str, u32, u64
from osmia.probespec.formats import STRING, Conversion
from osmia.probespec.statements import Statement
from osmia.probespec.tree import Cast
from osmia.tools._probes import Probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_INTEGERS = {
    (size, signed): f"{'s' if signed else 'u'}{8 * size}" for size in (1, 2, 4, 8) for signed in (True, False)
}


class Message:
    """What is shown of one specification: ``fields`` are those of the event that its values are in, in order.

    ``names`` are the places' names, by the event's ``which``.
    """

    def __init__(self, probe: Probe) -> None:
        statement = probe.statement
        self.probe = probe
        self.text = statement.source.text
        self.conversions: list[Conversion] = statement.format.conversions if statement.format is not None else []
        self.format = statement.format.python if statement.format is not None else ""
        self.fields: list[str] = []
        numbers = texts = 0
        for one in self.conversions:
            if one.what == STRING:
                self.fields.append(f"s{texts}")
                texts += 1
            else:
                self.fields.append(f"v{numbers}")
                numbers += 1


def ring_of(messages: list[Message], string_size: int, bytes_: int) -> Ring:
    """The ring for all of them."""
    notes: dict[str, Any] = {
        "time": u64, "place": u64, "since": u64, "which": u32, "cpu": u32, "pid": u32, "tid": u32, "kernel": u32,
        "user": u32, "comm": Comm,
    }  # fmt: skip
    used = {name for message in messages for name in message.fields}
    for letter, kind in (("v", u64), ("s", Str.of(string_size))):
        count = sum(name.startswith(letter) for name in used)
        notes.update({f"{letter}{n}": kind for n in range(count)})
    return Ring(type("Message", (Event,), {"__annotations__": notes}), bytes_)


def program(message: Message, which: int, space: dict[str, Any]) -> int:
    """Make the programs of one specification; ``which`` is the number of its first place, the next one comes back."""
    probe, statement = message.probe, message.probe.statement
    begins = probe.begins()
    for hook in probe.hooks:
        body = ["if not wanted() or is_itself():", "    return", *begins]
        holes: dict[str, ast.expr] = {}
        if statement.filter is not None:
            body += ["if not __filter:", "    return"]
            holes["__filter"] = statement.filter
        body += [
            "with events.reserve() as e:",
            "    e.time = ktime()",
            f"    e.which = {which}",
            "    e.cpu = cpu()",
            "    e.pid = current_process_id()",
            "    e.tid = current_thread_id()",
            "    e.comm = current.comm",
        ]
        body += [f"    e.place = {probe.which}()"] if probe.which else []
        body += [
            "    if kernel_stack:",
            "        e.kernel = stacks.kernel()",
            "    if user_stack:",
            "        e.user = stacks.user()",
            "        e.since = image()",
        ]
        body += _values(message, statement, holes)
        probe.add(f"probe_{which}", hook, body, holes, {**space, **probe.declared})
        which += 1
    return which


def _values(message: Message, statement: Statement, holes: dict[str, ast.expr]) -> list[str]:
    """Lines that put the values into the event."""
    lines = []
    for name, one, value in zip(message.fields, message.conversions, statement.values, strict=True):
        if one.what == STRING:
            holes[f"__{name}"] = in_c(value, text=True)
        else:
            cast = ast.copy_location(Cast(value, _INTEGERS[one.bytes, one.signed]), value)
            holes[f"__{name}"] = cast
        lines.append(f"    e.{name} = __{name}")
    return lines
