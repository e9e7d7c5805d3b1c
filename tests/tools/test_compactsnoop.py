# SPDX-License-Identifier: Apache-2.0
"""compactsnoop while all memory is compacted, which the kernel does zone by zone when it is told to."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from harness import Tool, osmia

pytestmark = pytest.mark.kernel

COMM = Path("/proc/self/comm").read_text().strip()
COMMANDS = (Path(__file__).resolve().parents[1] / "fixtures" / "bcc" / "compactsnoop.txt").read_text().splitlines()


def compact() -> None:
    Path("/proc/sys/vm/compact_memory").write_text("1")


def zones() -> dict[tuple[int, str], dict[str, int]]:
    """What /proc/zoneinfo says of the zones that have memory."""
    found = {}
    for part in re.split(r"^(?=Node \d+, zone)", Path("/proc/zoneinfo").read_text(), flags=re.M):
        head = re.match(r"Node (\d+), zone +(\w+)", part)
        numbers = {key: int(n) for key, n in re.findall(r"^ +(min|low|high|managed|boost) +(\d+)$", part, re.M)}
        if head and numbers.get("managed"):
            found[int(head[1]), head[2]] = numbers
    return found


def mine(tool: Tool) -> list[dict[str, Any]]:
    assert tool.status == 0, tool.stderr
    return [event for event in tool.records() if event.get("pid") == os.getpid()]


@pytest.mark.feature("B13 tools")
def test_each_zone_is_a_row() -> None:
    tool = Tool("compactsnoop", "--json", "-e").start()
    start = time.monotonic_ns()
    compact()
    wall = time.monotonic_ns() - start
    found = mine(tool.stop())
    known = zones()
    assert {(event["node"], event["zone"]) for event in found} == set(known) and len(found) == len(known)
    for event in found:
        zone = known[event["node"], event["zone"]]
        assert (event["comm"], event["order"], event["sync"]) == (COMM, -1, 1)
        assert (event["min"], event["low"], event["high"]) == (zone["min"], zone["low"], zone["high"])
        assert 0 < event["free"] <= zone["managed"] and event["delta"] > 0
        assert event["status"] in (5, 7, 8)  # complete, contended, success
    assert sum(event["delta"] for event in found) < wall


def test_as_a_table() -> None:
    tool = Tool("compactsnoop", "-Te", "-p", str(os.getpid())).start()
    compact()
    tool.stop()
    head, *rows = tool.stdout.splitlines()
    assert head.split() == ["TIME(s)", "COMM", "PID", "NODE", "ZONE", "ORDER", "MODE", "MIN", "LOW", "HIGH", "FREE",
                            "LAT(ms)", "STATUS"]  # fmt: skip
    assert len(rows) == len(zones()) and all(f" {os.getpid()} " in row and " -1 " in row for row in rows)
    last = r" ZONE_(DMA32|NORMAL) +-1 +SYNC +\d+ +\d+ +\d+ +\d+ +[\d.]+ +(complete|contended|success)$"
    assert re.search(last, rows[-1])


def test_the_stack_says_why() -> None:
    tool = Tool("compactsnoop", "-K", "-p", str(os.getpid())).start()
    compact()
    tool.stop()
    assert tool.stdout.count("    compact_node") + tool.stdout.count("    compact_nodes") >= len(zones())
    assert "vfs_write" in tool.stdout


@pytest.mark.parametrize("words", [["-p", "1"], ["-n", "nobody-has-this"]])
def test_filters(words: list[str]) -> None:
    tool = Tool("compactsnoop", "--json", *words).start()
    compact()
    assert mine(tool.stop()) == []


def test_csv_and_a_duration() -> None:
    run = osmia("compactsnoop", "--csv", "-d", "0.2")
    assert run.returncode == 0 and run.stdout.splitlines()[0] == "COMM,PID,NODE,ZONE,ORDER,MODE,LAT(ms),STATUS"


@pytest.mark.parametrize("command", COMMANDS)
def test_what_bcc_documents_is_taken(command: str) -> None:
    assert Tool(*command.replace("181", str(os.getpid())).split()).start().stop().status == 0


@pytest.mark.anywhere
def test_wrong_options_are_one_sentence() -> None:
    run = osmia("compactsnoop", "-p", "4194304")
    assert run.returncode == 2 and run.stdout == "" and "there is no process" in run.stderr
