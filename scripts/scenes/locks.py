# SPDX-License-Identifier: Apache-2.0
"""Scenes of the tools about locks."""

from __future__ import annotations

from harness import Told, user_program

from scenes.stage import Scene, Stage


class LocksStage(Stage):
    """A program whose threads wait for locks."""

    def __init__(self) -> None:
        super().__init__()
        self.program = Told(user_program("futexes"))
        self.names["pid"] = self.program.pid

    def close(self) -> None:
        self.program.__exit__()


def contend(stage: Stage) -> None:
    assert isinstance(stage, LocksStage)
    stage.program.tell("left 0 128 40 200")
    stage.program.tell("right 1 128 24 5000")


SCENES = {
    "futexctn": Scene("futexctn -p {pid}", contend, LocksStage, lines=60),
    "futexctn-summary": Scene("futexctn -s -p {pid}", contend, LocksStage),
}
