# SPDX-License-Identifier: Apache-2.0
"""The command lines that bcc documents for its tools about files, each for a moment."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
from harness import osmia

pytestmark = pytest.mark.kernel

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "bcc"
COMMANDS = [line for line in (FIXTURES / "files.txt").read_text().splitlines() if line]


@pytest.mark.anywhere
@pytest.mark.parametrize("command", COMMANDS)
def test_is_accepted(command: str, tmp_path: Path) -> None:
    """Numbers of processes and directories are those of this machine."""
    for name in ("one/yarn", "one/data", "two/yarn"):
        (tmp_path / name).mkdir(parents=True)
    words = [re.sub("^1[0-9][0-9]$", str(os.getpid()), word) for word in shlex.split(command)]
    words = [word.replace("/hdfs/uuid", str(tmp_path)).replace("/home/user", str(tmp_path)) for word in words]
    done = osmia(*words, "--duration", "0.2")
    assert (done.returncode, done.stderr) == (0, ""), command
    assert done.stdout
