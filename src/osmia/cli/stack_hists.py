# SPDX-License-Identifier: Apache-2.0
"""Histograms by kernel stack: each headed by the stack and whose it is, the one with the largest sum at the end."""

from __future__ import annotations

import time

from osmia.cli.stacks import traced
from osmia.cli.summaries import HistogramView, wants_time
from osmia.errors import UserError
from osmia.symbols.frame import Frame
from osmia.symbols.symbolizer import Symbolizer
from osmia.views.frames import TRUNCATED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from osmia.cli.session import Session
    from osmia.lang.stacks import Stacks
    from osmia.lang.templates import Histogram
    from osmia.views.hist import Histogram as Picture


class Labels:
    """What keys with a kernel stack (``kernel``), a process and its name look like.

    ``programs`` gives descriptors and names of BPF programs that may be in the stacks.
    """

    def __init__(self, stacks: Stacks, programs: Callable[[], list[tuple[int, str]]] | None = None) -> None:
        self._stacks = stacks
        self._names = Symbolizer(programs=programs)
        self._known: dict[int, tuple[list[Frame], bool]] = {}

    def stack(self, key: Any) -> tuple[list[Frame], bool]:
        """The frames, innermost first, and whether some are missing."""
        known = self._known.get(key.kernel)
        if known is None:
            trace = self._stacks.get(key.kernel)
            frames = traced(self._names.kernel.stack(trace)) if trace is not None else []
            known = self._known[key.kernel] = frames, trace is not None and trace.cut
        return known

    def folded(self, key: Any) -> str:
        """The name and the stack as one line, root first."""
        frames, cut = self.stack(key)
        return ";".join([key.comm, *[TRUNCATED] * cut, *[frame.label for frame in reversed(frames)]])


    def recorded(self, key: Any) -> str:
        """Name and stack as a recording has them, for :class:`Recorded`."""
        import json

        frames, cut = self.stack(key)
        return json.dumps({"comm": key.comm, "cut": cut, "stack": [list(frame.record().values()) for frame in frames]})


class Recorded(Labels):
    """The same in a replay; ``label`` gives what :meth:`Labels.recorded` gave."""

    def __init__(self, label: Callable[[Any], str]) -> None:
        self._label = label
        self._made: dict[Any, tuple[list[Frame], bool]] = {}

    def stack(self, key: Any) -> tuple[list[Frame], bool]:
        known = self._made.get(key)
        if known is None:
            known = self._made[key] = _parsed(self._label(key))
        return known


def _parsed(text: str) -> tuple[list[Frame], bool]:
    """Raises UserError where it is damaged."""
    import json

    try:
        said = json.loads(text)
        frames = []
        for address, build_id, file_offset, kind, module, name, offset in said["stack"]:
            frames.append(Frame(int(address), str(kind), str(name), int(offset), str(module), str(build_id),
                                int(file_offset)))  # fmt: skip
        return frames, bool(said["cut"])
    except (KeyError, TypeError, ValueError):
        raise UserError("the label of a stack is damaged", where="recording") from None


def labels_of(session: Session, template: Histogram) -> Labels:
    """What names the keys of a run, or of a replay."""
    assert template.stacks is not None
    if session.replayed:
        assert template.label is not None
        return Recorded(template.label)
    return Labels(template.stacks, session.programs)


class StackHistogramView(HistogramView):
    """The histogram template with ``stacks``."""

    def __init__(self, session: Session, template: Histogram, labels: Labels) -> None:
        super().__init__(session, template)
        self._labels = labels
        #: What a recording has as the label of a key.
        self.recorded_label = labels.recorded

    def _show(self, new: dict[Any, Picture]) -> str:
        """What looks the same, although the addresses within functions differ, is shown as one."""
        alike: dict[tuple[str, int], Any] = {}
        merged: dict[Any, Picture] = {}
        for key, one in new.items():
            first = alike.setdefault((self._label(key), key.pid), key)
            merged[first] = merged[first].merge(one) if first in merged else one
        return super()._show(dict(sorted(merged.items(), key=lambda item: item[1].sum or 0)))

    def _label(self, key: Any) -> str:
        return self._labels.folded(key)

    def _text(self, new: dict[Any, Picture]) -> str:
        from osmia.views.escape import escape

        out = "\n" + time.strftime("%H:%M:%S") + "\n" if wants_time(self._session) else ""
        for key, one in new.items():
            frames, cut = self._labels.stack(key)
            lines = [frame.label for frame in frames] + [TRUNCATED] * cut
            head = "".join([f"    {escape(line)}\n" for line in lines])
            out += f"\n{head}    {'-':<16} {escape(f'{key.comm} ({key.pid})')}\n{one.text(self._unit)}"
        return out

    def _json(self, new: dict[Any, Picture]) -> str:
        from osmia.views.machine import json_line

        histograms = []
        for key, one in new.items():
            frames, cut = self._labels.stack(key)
            kernel = [{"label": frame.label, **frame.record()} for frame in frames]
            head = {"pid": key.pid, "comm": key.comm, "kernel": kernel, "cut": ["kernel"] * cut}
            histograms.append({**head, **one.to_json()})
        return json_line({"time": round(time.time(), 6), "unit": self._unit, "histograms": histograms}) + "\n"
