# SPDX-License-Identifier: Apache-2.0
"""Which file a short name means: ``c`` is the C library, ``bash`` a program on PATH.

With a process given, its own view counts: the libraries that it has mapped,
through the root and mount namespace that it lives in.
"""

from __future__ import annotations

import os
import struct

from osmia.errors import NotFound, NotPermitted, UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE = "/etc/ld.so.cache"
_MAGIC = b"glibc-ld.so.cache1.1"
#: Flags of a cache entry for 64-bit libraries (glibc sysdeps/generic/ldconfig.h): ELF libc6, and the machine.
_FLAGS = {"x86_64": 0x0303, "aarch64": 0x0A03}
#: Where libraries are where there is no cache (musl), and programs where there is no PATH.
_FOLDERS = ("/lib", "/usr/lib", "/usr/local/lib", "/lib64", "/usr/lib64")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DELETED = " (deleted)"


class Binary:
    """A file to trace: ``path`` opens it from here, ``name`` is how its user knows it."""

    __slots__ = ("name", "path")

    def __init__(self, path: str, name: str) -> None:
        self.path = path
        self.name = name

    def __repr__(self) -> str:
        return f"<Binary {self.name}>" if self.name == self.path else f"<Binary {self.name} through {self.path}>"


class Mapping:
    """A file that a process has mapped as code."""

    __slots__ = ("end", "inode", "offset", "path", "start")

    def __init__(self, start: int, end: int, offset: int, inode: int, path: str) -> None:
        self.start = start
        self.end = end
        self.offset = offset
        self.inode = inode
        self.path = path


def find(name: str, pid: int = 0) -> Binary:
    """The file that ``name`` means: a path, a library's short or full name, a program.

    ``pid``: as that process sees it, its mapped libraries first; an empty
    name is then its program.  Raises NotFound, NotPermitted.
    """
    if pid:
        _check_process(pid)
    if not name:
        if not pid:
            raise UserError("which program or library is meant is not said", fix='write "c:malloc" or "/bin/sh:main"')
        return Binary(f"/proc/{pid}/exe", _link(f"/proc/{pid}/exe"))
    if "/" in name:
        return _path(name, pid)
    # A program's name is exact, a library's short one is not: "curl" is the program, "libcurl" the library.
    found = (_mapped(name, pid) if pid else None) or _program(name, pid) or _library(name, pid)
    if found is None:
        where = f" for process {pid}" if pid else ""
        raise NotFound(f"there is no library or program {name}{where}", fix="give its path")
    return found


def _check_process(pid: int) -> None:
    try:
        os.stat(f"/proc/{pid}/root")
    except FileNotFoundError:
        raise NotFound(f"there is no process {pid}") from None
    except PermissionError:
        raise NotPermitted(f"the files of process {pid} may not be looked at", fix="run it as root") from None


def _link(path: str) -> str:
    try:
        return os.readlink(path).removesuffix(_DELETED)
    except OSError:
        return path


def root_of(pid: int) -> str:
    """The prefix through which a process's files are reached; empty where it sees the same files as we do."""
    if not pid:
        return ""
    try:
        same = all(os.stat(f"/proc/{pid}/{what}").st_ino == os.stat(f"/proc/self/{what}").st_ino
                   for what in ("root", "ns/mnt"))  # fmt: skip
    except OSError:
        same = False
    return "" if same else f"/proc/{pid}/root"


def _path(name: str, pid: int) -> Binary:
    if not name.startswith("/"):
        name = os.path.abspath(name)
    root = root_of(pid)
    if not root:
        return Binary(os.path.realpath(name) if os.path.exists(name) else name, name)
    return Binary(root + within(root, name), name)


def within(root: str, name: str, links: int = 40) -> str:
    """``name`` with its links followed inside ``root``, where absolute links do not mean our root."""
    done = ""
    rest = [part for part in name.split("/") if part]
    while rest:
        part = rest.pop(0)
        if part == ".":
            continue
        if part == "..":
            done = done.rpartition("/")[0]
            continue
        try:
            target = os.readlink(f"{root}{done}/{part}")
        except OSError:
            done += "/" + part
            continue
        links -= 1
        if links < 0:
            raise UserError("too many links, one after the other", where=name)
        if target.startswith("/"):
            done = ""
        rest[:0] = [part for part in target.split("/") if part]
    return done or "/"


# --- libraries ----------------------------------------------------------------------------------------------------


def _fits(file: str, name: str) -> bool:
    """Whether file name ``file`` is library ``name``: ``c``, ``libc``, ``libc.so`` or ``libc.so.6``."""
    if file == name:
        return True
    stem = name if name.startswith("lib") else f"lib{name}"
    stem = stem.removesuffix(".so")
    # libssl.so.3, libpython3.11.so.1.0, and Debian's older libc-2.31.so
    if file == f"{stem}.so" or file.startswith(f"{stem}.so."):
        return True
    return file.startswith(f"{stem}-") and file.endswith(".so") and file[len(stem) + 1 : -3].replace(".", "").isdigit()


def _mapped(name: str, pid: int) -> Binary | None:
    program = _link(f"/proc/{pid}/exe")
    if os.path.basename(program) == name:
        return Binary(f"/proc/{pid}/exe", program)
    for one in mappings(pid):
        if _fits(os.path.basename(one.path.removesuffix(_DELETED)), name):
            return Binary(opened_through(pid, one), one.path)
    return None


def mappings(pid: int) -> list[Mapping]:
    """The files that process ``pid`` has mapped as code, each once, in the order of their addresses."""
    out: dict[tuple[str, int], Mapping] = {}
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
            for line in maps:
                fields = line.rstrip("\n").split(None, 5)
                if len(fields) < 6 or "x" not in fields[1] or fields[5][0] not in "/":
                    continue
                start, _, end = fields[0].partition("-")
                key = fields[5], int(fields[4])
                if key not in out:
                    out[key] = Mapping(int(start, 16), int(end, 16), int(fields[2], 16), key[1], fields[5])
    except FileNotFoundError:
        raise NotFound(f"there is no process {pid}") from None
    except PermissionError:
        raise NotPermitted(f"the memory map of process {pid} may not be read", fix="run it as root") from None
    except ProcessLookupError:  # a zombie
        return []
    return list(out.values())


def opened_through(pid: int, one: Mapping) -> str:
    """A path that opens exactly the mapped file, even where its name is gone or hidden in another namespace."""
    path = root_of(pid) + one.path
    try:
        if os.stat(path).st_ino == one.inode:
            return path
    except OSError:  # deleted, or in memory only
        pass
    return f"/proc/{pid}/map_files/{one.start:x}-{one.end:x}"


def _library(name: str, pid: int) -> Binary | None:
    root = root_of(pid)
    found = sorted(_cached(root, name), key=lambda pair: (pair[0] != name, len(pair[0]), pair[0]))
    for _, path in found:
        inside = within(root, path) if root else os.path.realpath(path)
        if os.path.isfile(root + inside):
            return Binary(root + inside, path)
    for folder in _FOLDERS:
        try:
            files = sorted(os.listdir(root + folder))
        except OSError:
            continue
        for file in files:
            if _fits(file, name):
                inside = within(root, f"{folder}/{file}") if root else os.path.realpath(f"{folder}/{file}")
                return Binary(root + inside, f"{folder}/{file}")
    return None


def _cached(root: str, name: str) -> Iterator[tuple[str, str]]:
    """``(file name, path)`` of the entries for ``name`` in the dynamic linker's cache.

    Format: glibc ``sysdeps/generic/dl-cache.h``, ``struct cache_file_new``,
    which may follow an old-format cache.
    """
    try:
        with open(root + CACHE, "rb") as file:
            raw = file.read()
    except OSError:
        return
    base = raw.find(_MAGIC)
    if base < 0 or base + 48 > len(raw):
        return
    wanted = _FLAGS.get(os.uname().machine)
    (count,) = struct.unpack_from("<I", raw, base + 20)
    for at in range(base + 48, min(base + 48 + 24 * count, len(raw) - 23), 24):
        flags, key, value = struct.unpack_from("<iII", raw, at)
        if wanted is not None and flags & 0xFFFF != wanted:
            continue
        file_name = _string(raw, base + key)
        if _fits(file_name, name):
            yield file_name, _string(raw, base + value)


def _string(raw: bytes, at: int) -> str:
    end = raw.find(b"\0", at)
    return raw[at:end].decode("utf-8", "surrogateescape") if end >= 0 else ""


# --- programs -----------------------------------------------------------------------------------------------------


def _program(name: str, pid: int) -> Binary | None:
    root = root_of(pid)
    folders = (_environment(pid, "PATH") if pid else os.environ.get("PATH", "")) or _PATH
    for folder in folders.split(":"):
        if not folder.startswith("/"):
            continue
        path = f"{folder}/{name}"
        inside = within(root, path) if root else os.path.realpath(path)
        if os.path.isfile(root + inside) and os.access(root + inside, os.R_OK):
            return Binary(root + inside, path)
    return None


def _environment(pid: int, name: str) -> str:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            for entry in file.read().split(b"\0"):
                if entry.startswith(name.encode() + b"="):
                    return entry.partition(b"=")[2].decode("utf-8", "surrogateescape")
    except OSError:
        pass
    return ""
