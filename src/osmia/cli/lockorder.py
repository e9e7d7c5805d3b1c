# SPDX-License-Identifier: Apache-2.0
"""A cycle in the order of locks: as text in bcc's form, or as one JSON object."""

from __future__ import annotations

from osmia.cli.stacks import Row, StackView, believable
from osmia.errors import OptionError
from osmia.views.cycles import cycles
from osmia.views.escape import escape
from osmia.views.frames import TRUNCATED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.cli.session import Session
    from osmia.lang.lockorder import LockOrder
    from osmia.symbols.frame import Frame

#: Exit status of a run that has found a cycle, as in bcc.
_FOUND = 1


class LockOrderView(StackView):
    """Looks at the graph each second, and ends the run with the first cycle."""

    def __init__(self, session: Session, template: LockOrder) -> None:
        super().__init__(session, template)
        if self._mode == "csv":
            raise OptionError("a cycle is no row of a table", where="option --csv", fix="use --json")
        self._order = template
        self.samples = None  # a cycle is no count of stacks
        self._edges = 0
        self.interval = 1.0

    def begin(self) -> str:
        return f"{self._template.banner}\n" if self._mode == "table" else ""

    def summary(self, last: bool) -> str:
        if not last:
            self._watched.refresh()
        if self._session.status:
            return ""
        edges = dict(self._order.edges.items())
        self._session.note(f"Mutexes: {len({end for edge in edges for end in _ends(edge)})}, Edges: {len(edges)}")
        if self._order.dump:
            self._dump(edges)
        if len(edges) == self._edges:  # edges stay: nothing is new
            return ""
        self._edges = len(edges)
        found = cycles(_ends(edge) for edge in edges)
        if not found:
            return ""
        self._session.status = _FOUND
        self._session.stop.asked = True
        ways = {_ends(edge): how for edge, how in edges.items()}
        nodes = found[0]
        steps = [(first, second, ways[first, second])
                 for first, second in zip(nodes, nodes[1:] + nodes[:1], strict=True)]  # fmt: skip
        return self._report(steps)

    def _report(self, steps: list[tuple[int, int, Any]]) -> str:
        makers = dict(self._order.threads.items())
        made = {how.tid: makers.get(how.thread) for _, _, how in steps}
        names = self._mutexes(steps)
        if self._mode == "table":
            return self._written(steps, names, made)
        from osmia.views.machine import json_line

        record = {
            "mutexes": [{"name": f"M{n}", "address": step[0]} for n, step in enumerate(steps)],
            "edges": [{
                "first": first, "second": second, "pid": how.pid, "tid": how.tid, "comm": how.comm,
                "first_stack": self._frames_of(how.first_stack, how.first_caller, how),
                "second_stack": self._frames_of(how.second_stack, how.second_caller, how),
            } for first, second, how in steps],
            "threads": [{
                "tid": tid, "created_by": maker.tid if maker else 0,
                "stack": self._frames_of(maker.stack, maker.caller, maker) if maker else [],
            } for tid, maker in made.items()],
        }  # fmt: skip
        return json_line(record) + "\n"

    def _written(self, steps: list[tuple[int, int, Any]], names: dict[int, str], made: dict[int, Any]) -> str:
        order = " => ".join([names[first] for first, _, _ in steps] + [names[steps[0][0]]])
        out = [f"----------------\nPotential Deadlock Detected!\n\nCycle in lock order graph: {order}\n"]
        for first, second, how in steps:
            thread = f"Thread {how.tid} ({escape(how.comm)})"
            out.append(f"{names[second]} acquired here while holding {names[first]} in {thread}:")
            out += [*self._lines(how.second_stack, how.second_caller, how), ""]
            out.append(f"{names[first]} previously acquired by the same {thread} here:")
            out += [*self._lines(how.first_stack, how.first_caller, how), ""]
        for tid, maker in made.items():
            if maker is None:
                out += [f"Could not find stack trace where Thread {tid} was created", ""]
                continue
            out.append(f"Thread {tid} created by Thread {maker.tid} ({escape(maker.comm)}) here:")
            out += [*self._lines(maker.stack, maker.caller, maker), ""]
        return "\n".join(out) + "\n"

    def _mutexes(self, steps: list[tuple[int, int, Any]]) -> dict[int, str]:
        return {first: f"Mutex M{n} ({first:#018x})" for n, (first, _, _) in enumerate(steps)}

    def _side(self, number: int, caller: int, whose: Any) -> tuple[list[Frame], bool]:
        """The frames of a stack that was taken at a function's entry, and whether they are all."""
        trace = self._template.stacks.get(number)
        if trace is None:
            return [], True
        if caller and caller not in trace[1:2]:
            trace = type(trace)((trace[0], caller, *trace[1:]), cut=trace.cut, user=True)
        (side,) = self._names.user_stacks(whose.pid, [trace], whose.since)
        return believable(side, trace.cut)

    def _frames_of(self, number: int, caller: int, whose: Any) -> list[dict[str, object]]:
        return [{"label": frame.label, **frame.record()} for frame in self._side(number, caller, whose)[0]]

    def _lines(self, number: int, caller: int, whose: Any) -> list[str]:
        side, whole = self._side(number, caller, whose)
        if side:  # what is said about stacks at the end is about those that were shown
            row = Row(whose, 1, {"stack": side}, frozenset(() if whole else ("stack",)))
            self._all.append((self._folded(row), 1))
        lines = [f"@ {frame.address:016x} {escape(str(frame))}" for frame in side]
        return lines + ([] if whole else [f"@ {TRUNCATED}"]) or ["@ [no stack]"]

    def _dump(self, edges: dict[Any, Any]) -> None:
        """The whole graph, as networkx reads it (node-link data)."""
        import json

        from osmia.views.output import open_output

        nodes = list({end: None for edge in edges for end in _ends(edge)})
        number = {node: n for n, node in enumerate(nodes)}
        links = [{
            "source": number[edge.first], "target": number[edge.second], "thread_pid": how.tid,
            "thread_comm": how.comm, "first_mutex_stack_id": how.first_stack,
            "second_mutex_stack_id": how.second_stack,
        } for edge, how in edges.items()]  # fmt: skip
        graph = {"directed": True, "multigraph": False, "graph": {}, "nodes": [{"id": node} for node in nodes],
                 "links": links}  # fmt: skip
        out = open_output(self._order.dump.value)
        out.write(json.dumps(graph, indent=2) + "\n")
        out.close()


def _ends(edge: Any) -> tuple[int, int]:
    return edge.first, edge.second
