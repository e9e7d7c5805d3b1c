# SPDX-License-Identifier: Apache-2.0
"""Two processes that read one terminal: the kernel lets one wait for input, and the other for it.

Who waits for input holds a mutex meanwhile (``n_tty_read()``), so the other
waits for that, once a round and for as long as there is no input.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from patience import patient

READER = "import os, sys\nwhile sys.stdin.readline(): os.write(1, os.read(int(sys.argv[1]), 99))"


class Reader:
    """A process that reads a line from the terminal each time that it is told to."""

    def __init__(self, terminal: int) -> None:
        self.terminal = terminal
        words = [sys.executable, "-S", "-E", "-c", READER, str(terminal)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(terminal,))
        self.pid = str(self.process.pid)

    def read(self) -> None:
        """Let it read; it waits when this returns."""
        assert self.process.stdin
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()
        place = Path(f"/proc/{self.pid}/syscall")
        end = time.monotonic() + patient(20)
        while place.read_text().split()[:2] != ["0", hex(self.terminal)]:  # read()
            assert time.monotonic() < end, "it does not read"
            time.sleep(0.01)

    def got(self) -> bytes:
        assert self.process.stdout
        return os.read(self.process.stdout.fileno(), 99)


class Terminal:
    """Two readers of one terminal."""

    def __init__(self) -> None:
        self._own, self._theirs = pty.openpty()
        self.first, self.second = Reader(self._theirs), Reader(self._theirs)

    def rounds(self, times: int, seconds: float) -> tuple[int, int, int]:
        """Let the second wait for the first, in ns: how long altogether at least and at most; how long the first held.

        The last, too, is at most so: from before the first is told to read until what it read is there.
        """
        least = most = held = 0
        for _ in range(times):
            began = time.monotonic_ns()
            self.first.read()
            before = time.monotonic_ns()
            self.second.read()
            waits = time.monotonic_ns()
            time.sleep(seconds)
            least += time.monotonic_ns() - waits
            os.write(self._own, b"one\n")
            assert self.first.got() == b"one\n"
            held += time.monotonic_ns() - began
            os.write(self._own, b"two\n")
            assert self.second.got() == b"two\n"
            most += time.monotonic_ns() - before
        return least, most, held

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End both."""
        for one in (self.first, self.second):
            one.process.kill()
            one.process.communicate()
        os.close(self._own)
        os.close(self._theirs)
