# SPDX-License-Identifier: Apache-2.0
"""Imports while others work: the kernel verifies for milliseconds, LLVM compiles for dozens.

The programs of a tool are loaded by the main thread, in system calls that let
other threads run; meanwhile one imports what the run needs afterwards.  Where
there is something to compile, that is done even earlier: while LLVM is at it.
"""

from __future__ import annotations

import _thread
import sys

from osmia.link import HOOKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.lang.unit import Unit

_AFTER = (
    "osmia.events.transport", "osmia.cli.templates", "osmia.cli.table", "osmia.events.decode", "osmia.link.detach",
)  # fmt: skip
_LOADING = ("osmia.obj.elf", "osmia.load.object", "osmia.load.bind")
#: Seconds after which the main thread, back from the kernel, takes over from an import (Python's own: 0.005).
_SWITCH = 2e-5


def _names(unit: Unit) -> list[str]:
    kinds = dict.fromkeys(hook.kind for prog in unit.progs for hook in prog.hooks[:1])
    links = dict.fromkeys(HOOKS[kind] for kind in kinds if kind in HOOKS)
    return [*[f"osmia.link.{name}" for name in links], *_AFTER]


def now(unit: Unit) -> None:
    """Import what loading ``unit`` and the run need."""
    for name in (*_LOADING, *_names(unit)):
        __import__(name)


class Ahead:
    """A thread that imports; :meth:`join` waits for it."""

    def __init__(self, unit: Unit) -> None:
        self._interval = sys.getswitchinterval()
        self._done = _thread.allocate_lock()
        self._done.acquire()
        sys.setswitchinterval(_SWITCH)
        try:
            _thread.start_new_thread(self._run, (_names(unit),))
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
