# SPDX-License-Identifier: Apache-2.0
"""tplist and bpflist against what the tests have made themselves."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from harness import Told, Tool, osmia, prebuilt, workload
from needs import needs

pytestmark = pytest.mark.kernel


# --- tplist -------------------------------------------------------------------------------------------------------


def test_tracepoints_by_pattern() -> None:
    done = osmia("tplist", "syscalls:sys_enter_getpg*")
    assert done.stderr == "" and done.stdout == "syscalls:sys_enter_getpgid\nsyscalls:sys_enter_getpgrp\n"
    assert len(osmia("tplist").stdout.splitlines()) > 500


def test_fields_of_a_tracepoint() -> None:
    lines = osmia("tplist", "-v", "sched:sched_process_exit").stdout.splitlines()
    assert lines[0] == "sched:sched_process_exit" and "    char comm[16];" in lines and "    pid_t pid;" in lines
    assert not any("common_" in line for line in lines)
    record = json.loads(osmia("tplist", "-v", "--json", "sched:sched_process_exit").stdout)
    assert record["name"] == lines[0] and {"name": "pid", "type": "pid_t"} in record["fields"]


def test_static_probes_of_a_library() -> None:
    library = prebuilt.user("libtarget")
    assert osmia("tplist", "-l", library).stdout == f"{library} target:twice\n"
    assert osmia("tplist", "-v", "-l", library, "*twice").stdout == (
        "target:twice [sema 0x0]\n  1 location(s)\n  2 argument(s)\n"
    )
    places = osmia("tplist", "-vv", "-l", library).stdout.splitlines()
    assert places[0] == "target:twice [sema 0x0]"
    notes = subprocess.run(["readelf", "-n", library], capture_output=True, text=True, check=True).stdout
    address = re.search(r"Location: (0x[0-9a-f]+)", notes)
    assert address and places[1] == f"  location #1 {library} {int(address[1], 16):#x}"
    operands = re.search(r"Arguments: (\S+) (\S+)", notes)
    assert operands
    for number, (line, operand) in enumerate(zip(places[2:], operands.groups(), strict=True), 1):
        assert line == f"    argument #{number} 4 signed bytes @ {operand.partition('@')[2].replace('%', '')}"


def test_semaphores_and_several_places() -> None:
    places = prebuilt.user("places")
    text = osmia("tplist", "-v", "-l", places, "osmia:place").stdout
    assert text.splitlines()[1:] == ["  1000 location(s)", "  1 argument(s)"]


def test_static_probes_of_a_process() -> None:
    library = prebuilt.user("libtarget")
    with Told(prebuilt.user("caller")) as work:
        assert work.process.stdout and work.process.stdout.readline() == "ready\n"
        before = osmia("tplist", "-p", work.pid, "target:*")
        work.tell(f"load {library}")
        after = osmia("tplist", "-p", work.pid, "target:*")
    assert before.returncode == 1 and "there is nothing that target:* matches" in before.stderr
    assert after.stdout == f"{library} target:twice\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["blok:*"], "did you mean block:*"),
        (["-l", "there-is-no-such-library"], "there-is-no-such-library"),
        (["-p", "999999999"], "999999999"),
        (["-l", workload.__code__.co_filename], "not a program or library"),
    ],
)
def test_what_there_is_not(words: list[str], says: str) -> None:
    done = osmia("tplist", *words)
    assert done.returncode in (1, 2) and says in done.stderr and "Traceback" not in done.stderr


def test_a_list_is_no_run_to_record() -> None:
    done = osmia("record", "tplist", "-o", "/dev/null")
    assert done.returncode == 1 and "it traces nothing that could be recorded" in done.stderr


# --- bpflist ------------------------------------------------------------------------------------------------------


def held(pid: int, *words: str) -> dict[str, int]:
    """What process ``pid`` has, by kind."""
    rows = [json.loads(line) for line in osmia("bpflist", "--json", *words).stdout.splitlines()]
    return {row["type"]: row["count"] for row in rows if row["pid"] == pid}


def test_who_holds_what() -> None:
    needs("uprobe_multi")
    program = workload("calls")
    with Tool("funccount", f"{program}:by_*") as tool:
        plain = held(tool.pid)
        counted = held(tool.pid, "-v")
        text = osmia("bpflist", "-vv").stdout
    assert plain["prog"] == 1 and plain["map"] >= 1 and "uprobe" not in plain
    assert {kind: counted[kind] for kind in ("prog", "map")} == {kind: plain[kind] for kind in ("prog", "map")}
    assert counted["uprobe"] == 2
    assert re.search(rf"^p:2 places with one link \S+ \({tool.pid}\)$", text, re.M)
    assert re.search(rf"^{tool.pid:<6} \S+ +prog +1$", text, re.M)
    assert text.startswith("open kprobes:\n") and re.search(r"^PID    COMM             TYPE +COUNT$", text, re.M)
    assert held(tool.pid) == {}


def test_single_probes_are_told_by_name() -> None:
    """A perf event for each place, which other loaders and older kernels have."""
    program = workload("calls")
    off = Tool("funccount", f"{program}:by_*")
    off.command = ["env", "OSMIA_FEATURES_OFF=uprobe_multi", *off.command]
    with off as tool:
        assert held(tool.pid, "-v")["uprobe"] == 2
        text = osmia("bpflist", "-vv").stdout
    assert len(re.findall(rf"^p:{re.escape(program)}:0x[0-9a-f]+ \S+ \({tool.pid}\)$", text, re.M)) == 2
