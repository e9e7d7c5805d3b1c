# SPDX-License-Identifier: Apache-2.0
"""Scenes of the tools on interrupts, run queues and CPUs as such."""

from __future__ import annotations

import subprocess
import sys

from scenes.first import CrowdStage
from scenes.stage import Scene, Stage

#: A process that sends itself datagrams for a second.
DATAGRAMS = """
import os, socket, time
os.sched_setaffinity(0, [0])
out, into = socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_DGRAM)
into.bind(('127.0.0.1', 0))
end = time.monotonic() + 1
while time.monotonic() < end:
    for _ in range(20):
        out.sendto(bytes(4000), into.getsockname())
    for _ in range(20):
        into.recv(9000, socket.MSG_DONTWAIT)
    time.sleep(0.001)
"""


def datagrams(stage: Stage) -> None:
    """Receive some thousand datagrams on CPU 0."""
    subprocess.run([sys.executable, "-c", DATAGRAMS], check=True)


SCENES = {
    "softirqslower": Scene("softirqslower 20", datagrams, CrowdStage, lines=16),
    "softirqslower-cpu": Scene("softirqslower --cpu 0 --json 50", datagrams, CrowdStage, lines=3),
}
