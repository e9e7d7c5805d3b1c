# SPDX-License-Identifier: Apache-2.0
"""What an attached program is held by: file descriptors, and nothing else.

The kernel detaches with the last close of an fd, so nothing can stay attached
when the process ends, however it ends.
"""

from __future__ import annotations

import errno
import os

from osmia.errors import NotSupported, UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.load.program import LiveProg


class Link:
    """One attached program.

    ``fds`` are closed in order; ``how`` says which way it was attached
    (``perf link``, ``perf ioctl``, ``raw tracepoint``, ``iterator``) and
    ``slow_close`` whether closing waits for the kernel (54-100 ms each for
    tracepoints, see :mod:`osmia.link.detach`).
    """

    __slots__ = ("fds", "how", "name", "slow_close")

    def __init__(self, name: str, how: str, fds: list[int], *, slow_close: bool = False) -> None:
        self.name = name
        self.how = how
        self.fds = fds
        self.slow_close = slow_close

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} ({self.how})>"

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Detach now.  May be called twice."""
        while self.fds:
            os.close(self.fds.pop(0))


def refused(action: str, cause: OSError, *, where: str) -> UserError:
    """:func:`osmia.kernel.caps.refused`."""
    from osmia.kernel import caps  # error paths only: keeps it out of a warm start

    return caps.refused(action, cause, where=where)


def failed(prog: LiveProg, target: str, cause: OSError) -> UserError:
    """The error for a refusal to attach ``prog`` to ``target``."""
    where = f"{prog.name} ({target})" if target else prog.name
    if cause.errno in (errno.EPERM, errno.EACCES):
        return refused("attach a program", cause, where=where)
    if cause.errno == errno.EEXIST or cause.errno == errno.EBUSY:
        return UserError(f"something else is attached there ({cause.filename}: {cause.strerror})", where=where)
    if cause.errno == errno.EMFILE:
        return UserError("too many open files", where=where, fix="raise the limit with ulimit -n")
    return NotSupported(f"cannot attach ({cause.filename}: {cause.strerror})", where=where)
