# SPDX-License-Identifier: Apache-2.0
"""What a process has mapped as code, kept so that it can be asked after the process is gone.

``Maps.capture(pid)`` looks at a process; ``Maps.parse(text)`` reads a copy of
``/proc/PID/maps``; :meth:`Maps.add` takes single mappings, from mmap records.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_right

from osmia.errors import NotFound, NotPermitted, NotSupported, UserError
from osmia.symbols import libs
from osmia.symbols.image import Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

_DELETED = " (deleted)"
#: Names of memory that has no file, though it looks so: shared, huge and JIT compilers' double mappings.
_NO_FILE = ("/memfd:", "/dev/zero", "/SYSV", "/anon_hugepage", "/dev/ashmem", "//anon")


class Mapping:
    """One executable mapping.

    ``offset`` is where it begins in the file, ``device`` (major, minor) and
    ``inode`` say which file that is, ``path`` is its name as the process sees
    it (without `` (deleted)``; ``[vdso]``, empty for memory without a name).
    ``build_id`` is empty unless somebody knew it.
    """

    __slots__ = ("build_id", "deleted", "device", "end", "inode", "offset", "path", "start")

    def __init__(
        self, start: int, end: int, offset: int = 0, path: str = "", device: tuple[int, int] = (0, 0), inode: int = 0,
        build_id: str = "",
    ) -> None:  # fmt: skip
        self.start = start
        self.end = end
        self.offset = offset
        self.deleted = path.endswith(_DELETED)
        self.path = path.removesuffix(_DELETED)
        self.device = device
        self.inode = inode
        self.build_id = build_id

    def __repr__(self) -> str:
        return f"<Mapping {self.start:#x}-{self.end:#x} {self.path or 'anonymous'}+{self.offset:#x}>"

    @property
    def has_file(self) -> bool:
        """Whether code in it comes from a file, and not from a compiler at run time."""
        return self.path[:1] == "/" and not self.path.startswith(_NO_FILE)

    @property
    def may_be_image(self) -> bool:
        """Whether it may be a part of a program or library: also one that is in memory only (memfd, vDSO)."""
        return self.has_file or self.path == "[vdso]" or self.path.startswith("/memfd:")

    @property
    def file(self) -> tuple[int, int]:
        """``(st_dev, st_ino)`` of the file, as the kernel says it in ``maps``."""
        return os.makedev(*self.device), self.inode

    def is_file(self, device: int, inode: int) -> bool:
        """Whether what stat(2) says of a file is what is mapped.

        btrfs and overlayfs name different devices in ``maps`` and in stat(2),
        at least one of them without a major number; their inodes agree.
        """
        known = os.makedev(*self.device)
        return inode == self.inode and (device == known or not (os.major(device) and self.device[0]))

    def same_as(self, other: Mapping) -> bool:
        """Whether both map the same bytes of the same file in the same place."""
        return all(getattr(self, name) == getattr(other, name) for name in ("start", "end", "offset", "file", "path"))


def _parsed(line: str) -> Mapping | None:
    """A line of ``/proc/PID/maps``; None for what is not executable."""
    fields = line.rstrip("\n").split(None, 5)
    if len(fields) < 5 or "x" not in fields[1]:
        return None
    start, _, end = fields[0].partition("-")
    major, _, minor = fields[3].partition(":")
    path = fields[5].replace("\\012", "\n") if len(fields) > 5 else ""
    if path.startswith("[anon"):  # named with prctl(PR_SET_VMA_ANON_NAME)
        path = ""
    return Mapping(int(start, 16), int(end, 16), int(fields[2], 16), path, (int(major, 16), int(minor, 16)),
                   int(fields[4]))  # fmt: skip


class _Root:
    """A root directory that is held open, shared by all processes of one mount namespace and root.

    A container has hundreds of processes, and we may not have as many
    descriptors.
    """

    _held: dict[tuple[int, int, int], _Root] = {}

    def __init__(self, fd: int, key: tuple[int, int, int]) -> None:
        self.fd = fd
        self.users = 0
        self._key = key
        self._held[key] = self

    @classmethod
    def of(cls, pid: int) -> _Root:
        """That of process ``pid``.  Raises OSError."""
        fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            info = os.fstat(fd)
            key = info.st_dev, info.st_ino, os.stat(f"/proc/{pid}/ns/mnt").st_ino
        except OSError:
            os.close(fd)
            raise
        known = cls._held.get(key)
        if known is None:
            return cls(fd, key)
        os.close(fd)
        return known

    def take(self) -> _Root:
        self.users += 1
        return self

    def drop(self) -> None:
        self.users -= 1
        if not self.users:
            del self._held[self._key]
            os.close(self.fd)


class Maps:
    """The executable mappings of one process, at one time.

    ``pid`` is the number by which we know it, ``own_pid`` the one it knows
    itself by (in its PID namespace), ``started`` its start in clock ticks
    after boot (0: not known; tells a process from another of the same
    number), ``uid`` its real user, ``program`` what it runs.  Close it, or
    forget it: what it may hold open is one directory.
    """

    def __init__(self, pid: int, mappings: list[Mapping] | None = None) -> None:
        self.pid = pid
        self.own_pid = pid
        self.started = 0
        self.uid = -1
        self.program = ""
        self._root: _Root | None = None
        self._mappings = sorted(mappings or [], key=lambda one: one.start)
        self._starts = [one.start for one in self._mappings]

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the process's root.  May be called twice."""
        if self._root is not None:
            self._root.drop()
            self._root = None

    @classmethod
    def parse(cls, text: str, pid: int = 0) -> Maps:
        """From the text of a ``/proc/PID/maps``.  UserError where it is something else."""
        try:
            return cls(pid, [one for line in text.splitlines() if (one := _parsed(line)) is not None])
        except ValueError:
            raise UserError("this is no list of memory mappings", fix="give a copy of /proc/PID/maps") from None

    @classmethod
    def capture(cls, pid: int) -> Maps:
        """What process ``pid`` has mapped now, and how its files can be reached later.

        Raises NotFound (no such process), NotPermitted.  A process that has
        just ended, but was not waited for, has nothing mapped.
        """
        try:
            with _proc(pid, "maps") as file:
                mappings = [one for line in file if (one := _parsed(line)) is not None]
        except ProcessLookupError:  # a zombie
            mappings = []
        except FileNotFoundError:
            raise NotFound(f"there is no process {pid}") from None
        except PermissionError:
            raise NotPermitted(f"the memory map of process {pid} may not be read", fix="run it as root") from None
        self = cls(pid, mappings)
        self.started = started(pid)
        self._read_status()
        try:
            self.program = os.readlink(f"/proc/{pid}/exe").removesuffix(_DELETED)
            if libs.root_of(pid):
                self._root = _Root.of(pid).take()
                self._seen_from_inside(os.readlink(f"/proc/{pid}/root"))
        except OSError:  # gone in between, a kernel thread, not ours
            pass
        return self

    def _seen_from_inside(self, root: str) -> None:
        """Paths in ``maps`` are those of the reader, where it can reach them: of a chroot, with its folder in front."""
        if root != "/":
            for one in self._mappings:
                if one.path.startswith(root + "/"):
                    one.path = one.path.removeprefix(root)

    def _read_status(self) -> None:
        try:
            with _proc(self.pid, "status") as file:
                for line in file:
                    if line.startswith("Uid:"):
                        self.uid = int(line.split()[1])
                    elif line.startswith("NSpid:"):
                        self.own_pid = int(line.split()[-1])
        except OSError:
            pass

    # -- asking ---------------------------------------------------------

    def __iter__(self) -> Iterator[Mapping]:
        return iter(self._mappings)

    def __len__(self) -> int:
        return len(self._mappings)

    def find(self, address: int) -> Mapping | None:
        """The mapping that ``address`` lies in."""
        n = bisect_right(self._starts, address) - 1
        return self._mappings[n] if n >= 0 and address < self._mappings[n].end else None

    @property
    def root(self) -> str:
        """The prefix through which the process's files are opened from here; empty where it sees what we see."""
        return f"/proc/self/fd/{self._root.fd}" if self._root is not None else ""

    def alive(self) -> bool:
        """Whether it is still this process that has the number."""
        return bool(self.started) and started(self.pid) == self.started

    # -- changing -------------------------------------------------------

    def add(self, new: Mapping) -> bool:
        """A later mapping: it takes the place of what was there; whether something was."""
        known = self.find(new.start)
        if known is not None and known.same_as(new):
            return False
        kept = []
        replaced = False
        for one in self._mappings:
            if one.end <= new.start or one.start >= new.end:
                kept.append(one)
                continue
            replaced = True
            if one.start < new.start:
                kept.append(_part(one, one.start, new.start))
            if one.end > new.end:
                kept.append(_part(one, new.end, one.end))
        self._mappings = sorted([*kept, new], key=lambda one: one.start)
        self._starts = [one.start for one in self._mappings]
        return replaced

    def copy(self, pid: int) -> Maps:
        """The same for a child that was forked as ``pid``."""
        made = Maps(pid, list(self._mappings))
        made.uid, made.program = self.uid, self.program
        if self._root is not None:
            made._root = self._root.take()
        return made

    # -- files ----------------------------------------------------------

    def open(self, mapping: Mapping) -> Image:
        """The very file that is mapped, under its own name or through ``/proc/PID/map_files``.

        A file that has its name now, but is another one, is not taken: raises
        NotFound, or what :class:`Image` raises.
        """
        if mapping.path == "[vdso]":
            return self._vdso(mapping)
        problem: UserError | None = None
        for path in self._ways(mapping):
            try:
                if not stat.S_ISREG(os.stat(path).st_mode):  # opening a device may do something
                    continue
                image = Image(path, mapping.path)
            except OSError:
                continue
            except UserError as e:
                problem = problem or (e if not isinstance(e, NotFound) else None)
                continue
            if path.startswith(f"/proc/{self.pid}/map_files/") or mapping.is_file(*image.inode):
                return image
            if mapping.build_id and image.build_id() == mapping.build_id:
                return image
            image.close()
            problem = NotFound("another file has this name now", where=mapping.path)
        raise problem or NotFound("the file is gone", where=mapping.path)

    def _ways(self, mapping: Mapping) -> list[str]:
        root = self.root
        ways = []
        if not mapping.deleted:
            ways.append(root + libs.within(root, mapping.path) if root else mapping.path)
        if self.alive():
            ways.append(f"/proc/{self.pid}/map_files/{mapping.start:x}-{mapping.end:x}")
        return ways

    def _vdso(self, mapping: Mapping) -> Image:
        """The kernel's own little library is only in memory: in the process's, or else in ours, which is the same."""
        size = mapping.end - mapping.start
        own = None
        if self.alive():
            own = _memory(self.pid, mapping.start, size)
        if own is None:
            mine = next((one for one in Maps.capture(os.getpid()) if one.path == "[vdso]"), None)
            if mine is None or mine.end - mine.start != size:
                raise NotFound("the process's own cannot be read any more", where="[vdso]")
            own = _memory(os.getpid(), mine.start, size)
        if own is None:
            raise NotSupported("memory cannot be read", where="[vdso]")
        return Image.of_bytes(own, "[vdso]")


def _part(one: Mapping, start: int, end: int) -> Mapping:
    offset = one.offset + start - one.start
    made = Mapping(start, end, offset, one.path, one.device, one.inode, one.build_id)
    made.deleted = one.deleted
    return made


def _proc(pid: int, name: str) -> IO[str]:
    return open(f"/proc/{pid}/{name}", encoding="utf-8", errors="surrogateescape")


def started(pid: int) -> int:
    """When process ``pid`` started, in clock ticks after boot; 0 where there is none."""
    try:
        with _proc(pid, "stat") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _memory(pid: int, start: int, size: int) -> bytes | None:
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
            file.seek(start)
            raw = file.read(size)
    except (OSError, OverflowError, ValueError):
        return None
    return raw if len(raw) == size else None
