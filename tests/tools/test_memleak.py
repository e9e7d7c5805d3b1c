# SPDX-License-Identifier: Apache-2.0
"""memleak against a program that leaks known sizes from known places, among a million other allocations."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path
from typing import Any

import pytest
from harness import Commanded, Tool, eventually, osmia, patient, user_program

pytestmark = pytest.mark.kernel


def last(tool: Tool) -> list[dict[str, Any]]:
    """The places of the last summary."""
    records = [record for record in tool.records() if "bytes" in record]
    return [record for record in records if record["time"] == records[-1]["time"]]


def places(tool: Tool) -> list[tuple[str, int, int]]:
    """``(function, bytes, allocations)`` of the last summary, sorted."""
    return sorted((one["stack"][0]["name"], one["bytes"], one["allocations"]) for one in last(tool))


def shown(tool: Tool) -> str:
    """What it has written up to now."""
    return os.pread(tool.out.fileno(), 1 << 20, 0).decode()


@pytest.mark.anywhere  # three million probes: a minute here, a quarter of an hour on an emulated CPU
def test_one_place_among_a_million_allocations() -> None:
    """Each round of churn allocates six times and frees everything; 7 rounds of the leak are spread among it."""
    with Commanded("leaks") as leaks:
        tool = Tool("memleak", "--json", "-o", "0", "-p", leaks.pid).start()
        for _ in range(7):
            leaks.ask("churn", 23_810)
            leaks.ask("malloc", 1, 4099)
        tool.stop()
        assert tool.status == 0, tool.stderr
        assert "lost" not in tool.stderr and "skipped" not in tool.stderr
    (one,) = last(tool)
    assert (one["bytes"], one["allocations"], one["pid"]) == (7 * 4099, 7, int(leaks.pid))
    assert [frame["name"] for frame in one["stack"][:2]] == ["by_malloc", "main"] and one["cut"] is False


def test_each_kind() -> None:
    """Sizes as they were asked for; a realloc() that fails keeps what it was given."""
    with Commanded("leaks") as leaks:
        tool = Tool("memleak", "--json", "-o", "0", "-p", leaks.pid).start()
        together = Tool("memleak", "--json", "--combined-only", "-p", leaks.pid).start()
        for kind, times, size in (("malloc", 3, 101), ("calloc", 5, 103), ("realloc", 7, 1009), ("memalign", 2, 211),
                                  ("posix_memalign", 11, 307), ("aligned_alloc", 2, 640), ("mmap", 5, 12289),
                                  ("malloc", 1, 300_001)):  # fmt: skip
            leaks.ask(kind, times, size)
        tool.stop()
        together.stop()
    expected = [
        ("by_aligned_alloc", 2 * 640, 2), ("by_calloc", 5 * 3 * 103, 5), ("by_malloc", 3 * 101 + 300_001, 4),
        ("by_memalign", 2 * 211, 2), ("by_mmap", 5 * 12289, 5), ("by_posix_memalign", 11 * 307, 11),
        ("by_realloc", 7 * 1009, 7),
    ]  # fmt: skip
    assert places(tool) == expected
    assert places(together) == expected


def test_two_places_in_one_function_and_what_is_freed_later() -> None:
    with Commanded("leaks") as leaks:
        tool = Tool("memleak", "--json", "-a", "-o", "0", "-p", leaks.pid, "-i", "3600").start()
        together = Tool("memleak", "--json", "--combined-only", "--sort", "count", "-p", leaks.pid).start()
        leaks.ask("two", 13, 50)
        before = Tool("memleak", "--json", "-p", leaks.pid).start()  # too late for all of it
        leaks.ask("free")
        for one in (tool, together, before):
            one.stop()
    assert places(tool) == places(together) == [("by_two", 13 * 100, 13)]
    pieces = last(tool)[0]["pieces"]
    assert len({piece["address"] for piece in pieces}) == 13 and {piece["size"] for piece in pieces} == {100}
    assert not [record for record in before.records() if "bytes" in record]


def test_both_places_while_they_hold() -> None:
    with Commanded("leaks") as leaks:
        tool = Tool("memleak", "--json", "-o", "0", "-p", leaks.pid).start()
        leaks.ask("two", 13, 50)
        tool.stop()
    both = last(tool)
    assert places(tool) == [("by_two", 13 * 50, 13), ("by_two", 13 * 100, 13)]
    assert both[0]["stack"][0]["offset"] != both[1]["stack"][0]["offset"]


def test_sizes_age_and_top() -> None:
    with Commanded("leaks") as leaks:
        sized = Tool("memleak", "--json", "-o", "0", "-z", "200", "-Z", "300", "-p", leaks.pid).start()
        old = Tool("memleak", "--json", "-o", "3600000", "-p", leaks.pid).start()
        top = Tool("memleak", "--json", "-o", "0", "-T", "1", "--sort", "count", "-p", leaks.pid).start()
        for kind, times, size in (("malloc", 3, 199), ("malloc", 5, 200), ("memalign", 2, 300), ("memalign", 2, 301),
                                  ("posix_memalign", 1, 5000)):  # fmt: skip
            leaks.ask(kind, times, size)
        for tool in (sized, old, top):
            tool.stop()
    assert places(sized) == [("by_malloc", 5 * 200, 5), ("by_memalign", 2 * 300, 2)]
    assert not [record for record in old.records() if "bytes" in record]
    assert places(top) == [("by_malloc", 3 * 199 + 5 * 200, 8)]


def test_functions_of_other_names() -> None:
    """glibc's own names for some of them, in the file that the program has mapped; mmap() has no prefix."""
    with Commanded("leaks") as leaks:
        leaks.ask("free")  # the library is mapped by now
        maps = Path(f"/proc/{leaks.pid}/maps").read_text()
        library = next(word for word in maps.split() if re.search(r"/libc[.-].*so", word))
        tool = Tool("memleak", "--json", "-o", "0", "-O", library, "--symbols-prefix", "__libc_", "-p",
                    leaks.pid).start()  # fmt: skip
        for kind, times, size in (("malloc", 3, 101), ("realloc", 5, 1009), ("posix_memalign", 7, 64),
                                  ("mmap", 2, 9000)):  # fmt: skip
            leaks.ask(kind, times, size)
        leaks.ask("churn", 100)
        tool.stop()
    assert places(tool) == [("by_malloc", 3 * 101, 3), ("by_mmap", 2 * 9000, 2), ("by_realloc", 5 * 1009, 5)]


def test_a_sample() -> None:
    """One in four of 4,000: far from none and from all, and each with its size."""
    with Commanded("leaks") as leaks:
        tool = Tool("memleak", "--json", "-o", "0", "-s", "4", "-p", leaks.pid).start()
        leaks.ask("malloc", 4000, 40)
        tool.stop()
    ((name, size, count),) = places(tool)
    assert name == "by_malloc" and size == 40 * count
    assert 700 < count < 1300  # 1,000 and a deviation of 27


def test_a_command_to_its_end(tmp_path: Path) -> None:
    """What is left when it ends is shown whatever its age; what a shell held before it became the program is not."""
    told = tmp_path / "told"
    told.write_text("malloc 7 4099\nchurn 3000\nmalloc 4 4099\n")
    tool = Tool("memleak", "-o", "3600000", "-c", f"sh -c 'exec {user_program('leaks')} < {told}'").start()
    tool.wait(patient(60))
    assert tool.status == 0, tool.stderr
    lines = tool.stdout.splitlines()
    heads = [at for at, text in enumerate(lines) if re.fullmatch(r"\[[\d:]{8}\] Top \d stacks with .*:", text)]
    shown = lines[heads[-1] + 1 :]
    assert lines[heads[-1]].endswith(" Top 1 stacks with outstanding allocations:")
    assert shown[0] == f"\t{11 * 4099} bytes in 11 allocations from stack"
    assert re.fullmatch(r"\t\tby_malloc\+0x[0-9a-f]+ \[leaks.program\]", shown[1])
    assert re.fullmatch(r"\t\tmain\+0x[0-9a-f]+ \[leaks.program\]", shown[2])


def test_a_command_that_frees_everything(tmp_path: Path) -> None:
    """The shell that it was before had allocated, too."""
    told = tmp_path / "told"
    told.write_text("churn 100\n")
    tool = Tool("memleak", "--json", "-c", f"sh -c 'exec {user_program('leaks')} < {told}'").start()
    tool.wait(patient(60))
    assert tool.status == 0, tool.stderr
    assert '"bytes"' not in tool.stdout


def test_each_call() -> None:
    with Commanded("leaks") as leaks:
        tool = Tool("memleak", "-t", "-o", "0", "-p", leaks.pid).start()
        leaks.ask("realloc", 1, 1000)
        leaks.ask("mmap", 1, 8192)
        tool.stop()
    assert f"Attaching to pid {leaks.pid}, Ctrl+C to quit." in tool.stdout
    calls = re.findall(rf"^\(\S+ {leaks.pid} {leaks.pid} [\d:]+ (\w+)\) (\w+) \w+, (.*)$", tool.stdout, re.M)
    told = [(name, what, re.sub("0x[0-9a-f]+", "X", rest)) for name, what, rest in calls]
    assert told == [
        ("realloc", "alloc", "size = 500, result = X"),
        ("realloc", "free", "address = X, size = 500"),
        ("realloc", "alloc", "size = 1000, result = X"),
        ("mmap", "alloc", "size = 12288, result = X"),
        ("munmap", "free", "address = X, size = 12288"),
    ]


def test_intervals_and_a_picture(tmp_path: Path) -> None:
    svg = tmp_path / "leaks.svg"
    with Commanded("leaks") as leaks:
        tool = Tool("memleak", "-o", "0", "-p", leaks.pid, "0.5").start()
        counted = Tool("memleak", "-o", "0", "-p", leaks.pid, "0.5", "3").start()
        drawn = Tool("memleak", "-o", "0", "-p", leaks.pid, "--svg", str(svg)).start()
        leaks.ask("malloc", 5, 1000)
        # What is held, and not what came since the last time.
        assert eventually(lambda: shown(tool).count("5000 bytes in 5 allocations") >= 2, 10)
        tool.stop()
        counted.wait()
        drawn.stop()
    assert len(re.findall(r"^\[.*Top \d stacks", counted.stdout, re.M)) == 3
    text = svg.read_text(encoding="utf-8")
    assert "by_malloc" in text and "bytes" in text


def test_the_kernel() -> None:
    """A message that waits in a queue is memory of the kernel; nothing else on a machine sends such messages."""
    libc = ctypes.CDLL(None, use_errno=True)
    queue = libc.msgget(0, 0o1600)
    assert queue >= 0, os.strerror(ctypes.get_errno())

    def waiting(tool: Tool) -> tuple[int, int]:
        assert tool.status == 0, tool.stderr
        ours = [one for one in last(tool) if any(frame["name"].endswith("do_msgsnd") for frame in one["stack"])]
        return sum(one["bytes"] for one in ours), sum(one["allocations"] for one in ours)

    # Neither the pages that the slab may need for them, nor what it notes about those.
    words = ("memleak", "--json", "-o", "0", "-T", "100000", "-z", "1000", "-Z")
    try:
        tools = [Tool(*words, *more).start() for more in (("4000",), ("4000", "--combined-only"), ("1001",))]
        for _ in range(7):
            assert libc.msgsnd(queue, (ctypes.c_long * 126)(1), 1000, 0) == 0
        held, together, smaller = (tool.stop() for tool in tools)
        size, count = waiting(held)
        assert count == 7 and 7 * 1000 <= size <= 7 * 2048  # a header is added, and the slab's sizes are steps
        assert waiting(together) == (size, count) and waiting(smaller) == (0, 0)

        tool = Tool(*words, "4000", "-t").start()
        libc.msgsnd(queue, (ctypes.c_long * 126)(1), 1000, 0)
        for _ in range(8):
            assert libc.msgrcv(queue, (ctypes.c_long * 126)(), 1000, 0, 0) == 1000
        assert waiting(tool.stop()) == (0, 0)
    finally:
        libc.msgctl(queue, 0, None)


@pytest.mark.anywhere
def test_what_does_not_go_together() -> None:
    for words, says in ((["-p", "1", "-c", "true"], "-p and -c exclude"), (["-z", "9", "-Z", "8"], "-z is greater"),
                        (["-p", "1", "--percpu"], "the kernel's memory"), (["-O", "c"], "a program")):  # fmt: skip
        done = osmia("memleak", *words)
        assert done.returncode and says in done.stderr
