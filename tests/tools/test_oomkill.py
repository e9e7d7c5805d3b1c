# SPDX-License-Identifier: Apache-2.0
"""oomkill, with processes that want more memory than their cgroup may have."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from harness import Tool, eventually, osmia
from memory import MIB, hog, in_group, memory_group

pytestmark = pytest.mark.kernel

LIMIT = 24 * MIB
COMMANDS = ["oomkill"]


def logged(pid: int) -> str:
    """The kernel's own line about the death of ``pid``."""
    with open("/dev/kmsg", encoding="utf-8", errors="replace") as log:
        os.set_blocking(log.fileno(), False)
        lines = []
        while True:
            try:
                line = os.read(log.fileno(), 8192).decode("utf-8", "replace")
            except BlockingIOError:
                break
            except BrokenPipeError:  # what was next is overwritten
                continue
            lines.append(line)
    return next((line for line in reversed(lines) if f"Killed process {pid} " in line), "")


@pytest.mark.feature("B13 tools")
def test_each_kill_is_a_row() -> None:
    """As many as there were, with the pages that the kernel's log has."""
    start = time.monotonic_ns()
    with memory_group(LIMIT) as group, Tool("oomkill", "--json") as tool:
        pids = []
        for number in range(3):
            victim = hog(group, f"hog-{number}", 60)
            assert victim.wait() == -9
            pids.append(victim.pid)
        time.sleep(0.3)
        tool.stop()
    mine = [event for event in tool.records() if event.get("tpid") in pids]
    assert tool.status == 0 and [event["tpid"] for event in mine] == pids
    for number, event in enumerate(mine):
        assert event["tcomm"] == event["fcomm"] == f"hog-{number}" and event["fpid"] == event["tpid"]
        assert start < event["ts"] < time.monotonic_ns() and event["uid"] == 0
        assert event["pages"] * 4 == event["resident"] <= event["total"]
        line = logged(event["tpid"])
        sizes = {key: int(value) for key, value in re.findall(r"(\S+-rss|total-vm):(\d+)kB", line)}
        assert sizes["total-vm"] == event["total"], line
        resident = sizes["anon-rss"] + sizes["file-rss"] + sizes["shmem-rss"]
        assert abs(resident - event["resident"]) <= resident / 20, line  # it may give some back in between


def test_as_a_table() -> None:
    with memory_group(LIMIT) as group, Tool("oomkill") as tool:
        victim = hog(group, "eater", 60)
        victim.wait()
        time.sleep(0.3)
        tool.stop()
    banner, head, *rows = tool.stdout.splitlines()
    assert banner == "Tracing OOM kills... Ctrl-C to stop."
    assert head.split() == ["TIME", "BY", "PID", "BY", "COMM", "KILLED", "COMM", "PAGES", "LOADAVG"]
    (row,) = [row for row in rows if f" {victim.pid} " in row]
    assert re.fullmatch(
        rf"\d\d:\d\d:\d\d +{victim.pid} +eater +{victim.pid} +eater +\d+ [\d.]+ [\d.]+ [\d.]+ \d+/\d+ \d+", row
    )


def test_who_wanted_memory_is_not_who_dies() -> None:
    """The largest one of the cgroup dies, whoever asked for the last page."""
    with memory_group(LIMIT) as group, Tool("oomkill", "--json") as tool:
        large = in_group(group, "large", f"keep = bytearray(b'x') * {15 * MIB}\nimport time\ntime.sleep(600)")
        usage = f"/proc/{large.pid}/statm"
        assert eventually(lambda: int(Path(usage).read_text().split()[1]) * 4096 > 15 * MIB, 20)
        small = in_group(group, "small", "open('/proc/self/oom_score_adj', 'w').write('0')\n"
                         f"keep = [bytearray({MIB}) for _ in range(12)]")  # fmt: skip
        assert large.wait() == -9 and small.wait() == 0
        time.sleep(0.3)
        tool.stop()
    (event,) = [event for event in tool.records() if event.get("tpid") == large.pid]
    assert (event["fpid"], event["fcomm"], event["tcomm"]) == (small.pid, "small", "large")
    assert event["pages"] * 4096 > 15 * MIB


def test_nobody_else() -> None:
    """A process that ends by itself or by kill -9 is no victim."""
    with memory_group(LIMIT) as group, Tool("oomkill", "--json") as tool:
        ended = hog(group, "modest", 3)
        assert ended.wait() == 0
        killed = hog(group, "killed", 0)
        killed.kill()
        killed.wait()
        tool.stop()
    assert not [event for event in tool.records() if event.get("tpid") in (ended.pid, killed.pid)]


def test_csv_and_a_duration() -> None:
    run = osmia("oomkill", "--csv", "-d", "0.2")
    assert run.returncode == 0 and run.stdout == "TIME,BY PID,BY COMM,KILLED,COMM,PAGES,LOADAVG\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_what_bcc_documents_is_taken(command: str) -> None:
    assert Tool(command).start().stop().status == 0


@pytest.mark.anywhere
def test_wrong_options_are_one_sentence() -> None:
    run = osmia("oomkill", "--cgroup", "/no/such/cgroup")
    assert run.returncode == 2 and run.stdout == "" and "/no/such/cgroup" in run.stderr
