# SPDX-License-Identifier: Apache-2.0
"""Imports while the kernel verifies: that takes milliseconds in which Python has nothing to do.

The programs of a tool are loaded by the main thread, in system calls that let
other threads run; meanwhile one imports what the run needs afterwards.
"""

from __future__ import annotations

import _thread
import sys

from osmia.link import HOOKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_AFTER = (
    "osmia.events.transport", "osmia.cli.templates", "osmia.cli.table", "osmia.events.decode", "osmia.link.detach",
)  # fmt: skip
#: Seconds after which the main thread, back from the kernel, takes over from an import (Python's own: 0.005).
_SWITCH = 2e-5


class Ahead:
    """A thread that imports; :meth:`join` waits for it."""

    def __init__(self, hooks: Iterable[str]) -> None:
        links = dict.fromkeys(HOOKS[kind] for kind in hooks if kind in HOOKS)
        self._interval = sys.getswitchinterval()
        self._done = _thread.allocate_lock()
        self._done.acquire()
        sys.setswitchinterval(_SWITCH)
        try:
            _thread.start_new_thread(self._run, ([*[f"osmia.link.{name}" for name in links], *_AFTER],))
        except RuntimeError:  # no thread to be had: they are imported when they are needed
            self._done.release()

    def _run(self, names: list[str]) -> None:
        try:
            for name in names:
                __import__(name)
        except Exception:  # the main thread imports it again, and says what is wrong
            return
        finally:
            self._done.release()

    def join(self) -> None:
        """Wait until all is imported."""
        self._done.acquire()
        self._done.release()
        sys.setswitchinterval(self._interval)
