# SPDX-License-Identifier: Apache-2.0
"""numasched on a machine whose CPUs are said to be nodes of their own, and processes that move from one to another.

What a node is the tool reads in sysfs; what moves is real.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from pathlib import Path

import pytest
from harness import Told, Tool, osmia
from test_runqlat import ATTEMPTS

from osmia.kernel import cpus

MOVES = 23
ROW = re.compile(r"^\d\d:\d\d:\d\d +(\d+) +(\d+) +(\d+) +-> (\d+) +(\S.*)$")
#: osmia with another directory of nodes.
OSMIA = (
    "import sys; from osmia.kernel import cpus; cpus._NODES = sys.argv[1] + '/'; "
    "from osmia.cli.main import main; sys.exit(main(sys.argv[2:]))"
)
#: A process whose second thread goes from one CPU to another and back.
MOVER = """
import os, sys, threading
first, second, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
open('/proc/self/comm', 'w').write(name)
def move(times):
    for number in range(times):
        os.sched_setaffinity(0, [first if number % 2 else second])
def run(times):
    os.sched_setaffinity(0, [first])
    thread = threading.Thread(target=move, args=(times,))
    thread.start()
    print(thread.native_id, flush=True)
    thread.join()
os.sched_setaffinity(0, [first])
for line in sys.stdin:
    run(int(line))
"""
CPUS = sorted(os.sched_getaffinity(0))
pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(len(CPUS) < 2, reason="nothing can move on a machine with one CPU"),
]


@pytest.fixture
def nodes(tmp_path: Path) -> str:
    """The first CPU is node 3, all others are node 5."""
    for node, text in ((3, str(CPUS[0])), (5, f"{CPUS[1]}-{max(cpus.possible())}")):
        (tmp_path / f"node{node}").mkdir()
        (tmp_path / f"node{node}" / "cpulist").write_text(text + "\n")
    return str(tmp_path)


def numasched(nodes: str, *words: str) -> Tool:
    return Tool(command=[sys.executable, "-c", OSMIA, nodes, "numasched", *words])


def mover(name: str = "mover") -> Told:
    return Told(sys.executable, "-c", MOVER, str(CPUS[0]), str(CPUS[1]), name)


def test_each_move_is_shown(nodes: str) -> None:
    """As many as there were, from one node to the other and back, of the thread that moves."""
    for _ in range(ATTEMPTS):
        with mover() as one:
            one.tell("1")
            tool = numasched(nodes, "-p", one.pid).start()
            thread = one.tell(str(MOVES)).strip()
            one.tell("0")
            tool.stop()
        assert tool.status == 0 and tool.stderr == ""
        banner, head, *lines = tool.stdout.splitlines()
        assert banner == "Tracing task NUMA switch..."
        assert head.split() == ["TIME", "PID", "TID", "SRC_NID", "DST_NID", "COMM"]
        rows = [ROW.match(line) for line in lines]
        assert all(rows), tool.stdout
        mine = [(row[3], row[4]) for row in rows if row and row[2] == thread]
        assert {(row[1], row[5]) for row in rows if row} == {(one.pid, "mover")} and len(mine) <= MOVES
        if len(mine) == MOVES:
            assert mine == [("3", "5") if number % 2 == 0 else ("5", "3") for number in range(MOVES)]
            return
    pytest.fail(f"{len(mine)} of {MOVES}")


def test_moves_within_a_node_are_none(tmp_path: Path) -> None:
    """All CPUs that there are on one node, and another one without."""
    for node, text in ((0, f"0-{max(cpus.possible())}"), (1, str(max(cpus.possible()) + 1))):
        (tmp_path / f"node{node}").mkdir()
        (tmp_path / f"node{node}" / "cpulist").write_text(text + "\n")
    with mover() as one:
        tool = numasched(str(tmp_path)).start()
        one.tell("101")
        one.tell("0")
        tool.stop()
    assert tool.status == 0 and len(tool.stdout.splitlines()) == 2


@pytest.mark.parametrize("way", ["comm", "thread", "name"])
def test_filters(nodes: str, way: str) -> None:
    """-c is the whole name, -n a part of it, -t one thread; each lets one through and not the other."""
    with mover("mover-one") as one, mover("mover") as other:
        thread = str(threading.get_native_id())
        words = {"comm": ["-c", "mover"], "name": ["-n", "ver-one"], "thread": ["-t", thread]}[way]
        tool = numasched(nodes, "--json", *words).start()
        for each in (one, other):
            each.tell(str(MOVES))
            each.tell("0")
        if way == "thread":
            for number in range(2 * MOVES):
                os.sched_setaffinity(0, [CPUS[number % 2]])
            os.sched_setaffinity(0, CPUS)
        tool.stop()
    found = {record["pid"] for record in tool.records() if "pid" in record}
    expected = {"comm": other.pid, "name": one.pid, "thread": os.getpid()}[way]
    assert found == {int(expected)}
    assert all({record["old_nid"], record["new_nid"]} == {3, 5} for record in tool.records() if "pid" in record)
    assert set(tool.records()[0]) == {"ts", "pid", "tid", "old_nid", "new_nid", "comm"}


def test_nodes_of_this_machine() -> None:
    """Each CPU that is up has one; where there is one node only, the tool says so."""
    found = cpus.nodes()
    assert set(cpus.online()) <= set(found)
    if len(set(found.values())) == 1:
        done = osmia("numasched")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            "osmia: numasched: this machine has one NUMA node, so nothing can move to another; "
            "cpuwalk shows on which CPUs programs run\n"
        )


def test_a_kernel_without_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "_NODES", "/no/such/directory/")
    assert cpus.nodes() == dict.fromkeys(cpus.online(), 0)


@pytest.mark.anywhere
def test_mistakes() -> None:
    done = osmia("numasched", "-t", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "osmia: numasched: option -t: '0' is no thread id\n"
