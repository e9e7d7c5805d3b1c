# SPDX-License-Identifier: Apache-2.0
"""Scenes of the tools on interrupts, run queues and CPUs as such."""

from __future__ import annotations

import subprocess
import sys
import time

from scenes.first import CrowdStage, DiskStage, disk_io
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


def work(stage: Stage) -> None:
    """Write a thousand letters to a terminal and read them; the same for blocks of a disk."""
    script = (
        "import os, pty, tty; m, s = pty.openpty(); tty.setraw(s); "
        "[(os.write(m, b'x'), os.read(s, 1)) for _ in range(1000)]"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    disk_io(stage)


SCENES = {
    "softirqslower": Scene("softirqslower 20", datagrams, CrowdStage, lines=16),
    "softirqslower-cpu": Scene("softirqslower --cpu 0 --json 50", datagrams, CrowdStage, lines=3),
    "wqlat": Scene("wqlat", work, DiskStage),
    "wqlat-queues": Scene("wqlat -NTW 1 1", work, DiskStage, lines=50),
    "wqlat-one": Scene("wqlat -w {disk}", work, DiskStage),
    "cpuunclaimed": Scene("cpuunclaimed 1 3", lambda _: time.sleep(3), CrowdStage),
    "cpuunclaimed-samples": Scene("cpuunclaimed -j -d 1", lambda _: time.sleep(1), CrowdStage, lines=10),
    "cpuunclaimed-json": Scene("cpuunclaimed --json 1 1", lambda _: time.sleep(1), CrowdStage),
    "loads": Scene("loads 1 3", lambda _: None, CrowdStage),
    "loads-json": Scene("loads --json 1 1", lambda _: None),
}
