# SPDX-License-Identifier: Apache-2.0
"""The cache directory on disk: compiled objects, BTF indexes, type ids.

What is read here ends up in the kernel, often as root; so only a directory
and file owned by the effective user and writable by nobody else are believed
(sudo may keep a user's HOME), links are never followed, and a checksum finds
damage.  No cache is never an error: everything works without, slower, and
the reason is there for ``-v``.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import time

_HEADER = struct.Struct("<4sIIQ")  # magic, format version, CRC-32 of the body, length of the body
_MAGIC, _FORMAT = b"OSMC", 1
_LIMIT = 64 << 20
_PIECE = 1 << 16
_OTHERS_WRITE = 0o022

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class _Unusable(Exception):
    """Why there is no cache."""


def _candidates() -> list[str]:
    chosen = os.environ.get("OSMIA_CACHE")
    if chosen:
        return [chosen]
    found = []
    xdg, home = os.environ.get("XDG_CACHE_HOME"), os.environ.get("HOME")
    if xdg and xdg.startswith("/"):
        found.append(xdg + "/osmia")
    elif home and home.startswith("/"):
        found.append(home + "/.cache/osmia")
    if os.geteuid() == 0:
        # Root with a user's HOME: leave no root-owned folders there.
        found = [path for path in found if _owner(xdg if xdg and xdg.startswith("/") else home or "/") == 0]
        found.append("/var/cache/osmia")
    return found


def _owner(path: str) -> int:
    try:
        return os.stat(path).st_uid
    except OSError:
        return -1


def _trusted(info: os.stat_result, what: str) -> None:
    if info.st_uid != os.geteuid():
        raise _Unusable(f"{what} belongs to user {info.st_uid}, not to {os.geteuid()}")
    if info.st_mode & _OTHERS_WRITE:
        raise _Unusable(f"{what} is writable by others (mode {stat.S_IMODE(info.st_mode):o})")


def _open_directory(path: str, create: bool) -> tuple[int, str]:
    """``(fd, "")``, or ``(-1, reason)``."""
    fd = -1
    try:
        if create:
            os.makedirs(path, 0o700, exist_ok=True)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        _trusted(os.fstat(fd), path)
    except (OSError, _Unusable) as e:
        if fd >= 0:
            os.close(fd)
        return -1, f"{path}: {e.strerror}" if isinstance(e, OSError) else str(e)
    return fd, ""


def _directory(create: bool) -> tuple[int, str]:
    reasons = []
    for path in _candidates():
        fd, reason = _open_directory(path, create)
        if not reason:
            return fd, path
        reasons.append(reason)
    raise _Unusable("; ".join(reasons) or "neither OSMIA_CACHE nor XDG_CACHE_HOME nor HOME is set")


def _check_name(name: str) -> None:
    if not name or name.startswith(".") or not all(c.isascii() and (c.isalnum() or c in "._-") for c in name):
        raise ValueError(f"not a cache entry's name: {name!r}")


def location() -> tuple[str | None, str]:
    """``(directory, "")``, or ``(None, reason)`` when no cache can be used.  Creates nothing."""
    try:
        fd, path = _directory(create=False)
    except _Unusable as e:
        return None, str(e)
    os.close(fd)
    return path, ""


def read(name: str) -> bytes | None:
    """The entry's bytes; None when absent, not to be trusted, damaged or of another format."""
    entry = opened(name)
    try:
        return entry.read(0, entry.size) if entry is not None else None
    except OSError:
        return None


class Entry:
    """A large entry, of which pieces are read: ``entry.read(at, size)``; ``size`` is that of the whole."""

    __slots__ = ("_fd", "size")

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self.size = size

    def read(self, at: int, size: int) -> bytes:
        """So many bytes from ``at`` on, fewer at the end.

        They cannot change: an entry is renamed when it is whole, and never written again.
        """
        return os.pread(self._fd, size, _HEADER.size + at)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # `os` may be gone at Python's end
        close(self._fd)


def opened(name: str) -> Entry | None:
    """A large entry, without taking memory for all of it; None as :func:`read`."""
    fd, size = _open(name)
    if fd < 0:
        return None
    entry, check, at = Entry(fd, max(0, size - _HEADER.size)), 0, 0
    try:
        while part := entry.read(at, _PIECE):
            check, at = _crc(part, check), at + len(part)
        head = os.pread(fd, _HEADER.size, 0)
    except OSError:
        return None
    whole = at == entry.size and len(head) == _HEADER.size
    return entry if whole and _HEADER.unpack(head) == (_MAGIC, _FORMAT, check, at) else None


def _open(name: str) -> tuple[int, int]:
    """Descriptor and size of an entry that can be trusted; -1 where there is none."""
    _check_name(name)
    fd = -1
    try:
        directory, _ = _directory(create=False)
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        finally:
            os.close(directory)
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_size > _LIMIT:
            raise _Unusable("not a plain file of sane size")
        _trusted(info, name)
    except (OSError, _Unusable):
        if fd >= 0:
            os.close(fd)
        return -1, 0
    return fd, info.st_size


def write(name: str, data: bytes) -> str | None:
    """Store an entry, atomically; None, or the reason why it was not stored (never an exception)."""
    _check_name(name)
    try:
        directory, path = _directory(create=True)
    except _Unusable as e:
        return str(e)
    temporary = f".{name}.{os.getpid()}.{time.monotonic_ns()}"
    try:
        _write_file(directory, temporary, _HEADER.pack(_MAGIC, _FORMAT, _crc(data), len(data)) + data)
        os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError as e:
        _remove(directory, temporary)
        return f"{path}/{name}: {e.strerror}"
    finally:
        os.close(directory)
    return None


def _remove(directory: int, name: str) -> bool:
    try:
        os.unlink(name, dir_fd=directory)
    except OSError:
        return False
    return True


def _write_file(directory: int, name: str, data: bytes) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        view = memoryview(data)
        while view:
            done = os.write(fd, view)
            if not done:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            view = view[done:]
    finally:
        os.close(fd)


def _crc(data: bytes, before: int = 0) -> int:
    import zlib

    return zlib.crc32(data, before)
