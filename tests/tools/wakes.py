# SPDX-License-Identifier: Apache-2.0
"""The workload ``wakes.c``: a program that sleeps, and another one that wakes it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from harness import workload

DOZE, KNOCK = ["doze", "rest", "main"], ["knock", "reach", "main"]


class Wakes:
    """Both programs, known by their ``sleeper`` and ``waker``, which are PIDs as text."""

    def __init__(self) -> None:
        program = workload("wakes")
        self._sleeper = subprocess.Popen([program], stdin=subprocess.PIPE)
        self.sleeper = str(self._sleeper.pid)
        self._waker = subprocess.Popen(
            [program, self.sleeper], stdin=subprocess.PIPE, stdout=self._sleeper.stdin, stderr=subprocess.PIPE,
            text=True, bufsize=1,
        )  # fmt: skip
        self.waker = str(self._waker.pid)

    def wake(self, times: int, usecs: int) -> tuple[int, int]:
        """Sleep and be woken: at least so many microseconds asleep, and at most.

        The sleeper is woken once before, since that sleep began before somebody looked.
        """
        before, preempted = time.monotonic_ns(), involuntary(self.sleeper)
        self._tell(1, 0)
        least = self._tell(times, usecs) - usecs * (involuntary(self.sleeper) - preempted)
        return least, (time.monotonic_ns() - before) // 1000

    def _tell(self, times: int, usecs: int) -> int:
        assert self._waker.stdin and self._waker.stderr
        self._waker.stdin.write(f"{times} {usecs}\n")
        self._waker.stdin.flush()
        return int(self._waker.stderr.readline())

    def __enter__(self) -> Wakes:
        return self

    def __exit__(self, *exc: object) -> None:
        self._waker.communicate()
        assert self._sleeper.stdin
        self._sleeper.stdin.close()
        self._sleeper.wait()


def involuntary(pid: str) -> int:
    """How often the process has lost its CPU; on its way to sleep, too, and then it may not have slept at all."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("nonvoluntary_ctxt_switches:"))


def counted(least: int, usecs: int, most: int, stderr: str = "") -> bool:
    """Whether ``usecs`` is what was slept: the sleep began before the first nap, but for what rounding takes.

    Where the account, ``stderr``, says that stacks could not be read (the kernel has few buffers, and others may have
    them all), some naps are under no stack, or half of one.
    """
    return usecs <= most and (usecs >= 0.98 * least or "could not be read" in stderr)
