# SPDX-License-Identifier: Apache-2.0
"""Reads, writes, opens and syncs of files on one file system: what ext4slower, ext4dist and those for others share.

System calls are timed from entry to exit, and the file behind the descriptor
says which file system it is on.  So one family of programs serves every file
system, whether the kernel has it built in or as a module, and none of them
depends on the names of its functions.  Operations are those on regular files;
syncs of directories are among them, too.
"""

from __future__ import annotations

from osmia.lang.builtins import current, ktime
from osmia.lang.filters import wanted
from osmia.lang.maps import Hash
from osmia.lang.options import option
from osmia.lang.types import Event, Kernel, s32, s64, u32, u64
from osmia.tools._fd import S_IFDIR, S_IFREG, file_of, kind_of, magic_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: What ``Op.kind`` may be; letters in rows, as bcc has them, and names of histograms.
READ, WRITE, FSYNC, OPEN, GETATTR = range(5)
LETTERS = "RWSOG"
NAMES = ("read", "write", "fsync", "open", "getattr")

#: ``statfs(2)``: ``f_type``; and the names that mounts of it have.
SYSTEMS = {
    "ext4": (0xEF53, ("ext4", "ext3", "ext2")),
    "xfs": (0x58465342, ("xfs",)),
    "btrfs": (0x9123683E, ("btrfs",)),
    "nfs": (0x6969, ("nfs", "nfs4")),
    "f2fs": (0xF2F52010, ("f2fs",)),
    "zfs": (0x2FC12FC1, ("zfs",)),
}

#: Set before the load: the file system's number, and whether positions in files are wanted.
magic = option("magic", type=u64)
positions = option("positions")

# include/uapi/asm-generic/fcntl.h (arm64 and x86 alike) and include/uapi/linux/fs.h
O_APPEND, O_PATH, RWF_APPEND = 0o2000, 0o10000000, 0x10
AT_POSITION = -1  # where the file's own position is; also what preadv2(2) and pwritev2(2) mean by it
EBADF = 9  # include/uapi/asm-generic/errno-base.h

FilePtr = Kernel["struct file"]


class Op(Event):
    """A call under way.  ``offset`` is AT_POSITION where only the position at the end of the call tells."""

    start: u64
    file: FilePtr
    offset: s64
    fd: s32
    kind: u32


ops = Hash[u32, Op](32768)  # by thread


def on_it(file):
    """Whether the file is on the file system."""
    return magic_of(file) == magic


def begin(kind, fd, offset, append):
    """The current thread calls for an operation on the file behind ``fd``."""
    if not wanted():
        return
    file = file_of(fd)
    type = kind_of(file)
    if (kind == GETATTR or type == S_IFREG or (kind == FSYNC and type == S_IFDIR)) and on_it(file):
        if positions:
            offset = start_of(file, kind, offset, append)
        ops[current.pid] = Op(file=file, fd=fd, kind=kind, offset=offset, start=ktime())
    else:
        del ops[current.pid]  # one whose end the kernel has skipped: what ends now is another call


def start_of(file, kind, offset, append):
    """Where the operation begins; AT_POSITION where the position after it is the only one that tells."""
    if kind == WRITE and (append or file.f_flags & O_APPEND):
        return AT_POSITION if offset == AT_POSITION else file.f_inode.i_size
    if kind <= WRITE and offset == AT_POSITION:
        return file.f_pos
    return offset


def opened(fd):
    """The file of an open that is over, if it is one of the file system's; else None."""
    file = file_of(fd)
    if kind_of(file) == S_IFREG and not file.f_flags & O_PATH and on_it(file):
        return file
    return None


def mounts() -> Iterator[tuple[str, int, str]]:
    """Mounts of all mount namespaces: kind of the file system, device number as stat(2) has it, where."""
    import os

    seen: set[str] = set()
    for process in ["self", *filter(str.isdecimal, os.listdir("/proc"))]:
        try:
            namespace = os.readlink(f"/proc/{process}/ns/mnt")
            if namespace in seen:
                continue
            with open(f"/proc/{process}/mountinfo", errors="surrogateescape") as file:
                lines = file.readlines()
        except OSError:
            continue
        seen.add(namespace)
        for line in lines:  # proc_pid_mountinfo(5)
            words = line.split()
            major, minor = words[2].split(":")
            yield words[words.index("-") + 1], os.makedev(int(major), int(minor)), words[4]


def tracing(system: str, what: str) -> str:
    """The banner; also says so where there is nothing to see."""
    if any(kind in SYSTEMS[system][1] for kind, _, _ in mounts()):
        return what
    return f"{what}\nNo {system} file system is mounted yet."
