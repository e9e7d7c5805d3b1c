# SPDX-License-Identifier: Apache-2.0
"""Scenes of the tools about disks."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

from scenes.first import DiskStage
from scenes.stage import Scene, Stage

_READER = """
import mmap, os, sys
fd, size = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT), int(sys.argv[2])
buffer = mmap.mmap(-1, size)
for number in range(int(sys.argv[3])):
    offset = (number * int(sys.argv[4]) + 4096) % (15 << 20) & -4096
    os.pwritev(fd, [buffer], offset) if sys.argv[5:] else os.preadv(fd, [buffer], offset)
"""


def program(name: str, *words: object) -> None:
    """A program ``name`` that reads (writes, with a fifth word): device, size, number, distance."""
    code = f"import ctypes; ctypes.CDLL(None).prctl(15, b'{name}')\n{_READER}"
    subprocess.run([sys.executable, "-c", code, *map(str, words)], check=True)


class FileSystemStage(DiskStage):
    """A file system on the loop device."""

    def __init__(self) -> None:
        super().__init__()
        device = f"/dev/{self.names['disk']}"
        subprocess.run(["mkfs.ext4", "-q", device], check=True)
        self.place = tempfile.mkdtemp(prefix="demo-")
        subprocess.run(["mount", device, self.place], check=True)
        time.sleep(0.5)

    def close(self) -> None:
        subprocess.run(["umount", self.place], check=True)
        os.rmdir(self.place)
        super().close()


def file_written(stage: Stage) -> None:
    """A file is written and synced, and another one, which is left to the kernel."""
    assert isinstance(stage, FileSystemStage)
    for name, sync in (("database", True), ("log", False)):
        with open(f"{stage.place}/{name}", "wb") as file:
            file.write(os.urandom(200_000))
            file.flush()
            if sync:
                os.fsync(file.fileno())
    os.sync()


def both(stage: Stage) -> None:
    """One program reads through the disk, one writes here and there."""
    device = f"/dev/{stage.names['disk']}"
    program("backup", device, 65536, 200, 65536)
    program("database", device, 8192, 150, 1_234_567, "write")


def for_seconds(stage: Stage) -> None:
    for _ in range(3):
        both(stage)
        time.sleep(0.8)


def for_longer(stage: Stage) -> None:
    """Small requests, and for some seconds large ones besides."""
    device = f"/dev/{stage.names['disk']}"
    for second in range(12):
        program("database", device, 8192, 150, 1_234_567, "write")
        if 4 <= second < 8:
            program("backup", device, 1 << 20, 60, 1 << 20)
        time.sleep(0.6)


def in_turn(stage: Stage) -> None:
    """First one after the other, then here and there."""
    device = f"/dev/{stage.names['disk']}"
    time.sleep(0.2)
    program("backup", device, 65536, 200, 65536)
    time.sleep(1.0)
    program("database", device, 8192, 150, 1_234_567, "write")
    time.sleep(1.0)


def flushed(stage: Stage) -> None:
    """Two programs that sync a device."""
    for name in ("database", "editor"):
        code = f"import ctypes, os, sys\nctypes.CDLL(None).prctl(15, b'{name}')\n"
        code += "fd = os.open(sys.argv[1], os.O_WRONLY)\nos.write(fd, b'x' * 4096)\nos.fdatasync(fd)\n"
        subprocess.run([sys.executable, "-c", code, f"/dev/{stage.names['disk']}"], check=True)


SCENES = {
    "biosnoop": Scene("biosnoop -d {disk}", file_written, FileSystemStage),
    "biosnoop-queue": Scene("biosnoop -QP -n backup", both, DiskStage, lines=12),
    "biotop": Scene("biotop -C -d {disk} 5 1", both, DiskStage),
    "bitesize": Scene("bitesize -d {disk}", both, DiskStage),
    "biopattern": Scene("biopattern 1 -d {disk}", in_turn, DiskStage),
    "iolatency": Scene("iolatency -u -d {disk} 1 2", for_seconds, DiskStage),
    "iolatency-heatmap": Scene("iolatency --heatmap -u -d {disk}", for_longer, DiskStage),
    "biolatpcts": Scene("biolatpcts {disk} -p 50,90,99,99.9,100 3 1", for_seconds, DiskStage),
    "mdflush-all": Scene("mdflush -a", flushed, DiskStage),
    "biolatpcts-once": Scene("biolatpcts {disk} -i -1", both, DiskStage),
}
