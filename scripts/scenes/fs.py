# SPDX-License-Identifier: Apache-2.0
"""Scenes of operations on file systems."""

from __future__ import annotations

import os
import time
from pathlib import Path

from filesystems import Worker, mounted
from swapped import Swapped, swap_space

from scenes.stage import Scene, Stage

SIZES = (4096, 16384, 65536)


class SystemStage(Stage):
    """A new file system, and a process that writes and reads a file there."""

    def __init__(self, system: str) -> None:
        super().__init__()
        self._mounted = mounted(system)
        self.place: Path = self._mounted.__enter__()
        self.worker = Worker(self.records)
        self.names["pid"] = str(self.worker.pid)

    def records(self) -> None:
        """Records that are synced one by one, and read again."""
        fd = os.open(self.place / "journal", os.O_RDWR | os.O_CREAT, 0o600)
        for number in range(24):
            os.pwrite(fd, b"x" * SIZES[number % 3], number << 16)
            if number % 4 == 3:
                os.fsync(fd)
        for number in range(200):
            os.pread(fd, 4096, number << 12)
        os.close(fd)

    def close(self) -> None:
        self._mounted.__exit__(None, None, None)


class ReadStage(Stage):
    """A file of which nothing is in memory, and a process that reads the pages ``numbers``."""

    def __init__(self, numbers: range) -> None:
        super().__init__()
        self._mounted = mounted("ext4")
        self.file = self._mounted.__enter__() / "data"
        self.file.write_bytes(b"x" * (8 << 20))
        os.sync()
        fd = os.open(self.file, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
        self.worker = Worker(lambda: self.read(numbers))
        self.names["pid"] = str(self.worker.pid)

    def read(self, numbers: range) -> None:
        fd = os.open(self.file, os.O_RDONLY)
        for number in numbers:
            os.pread(fd, 4096, number << 12)
            time.sleep(0.001)
        os.close(fd)

    def close(self) -> None:
        self._mounted.__exit__(None, None, None)


def read_it(stage: Stage) -> None:
    assert isinstance(stage, ReadStage)
    stage.worker.work()


class SwapStage(Stage):
    """A process with memory in swap space."""

    def __init__(self) -> None:
        super().__init__()
        self._space = swap_space()
        self._space.__enter__()
        self.process = Swapped(2048)
        self.process.push_out()

    def close(self) -> None:
        self.process.__exit__()
        self._space.__exit__(None, None, None)


def touch(stage: Stage) -> None:
    assert isinstance(stage, SwapStage)
    stage.process.touch()
    time.sleep(1.2)


def stage(system: str):  # type: ignore[no-untyped-def]
    return lambda: SystemStage(system)


def write_and_read(stage: Stage) -> None:
    assert isinstance(stage, SystemStage)
    stage.worker.work()
    time.sleep(0.1)


def write_back(stage: Stage) -> None:
    """A thousand new pages, and a sync."""
    assert isinstance(stage, SystemStage)
    fd = os.open(stage.place / "new", os.O_WRONLY | os.O_CREAT, 0o600)
    for _ in range(1000):
        os.write(fd, b"x" * 4096)
    os.close(fd)
    os.sync()
    stage.worker.work()


SCENES = {
    name: scene
    for system in ("ext4", "xfs", "btrfs")
    for name, scene in {
        f"{system}slower": Scene(f"{system}slower -p {{pid}} 0.5", write_and_read, stage(system), lines=12),
        f"{system}slower-all": Scene(f"{system}slower -p {{pid}} 0", write_and_read, stage(system), lines=16),
        f"{system}dist": Scene(f"{system}dist -p {{pid}}", write_and_read, stage(system), lines=60),
        f"{system}dist-interval": Scene(f"{system}dist -m -p {{pid}} 1 2", write_and_read, stage(system), lines=30),
    }.items()
} | {
    f"{system}{kind}": Scene(f"{system}{kind}", lambda _: time.sleep(0.1))
    for system in ("nfs", "f2fs", "zfs")
    for kind in ("slower", "dist")
} | {
    "readahead": Scene("readahead -p {pid}", read_it, lambda: ReadStage(range(100))),
    "readahead-random": Scene("readahead -p {pid}", read_it, lambda: ReadStage(range(3, 2000, 119))),
    "swapin": Scene("swapin", touch, SwapStage),
    "writeback": Scene("writeback", write_back, stage("ext4"), lines=16),
}
