# SPDX-License-Identifier: Apache-2.0
"""A loop device, I/O to it of known number and size, and what the kernel itself has counted."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from beyond import Beyond
from harness import loop_device

BLOCK = 4096
#: block_io_start came with 6.5 (5a80bd075f3b).
SEES_THE_BEGINNING = Path("/sys/kernel/tracing/events/block/block_io_start").exists()


_beyond: list[Beyond] = []


@pytest.fixture
def loop() -> Iterator[str]:
    """The name of a loop device of 8 MiB."""
    with loop_device(8) as name:
        time.sleep(0.1)  # what looks at new disks has looked
        major, minor = map(int, Path(f"/sys/block/{name}/dev").read_text().split(":"))
        with Beyond("block:block_rq_complete", f"dev == {major << 20 | minor}") as beyond:
            _beyond[:] = [beyond]
            yield name


def seen(requests: int) -> tuple[int, int]:
    """How many of so many requests to the loop device a program can have counted."""
    return _beyond[0].leaves(requests)


def done(disk: str) -> int:
    """Requests that the kernel has counted for ``disk``: reads, writes, discards, flushes."""
    words = [int(w) for w in Path(f"/sys/block/{disk}/stat").read_text().split()]
    return words[0] + words[4] + (words[11] if len(words) > 11 else 0) + (words[15] if len(words) > 15 else 0)


def direct(disk: str, offsets: list[int], *, write: bool = False, size: int = BLOCK, pause: float = 0.0) -> None:
    """A direct read (or write) of ``size`` bytes at each of ``offsets``, one after the other."""
    fd = os.open(f"/dev/{disk}", (os.O_WRONLY if write else os.O_RDONLY) | os.O_DIRECT)
    buffer = mmap.mmap(-1, size)
    try:
        for offset in offsets:
            assert (os.pwritev(fd, [buffer], offset) if write else os.preadv(fd, [buffer], offset)) == size
            time.sleep(pause)
    finally:
        os.close(fd)


def flush(disk: str) -> None:
    """Make the disk write its cache back, with nothing else to write."""
    fd = os.open(f"/dev/{disk}", os.O_WRONLY)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)


def apart(count: int, size: int = BLOCK) -> list[int]:
    """``count`` offsets, none of which begins where another one ends."""
    return [number * 2 * size for number in range(count)]


def row(count: int, size: int = BLOCK) -> list[int]:
    """``count`` offsets one after the other, over and over in the first 4 MiB."""
    return [number * size % (4 << 20) for number in range(count)]


def buffered(disk: str) -> None:
    """4 MiB in 64 writes, written back at once with a flush; then all of the disk is read, in pieces of 1 MiB."""
    with open(f"/dev/{disk}", "r+b", buffering=0) as device:
        for _ in range(64):
            device.write(b"x" * 65536)
        os.fdatasync(device.fileno())
        os.posix_fadvise(device.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        device.seek(0)
        while device.read(1 << 20):
            pass
    time.sleep(0.2)
