# SPDX-License-Identifier: Apache-2.0
"""Scenes of sockets of the UNIX domain."""

from __future__ import annotations

import os
import socket

from filesystems import Worker

from scenes.stage import Scene, Stage


class PairStage(Stage):
    """A process that receives; another one, this, sends."""

    def __init__(self) -> None:
        super().__init__()
        self.client, self.server = socket.socketpair()
        self.worker = Worker(self.serve)
        self.names["pid"] = str(self.worker.pid)

    def serve(self) -> None:
        for _ in range(2):
            self.server.recv(4096)
            self.server.send(b"+OK\r\n")
        os.read(self.server.fileno(), 4096)

    def close(self) -> None:
        self.client.close()
        self.server.close()


def talk(stage: Stage) -> None:
    assert isinstance(stage, PairStage)
    stage.worker.go()
    for request in (b"SET colour blue\r\n", b"GET colour\r\n"):
        stage.client.send(request)
        stage.client.recv(100)
    stage.client.send(b"QUIT\r\n")
    stage.worker.done()


SCENES = {
    "undump": Scene("undump -p {pid}", talk, PairStage),
    "undump-hexdump": Scene("undump --hexdump -p {pid}", talk, PairStage),
}
