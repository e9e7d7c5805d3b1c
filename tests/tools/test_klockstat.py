# SPDX-License-Identifier: Apache-2.0
"""klockstat against two processes that read one terminal: the other waits for the one that waits for input."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from harness import Tool, osmia
from needs import needs_tracepoint
from terminal import Terminal

pytestmark = pytest.mark.kernel

CALLER = "n_tty_read"


@pytest.fixture(autouse=True)
def _contention() -> None:
    needs_tracepoint("lock:contention_begin", "5.19")


def test_each_wait_and_how_long() -> None:
    with Terminal() as terminal:
        tool = Tool("klockstat", "--json", "-p", terminal.second.pid, "-s", "3").start()
        thread = Tool("klockstat", "--json", "-t", terminal.second.pid, "-c", "n_tty", "-S", "acq_count").start()
        other = Tool("klockstat", "--json", "-p", terminal.first.pid, "-c", CALLER).start()
        least, most = terminal.rounds(7, 0.05)
        for one in (tool, thread, other):
            one.stop()
            assert one.status == 0, one.stderr
    (row,) = [row for row in tool.records() if row["caller"] == CALLER]
    assert (row["lock"], row["count"], row["unit"]) == ("mutex", 7, "ns")
    assert least <= row["total"] <= most and row["total"] / 7 <= row["max"] <= row["total"]
    assert [frame["name"] for frame in row["stack"]][:2] == [CALLER, "tty_read"] and len(row["stack"]) == 3
    (row,) = thread.records()
    assert row["count"] == 7 and least <= row["total"] <= most and len(row["stack"]) == 1
    assert other.records() == []  # it was always the first


def test_the_table() -> None:
    with Terminal() as terminal:
        tool = Tool("klockstat", "-p", terminal.second.pid, "-c", CALLER, "-s", "2").start()
        longest = Tool("klockstat", "-p", terminal.second.pid, "-n", "1").start()
        table = Tool("klockstat", "--csv", "-p", terminal.second.pid, "-c", CALLER).start()
        least, most = terminal.rounds(3, 0.05)
        for one in (tool, longest, table):
            one.stop()
    banner, empty, head, row, below = tool.stdout.splitlines()
    assert (banner, empty) == ("Tracing lock events... Hit Ctrl-C to end.", "")
    assert re.split(r"\s{2,}", head.strip()) == ["Caller", "Avg Wait", "Count", "Max Wait", "Total Wait", "Lock"]
    caller, average, count, greatest, total, lock = row.split()
    assert re.fullmatch(CALLER + r"\+0x[0-9a-f]+", caller) and below.strip().startswith("tty_read+0x")
    assert (count, lock) == ("3", "mutex") and least <= int(total) <= most
    assert int(average) == int(total) // 3 <= int(greatest)
    assert len(longest.stdout.splitlines()) == 4 and CALLER in longest.stdout
    (line,) = csv.DictReader(io.StringIO(table.stdout))
    assert line["count"] == "3" and least <= int(line["total"]) <= most and line["lock"] == "mutex"


def test_intervals_begin_anew() -> None:
    """Each wait is in one summary, that of its end."""
    with Terminal() as terminal:
        tool = Tool("klockstat", "--json", "-i", "0.3", "-p", terminal.second.pid, "-c", CALLER).start()
        least, most = terminal.rounds(5, 0.4)
        tool.stop()
    rows = tool.records()
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


def test_the_whole_machine() -> None:
    """Without a filter the two are among all others."""
    with Terminal() as terminal:
        tool = Tool("klockstat", "--json").start()
        least, _ = terminal.rounds(3, 0.05)
        tool.stop()
    assert sum(row["total"] for row in tool.records() if row.get("caller") == CALLER) >= least
    assert {row["lock"] for row in tool.records() if "lock" in row} >= {"mutex"}


@pytest.mark.anywhere
def test_what_is_refused() -> None:
    for word, says in (("hld_max", "held are not measured"), ("wrong", "there is no field 'wrong'")):
        done = osmia("klockstat", "-S", word)
        assert done.returncode and says in done.stderr and "acq_max, acq_total" in done.stderr
