# SPDX-License-Identifier: Apache-2.0
"""Kernel half: which program a process runs, so that its addresses can be named when it is long gone.

A user stack is addresses, and what they mean follows from the files that the
process has mapped.  By the time of the report it may have ended, or run
something else: a shell's child begins as a copy of the shell.  So the first
stack of each process, after each fork and exec, tells the user side to look
at once (:class:`osmia.cli.stacks.StackView` does), and the time of that first
stack goes into the key, where it says which of its programs is meant.

A tool imports ``image``, ``forked`` and ``executed``, and puts ``image()`` into
its keys.
"""

from __future__ import annotations

from osmia.lang.builtins import current, ktime
from osmia.lang.maps import LruHash, Ring
from osmia.lang.pidns import current_process_id
from osmia.lang.probes import tracepoint
from osmia.lang.types import Event, u32, u64

__all__ = ["executed", "forked", "image", "images"]


class Image(Event):
    """A program that has its first stack: since when (ns of ``ktime()``), and in which process."""

    since: u64
    pid: u32


images = Ring(Image, 1 << 17)
seen = LruHash[u32, u64](16384)  # by process


def image() -> u64:
    """Since when the current process is known to run its program; the user side is told when that is new."""
    since = seen.get(current.tgid)
    if since is None:
        since = ktime()
        seen[current.tgid] = since
        with images.reserve() as e:
            e.since, e.pid = since, current_process_id()
    return since  # type: ignore[no-any-return]


@tracepoint("sched:sched_process_exec")
def executed(record):
    """Another program in the same process."""
    del seen[current.tgid]


@tracepoint("sched:sched_process_fork")
def forked(record):
    """A new process; its number may have been another one's."""
    del seen[record.child_pid]
