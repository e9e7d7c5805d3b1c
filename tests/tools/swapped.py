# SPDX-License-Identifier: Apache-2.0
"""A process whose memory is in swap space on a loop device, until it is told to read it."""

from __future__ import annotations

import mmap
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness import eventually, loop_device

PAGE = mmap.PAGESIZE


@contextmanager
def swap_space(megabytes: int = 64) -> Iterator[str]:
    """Swap space on a loop device, whose name is given."""
    with loop_device(megabytes) as device:
        subprocess.run(["mkswap", "-q", f"/dev/{device}"], check=True)
        subprocess.run(["swapon", f"/dev/{device}"], check=True)
        try:
            yield device
        finally:
            subprocess.run(["swapoff", f"/dev/{device}"], check=True)


def controller() -> tuple[Path, str, str]:
    """Where cgroups with a limit of memory are made, the file with that limit, and what says that there is none."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup" and "memory" in options.split(","):
            return Path(place), "memory.limit_in_bytes", "-1"
        if kind == "cgroup2" and "memory" in (Path(place) / "cgroup.controllers").read_text().split():
            (Path(place) / "cgroup.subtree_control").write_text("+memory")
            return Path(place), "memory.max", "max"
    raise AssertionError("no cgroup hierarchy has the memory controller")


def counter(name: str) -> int:
    """A number of /proc/vmstat."""
    lines = [line.split() for line in Path("/proc/vmstat").read_text().splitlines()]
    return next(int(number) for word, number in lines if word == name)


class Swapped:
    """A process with ``pages`` pages of memory, in a cgroup of its own that has no room for most of them."""

    def __init__(self, pages: int) -> None:
        self.pages = pages
        place, self._limit, self._none = controller()
        self._group = place / f"osmia-swap-{os.getpid()}"
        self._group.mkdir()
        self._begin, self._ready = os.pipe(), os.pipe()
        self.pid = os.fork()
        if not self.pid:
            self._work()
        os.read(self._ready[0], 1)  # the memory is there

    def _work(self) -> None:
        try:
            (self._group / "cgroup.procs").write_text(str(os.getpid()))
            memory = mmap.mmap(-1, self.pages * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            memory.madvise(mmap.MADV_NOHUGEPAGE)
            for number in range(self.pages):
                memory[number * PAGE] = 1
            os.write(self._ready[1], b"x")
            while os.read(self._begin[0], 1):
                for number in range(self.pages):
                    memory[number * PAGE]
                os.write(self._ready[1], b"x")
        finally:
            os._exit(0)

    def swapped(self) -> int:
        """How many of its pages are in swap space."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 // PAGE for line in status.splitlines() if line.startswith("VmSwap"))

    def push_out(self) -> None:
        """Have most of its memory written to swap space, and give it room again."""
        limit = self._group / self._limit

        def tight() -> bool:
            with suppress(OSError):  # EBUSY: not all of it could be pushed out
                limit.write_text(str(self.pages * PAGE // 4))
            return self.swapped() > self.pages // 2

        assert eventually(tight, 20)
        limit.write_text(self._none)

    def touch(self) -> None:
        """Have it read all of its memory."""
        os.write(self._begin[1], b"x")
        os.read(self._ready[0], 1)

    def __enter__(self) -> Swapped:
        return self

    def __exit__(self, *exc: object) -> None:
        for fd in (*self._begin, *self._ready):
            os.close(fd)
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        assert eventually(self._removed)

    def _removed(self) -> bool:
        with suppress(OSError):
            self._group.rmdir()
        return not self._group.exists()
