# SPDX-License-Identifier: Apache-2.0
"""Where text goes: a file descriptor, written straight and completely.

A view hands over large blocks, so there is nothing to gain from a buffer and
something to lose: rows that wait in one while the reader of the pipe thinks
that nothing happens.  ``print`` and :class:`io.TextIOWrapper` would also copy
the block twice and raise at the first unpaired surrogate.
"""

from __future__ import annotations

import errno
import os

from osmia.errors import OsmiaError, UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


class ClosedPipe(OsmiaError):
    """The reader of our output has gone (``| head``): stop quietly, this is no fault."""


class Writer:
    """Writes text to a file descriptor or a text stream.

    ``target`` is a descriptor, or a stream: if it has a ``fileno()`` it is
    flushed and its descriptor used, else (:class:`io.StringIO`) its own
    ``write``.  ``name`` is used in messages.  The text is encoded as UTF-8;
    what cannot be encoded is written as ``\\udcNN``.
    """

    __slots__ = ("_owned", "_stream", "fd", "name", "written")

    def __init__(self, target: int | TextIO = 1, *, name: str = "", owned: bool = False) -> None:
        self._stream: TextIO | None = None
        if isinstance(target, int):
            self.fd = target
        else:
            self.fd = _descriptor(target)
            if self.fd < 0:
                self._stream = target
            else:
                target.flush()
        self.name = name or ("standard output" if self.fd == 1 else "output")
        self.written = 0  # bytes, or characters of a stream without a descriptor
        self._owned = owned

    def write(self, text: str) -> None:
        """Write all of ``text``.

        Raises :class:`ClosedPipe` when nobody reads any more, and
        :class:`~osmia.errors.UserError` when the system refuses (disk full).
        """
        if not text:
            return
        if self._stream is not None:
            self._stream.write(text)
            self.written += len(text)
            return
        self.write_bytes(text.encode("utf-8", "backslashreplace"))

    def write_bytes(self, data: bytes) -> None:
        """Write all of ``data`` to the descriptor; the errors are those of :meth:`write`."""
        done = self._write(data)
        if done < len(data):
            rest = memoryview(data)
            while done < len(data):
                done += self._write(rest[done:])

    def close(self) -> None:
        """Close the descriptor if this writer opened it; harmless twice."""
        if self._owned and self.fd >= 0:
            fd, self.fd = self.fd, -1
            try:
                os.close(fd)
            except OSError as error:  # NFS and quotas report a failed write here
                raise self._refused(error) from None

    def _write(self, data: bytes | memoryview) -> int:
        try:
            count = os.write(self.fd, data)
        except BlockingIOError:
            # Somebody made the pipe or terminal that we share non-blocking.
            import select

            poll = select.poll()
            poll.register(self.fd, select.POLLOUT)
            poll.poll()
            return 0
        except BrokenPipeError:
            raise ClosedPipe(f"{self.name}: closed by its reader") from None
        except OSError as error:
            raise self._refused(error) from None
        self.written += count
        return count

    def _refused(self, error: OSError) -> UserError:
        fix = "free some space or choose another file with -o" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return UserError(f"cannot write: {os.strerror(error.errno or 0)}", where=self.name, fix=fix)


def open_output(path: str, option: str = "-o") -> Writer:
    """A :class:`Writer` for ``-o FILE``; ``-`` is standard output.

    The file is created or emptied, its mode as the umask says; ``option`` is
    what messages call it.
    Raises :class:`~osmia.errors.UserError` when the file cannot be opened.
    """
    if path == "-":
        return Writer(1)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
        from osmia.views.escape import escape

        raise UserError(
            f"cannot open the output file: {reason}",
            where=f"{option} {escape(path)}",
            fix="name a file in a directory that exists and that you may write to",
        ) from None
    return Writer(fd, name=path, owned=True)


def _descriptor(stream: TextIO) -> int:
    """The descriptor behind ``stream``, or -1 if it has none."""
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):  # io.UnsupportedOperation is both of the last two
        return -1
