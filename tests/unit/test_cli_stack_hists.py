# SPDX-License-Identifier: Apache-2.0
"""Histograms by stack: what looks the same is one, and what is cut says so."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from osmia import Comm, Event, Stacks, histogram, log2_hist, machine, u32
from osmia.cli.stack_hists import Labels, Recorded, StackHistogramView
from osmia.errors import UserError
from osmia.lang.stacks import USUAL_FRAMES
from osmia.symbols.frame import KERNEL, Frame


class Key(Event):
    """Whose, and from where."""

    pid: u32
    kernel: u32
    comm: Comm


def frame(address: int) -> Frame:
    """A function each 0x100 bytes."""
    return Frame(address, KERNEL, f"f{address >> 8:x}", address & 0xFF)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``view(json)`` of three stacks, of which two differ within a function only, and the last is cut."""
    stacks = Stacks()
    latencies = log2_hist("usecs", key=Key)
    numbers = []
    for stack in ([0x101, 0x201], [0x105, 0x201], [0x301] * USUAL_FRAMES):
        monkeypatch.setattr(machine, "kernel_stack", stack)
        numbers.append(stacks.kernel())
    for number, pid, value in ((0, 7, 5), (1, 7, 9), (0, 8, 3), (2, 7, 1)):
        latencies[Key(pid=pid, kernel=numbers[number], comm="dd")].add(value)
    symbolizer = SimpleNamespace(
        kernel=SimpleNamespace(stack=lambda trace: [frame(address) for address in trace]), close=lambda: None
    )
    monkeypatch.setattr("osmia.cli.stack_hists.Symbolizer", lambda programs: symbolizer)

    def view(as_json: bool) -> str:
        common = SimpleNamespace(json=as_json, csv=False, timestamp=False)
        template = histogram(latencies, stacks=stacks)
        made = StackHistogramView(SimpleNamespace(common=common), template, Labels(stacks))  # type: ignore[arg-type]
        try:
            return made.summary(True)
        finally:
            made.finish()

    return view


def test_stacks_that_look_the_same_are_one(made: Any) -> None:
    found = json.loads(made(True))["histograms"]
    assert [(one["pid"], one["count"], one["sum"]) for one in found] == [(7, 1, 1), (8, 1, 3), (7, 2, 14)]
    assert [one["cut"] for one in found] == [["kernel"], [], []]
    assert [one["label"] for one in found[2]["kernel"]] == ["f1", "f2"]


def test_text(made: Any) -> None:
    blocks = made(False).strip("\n").split("\n\n")
    assert len(blocks) == 3
    assert blocks[0].split("\n")[USUAL_FRAMES : USUAL_FRAMES + 2] == ["    [truncated]", f"    {'-':<16} dd (7)"]
    assert blocks[1].split("\n")[0:3] == ["    f1", "    f2", f"    {'-':<16} dd (8)"]


def test_a_stack_that_was_lost() -> None:
    """Its number is 0, and the name remains."""
    assert Labels(Stacks()).folded(Key(pid=1, kernel=0, comm="dd")) == "dd"


def test_what_a_recording_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same frames come out again, and what is damaged is said to be."""
    stacks = Stacks()
    monkeypatch.setattr(machine, "kernel_stack", [0x101, 0x2FF])
    key = Key(pid=7, kernel=stacks.kernel(), comm="d;d")
    labels = Labels(stacks)
    labels._names = SimpleNamespace(  # type: ignore[assignment]
        kernel=SimpleNamespace(stack=lambda trace: [frame(address) for address in trace])
    )
    text = labels.recorded(key)
    again = Recorded(lambda _: text)
    assert again.stack(key) == labels.stack(key) == ([frame(0x101), frame(0x2FF)], False)
    assert again.folded(key) == "d;d;f2;f1"
    for damaged in ("", "{}", text[:-3], text.replace("257", '"x"'), '{"stack": [[1]], "cut": false}'):
        with pytest.raises(UserError, match="the label of a stack is damaged"):
            Recorded(lambda _, damaged=damaged: damaged).stack(key)  # type: ignore[misc]
