# SPDX-License-Identifier: Apache-2.0
"""Scenes of the tools that show what processes do: threads, sleeps, signals, identities."""

from __future__ import annotations

import subprocess
import sys

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


DAEMON = """
import ctypes, os
os.setresuid(-1, 33, -1); os.setresuid(-1, 0, -1)
os.setresuid(33, 33, 33)
for call in (lambda: os.setuid(0), lambda: os.setresuid(-1, 0, -1)):
    try:
        call()
    except PermissionError:
        pass
"""


def daemon(_stage: Stage) -> None:
    """Root, for a moment somebody else, then somebody else for good."""
    subprocess.run([sys.executable, "-c", DAEMON], check=True)


NAPS = "'import ctypes; c = ctypes.CDLL(None); [c.usleep(50) for _ in range(4)]; c.sleep(60)'"
SIGNALS = "'sleep 60 & kill -STOP $!; sleep 0.1; kill -CONT $!; kill $!; wait $!; kill -HUP 4194304 2>&-'"
WAITING = "'n=0; until [ -e /tmp/not-yet ] || [ $n = 3 ]; do n=$((n + 1)); sleep 0.2; done'"
POOL = "'import concurrent.futures as f, time; [*f.ThreadPoolExecutor(4).map(time.sleep, [0.1] * 8)]'"

SCENES = {
    "naptime": Scene(f'naptime -c "sh -c {WAITING}"', nothing),
    "naptime-took": Scene(f'naptime -a --took -c "timeout 0.5 python3 -c {NAPS}"', nothing),
    "setuids": Scene("setuids -n python", daemon),
    "setuids-failed": Scene("setuids -x -n python", daemon),
    "sigsnoop": Scene(f'sigsnoop -n -c "bash -c {SIGNALS}"', nothing),
    "sigsnoop-calls": Scene(f'sigsnoop -k -c "bash -c {SIGNALS}"', nothing),
    "threadsnoop": Scene("threadsnoop -p {pid}", threads, ThreadsStage),
    "threadsnoop-command": Scene(f'threadsnoop -c "python3 -c {POOL}"', nothing),
}
