# SPDX-License-Identifier: Apache-2.0
"""``osmia -e``: whole programs on the command line, with exact output."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from harness import Told, Tool, osmia, skipped, workload

pytestmark = pytest.mark.kernel

README = Path(__file__).resolve().parents[2] / "docs" / "one-liners.md"
GETPGID = '@tracepoint("syscalls:sys_enter_getpgid")'


def test_a_count(record_property: object) -> None:
    program = workload("calls")
    with Told(program) as work:
        text = f'calls = Hash[Comm, u64](); @uprobe("{program}:counted_function") def f(): calls[current.comm] += 1'
        tool = Tool("-e", text).start()
        work.tell("6000 4000")
        tool.stop()
    assert tool.status == 0 and tool.stderr == "" and tool.stdout == "\ncalls:\n  calls  10000\n"


def test_two_probes_an_option_and_json() -> None:
    program = workload("calls")
    text = (
        f'only = option("-p", "--pid", type=int); left = PerCpuArray[u64](1); right = PerCpuArray[u64](1); '
        f'@uprobe("{program}:by_left") def a(sum, times): left[0] += times if current.tgid == only else 0; '
        f'@uprobe("{program}:by_right") def b(sum, times): right[0] += times if current.tgid == only else 0'
    )
    with Told(program) as work, Told(program) as other:
        tool = Tool("-e", text, "--json", "-p", work.pid).start()
        other.tell("17 19")
        work.tell("101 211")
        tool.stop()
    assert [json.loads(line) for line in tool.stdout.splitlines()] == [
        {"name": "left", "entries": [{"key": 0, "value": 101}]},
        {"name": "right", "entries": [{"key": 0, "value": 211}]},
    ]


def test_lines_that_are_printed() -> None:
    with Told(workload("stairs")) as work:
        short = f'{GETPGID} def f(call): print(f"{{current.comm}} asks") if current.tgid == {work.pid} else 0'
        long = f"{GETPGID}\ndef f(call):\n  if current.tgid == {work.pid}:\n    print(f'{{current.comm}} asks')"
        tools = [Tool("-e", text, "--json").start() for text in (short, long)]
        work.tell("1 3")
        for tool in tools:
            tool.stop()
    for tool in tools:
        lines = [record["print"] for record in tool.records() if "print" in record]
        assert set(lines) == {"stairs asks"} and 0 <= 3 - len(lines) <= skipped(tool)


def test_a_histogram() -> None:
    program = workload("calls")
    with Told(program) as work:
        tool = Tool(
            "-e", f'sizes = linear_hist("times", low=0, high=300, step=100); @uprobe("{program}:by_*")',
            "-e", "def f(sum, times): sizes.add(times)",
        ).start()  # fmt: skip
        work.tell("101 211")
        tool.stop()
    assert tool.stdout == (
        "\n     times               : count     distribution\n"
        "         0 -> 99         : 0        |                                        |\n"
        "       100 -> 199        : 1        |****************************************|\n"
        "       200 -> 299        : 1        |****************************************|\n"
    ) or tool.stdout.count(": 1 ") == 2


@pytest.mark.parametrize(
    ("program", "says"),
    [
        (f"{GETPGID} def f(call): call.what", "-e:1:"),
        ("x = 1", "-e: there is no kernel function in it"),
    ],
)
def test_mistakes(program: str, says: str) -> None:
    done = osmia("-e", program, "-d", "1")
    assert done.returncode == 1 and says in done.stderr and "Traceback" not in done.stderr


def test_a_mistake_in_kernel_code_has_a_caret_below_it() -> None:
    program = f"n = Hash[u32, u64](); {GETPGID} def f(call): n[call.pod] += 1"
    done = osmia("-e", program, "-d", "1")
    line, source, caret = done.stderr.splitlines()[:3]
    at = program.index("call.pod")
    assert line == f"osmia: -e:1:{at + 1}: error: getpgid() has no argument 'pod'"
    assert source == f"    {program}" and caret == f"    {' ' * at}^~~~~~~~"


def test_help_and_the_missing_program() -> None:
    program = f'"""Ask."""; pid = option("-p", type=int, help="a process"); {GETPGID} def f(call): lost("x")'
    shown = osmia("-e", program, "--help").stdout
    assert shown.startswith("usage: osmia -e [options]\n\nAsk.\n") and "-p" in shown and "--json" in shown
    assert osmia("-e").returncode == 2
    assert "osmia -e 'PROGRAM' [options]" in osmia("--help").stdout


def commands() -> list[tuple[str, str]]:
    """The programs of the documentation's page, and the error that is shown below (or nothing)."""
    blocks = re.findall(r"^```console\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
    found = [re.match(r"# osmia -e '([^']+)'[^\n]*\n(.*)", block, re.S) for block in blocks]
    return [(one[1], one[2]) for one in found if one]


@pytest.mark.parametrize(("program", "error"), commands())
def test_what_the_documentation_shows(program: str, error: str) -> None:
    if error:
        done = osmia("-e", program)
        assert done.returncode == 1 and done.stderr == error
        return
    tool = Tool("-e", program, "-d", "0.4").start().wait()
    assert tool.status == 0, tool.stderr
