# SPDX-License-Identifier: Apache-2.0
"""``osmia record`` where neither root nor a kernel is needed: views of stacks, by a view that a test makes up."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from osmia import Col, Event, Hash, Ring, event_table, histogram, log2_hist, u32, u64
from osmia.cli import record
from osmia.cli.common import Common
from osmia.cli.templates import View
from osmia.events import recording, samples
from osmia.events.recording import Reader, Recording
from osmia.symbols.frame import Frame


class Stacks(View):
    """One sample at each summary, of a stack that is deeper each time."""

    interval = 1.0
    samples = samples.describe("us", waiting=True)

    def __init__(self) -> None:
        self.calls: list[bool] = []
        self.finished = False
        self.seen = b""

    def readers(self) -> list[tuple[str, Callable[[bytes], str]]]:
        return [("images", self.image)]

    def image(self, span: bytes) -> str:
        self.seen += span
        return "seen\n"

    def summary(self, last: bool) -> str:
        self.calls.append(last)
        assert self.sink is not None
        frames = [Frame(n, "kernel", f"f{n}") for n in range(len(self.calls))]
        number = self.sink.stack(samples.places(frames, cut=last))
        self.sink.add(time.monotonic_ns(), 42, b"prog", number, 1000 * len(self.calls))
        return f"summary {len(self.calls)}\n"

    def finish(self) -> str:
        self.finished = True
        return "the end\n"


names, others, unused = Hash[u32, u64](), Hash[u32, u64](), Hash[u32, u64]()


def deeper(key: int) -> int:
    return int(others.get(key, 0))


def label(key: int) -> str:
    return f"{names.get(key)} {deeper(key)}"


def test_what_a_label_looks_into_is_recorded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = log2_hist("bytes", key=u32)
    assert record.read_by(histogram(sizes, label=label)) == []  # used by no program: there is nothing in them
    for table in (names, others, unused):
        monkeypatch.setattr(table, "live", SimpleNamespace(items=list))
    found = record.read_by(histogram(sizes, label=label))
    assert {id(one) for one in found} == {id(names), id(others)}
    by_column = event_table(Ring(Frames), [Col("a", row=lambda one: label(one.a))])
    assert {id(one) for one in record.read_by(by_column)} == {id(names), id(others)}
    assert record.read_by(None) == []


class Frames(Event):
    """An event."""

    a: u32


@pytest.mark.parametrize("shown", [False, True])
def test_a_view_of_stacks_hands_over_its_samples(shown: bool) -> None:
    live = SimpleNamespace(maps={}, perf_rings={})
    unit = SimpleNamespace(name="waits", template=None, maps={}, namespace={})
    session: Any = SimpleNamespace(common=Common(), unit=unit, live=live, losses=SimpleNamespace(read=list), rings={},
                                   records=[], meter=None, started=time.monotonic(),
                                   stop=SimpleNamespace(by_signal=2, pipe_closed=False))  # fmt: skip
    out, inner = io.BytesIO(), Stacks()
    written = Recording(out.write)
    header = record.Header(session, [], ["waits"], file=False, samples=inner.samples)
    written.begin(header.record())
    view = record.RecordingView(session, written, header, [], inner, shown=shown)
    assert view.interval == inner.interval
    [(_, see)] = view.readers()
    text = see(b"a process") + view.summary(False) + view.summary(False) + view.summary(True) + view.finish()
    view.end()
    assert text == ("seen\nsummary 1\nsummary 2\nsummary 3\nthe end\n" if shown else "")
    assert inner.calls == [False, False, True] and inner.finished
    assert inner.seen == b"a process"  # also where nothing is shown

    reader = Reader(io.BytesIO(out.getvalue()), "x")
    assert reader.header["sources"] == [{"number": 1, **samples.describe("us", waiting=True)}]
    found, stacks = [], samples.SampleReader()
    for block in reader.blocks():
        if block.kind == recording.STACKS:
            stacks.define(block.json())
        elif block.kind == recording.SAMPLES:
            found += [(one.weight, [name for name, _ in one.stack]) for one in stacks.samples(block.payload)]
    assert reader.whole
    assert found == [
        (1000, ["prog", "f0"]), (2000, ["prog", "f1", "f0"]), (3000, ["prog", "[truncated]", "f2", "f1", "f0"]),
    ]  # fmt: skip
