# SPDX-License-Identifier: Apache-2.0
"""The command lines that bcc documents for these tools: each is taken as it is, and runs."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from harness import osmia

pytestmark = [pytest.mark.kernel, pytest.mark.anywhere]

COMMANDS = (Path(__file__).resolve().parents[1] / "fixtures" / "bcc" / "network.txt").read_text().splitlines()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_bcc(command: str) -> None:
    words = shlex.split(command.replace(" 181", f" {os.getpid()}"))
    if "-d" in words:  # how long it is to run
        at = words.index("-d")
        del words[at : at + 2]
    done = osmia(*words, "--duration", "0.1")
    assert done.returncode == 0 and (not done.stderr or "-v" in words), done.stderr
    assert done.stdout.strip()
