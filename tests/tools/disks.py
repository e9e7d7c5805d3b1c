# SPDX-License-Identifier: Apache-2.0
"""A loop device, I/O to it of known number and size, and what the kernel itself has counted."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import loop_device

BLOCK = 4096
#: block_io_start came with 6.5 (5a80bd075f3b).
SEES_THE_BEGINNING = Path("/sys/kernel/tracing/events/block/block_io_start").exists()


@pytest.fixture
def loop() -> Iterator[str]:
    """The name of a loop device of 8 MiB."""
    with loop_device(8) as name:
        time.sleep(0.1)  # what looks at new disks has looked
        yield name


def done(disk: str) -> int:
    """Requests that the kernel has counted for ``disk``: reads, writes, discards, flushes."""
    words = [int(w) for w in Path(f"/sys/block/{disk}/stat").read_text().split()]
    return words[0] + words[4] + (words[11] if len(words) > 11 else 0) + (words[15] if len(words) > 15 else 0)


def direct(disk: str, offsets: list[int], *, write: bool = False, size: int = BLOCK) -> None:
    """A direct read (or write) of ``size`` bytes at each of ``offsets``, one after the other."""
    fd = os.open(f"/dev/{disk}", (os.O_WRONLY if write else os.O_RDONLY) | os.O_DIRECT)
    buffer = mmap.mmap(-1, size)
    try:
        for offset in offsets:
            assert (os.pwritev(fd, [buffer], offset) if write else os.preadv(fd, [buffer], offset)) == size
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
