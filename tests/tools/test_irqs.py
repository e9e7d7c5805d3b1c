# SPDX-License-Identifier: Apache-2.0
"""hardirqs and softirqs against the kernel's own counters, read before and after within and around the trace.

A count is never above that of the longer time; where a sandbox hides what
happens while its supervisor runs, some may be missing from the shorter one.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Tool, osmia

from osmia.kernel import cpus

pytestmark = pytest.mark.kernel

Counts = dict[str, int]


def soft(cpu: int | None = None) -> Counts:
    """/proc/softirqs by kind, of one CPU or of all."""
    head, *lines = Path("/proc/softirqs").read_text().splitlines()
    columns = [int(word[3:]) for word in head.split()]
    found = {}
    for line in lines:
        kind, *numbers = line.replace(":", " ").split()
        found[kind.lower()] = sum(int(n) for at, n in zip(columns, numbers, strict=True) if cpu in (None, at))
    return found


def hard(cpu: int | None = None) -> Counts:
    """/proc/interrupts by handler, of one CPU or of all; those of devices, which have a number."""
    head, *lines = Path("/proc/interrupts").read_text().splitlines()
    columns = [int(word[3:]) for word in head.split()]
    found: Counts = {}
    for line in lines:
        first, *words = line.split()
        numbers, rest = words[: len(columns)], words[len(columns) :]
        if first.rstrip(":").isdecimal() and rest:
            count = sum(int(n) for at, n in zip(columns, numbers, strict=True) if cpu in (None, at))
            found[rest[-1]] = found.get(rest[-1], 0) + count
    return found


def busy(seconds: float = 0.6) -> None:
    """Something for disks, timers and the scheduler to do."""
    end = time.monotonic() + seconds
    place = "/var/tmp" if os.access("/var/tmp", os.W_OK) else None
    with tempfile.TemporaryFile(dir=place) as file:
        while time.monotonic() < end:
            os.path.exists(f"/no-such-file-{time.monotonic_ns()}")  # a root directory may be on another machine
            os.pwrite(file.fileno(), bytes(4096), 0)
            os.fsync(file.fileno())
            time.sleep(0.002)


def totals(text: str) -> Counts:
    """The rows of the table."""
    head, *lines = text.rstrip("\n").splitlines()[2:]
    assert re.fullmatch(r"(SOFT|HARD)IRQ +TOTAL_(count|usecs|nsecs)", head)
    return {line.rsplit(None, 1)[0]: int(line.rsplit(None, 1)[1]) for line in lines}


def less(later: Counts, earlier: Counts) -> Counts:
    return {name: n - earlier.get(name, 0) for name, n in later.items()}


def busiest(read: Callable[[int | None], Counts]) -> int:
    """The CPU that gets most of the interrupts."""
    before = {cpu: sum(read(cpu).values()) for cpu in cpus.online()}
    busy(0.3)
    return max(before, key=lambda cpu: sum(read(cpu).values()) - before[cpu])


BOTH = pytest.mark.parametrize(("tool", "read"), [("softirqs", soft), ("hardirqs", hard)])


@BOTH
@pytest.mark.parametrize("one", [False, True])
def test_counts_are_the_kernels(
    tool: str, read: Callable[[int | None], Counts], one: bool, record_property: Callable[[str, object], None]
) -> None:
    """-C: by kind or handler, and with -c of one CPU."""
    record_property("row", f"tool:{tool}")
    cpu = busiest(read) if one else None
    before = read(cpu)
    running = Tool(tool, "-C", *(["-c", str(cpu)] if one else [])).start()
    inner = read(cpu)
    busy()
    inner = less(read(cpu), inner)
    running.stop()
    outer = less(read(cpu), before)
    assert running.status == 0 and running.stderr == ""
    kind = "soft" if tool == "softirqs" else "hard"
    assert running.stdout.startswith(f"Tracing {kind} irq events... Hit Ctrl-C to end.\n\n{kind.upper()}IRQ ")
    found = totals(running.stdout)
    assert sum(outer.values()) > 0 and set(found) <= set(outer)
    assert all(n <= outer[name] for name, n in found.items()), (found, outer)
    assert all(found.get(name, 0) >= 0.8 * n - 5 for name, n in inner.items()), (found, inner)
    assert list(found.values()) == sorted(found.values(), reverse=True)


@BOTH
def test_times(tool: str, read: Callable[[], Counts]) -> None:
    """Micro- and nanoseconds of the same time agree, and are less than the CPUs have."""
    usual, fine = Tool(tool).start(), Tool(tool, "-N").start()
    began = time.monotonic()
    busy()
    usual.stop()
    fine.stop()
    seconds = time.monotonic() - began
    micro, nano = totals(usual.stdout), totals(fine.stdout)
    assert "TOTAL_usecs" in usual.stdout and "TOTAL_nsecs" in fine.stdout
    assert micro and sum(micro.values()) < 1e6 * seconds * len(cpus.online())
    most = max(nano, key=lambda name: nano[name])
    # Each measures for itself, and not over quite the same time.
    assert 0.2 * nano[most] < 1000 * micro[most] < 5 * nano[most]


@BOTH
def test_histograms(tool: str, read: Callable[[], Counts]) -> None:
    """-d: each as often as it was there."""
    before = read()
    running = Tool(tool, "-d", "-T").start()
    busy()
    running.stop()
    outer = less(read(), before)
    section = tool.removesuffix("s")
    parts = re.split(rf"^{section} = ", running.stdout, flags=re.M)
    assert len(parts) > 1 and re.search(r"^\d\d:\d\d:\d\d$", parts[0], re.M)
    for part in parts[1:]:
        name = part.split("\n", 1)[0].strip()
        counts = [int(n) for n in re.findall(r"^\s*\d+ -> \d+\s*: (\d+)\s*\|", part, re.M)]
        assert "     usecs               : count     distribution\n" in part
        assert 0 < sum(counts) <= outer[name]


@pytest.mark.parametrize("tool", ["softirqs", "hardirqs"])
def test_intervals_and_json(tool: str) -> None:
    running = Tool(tool, "--json", "0.5", "2").start()
    busy(1.5)
    running.wait()
    records = running.records()
    assert [record["unit"] for record in records] == ["nsecs"] * 2
    assert any(record["histograms"] for record in records)
    for record in records:
        assert all(one["label"] and one["count"] for one in record["histograms"])


@pytest.mark.anywhere
@pytest.mark.parametrize("tool", ["softirqs", "hardirqs"])
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-C", "-d"], "{}: -C counts, so -d and -N do not go with it; leave them out"),
        (["-C", "-N"], "{}: -C counts, so -d and -N do not go with it; leave them out"),
        (["-c", "x"], "{}: option -c: there is no CPU 'x' that is online: " + ", ".join(map(str, cpus.online()))),
    ],
)
def test_mistakes(tool: str, words: list[str], text: str) -> None:
    done = osmia(tool, *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"osmia: {text.format(tool)}\n")
