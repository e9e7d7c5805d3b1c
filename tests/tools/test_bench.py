# SPDX-License-Identifier: Apache-2.0
"""``osmia bench``: its numbers hang together, whatever the machine is doing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from harness import osmia

from osmia.cli import bench

pytestmark = [pytest.mark.kernel, pytest.mark.anywhere]


def measured(*words: str) -> dict[str, Any]:
    done = osmia("bench", "--json", "-r", "1", *words)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["slowdown_ns"] == pytest.approx(found["traced_ns"] - found["plain_ns"], abs=0.2)
    assert found["events_per_second"] == pytest.approx(1e9 / found["traced_ns"], rel=1e-3)
    assert found["slowdown_percent"] == pytest.approx(found["slowdown_ns"] / found["plain_ns"] * 100, abs=0.2)
    assert found["peak_memory_bytes"] > 1 << 20
    assert found["map_bytes"] > 0 < found["programs_ns"]
    return found


@pytest.mark.parametrize(("tool", "workload", "number"), [("opensnoop", "opens", 2000), ("execsnoop", "execs", 30)])
def test_every_event_is_a_row_or_lost(tool: str, workload: str, number: int) -> None:
    found = measured("-n", str(number), tool, "--ring-size", "16M")
    assert (found["tool"], found["workload"]) == (f"{tool} --ring-size 16M", workload)
    assert found["lost"] == 0
    assert found["rows"] == found["events"] == number
    assert found["program_runs"] >= 2 * number


@pytest.mark.parametrize("tool", ["runqlat", "biolatency"])
def test_tools_that_count(tool: str) -> None:
    found = measured("-n", "301", tool)
    assert found["workload"] == bench.BY_TOOL[tool]
    assert found["events"] == (302 if tool == "runqlat" else 301)  # switches come in pairs
    assert "rows" not in found
    assert found["program_runs"] >= (301 if tool == "runqlat" else 0)


def test_the_table_has_what_the_json_has() -> None:
    done = osmia("bench", "-r", "1", "-n", "100", "-w", "opens", "syscount")
    lines = done.stdout.splitlines()
    assert lines[0] == "syscount: 100 opens, 1 rounds"
    shown = [line[2:34].rstrip() for line in lines[1:]]
    assert shown == [what for name, what, _ in bench.ROWS if name != "rows"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["opensnop"], "there is no tool or command 'opensnop'; did you mean opensnoop?"),
        ([], "bench: TOOL is missing"),
        (["-n", "0", "opensnoop"], "bench: option --events: 0 is not a number from 1"),
        (["-w", "open", "opensnoop"], "bench: option -w: there is no 'open'; did you mean opens?"),
        (["-r", "1", "-n", "5", "opensnoop", "--frob"], "bench: the tool did not start: opensnoop: unknown option "
         "--frob; see osmia opensnoop --help"),
        (["-r", "1", "-n", "5", "opensnoop", "--help"], "bench: the tool ended before it traced anything; run it by "
         "itself: osmia opensnoop --help"),
    ],
)  # fmt: skip
def test_mistakes_get_one_sentence(words: list[str], sentence: str) -> None:
    done = osmia("bench", *words)
    assert done.stderr == f"osmia: {sentence}\n"
    assert done.returncode in (1, 2)
