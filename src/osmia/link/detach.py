# SPDX-License-Identifier: Apache-2.0
"""Leaving fast.

Closing a perf-based link waits for RCU grace periods: 54-100 ms each, one
after the other, and a process's exit waits for all of them.  So the waiting
is left to a child that holds the same fds and nothing else: the parent's
closes are then not the last ones, and it is gone at once.  The child dies as
soon as the parent has; the kernel detaches when it does.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from osmia.link.base import Link

_POLL_S = 0.002


def leave(links: Iterable[Link]) -> bool:
    """Call last thing before the process exits; whether a child took the slow closes over.

    Nothing stays attached: the child does nothing but wait for this process
    to be gone, which it sees as a change of its parent, and any signal that
    ends it only ends that wait.  Programs stay attached for some 0.1-0.2 s
    after the exit.  False when there is nothing slow to close or no child
    could be made: the exit then takes its time.  The caller must exit now;
    with threads still running it should not call this.
    """
    kept = sorted(fd for link in links if link.slow_close for fd in link.fds)
    if not kept:
        return False
    parent = os.getpid()
    try:
        if os.fork():
            return True
    except OSError:
        return False
    try:
        _wait_for_end(parent, kept)
    finally:
        os._exit(0)


def _wait_for_end(parent: int, kept: list[int]) -> None:
    """The child: drop everything but ``kept`` (readers of our pipes must see their end), outlive the parent."""
    os.setsid()
    drop_files(kept)
    os.chdir("/")
    # A process is given a new parent only after its old one has closed its files.
    while os.getppid() == parent:
        time.sleep(_POLL_S)


def close_all(links: Iterable[Link]) -> None:
    """Detach everything now and wait for it; the plain way, for use within a process that goes on."""
    for link in links:
        link.close()


def drop_files(kept: Collection[int]) -> None:
    """What a forked child does with its parent's files: close all but ``kept``."""
    for fd in _open_fds():
        if fd not in kept:
            _close(fd)


def _open_fds() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        return list(range(1024))


def _close(fd: int) -> bool:
    try:
        os.close(fd)
    except OSError:  # the directory listing's own
        return False
    return True
