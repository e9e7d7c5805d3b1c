# SPDX-License-Identifier: Apache-2.0
"""Being told to stop: signals, a duration, the end of the command, a closed pipe.

``_signal`` is used directly: :mod:`signal` wraps it in enumerations, which
costs a millisecond.  A handler only takes note; what ends the current sleep
is a pipe that the C level writes a byte to, so no signal is ever lost
between looking and sleeping.
"""

from __future__ import annotations

import os
import select
import stat
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_signal = __import__("_signal")  # unknown to the type checker's library
_ENDING = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP)


class Stop:
    """Whether and why the run is to end; ``deadline`` in monotonic seconds (0: none).

    ``tick``, if there is one, is called at ``tick_at`` (monotonic seconds), which it sets anew.
    """

    def __init__(self) -> None:
        self.asked = False
        self.by_signal = 0
        self.deadline = 0.0
        self.tick: Callable[[], None] | None = None
        self.tick_at = 0.0
        self.child = 0
        self.pipe_closed = False
        self.dump_asked = False
        self._before: list[tuple[int, Any]] = []
        self._read = self._write = -1
        self._old_wakeup = -1
        self._out = -1

    def install(self, out: int = 1) -> None:
        """Catch the signals; ``out`` is watched for its reader going away if it is a pipe."""
        try:
            if stat.S_ISFIFO(os.fstat(out).st_mode):
                self._out = out
        except OSError:
            pass
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        os.set_blocking(self._read, False)
        try:
            self._old_wakeup = _signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            for number in (*_ENDING, _signal.SIGCHLD):
                before = _signal.getsignal(number)
                if number == _signal.SIGHUP and before == _signal.SIG_IGN:  # nohup
                    continue
                _signal.signal(number, self._handle)
                self._before.append((number, before))
        except ValueError:  # not in the main thread: somebody else looks after signals
            pass

    def watch_dumps(self) -> None:
        """From now on SIGUSR1 asks for a dump (``dump_asked``) instead of ending the process."""
        if any(number == _signal.SIGUSR1 for number, _ in self._before):
            return
        try:
            before = _signal.signal(_signal.SIGUSR1, self._handle)
        except ValueError:  # not in the main thread
            return
        self._before.append((_signal.SIGUSR1, before))

    def uninstall(self) -> None:
        """Everything as it was."""
        for number, before in self._before:
            _signal.signal(number, before if before is not None else _signal.SIG_DFL)
        if self._before:
            _signal.set_wakeup_fd(self._old_wakeup)
            self._before = []
        for fd in (self._read, self._write):
            if fd >= 0:
                os.close(fd)
        self._read = self._write = -1

    def _handle(self, number: int, frame: Any) -> None:
        if number == _signal.SIGCHLD:
            return  # the byte in the pipe is enough: see over()
        if number == _signal.SIGUSR1:
            self.dump_asked = True
            return
        if self.asked and number == _signal.SIGINT and self.by_signal:
            os._exit(130)
        self.asked = True
        self.by_signal = self.by_signal or number

    def over(self) -> bool:
        """Whether to end now."""
        if self.asked:
            return True
        if self.tick is not None and time.monotonic() >= self.tick_at:
            self.tick()
        if (self.child and self._child_gone()) or (self.deadline and time.monotonic() >= self.deadline):
            self.asked = True
        return self.asked

    def _child_gone(self) -> bool:
        try:
            pid, _ = os.waitpid(self.child, os.WNOHANG)
        except ChildProcessError:
            pid = self.child
        if pid:
            self.child = 0
        return bool(pid)

    def fds(self) -> list[int]:
        """What to watch while sleeping."""
        out = [self._read] if self._read >= 0 else []
        return [*out, self._out] if self._out >= 0 else out

    def left(self, most: float) -> float:
        """How long to sleep at most: ``most`` seconds, less if the deadline or a tick comes first."""
        if self.tick is not None:
            most = min(most, self.tick_at - time.monotonic())
        if self.deadline:
            most = min(most, self.deadline - time.monotonic())
        return max(0.0, most)

    def woken(self) -> None:
        """After a sleep: empty the pipe, see whether our reader is still there."""
        if self._read >= 0:
            try:  # noqa: SIM105 - contextlib takes 3 ms to import
                os.read(self._read, 512)
            except BlockingIOError:
                pass
        if self._out >= 0:
            poll = select.poll()
            poll.register(self._out, 0)
            if poll.poll(0):  # only POLLERR and POLLHUP are reported unasked
                self.asked = self.pipe_closed = True

    def sleep(self, until: float) -> None:
        """Sleep to a monotonic time, or until there is something to look at."""
        poll = select.poll()
        for fd in self.fds():
            poll.register(fd, select.POLLIN if fd == self._read else 0)
        poll.poll(max(0.0, self.left(until - time.monotonic())) * 1000 + 0.5)
        self.woken()
