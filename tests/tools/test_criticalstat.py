# SPDX-License-Identifier: Apache-2.0
"""criticalstat's kernel half as plain Python, and live with the handlers of interrupts in place of its sections.

Hardly any kernel has its tracepoints.  The handler of an interrupt begins and
ends as a section does, on one CPU; how many there were the kernel counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import REPO, Tool, osmia
from test_irqs import busy, hard, less
from test_runqlen import spinners

from osmia import machine
from osmia.kernel import kallsyms, tracefs
from osmia.tools import criticalstat

BLOCK = re.compile(
    r"={35}\nTASK: (.*) \(pid +(\d+) tid +(\d+)\) Total Time: ([\d.]+) *us\n\n"
    r"Section start: (\S+) -> (\S+)\nSection end:   (\S+) -> (\S+)\n((?:  \S.*\n)*)={35}\n\n"
)


@pytest.fixture
def handlers(tmp_path: Path) -> str:
    """The tool as a file, for handlers of interrupts; where a section begins and ends is that of two functions."""
    begin, end = [kallsyms.find(name)[0][0].address for name in ("vfs_read", "vfs_write")]
    text = (REPO / "src" / "osmia" / "tools" / "criticalstat.py").read_text()
    for old, new in (
        ('raw_tracepoint("irq_disable", ', 'raw_tracepoint("irq_handler_entry", '),
        ('raw_tracepoint("irq_enable", ', 'raw_tracepoint("irq_handler_exit", '),
        ("def irqs_off(ip, parent):\n    enter(ip, parent)", f"def irqs_off(_):\n    enter({begin + 4}, {begin + 8})"),
        ("def irqs_on(ip, parent):\n    leave(ip, parent)", f"def irqs_on(_):\n    leave({end + 4}, {end + 8})"),
        ('"preemptirq", event', '"sched", "sched_switch"'),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "handlers.py"
    path.write_text(text)
    return str(path)


@pytest.mark.kernel
def test_sections_are_counted_and_shown(handlers: str) -> None:
    """-d 0 shows all: no more than the kernel has counted, in blocks with the stack of their end."""
    with spinners(2):
        before = hard()
        tool = Tool("run", handlers, "-d", "0").start()
        records = Tool("run", handlers, "-d", "0", "--json").start()
        inner = hard()
        busy()
        inner = less(hard(), inner)
        tool.stop()
        records.stop()
        outer = less(hard(), before)
    assert tool.status == 0
    banner, text = tool.stdout.split("\n", 1)
    assert banner == "Finding critical section with IRQ disabled for > 0us"
    blocks = BLOCK.findall(text)
    assert BLOCK.sub("", text) == "" and 0 < len(blocks) <= sum(outer.values())
    for _, _, _, usecs, *places, stack in blocks:
        assert float(usecs) > 0 and len(stack.splitlines()) > 2
        assert [one.partition("+")[0] for one in places] == ["vfs_read", "vfs_read", "vfs_write", "vfs_write"]
    found = [one for one in records.records() if "ns" in one]
    assert 0 < len(found) <= sum(outer.values())
    assert found[0]["begin_at"].startswith("vfs_read") and found[0]["end_from"].startswith("vfs_write")
    assert all(one["ns"] > 0 and one["kernel_stack"] for one in found)


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("words", "event"), [([], "irq_disable"), (["-i"], "irq_disable"), (["-p"], "preempt_disable")]
)
def test_kernels_without_the_tracepoints(words: list[str], event: str) -> None:
    if tracefs.exists("preemptirq", event):
        done = Tool("criticalstat", *words).start().stop()
        assert done.status == 0 and done.stdout.startswith("Finding critical section with ")
        return
    more = "CONFIG_TRACE_IRQFLAGS" if event == "irq_disable" else "CONFIG_TRACE_PREEMPT_TOGGLE"
    done = osmia("criticalstat", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"osmia: criticalstat: this kernel has no tracepoint preemptirq:{event}; it needs one that is built with "
        f"CONFIG_PREEMPTIRQ_TRACEPOINTS and {more}\n"
    )


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-d", "x"], "criticalstat: option -d: 'x' is not a whole number of microseconds"),
        (["x"], "criticalstat: unexpected argument 'x'; see osmia criticalstat --help"),
    ],
)
def test_mistakes(words: list[str], text: str) -> None:
    done = osmia("criticalstat", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"osmia: {text}\n")


# --- the kernel half as plain Python ------------------------------------------------------------------------------

AWAKE = criticalstat.IDLE_EXIT


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What the kernel half sends."""
    monkeypatch.setattr(criticalstat.stacks, "kernel", lambda skip=0: 7)
    yield criticalstat.sections.sent
    criticalstat.sections.sent.clear()
    for table in (criticalstat.idle, criticalstat.starts, criticalstat.begins):
        table.clear()
    criticalstat.shortest.value = 100
    machine.ktime = machine.tgid = machine.pid = 0


def at(usecs: int, program: Any, *words: int) -> None:
    machine.ktime = usecs * 1000
    program(*words)


def told(seen: list[Any]) -> list[tuple[int, int, int]]:
    return [(e.ns // 1000, e.begin, e.end) for e in seen]


def test_a_section_is_from_off_to_on(seen: list[Any]) -> None:
    machine.tgid, machine.pid, machine.comm = 181, 182, "kworker"
    at(1000, criticalstat.irqs_off, 11, 12)
    at(1099, criticalstat.irqs_on, 13, 14)  # too short
    at(2000, criticalstat.irqs_off, 21, 22)
    at(2100, criticalstat.irqs_on, 23, 24)
    at(9000, criticalstat.irqs_on, 33, 34)  # it began before the trace
    (one,) = seen
    assert (one.ns, one.begin, one.begin_parent, one.end, one.end_parent) == (100_000, 21, 22, 23, 24)
    assert (one.pid, one.tid, one.comm, one.kernel) == (181, 182, "kworker", 7)


def test_preemption_is_the_same(seen: list[Any]) -> None:
    criticalstat.shortest.value = 500
    for start, end in ((1000, 1499), (2000, 2500)):
        at(start, criticalstat.preemption_off, 1, 2)
        at(end, criticalstat.preemption_on, 3, 4)
    assert told(seen) == [(500, 1, 3)]


@pytest.mark.parametrize(
    "steps",
    [
        "off idle awake on", "off idle on awake", "idle off awake on", "idle off on awake",
    ],
)  # fmt: skip
def test_idle_cpus_are_left_out(seen: list[Any], steps: str) -> None:
    """Each of the four ways in which a section and idling can overlap."""
    programs = {
        "off": (criticalstat.irqs_off, 1, 2), "on": (criticalstat.irqs_on, 3, 4),
        "idle": (criticalstat.idling, 1, 0), "awake": (criticalstat.idling, AWAKE, 0),
    }  # fmt: skip
    for number, step in enumerate(steps.split(), 1):
        at(number * 1000, *programs[step])
    assert told(seen) == []
    at(10_000, criticalstat.irqs_off, 5, 6)
    at(10_200, criticalstat.irqs_on, 7, 8)
    assert told(seen) == [(200, 5, 7)]
