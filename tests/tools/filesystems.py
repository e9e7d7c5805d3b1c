# SPDX-License-Identifier: Apache-2.0
"""File systems on loop devices, and a process that works on them when it is told to."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import eventually, loop_device
from needs import skip_unbuilt

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878  # include/uapi/linux/fs.h

#: How one is made, and the size in MiB that it needs at least.
MAKE = {
    "ext4": (["mkfs.ext4", "-q", "-F"], 16),
    "xfs": (["mkfs.xfs", "-q", "-f"], 320),
    "btrfs": (["mkfs.btrfs", "-q", "-f"], 128),
    "f2fs": (["mkfs.f2fs", "-q", "-f"], 64),
}


def known(system: str) -> bool:
    """Whether this kernel has the file system, also as a module."""

    def listed() -> bool:
        return any(line.split()[-1] == system for line in Path("/proc/filesystems").read_text().splitlines())

    if not listed():
        subprocess.run(["modprobe", "-q", system], check=False)
    return listed()


@contextmanager
def mounted(system: str, at_least: int = 0) -> Iterator[Path]:
    """A new file system of that kind on a loop device, of ``at_least`` so many MiB."""
    if not known(system):
        skip_unbuilt(f"{system.upper()}_FS", system, f"this kernel has no {system}")
    command, megabytes = MAKE[system]
    size = max(megabytes, at_least)
    with loop_device(size) as device, tempfile.TemporaryDirectory(prefix=f"osmia-{system}-") as place:
        subprocess.run([*command, f"/dev/{device}"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["mount", "-t", system, f"/dev/{device}", place], check=True)
        try:
            yield Path(place)
        finally:
            subprocess.run(["umount", place], check=True)


@contextmanager
def frozen(place: Path) -> Iterator[None]:
    """The file system there takes no writes meanwhile: they wait."""
    fd = os.open(place, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, FIFREEZE, 0)
        try:
            yield
        finally:
            fcntl.ioctl(fd, FITHAW, 0)
    finally:
        os.close(fd)


def waits(pid: int, tid: int | None = None) -> None:
    """Wait until that thread does, for the file system and not for an event (state D)."""
    stat = Path(f"/proc/{pid}/task/{tid or pid}/stat")
    assert eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "D", 20)


class Worker:
    """A process of its own that calls ``work`` once, when it is told to; it does nothing else."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._begin, self._end = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(self._begin[0])
            os.close(self._end[1])
            return
        status = 1
        try:
            os.close(self._begin[1])
            os.close(self._end[0])
            os.read(self._begin[0], 1)
            work()
            status = 0
        except BaseException as err:
            os.write(2, f"{err!r}\n".encode())
        finally:
            os._exit(status)

    def go(self) -> None:
        """Let it work."""
        os.close(self._begin[1])

    def done(self) -> None:
        """Wait until it has."""
        os.read(self._end[0], 1)  # nobody writes: this is the end
        os.close(self._end[0])
        assert os.waitpid(self.pid, 0)[1] == 0

    def work(self) -> None:
        self.go()
        self.done()
