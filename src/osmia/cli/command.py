# SPDX-License-Identifier: Apache-2.0
"""``-c CMD``: a command that waits until it is traced.

It is forked before anything is loaded, so that its process id can be set as
a filter, and executed when everything is attached: not one of its system
calls is missed.  What it leaves behind becomes a child of osmia, so that
"what the command has started" stays what descends from osmia.
"""

from __future__ import annotations

import os

from osmia.errors import OptionError
from osmia.kernel import proc

_signal = __import__("_signal")  # see osmia.cli.signals
_NOT_FOUND = 127


class Command:
    """A child that is about to execute ``text`` (split as a shell would); ``pid`` is its process id."""

    def __init__(self, text: str) -> None:
        import shlex

        try:
            self._argv = shlex.split(text)
        except ValueError as err:
            raise OptionError(f"option -c: {text!r} cannot be split into words: {err}") from None
        if not self._argv:
            raise OptionError("option -c: the command is empty")
        gate_read, self._gate = os.pipe()
        self._failed, failed_write = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._gate)
            os.close(self._failed)
            self._child(gate_read, failed_write)
        os.close(gate_read)
        os.close(failed_write)
        proc.adopt(True)

    def _child(self, gate: int, failed: int) -> None:
        status = _NOT_FOUND
        try:
            if os.read(gate, 1):
                for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # ignored by Python, and that is inherited
                    _signal.signal(number, _signal.SIG_DFL)
                os.execvp(self._argv[0], self._argv)
        except OSError as err:
            os.write(failed, str(err.errno).encode())
        except BaseException:  # a forked Python must never get back into the caller
            pass
        finally:
            os._exit(status)

    def start(self) -> None:
        """Let it go; OptionError if it cannot be executed."""
        os.write(self._gate, b"x")
        os.close(self._gate)
        self._gate = -1
        reason = os.read(self._failed, 16)  # its end is close-on-exec: empty means that it runs
        os.close(self._failed)
        self._failed = -1
        if reason:
            os.waitpid(self.pid, 0)
            raise OptionError(f"cannot run {self._argv[0]!r}: {os.strerror(int(reason))}", where="option -c")

    def abandon(self) -> None:
        """Leave it to itself; if it has not run yet it never will."""
        proc.adopt(False)
        if self._gate >= 0:
            os.close(self._gate)
            os.close(self._failed)
            self._gate = -1
            os.waitpid(self.pid, 0)
