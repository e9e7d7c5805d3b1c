# SPDX-License-Identifier: Apache-2.0
"""Scenes of the tools about single applications."""

from __future__ import annotations

import os

from harness import Told
from test_bashreadline import bash
from test_pythongc import PROGRAM, PYTHON

from scenes.stage import Scene, Stage


class GarbageStage(Stage):
    """A Python program that makes garbage."""

    def __init__(self) -> None:
        super().__init__()
        self.program = Told(PYTHON, "-c", PROGRAM)
        self.program.tell("2 1")
        self.names["pid"] = self.program.pid

    def close(self) -> None:
        self.program.__exit__()


def throw_away(stage: Stage) -> None:
    assert isinstance(stage, GarbageStage)
    for line in ("0 100", "1 5000", "2 200000"):
        stage.program.tell(line)


class ShellStage(Stage):
    """A shell on a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.shell = bash()
        self.names["pid"] = str(self.shell.pid)
        self.names["terminal"] = os.readlink(f"/proc/{self.shell.pid}/fd/0").rpartition("/")[2]

    def close(self) -> None:
        self.shell.close()


def type_lines(stage: Stage) -> None:
    assert isinstance(stage, ShellStage)
    for line in ("cd /tmp", "ls -l | tail -3", "for n in 1 2 3; do echo $n; done", "sl", "!cd"):
        stage.shell.enter(line)


def answer(stage: Stage) -> None:
    """What a person sees who types."""
    assert isinstance(stage, ShellStage)
    for line in ("date -u -d @0", "echo $((6 * 7))"):
        stage.shell.enter(line)


SCENES = {
    "pythongc": Scene("pythongc {pid}", throw_away, GarbageStage),
    "bashreadline": Scene("bashreadline -p {pid}", type_lines, ShellStage),
    "ttysnoop": Scene("ttysnoop {terminal}", answer, ShellStage),
    "ttysnoop-json": Scene("ttysnoop --json {terminal}", answer, ShellStage, lines=6),
}
