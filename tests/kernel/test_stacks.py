# SPDX-License-Identifier: Apache-2.0
"""Stacks by number: every one is kept, whatever its hash, at the depth the kernel gives, once; losses are counted."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import prebuilt
import pytest
from kernel_code import compile_module, module, running

from osmia.compiler import lower_loop, stackops
from osmia.errors import CompileError, UserError
from osmia.lang.stacks import Trace
from osmia.load import stacks as sizes
from osmia.symbols.symbolizer import Symbolizer

pytestmark = [pytest.mark.kernel, pytest.mark.vm, pytest.mark.usefixtures("no_fd_leak")]

TEXT = """
stacks = Stacks({size})
counts = Hash[u32, u64]()
deeper = Hash[u32, u64]()
kernel = Hash[u32, u64]()
target = option("--target", type=int, default=0)

@tracepoint("syscalls:sys_enter_getpgid")
def enter(call):
    if current.tgid == target:
        counts[stacks.user()] += 1
        deeper[stacks.user(skip=2)] += 1

@raw_tracepoint("sys_enter")  # before 6.12 there are none at the tracepoints of system calls
def entered(regs, number):
    if current.tgid == target and number == GETPGID:
        kernel[stacks.kernel()] += 1
"""
GETPGID = {"x86_64": 121, "aarch64": 155}[os.uname().machine]
#: The same with one stack a call, and nothing else.
ALONE = TEXT.partition("        deeper")[0] + TEXT[TEXT.index("\n@raw") :].replace("stacks.kernel()", "0")
LIMIT = Path("/proc/sys/kernel/perf_event_max_stack")


class Stairs:
    """The workload: the same system call, at the end of as many functions as are wanted."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [prebuilt.workload("stairs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.pid = self.process.pid

    def go(self, depth: int, times: int) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{depth} {times}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline()


@contextmanager
def pinned(pid: int) -> Iterator[None]:
    """Keep a process on one CPU."""
    before = os.sched_getaffinity(pid)
    os.sched_setaffinity(pid, {min(before)})
    yield
    os.sched_setaffinity(pid, before)


@pytest.fixture
def stairs() -> Iterator[Stairs]:
    made = Stairs()
    with made.process:
        yield made
        assert made.process.stdin
        made.process.stdin.close()


def run(stairs: Stairs, size: str, *walks: tuple[int, int], text: str = TEXT) -> tuple[Any, dict[tuple[str, str], int]]:
    """The module after these walks, its maps' contents kept, and what was lost."""
    made = module(f"GETPGID = {GETPGID}\n" + text.format(size=size))
    with running(made, {"target": stairs.pid}) as live:
        live.attach("enter")
        live.attach("entered")
        for depth, times in walks:
            stairs.go(depth, times)
        found = {
            name: {made.stacks.get(number): n for number, n in getattr(made, name).items()}
            for name in ("counts", "deeper", "kernel")
        }
        with pytest.raises(KeyError):
            made.stacks[0]
        with pytest.raises(KeyError):
            made.stacks[1 << 30]
        return found, live.lost()


WALKS = [(1, 11), (2, 13), (7, 17), (40, 19), (1, 23)]


@pytest.fixture(params=["bpf_loop", "plain loops"])
def way(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the words of a stack are walked."""
    if request.param == "plain loops":  # as on kernels before 5.17
        monkeypatch.setattr(lower_loop, "_call_helper", lambda *_: "")
        monkeypatch.setattr(lower_loop.Body, "core", lambda *_: "0")
    return str(request.param)


@pytest.mark.feature("A14 kernel stacks by number", "A15 user stacks by number")
def test_every_stack_is_kept_once_and_whole(stairs: Stairs, way: str) -> None:
    found, lost = run(stairs, "", *WALKS)
    assert lost == {}
    by_depth = {stack.depth: n for stack, n in found["counts"].items()}
    base = min(by_depth) - 1  # main and what called it
    assert by_depth == {base + 1: 34, base + 2: 13, base + 7: 17, base + 40: 19}
    for stack in found["counts"]:
        assert isinstance(stack, Trace) and stack.user and not stack.cut
        steps = list(stack)[1 : stack.depth - base]  # ask() returns to down(), and that to itself
        assert len(set(steps[1:])) <= 1 and all(0 < address < 1 << 47 for address in steps)
    # Without the two innermost frames it is another stack, the same one as far as it goes.
    assert {stack[2:]: n for stack, n in found["counts"].items()} == {
        tuple(stack) if stack is not None else (): n for stack, n in found["deeper"].items()
    }
    assert sum(found["kernel"].values()) == 83
    for stack in found["kernel"]:
        assert stack is not None and not stack.user and all(address >> 63 for address in stack)


def test_stacks_with_one_hash(stairs: Stairs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three find places, and a fourth, which has none, is counted."""
    monkeypatch.setattr(stackops, "_FACTOR", 0)
    found, lost = run(stairs, "", (1, 11), (2, 13), (7, 17), (1, 3), text=ALONE)
    assert lost == {}
    assert sorted((stack.depth, n) for stack, n in found["counts"].items()) == [
        (base := min(stack.depth for stack in found["counts"]), 14), (base + 1, 13), (base + 6, 17)
    ]  # fmt: skip
    found, lost = run(stairs, "", (1, 11), (2, 13), (7, 17), (9, 5), (2, 1), text=ALONE)
    assert lost == {("stack", "stacks"): 5} and found["counts"][None] == 5
    assert sum(n for stack, n in found["counts"].items() if stack is not None) == 42


@pytest.mark.feature("B11 stacks as objects")
def test_a_stack_walks_and_names_itself(stairs: Stairs) -> None:
    found, _ = run(stairs, "", (3, 5))
    (stack,) = found["counts"]
    (kernel,) = found["kernel"]
    assert stack is not None and kernel is not None
    assert list(stack.outermost_first) == list(stack)[::-1] and stack.depth == len(stack)
    with Symbolizer() as names:
        walked = [frame.name for frame in stack.symbolize(names, stairs.pid)]
        called = [frame.name for frame in kernel.symbolize(names)]
    main = walked.index("main")
    assert walked[0] == "ask" and main >= 3 and {name.partition(".")[0] for name in walked[1:main]} == {"down"}
    assert any(name.startswith("entry_SYSCALL") or "syscall" in name for name in called), called


def test_the_deepest_the_kernel_gives_and_not_a_frame_more(stairs: Stairs) -> None:
    most = sizes.most_frames()
    found, lost = run(stairs, "", (1, 1), (most + 100, 29))
    assert lost == {}
    depths = {stack.depth: (stack.cut, n) for stack, n in found["counts"].items()}
    assert depths.pop(most) == (True, 29)
    assert list(depths.values()) == [(False, 1)]
    assert {stack.cut for stack in found["deeper"] if stack is not None and stack.depth > 100} == {True}


@pytest.fixture
def deep() -> Iterator[int]:
    """A kernel that walks as deep as can be kept; its limit, which cannot be raised while anybody samples stacks."""
    before = LIMIT.read_text(encoding="ascii")
    with suppress(OSError):
        LIMIT.write_text("1024", encoding="ascii")
    yield sizes.most_frames()
    with suppress(OSError):
        LIMIT.write_text(before, encoding="ascii")


def test_as_deep_as_the_kernel_walks(stairs: Stairs, deep: int) -> None:
    found, lost = run(stairs, "", (deep - 20, 31), (deep + 200, 7))
    assert lost == {}
    whole, cut = sorted(((stack.depth, stack.cut, n) for stack, n in found["counts"].items()))
    assert deep - 20 < whole[0] < deep and whole[1:] == (False, 31)
    assert cut == (deep, True, 7)


def test_what_cannot_be() -> None:
    text = f"GETPGID = {GETPGID}\n" + TEXT.format(size="")
    with pytest.raises(UserError, match="cannot be kept in bpffs"):
        compile_module(module(text.replace("Stacks()", "pinned(Stacks())")))
    for words, says in (("skip=65", "from 0 to 64"), ("skip=target", "constant"), ("depth=3", "one argument"),
                        ("1, 2", "0 to 1 arguments")):  # fmt: skip
        with pytest.raises(CompileError, match=says):
            compile_module(module(text.replace("skip=2", words)))
    with pytest.raises(CompileError, match="no frames"):
        compile_module(module(text.replace("stacks.user(skip=2)", "stacks.frames()")))


def test_no_room_for_more_stacks(stairs: Stairs) -> None:
    found, lost = run(stairs, "7", *[(depth, 3) for depth in range(1, 30)])
    kept = sum(n for stack, n in found["counts"].items() if stack is not None)
    missing = found["counts"].get(None, 0) + found["deeper"].get(None, 0) + found["kernel"].get(None, 0)
    assert kept + found["counts"][None] == 29 * 3 and kept >= 3
    assert list(lost) == [("places", "stacks")] and lost["places", "stacks"] == missing


def test_more_than_one_chunk(stairs: Stairs) -> None:
    """Enough stacks for some chunks, of which each CPU has one for itself."""
    walks = [(depth, 3) for depth in range(1, 120)]
    found, lost = run(stairs, "4096, words=40000", *walks, *reversed(walks))
    assert lost == {}
    depths = sorted(stack.depth for stack in found["counts"])
    assert len(set(depths)) == len(depths) == 119 and set(found["counts"].values()) == {6}


def test_no_memory_for_more_stacks(stairs: Stairs, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known is still found, and the rest is counted."""
    monkeypatch.setattr(sizes, "cpus", SimpleNamespace(slots=lambda: 0))
    walks = [(depth, 2) for depth in range(1, 120)]
    with pinned(stairs.pid):  # the only chunk belongs to the CPU that comes first
        found, lost = run(stairs, "65536, words=1", *walks, (5, 11))
    (kind, what), n = next(iter(lost.items()))
    assert (kind, what, len(lost)) == ("memory", "stacks", 1)
    assert n == sum(found[name].get(None, 0) for name in ("counts", "deeper", "kernel")) > 0
    assert sum(found["counts"].values()) == 119 * 2 + 11
    assert 13 in [n for stack, n in found["counts"].items() if stack is not None]


def test_two_cpus_at_once() -> None:
    """The same hundred stacks, in two programs at the same time: each is kept once, and no count is missing."""
    text = TEXT.format(size="").partition("        deeper")[0]
    text = text.replace("current.tgid == target", "(current.tgid == target or current.tgid == other)")
    made = module(text + '\nother = option("--other", type=int, default=0)\n')
    walkers = [Stairs(), Stairs()]
    with running(made, {"target": walkers[0].pid, "other": walkers[1].pid}) as live:
        live.attach("enter")
        lines = "".join([f"{1 + n % 100} 3\n" for n in range(2000)])
        threads = [threading.Thread(target=one.process.communicate, args=(lines,)) for one in walkers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        depths = sorted((made.stacks[number].depth, n) for number, n in made.counts.items())
        assert [n for _, n in depths] == [2 * 20 * 3] * 100 and len({depth for depth, _ in depths}) == 100
        assert live.lost() == {}
