# SPDX-License-Identifier: Apache-2.0
"""pythongc against the system's Python, which collects garbage when it is told to."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from harness import Told, Tool, osmia

pytestmark = pytest.mark.kernel

PYTHON = "/usr/bin/python3"  # of the distribution, which is built with static probes
ROW = re.compile(r"^(\d+\.\d{3}) +(?:(\d+) +)?(\d+\.\d\d) +gen (\d) GC collected (\d+) objects$")
#: "GENERATION N": makes N objects that only know themselves, and collects; nothing is collected otherwise.
PROGRAM = """
import gc, os, sys
gc.disable()
gc.collect()
class Object:
    pass
for line in sys.stdin:
    generation, n = map(int, line.split())
    for _ in range(n):
        one = Object()
        one.itself = one
    one = None
    print(gc.collect(generation), flush=True)
os._exit(0)
"""
STEPS = [(2, 103), (0, 7), (1, 13), (0, 0), (2, 1009)]


@pytest.fixture
def program() -> Iterator[Told]:
    with Told(PYTHON, "-c", PROGRAM) as one:
        one.tell("2 1")
        yield one


def collect(program: Told, steps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What each collection found, as the program itself says, by generation."""
    return [(generation, int(program.tell(f"{generation} {n}"))) for generation, n in steps]


def rows(tool: Tool) -> list[tuple[float, str, float, int, int]]:
    """START, PID (empty with -p), TIME, generation and objects of all rows."""
    assert (tool.status, tool.stderr) == (0, "")
    found = [ROW.match(line) for line in tool.rows()[1:]]
    assert all(found), tool.stdout
    return [(float(r[1]), r[2] or "", float(r[3]), int(r[4]), int(r[5])) for r in found if r]


def test_every_collection_has_a_row(program: Told) -> None:
    """As the program counts, each object with its dictionary or without, as this Python has it."""
    tool = Tool("pythongc", program.pid).start()
    truth = collect(program, STEPS)
    found = rows(tool.stop())
    assert tool.stdout.splitlines()[0] == (
        f"Tracing garbage collections in Python, process {program.pid}... Ctrl-C to quit."
    )
    assert tool.rows()[0].split() == ["START", "TIME", "(us)", "DESCRIPTION"]
    assert [(generation, objects) for _, _, _, generation, objects in found] == truth
    assert all(objects >= n for (_, n), (_, objects) in zip(STEPS, truth, strict=True))
    assert [row[0] for row in found] == sorted(row[0] for row in found)


def test_all_processes(program: Told) -> None:
    """Of that interpreter; the process is in a column then, and one that begins later is seen."""
    tool = Tool("pythongc", "--python", PYTHON).start()
    truth = collect(program, STEPS)
    with Told(PYTHON, "-c", PROGRAM) as other:
        other.tell("2 1")
        more = collect(other, STEPS[:2])
        found = rows(tool.stop())
    assert tool.rows()[0].split() == ["START", "PID", "TIME", "(us)", "DESCRIPTION"]
    assert [row[3:] for row in found if row[1] == program.pid] == truth
    assert [row[3:] for row in found if row[1] == other.pid][-2:] == more


@pytest.mark.parametrize(
    ("words", "which"),
    [
        (["-F", "gen 0"], [1, 3]),
        (["-F", "nothing"], []),
        (["-M", "100000"], []),
        (["-n", "python"], [0, 1, 2, 3, 4]),
        (["-n", "nobody"], []),
        (["--uid", "54321"], []),
    ],
)
def test_what_is_shown(program: Told, words: list[str], which: list[int]) -> None:
    tool = Tool("pythongc", *words, "-p", program.pid).start()
    truth = collect(program, STEPS)
    assert [row[3:] for row in rows(tool.stop())] == [truth[n] for n in which]


def test_times(program: Told) -> None:
    """A collection of many objects takes longer, and -m has it in milliseconds; JSON in nanoseconds."""
    both = Tool("pythongc", "-m", program.pid), Tool("pythongc", "--json", program.pid)
    for tool in both:
        tool.start()
    truth = collect(program, [(2, 3), (2, 100_003)])
    small, large = both[1].stop().records()
    assert [(one["generation"], one["collected"]) for one in (small, large)] == truth
    assert 0 < small["ns"] < large["ns"] and large["pid"] == int(program.pid)
    assert large["description"] == f"gen 2 GC collected {truth[1][1]} objects"
    assert abs(rows(both[0].stop())[1][2] - large["ns"] / 1e6) < large["ns"] / 1e6
    assert "TIME (ms)" in both[0].stdout


def test_a_command(program: Told) -> None:
    """-c: the programs that it starts, of that interpreter."""
    line = f"{PYTHON} -S -c \"import gc; gc.disable(); gc.collect(0); gc.collect(1)\""
    tool = Tool("pythongc", "--python", PYTHON, "-c", f"sh -c '{line}; true'").start()
    collect(program, STEPS)  # somebody else's
    found = rows(tool.wait())
    assert 1 in [row[3] for row in found] and program.pid not in [row[1] for row in found]


@pytest.mark.anywhere
def test_mistakes() -> None:
    done = osmia("pythongc", "-p", "1", "1")
    assert (done.returncode, done.stderr) == (2, "osmia: pythongc: the process is there twice; leave -p out\n")
    done = osmia("pythongc", "--python", "/bin/true")
    assert done.returncode == 1 and done.stderr.startswith("osmia: /bin/true: it has no static probes")


def test_documented_commands(program: Told) -> None:
    """Those of bcc for this language."""
    for words in ([program.pid], [program.pid, "-m"], ["-M", "10", program.pid], ["-F", "gen 2", program.pid]):
        done = osmia("pythongc", *words, "--duration", "0.2")
        assert (done.returncode, done.stderr) == (0, ""), words


