# SPDX-License-Identifier: Apache-2.0
"""The command lines that bcc documents for its tools on CPUs, each run for a moment as it is."""

from __future__ import annotations

import os
import shlex

import pytest
from harness import REPO, Tool

pytestmark = pytest.mark.kernel

#: What is said where a tool asks for what a machine may not have.
LACKING = {
    "cpufreq": "there is no cpufreq", "criticalstat": "this kernel has no tracepoint preemptirq:",
    "kvmexit": "this kernel has no KVM now",
    "llcstat": "this machine has no such hardware counter",
    "numasched": "this machine has one NUMA node",
}  # fmt: skip
COMMANDS = (REPO / "tests" / "fixtures" / "bcc" / "cpus.txt").read_text().splitlines()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_documented_command_runs(command: str) -> None:
    words = shlex.split(command)
    if words[0] in ("kvmexit", "numasched"):
        for flag in {"-p", "-t", "-T"} & {*words}:
            words[words.index(flag) + 1] = str(os.getpid())
    try:
        tool = Tool(*words).start()
    except AssertionError as err:
        if LACKING.get(words[0], "\0") not in str(err):
            raise
        return
    tool.stop()
    assert (tool.status, tool.stderr) == (0, "") and tool.stdout
