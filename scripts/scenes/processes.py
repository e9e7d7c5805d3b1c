# SPDX-License-Identifier: Apache-2.0
"""Scenes of the tools that show what processes do: threads, sleeps, signals, identities."""

from __future__ import annotations

from harness import Commanded

from scenes.stage import Scene, Stage


class ThreadsStage(Stage):
    """A program that makes threads."""

    def __init__(self) -> None:
        super().__init__()
        self.program = Commanded("orders")
        self.names["pid"] = self.program.pid

    def close(self) -> None:
        self.program.__exit__()


def threads(stage: Stage) -> None:
    assert isinstance(stage, ThreadsStage)
    for word in ("forward", "forward", "backward"):
        stage.program.ask(word, 0, 1)


def nothing(_stage: Stage) -> None:
    """The command does it all."""


POOL = "'import concurrent.futures as f, time; [*f.ThreadPoolExecutor(4).map(time.sleep, [0.1] * 8)]'"

SCENES = {
    "threadsnoop": Scene("threadsnoop -p {pid}", threads, ThreadsStage),
    "threadsnoop-command": Scene(f'threadsnoop -c "python3 -c {POOL}"', nothing),
}
