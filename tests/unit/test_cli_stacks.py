# SPDX-License-Identifier: Apache-2.0
"""What is made of stacks before they are shown: which frames are believed, whose they are, how they look."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from osmia import Comm, Event, Hash, Stacks, machine, stack_table, u32, u64
from osmia.cli.callers import untraced
from osmia.cli.stacks import StackView, Watched, believable, traced
from osmia.lang.templates import StackPart
from osmia.symbols.frame import JIT, KERNEL, UNKNOWN, USER, Frame


def user(*names: str) -> list[Frame]:
    """Frames: a name, ``?`` for an address without a mapping, ``[file]`` for one without a symbol."""
    kinds = {"?": Frame(7, UNKNOWN), "[file]": Frame(7, USER, "", 0, "/lib/file", "", 16), "[anon]": Frame(
        7, UNKNOWN, "", 0, "[anon]")}  # fmt: skip
    return [kinds.get(name) or Frame(7, USER, name) for name in names]


@pytest.mark.parametrize(
    ("frames", "cut", "kept", "whole"),
    [
        (user("f", "main", "_start"), False, 3, True),
        (user("f", "main", "__libc_start_call_main", "__libc_start_main_impl", "_start"), False, 5, True),
        (user("f", "main", "__libc_start_call_main", "register_tm_clones", "?"), False, 3, True),
        (user("f", "start_thread", "?"), True, 2, True),  # the limit was reached by what is no stack
        (user("f", "g"), True, 2, False),
        (user("f", "?", "g"), False, 1, False),
        (user("f", "[anon]", "[file]"), False, 3, True),
        (user("?", "?"), False, 2, True),  # nothing is known of the process
        ([], False, 0, True),
    ],
)
def test_how_far_a_user_stack_is_believed(frames: list[Frame], cut: bool, kept: int, whole: bool) -> None:
    assert believable(frames, cut) == (frames[:kept], whole)


def test_tracing_itself_is_no_part_of_a_kernel_stack() -> None:
    names = ["bpf_prog_1234_switch", "bpf_trace_run4", "__traceiter_sched_switch", "__schedule", "bpf_prog_other"]
    frames = [Frame(7, KERNEL, name) for name in names]
    assert traced(frames) == frames[3:]
    assert traced(frames[:2]) == frames[:2]  # nothing else is there: then that is what it is


class Names:
    """A symbolizer that notes what it is asked."""

    def __init__(self, alive: bool = True) -> None:
        self.asked: list[tuple[str, int, int]] = []
        self.looks = 0
        self.alive = alive

    def began(self, pid: int, since: int) -> Any:
        self.asked.append(("began", pid, since))
        return SimpleNamespace(look_again=self.look_again)

    def missed(self, pid: int, since: int) -> None:
        self.asked.append(("missed", pid, since))

    def look_again(self) -> bool:
        self.looks += 1
        return self.alive


def test_what_another_program_has_replaced_is_not_looked_at() -> None:
    names = Names()
    watched = Watched(names)  # type: ignore[arg-type]
    watched.began([(10, 1), (11, 2), (12, 1)])
    assert names.asked == [("missed", 1, 10), ("began", 2, 11), ("began", 1, 12)]


def test_processes_are_looked_at_again_while_they_live(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    names = Names()
    watched = Watched(names)  # type: ignore[arg-type]
    watched.began([(10, 1)])
    looks = []
    for step in range(16):
        now = 100.0 + step
        watched.refresh()
        looks.append(names.looks)
    assert looks == [0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 4]  # after 1, 3, 7 and 15 seconds
    names.alive = False
    now = 200.0
    watched.refresh()
    watched.refresh()
    assert names.looks == 5


class Key(Event):
    since: u64
    pid: u32
    user: u32
    kernel: u32
    comm: Comm


def view(monkeypatch: pytest.MonkeyPatch, **named: Any) -> tuple[StackView, Any]:
    """A view of three keys, of which two look the same."""
    stacks = Stacks()
    counts = Hash[Key, u64]()
    machine.user_stack, machine.kernel_stack = [1, 2, 3], [4, 5]
    number, kernel = stacks.user(), stacks.kernel()
    machine.user_stack = machine.kernel_stack = []
    counts[Key(since=1, pid=7, user=number, kernel=kernel, comm="x;y")] = 3000
    counts[Key(since=2, pid=7, user=number, kernel=kernel, comm="x;y")] = 4000
    counts[Key(since=2, pid=8, user=number, kernel=0, comm="z")] = 5500
    mode = named.pop("mode", "table")
    off = SimpleNamespace(value=0, given=False)
    common = SimpleNamespace(json=mode == "json", csv=mode == "csv", svg=off, html=off, timestamp=False, duration=off,
                             length=SimpleNamespace(value=3.0))  # fmt: skip
    session: Any = SimpleNamespace(common=common, started=0.0, verbose=False, unit=SimpleNamespace(name="t"),
                                   programs=list)  # fmt: skip
    made = StackView(session, stack_table(counts, stacks, **named))
    frames = {1: "leaf", 2: "middle", 3: "main", 4: "vfs_read", 5: "entry"}
    monkeypatch.setattr(made._names, "user_stacks", lambda pid, stacks, time: [
        [Frame(a, JIT if a == 2 else USER, frames[a]) for a in stack] for stack in stacks])  # fmt: skip
    monkeypatch.setattr(made._names.kernel, "stack", lambda stack: [Frame(a, KERNEL, frames[a]) for a in stack])
    return made, counts


def test_text(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = view(monkeypatch, banner="Sampling", delimiter=True, annotate=True)
    assert made.begin() == "Sampling for 3 secs.\n"
    assert made.summary(True) == (
        "    leaf\n    middle\n    main\n    -                z (8)\n        5500\n\n"
        "    vfs_read_[k]\n    entry_[k]\n    --\n    leaf\n    middle\n    main\n"
        "    -                x;y (7)\n        7000\n\n"
    )


def test_names_are_looked_up_ahead_once_and_for_a_twentieth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made, counts = view(monkeypatch, banner="Sampling", delimiter=True)
    clock, asked = [100.0], []
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    inner = made._names.user_stacks

    def slow(pid: int, stacks: list[Any], since: int) -> Any:
        asked.append(pid)
        clock[0] += 0.1
        return inner(pid, stacks, since)

    kernel: list[Any] = []
    named = made._names.kernel.stack
    monkeypatch.setattr(made._names.kernel, "stack", lambda trace: (kernel.append(trace), named(trace))[1])
    monkeypatch.setattr(made._names, "user_stacks", slow)
    assert made.summary(False) == "" and asked == [] and kernel  # programs come later
    assert made.summary(False) == "" and asked == [7, 7, 8]
    (key,) = [key for key in counts if key.pid == 8]
    counts[Key(since=9, pid=9, user=key.user, kernel=0, comm="new")] = 1
    for second, expected in ((105, 3), (106, 3), (107, 4), (110, 4)):  # 0.3 s of work are enough for 6 s
        clock[0] = second
        assert made.summary(False) == "" and len(asked) == expected
    assert asked[-1] == 9 and made.summary(True).count("\n    -  ") == 3


def test_folded_lines_of_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    made, counts = view(monkeypatch, folded=True, delimiter=True, annotate=True, divisor=1000, banner="Sampling")
    assert made.begin() == "" and made.summary(False) == ""
    lines = ["z;main;middle_[j];leaf 5\n", "x:y;main;middle_[j];leaf;-;entry_[k];vfs_read_[k] 7\n"]
    assert made.summary(True) == "".join(lines)
    (key,) = [key for key in counts if key.pid == 8]
    counts[key] += 2000
    assert made.summary(True) == "z;main;middle_[j];leaf 2\n"  # what is new


def test_other_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [StackPart("comm"), StackPart("user"), StackPart(text="--"), StackPart("kernel", upward=True)]
    made, _ = view(monkeypatch, folded=True, parts=parts)
    assert made.summary(True).splitlines()[-1] == "x:y;main;middle;leaf;--;vfs_read;entry 7000"


@pytest.mark.parametrize("mode", ["json", "csv"])
def test_for_programs(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    made, _ = view(monkeypatch, mode=mode)
    head, out = made.begin(), made.summary(True)
    if mode == "csv":
        assert head == "count,pid,comm,stack\n"
        assert out == "5500,8,z,z;main;middle;leaf\n7000,7,x;y,x:y;main;middle;leaf;entry;vfs_read\n"
        return
    small, large = (json.loads(line) for line in out.splitlines())
    assert (small["count"], small["pid"], small["comm"], small["kernel"], small["cut"]) == (5500, 8, "z", [], [])
    assert [frame["name"] for frame in large["user"]] == ["leaf", "middle", "main"]
    assert [frame["kind"] for frame in large["kernel"]] == ["kernel", "kernel"]
    assert large["unit"] == "samples" and "since" not in large


def test_pieces_of_tracing_in_the_midst_of_a_stack() -> None:
    """Also those whose name is gone; where nothing has a name, everything stays."""
    names = ["__mutex_lock", "mutex_lock", "bpf_trampoline_6442516", "", "n_tty_read", "tty_read"]
    side = [Frame(at, KERNEL, name) for at, name in enumerate(names)]
    assert [frame.name for frame in untraced(side)] == ["__mutex_lock", "mutex_lock", "n_tty_read", "tty_read"]
    nameless = [Frame(at, KERNEL) for at in range(3)]
    assert untraced(nameless) == nameless and untraced([]) == []
