# SPDX-License-Identifier: Apache-2.0
"""Scenes of the tools about rights."""

from __future__ import annotations

from pathlib import Path

from scenes.stage import Scene, Stage

SERVER = """
import ctypes, os, socket, time
os.chroot("/")
socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
os.setgid(33)
os.setuid(33)
ctypes.CDLL(None).chroot(b"/")
time.sleep(0.5)
"""


class ServerStage(Stage):
    """The program as a file."""

    def __init__(self) -> None:
        super().__init__()
        Path(FILE).write_text(SERVER)

    def close(self) -> None:
        Path(FILE).unlink()


def nothing(_stage: Stage) -> None:
    """The command does it all."""


FILE = "/tmp/demo-server.py"
SCENES = {
    "capable": Scene(f"capable -c 'python3 {FILE}'", nothing, ServerStage),
    "capable-denied": Scene(f"capable --denied -K -U -c 'python3 {FILE}'", nothing, ServerStage),
    "capable-unique": Scene(f"capable --unique -vx -c 'python3 {FILE}'", nothing, ServerStage),
}
