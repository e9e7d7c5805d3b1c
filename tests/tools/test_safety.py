# SPDX-License-Identifier: Apache-2.0
"""What tools say and ask that attach where their user says."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

import pytest
from harness import Told, Tool, environment, osmia, osmia_command, prebuilt, workload
from needs import needs

from osmia.cli import safety
from osmia.link import uprobe

pytestmark = pytest.mark.kernel

#: ``--yes`` matters only from limits on that no test should reach; this file is a run with other limits.
LIMITED = """
import sys
from osmia.cli import main, safety
safety.MANY, safety.MANY_SINGLE, safety.LIMIT = {many}, 500, {limit}
main.go(main.main(sys.argv[1:]))
"""


def limited(tmp_path: Path, *words: str, many: int = 20_000, limit: float = 50.0) -> list[str]:
    file = tmp_path / "limited.py"
    file.write_text(LIMITED.format(many=many, limit=limit))
    return [osmia_command()[0], str(file), *words]


def test_the_rate_is_told_after_a_second() -> None:
    program = workload("calls")
    with Told(program) as work:
        tool = Tool("funccount", "-v", "-d", "2", "-p", work.pid, f"{program}:counted_f*").start()
        work.tell("20000 0")
        tool.wait()
    assert "place to attach to" in tool.stderr or "places to attach to" in tool.stderr
    found = re.search(r"osmia: ([\d,]+) hits a second at 1 place, which take about (\S+) % of the time of", tool.stderr)
    assert found, tool.stderr
    assert 0 < int(found[1].replace(",", "")) <= 20_000 and float(found[2]) > 0
    assert "20000" in tool.stdout


def test_tools_that_are_asked_for_something_of_their_own_say_nothing() -> None:
    tool = Tool("opensnoop", "-d", "1.5").start().wait()
    assert "hits a second" not in tool.stderr
    assert "--yes" not in osmia("opensnoop", "--help").stdout
    assert "--yes" in osmia("funccount", "--help").stdout


def test_too_many_places_need_a_yes(tmp_path: Path) -> None:
    program = prebuilt.user("many")
    words = ("funccount", "-d", "1", f"{program}:many_*")
    refused = subprocess.run(limited(tmp_path, *words, many=100), env=environment(), capture_output=True, text=True,
                             check=False, stdin=subprocess.DEVNULL)  # fmt: skip
    assert refused.returncode == 3 and refused.stdout == ""
    says = r"osmia: funccount: [\d,]+ places would be probed; use a narrower pattern, or --yes"
    assert re.search(says, refused.stderr)
    if not uprobe.multi():
        return  # thousands of single probes take minutes to go away
    agreed = Tool(command=limited(tmp_path, *words, "--yes", many=100)).start().wait()
    assert agreed.status == 0 and agreed.stdout.startswith("Tracing ")


def test_what_costs_too_much_ends_after_a_second_and_shows_what_it_saw(tmp_path: Path) -> None:
    program = workload("calls")
    with Told(program) as work:
        words = ("funccount", "-d", "8", "-p", work.pid, f"{program}:counted_function")
        tool = Tool(command=limited(tmp_path, *words, limit=1e-6)).start()
        work.tell("10000 0")
        tool.wait()
        agreed = Tool(command=limited(tmp_path, *words[:2], "2", *words[3:], "--yes", limit=1e-6)).start()
        work.tell("500 0")
        agreed.wait()
    assert tool.status == 3 and "counted_function" in tool.stdout and "10000" in tool.stdout
    assert re.search(r"osmia: funccount: ended after [\d.]+ s: [\d,]+ hits a second", tool.stderr)
    assert "a filter such as -p, or --yes to go on" in tool.stderr
    assert agreed.status == 0 and "500" in agreed.stdout


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("n\n", 3), ("\n", 3)])
def test_at_a_terminal_it_is_a_question(tmp_path: Path, answer: str, status: int) -> None:
    needs("uprobe_multi")
    command = limited(tmp_path, "funccount", "-d", "1", f"{prebuilt.user('many')}:many_000?", many=5)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = ""
    end = time.monotonic() + 40
    answered = False
    while time.monotonic() < end and process.poll() is None:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                seen += os.read(ours, 4096).decode()
            except OSError:
                break
        if "[y/N]" in seen and not answered:
            os.write(ours, answer.encode())
            answered = True
    assert process.wait(20) == status, seen
    os.close(ours)
    assert "10 places would be probed; go on? [y/N]" in seen
    assert ("Tracing 10 functions" in seen) is (status == 0)


def test_limits_leave_room_for_a_large_library() -> None:
    assert safety.MANY >= 10_000 and 10 <= safety.LIMIT <= 80
