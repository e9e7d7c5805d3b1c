# SPDX-License-Identifier: Apache-2.0
"""Scenes of the tools about single applications."""

from __future__ import annotations

import os

from test_bashreadline import bash

from scenes.stage import Scene, Stage


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
    "bashreadline": Scene("bashreadline -p {pid}", type_lines, ShellStage),
    "ttysnoop": Scene("ttysnoop {terminal}", answer, ShellStage),
    "ttysnoop-json": Scene("ttysnoop --json {terminal}", answer, ShellStage, lines=6),
}
