# SPDX-License-Identifier: Apache-2.0
"""klockstat against two processes that read one terminal: the other waits for the one that waits for input.

That one holds the lock meanwhile.
"""

from __future__ import annotations

import csv
import io
import os
import re
from pathlib import Path
from typing import Any

import pytest
from harness import Tool, osmia
from needs import needs, needs_tracepoint
from terminal import Terminal

pytestmark = pytest.mark.kernel

CALLER = "n_tty_read"
#: Where a kernel lets nobody watch its functions.
NO_HOLDS = "osmia: times that locks are held cannot be measured"


@pytest.fixture(autouse=True)
def _contention() -> None:
    needs_tracepoint("lock:contention_begin", "5.19")


def test_each_wait_and_how_long() -> None:
    with Terminal() as terminal:
        tool = Tool("klockstat", "--json", "-p", terminal.second.pid, "-s", "3").start()
        thread = Tool("klockstat", "--json", "-t", terminal.second.pid, "-c", "n_tty", "-S", "acq_count").start()
        other = Tool("klockstat", "--json", "-p", terminal.first.pid, "-c", CALLER).start()
        least, most, _ = terminal.rounds(7, 0.05)
        for one in (tool, thread, other):
            one.stop()
            assert one.status == 0, one.stderr
    (row,) = [row for row in tool.records() if row["caller"] == CALLER and row["what"] == "wait"]
    assert (row["lock"], row["count"], row["unit"]) == ("mutex", 7, "ns")
    assert least <= row["total"] <= most and row["total"] / 7 <= row["max"] <= row["total"]
    assert [frame["name"] for frame in row["stack"]][:2] == [CALLER, "tty_read"] and len(row["stack"]) == 3
    (row,) = waits(thread)
    assert row["count"] == 7 and least <= row["total"] <= most and len(row["stack"]) == 1
    assert waits(other) == []  # it was always the first


def waits(tool: Tool) -> list[dict[str, Any]]:
    """The rows of the first table."""
    return [row for row in tool.records() if row.get("what") == "wait"]


def test_how_long_it_is_held() -> None:
    """From the call that got it to the one that gave it back: who waits for input, and then the other for a moment."""
    needs("fentry")
    with Terminal() as terminal:
        tool = Tool("klockstat", "--json", "-p", terminal.first.pid, "-c", CALLER, "-s", "2").start()
        other = Tool("klockstat", "--json", "-t", terminal.second.pid, "-c", CALLER, "-S", "hld_total").start()
        table = Tool("klockstat", "-p", terminal.first.pid, "-c", CALLER, "-S", "acq_count,hld_count").start()
        plain = Tool("klockstat", "--csv", "-p", terminal.first.pid, "--waits-only").start()
        least, most, held = terminal.rounds(7, 0.05)
        for one in (tool, other, table, plain):
            one.stop()
            assert one.status == 0, one.stderr
            assert NO_HOLDS not in one.stderr
    (row,) = [row for row in tool.records() if row.get("lock") == "mutex"]  # there are semaphores in it, too
    assert (row["what"], row["caller"], row["count"], row["unit"]) == ("hold", CALLER, 7, "ns")
    assert least <= row["total"] <= held and row["total"] / 7 <= row["max"] <= row["total"]
    assert [frame["name"] for frame in row["stack"]] == [CALLER, "tty_read"]
    wait, hold = [row for row in other.records() if row.get("lock") == "mutex"]
    assert (wait["what"], hold["what"], wait["count"], hold["count"]) == ("wait", "hold", 7, 7)
    assert 0 < hold["total"] <= most - wait["total"]  # the beginning of holding is the end of the wait
    banner, empty, first, again, second, *lines = table.stdout.splitlines()
    (line,) = [line for line in lines if line.endswith("mutex")]
    assert (banner, empty, again) == ("Tracing lock events... Hit Ctrl-C to end.", "", "")
    assert re.split(r"\s{2,}", first.strip()) == ["Caller", "Avg Wait", "Count", "Max Wait", "Total Wait", "Lock"]
    assert re.split(r"\s{2,}", second.strip()) == ["Caller", "Avg Hold", "Count", "Max Hold", "Total Hold", "Lock"]
    assert line.split()[2] == "7" and CALLER in line
    assert {row["what"] for row in csv.DictReader(io.StringIO(plain.stdout))} <= {"wait"}


def test_a_semaphore_of_readers_and_writers(tmp_path: Path) -> None:
    """Renaming in a folder takes its lock for writing; looking around in it, for reading."""
    needs("fentry")
    folders = [tmp_path / str(number) for number in range(11)]
    for one in folders:
        one.mkdir()
        (one / "file").touch()
    tool = Tool("klockstat", "--json", "-p", str(os.getpid()), "-S", "hld_count").start()
    for one in folders:
        os.listdir(one)
    tool.stop()
    held = [row for row in tool.records() if row.get("what") == "hold"]
    readers = [row for row in held if row["lock"] == "rwsem:R" and row["caller"] == "iterate_dir"]
    assert sum(row["count"] for row in readers) >= 11 and all(row["total"] > 0 for row in readers)


def test_what_is_missing_is_said() -> None:
    """Where nothing can watch the functions, in one sentence, and -S by them is refused; -v has the reason for each."""
    tool = Tool("klockstat", "-v", "-p", str(os.getpid())).start().stop()
    holds = "mutex_unlock: attached" in tool.stderr
    assert (NO_HOLDS in tool.stderr) is not holds
    if holds:
        assert "Avg Hold" in tool.stdout
        return
    assert re.search(r"^osmia: mutex_unlock: left out: ", tool.stderr, re.MULTILINE) and "Hold" not in tool.stdout
    assert NO_HOLDS not in osmia("klockstat", "--waits-only", "-d", "0.1").stderr
    done = osmia("klockstat", "-d", "0.1", "-S", "hld_max")
    assert done.returncode and NO_HOLDS.removeprefix("osmia: ") in done.stderr and "acq_max" in done.stderr


def test_the_table() -> None:
    with Terminal() as terminal:
        tool = Tool("klockstat", "-p", terminal.second.pid, "-c", CALLER, "-s", "2").start()
        longest = Tool("klockstat", "-p", terminal.second.pid, "-n", "1").start()
        table = Tool("klockstat", "--csv", "-p", terminal.second.pid, "-c", CALLER).start()
        least, most, _ = terminal.rounds(3, 0.05)
        for one in (tool, longest, table):
            one.stop()
    banner, empty, head, row, below, *_holds = tool.stdout.splitlines()
    assert (banner, empty) == ("Tracing lock events... Hit Ctrl-C to end.", "")
    assert re.split(r"\s{2,}", head.strip()) == ["Caller", "Avg Wait", "Count", "Max Wait", "Total Wait", "Lock"]
    caller, average, count, greatest, total, lock = row.split()
    assert re.fullmatch(CALLER + r"\+0x[0-9a-f]+", caller) and below.strip().startswith("tty_read+0x")
    assert (count, lock) == ("3", "mutex") and least <= int(total) <= most
    assert int(average) == int(total) // 3 <= int(greatest)
    (_banner, waits_of_one, *_holds) = longest.stdout.split("\n\n")
    assert len(waits_of_one.strip("\n").split("\n")) == 2 and CALLER in waits_of_one
    (line,) = [line for line in csv.DictReader(io.StringIO(table.stdout)) if line["what"] == "wait"]
    assert line["count"] == "3" and least <= int(line["total"]) <= most and line["lock"] == "mutex"


def test_intervals_begin_anew() -> None:
    """Each wait is in one summary, that of its end."""
    with Terminal() as terminal:
        tool = Tool("klockstat", "--json", "-i", "0.3", "-p", terminal.second.pid, "-c", CALLER).start()
        least, most, _ = terminal.rounds(5, 0.4)
        tool.stop()
    rows = waits(tool)
    assert len(rows) >= 2 and sum(row["count"] for row in rows) == 5
    assert least <= sum(row["total"] for row in rows) <= most
    assert all(row["max"] <= row["total"] for row in rows)


def test_a_picture(tmp_path: Path) -> None:
    svg = tmp_path / "waits.svg"
    with Terminal() as terminal:
        tool = Tool("klockstat", "-p", terminal.second.pid, "--svg", str(svg)).start()
        terminal.rounds(2, 0.02)
        tool.stop()
    text = svg.read_text(encoding="utf-8")
    assert CALLER in text and "tty_read" in text


def test_recorded_waits(tmp_path: Path) -> None:
    """A recording has the whole stacks, and their sums."""
    path = tmp_path / "locks.rec"
    with Terminal() as terminal:
        tool = Tool("record", "-o", str(path), "--show", "klockstat", "--json", "-p", terminal.second.pid).start()
        terminal.rounds(3, 0.05)
        tool.stop()
    assert tool.status == 0, tool.stderr
    done = osmia("replay", str(path), "--no-json")
    assert (done.returncode, done.stderr) == (0, "")
    found = {stack: int(total) for stack, _, total in (line.rpartition(" ") for line in done.stdout.splitlines())}
    assert sum(found.values()) == sum(row["total"] for row in waits(tool))
    assert any(";n_tty_read;" in stack and stack.startswith("entry_SYSCALL") for stack in found)


def test_the_whole_machine() -> None:
    """Without a filter the two are among all others."""
    with Terminal() as terminal:
        tool = Tool("klockstat", "--json").start()
        least, _, _ = terminal.rounds(3, 0.05)
        tool.stop()
    assert sum(row["total"] for row in waits(tool) if row["caller"] == CALLER) >= least
    assert {row["lock"] for row in tool.records() if "lock" in row} >= {"mutex"}


@pytest.mark.anywhere
def test_what_is_refused() -> None:
    for words, says in ((["-S", "wrong"], "there is no field 'wrong'"), (["-S", "acq_max,held"], "no field 'held'"),
                        (["-S", "hld_max", "--waits-only"], "leaves nothing to sort by hld_max")):  # fmt: skip
        done = osmia("klockstat", *words)
        assert done.returncode and says in done.stderr
