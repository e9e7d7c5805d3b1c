# SPDX-License-Identifier: Apache-2.0
"""The command lines that bcc documents for its tools about TCP run here, too."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from harness import Tool, osmia
from sockets import exchange

pytestmark = [pytest.mark.kernel, pytest.mark.anywhere]

COMMANDS = (Path(__file__).resolve().parents[1] / "fixtures" / "bcc" / "tcp.txt").read_text().splitlines()
#: What osmia answers in a sentence: a map that bcc has pinned, a journal that is not here.
ANSWERED = {
    "map": "needs a map that bcc has pinned; use --cgroup PATH",
    "-Y": "there is no journal here: nobody listens at /run/systemd/journal/socket; leave -Y out",
}
#: The first column, or the banner, of each tool.
BEGINS = {
    "tcplife": ("PID", "TIME"), "tcpstates": ("SKADDR", "TIME"), "tcpconnect": ("Tracing connect",),
    "tcpaccept": ("PID", "TIME"), "tcptop": ("Tracing...",), "tcptracer": ("Tracing TCP",),
    "tcpconnlat": ("PID", "TIME"), "solisten": ("PID",), "bindsnoop": ("Tracing binds",),
}  # fmt: skip


def answer(words: list[str]) -> str:
    """The sentence that is expected; empty where the command runs."""
    if any(word.endswith("map") for word in words):
        return ANSWERED["map"]
    return ANSWERED["-Y"] if "-Y" in words and not Path("/run/systemd/journal/socket").exists() else ""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_documented_command_runs(command: str) -> None:
    """For a moment, while there is a connection; the process of the examples is this one."""
    tool, *words = shlex.split(command)
    words = [str(os.getpid()) if before.endswith("p") and before.startswith("-") and before[1] != "-" else word
             for before, word in zip(["", *words], words, strict=False)]  # fmt: skip
    expected = answer(words)
    if expected:
        done = osmia(tool, *words)
        assert done.returncode in (1, 2) and done.stdout == "" and expected in done.stderr
        return
    running = Tool(tool, *words).start()
    exchange("127.0.0.1", 3, 5)
    running.stop()
    assert running.status == 0 and ("-v" in words or running.stderr == ""), running.stderr
    assert running.stdout.startswith(BEGINS[tool]), running.stdout
