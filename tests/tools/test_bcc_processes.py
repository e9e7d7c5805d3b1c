# SPDX-License-Identifier: Apache-2.0
"""The command lines that bcc and bpftrace document for these tools, each run as it is for a moment."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from harness import osmia

pytestmark = [pytest.mark.kernel, pytest.mark.anywhere]

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "bcc"
FILES = ("processes", "locks", "security", "applications")
COMMANDS = [line for name in FILES for line in (FIXTURES / f"{name}.txt").read_text().splitlines()]
PIDS = ("123", "125", "181", "1216")


def words_of(command: str) -> list[str]:
    """The words, with a process that there is."""
    tool, *words = shlex.split(command.replace("/lib/libreadline.so", "libreadline"))  # wherever that is here
    return [tool.removesuffix(".bt"), *[str(os.getpid()) if word in PIDS else word for word in words]]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_documented_command_runs(command: str) -> None:
    done = osmia(*words_of(command), "--duration", "0.2")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].startswith(("TIME", "Tracing", "Summarize"))
