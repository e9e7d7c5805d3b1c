# SPDX-License-Identifier: Apache-2.0
"""The command lines that bcc documents for its tools on CPUs, each run for a moment as it is."""

from __future__ import annotations

import shlex

import pytest
from harness import REPO, Tool

pytestmark = pytest.mark.kernel

COMMANDS = (REPO / "tests" / "fixtures" / "bcc" / "cpus.txt").read_text().splitlines()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_documented_command_runs(command: str) -> None:
    tool = Tool(*shlex.split(command)).start()
    tool.stop()
    assert (tool.status, tool.stderr) == (0, "") and tool.stdout
