# SPDX-License-Identifier: Apache-2.0
"""Programs whose system calls are known one by one: Python that is stopped before its work and after it.

Nothing but the work happens between :class:`Script`'s making and the end of
``go()``, so that a tool started in between, with ``-p``, sees just that.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness import Tool

_FRAME = """\
import ctypes, fcntl, mmap, os, signal, socket, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
with open("/proc/self/comm", "w") as comm:
    comm.write({name!r})
os.chdir({cwd!r})
{before}
os.kill(os.getpid(), signal.SIGSTOP)
{work}
os.kill(os.getpid(), signal.SIGSTOP)
os._exit(0)
"""


class Script:
    """``before`` has run when this is made; ``go()`` runs ``work`` and returns when it is done."""

    def __init__(
        self, work: str, *, before: str = "", cwd: str | Path = "/", name: str = "script", prefix: tuple[str, ...] = ()
    ) -> None:
        text = _FRAME.format(name=name, cwd=str(cwd), before=before, work=work)
        self.process = subprocess.Popen([*prefix, sys.executable, "-c", text])
        self.pid = self.process.pid
        self._stopped()

    def _stopped(self) -> None:
        pid, status = os.waitpid(self.pid, os.WUNTRACED)
        if pid != self.pid or not os.WIFSTOPPED(status):
            self.process.returncode = os.waitstatus_to_exitcode(status)
            raise AssertionError(f"the script ended with status {self.process.returncode}")

    def go(self) -> Script:
        os.kill(self.pid, signal.SIGCONT)
        self._stopped()
        return self

    def io(self) -> dict[str, int]:
        """The kernel's own account: ``/proc/PID/io``."""
        lines = Path(f"/proc/{self.pid}/io").read_text(encoding="ascii").split("\n")
        return {name: int(value) for name, _, value in (line.partition(": ") for line in lines if line)}

    def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.end()


def traced(tool: str, *words: str, work: str, **named: Any) -> tuple[Tool, int]:
    """``tool`` with ``-p`` of the script that does ``work``, ended; and the script's PID."""
    with Script(work, **named) as script:
        running = Tool(tool, "-p", str(script.pid), *words).start()
        script.go()
        return running.stop(), script.pid
