# SPDX-License-Identifier: Apache-2.0
"""Kernel half: the open file behind a descriptor of the current task, its file system and its name.

The table of descriptors is read as it is, without its lock: at the entry of a
system call a descriptor can be closed by another thread, and the call itself
would fail then, too.  At the exit, ``file_of(fd) == file`` says whether it is
still what it was at the entry; only then may ``file`` be looked into.
"""

from __future__ import annotations

from osmia.lang.builtins import cast, current, exists, read_kernel
from osmia.lang.types import u64

#: Where the calls end that read and write, write back, and open a file.
READS = tuple([f"syscalls:sys_exit_{name}" for name in ("read", "pread64", "readv", "preadv", "preadv2")])
WRITES = tuple([f"syscalls:sys_exit_{name}" for name in ("write", "pwrite64", "writev", "pwritev", "pwritev2")])
SYNCS = ("syscalls:sys_exit_fsync", "syscalls:sys_exit_fdatasync")
OPENS = tuple([f"syscalls:sys_exit_{name}" for name in ("openat", "open", "openat2", "creat")])
OVERLAYFS = 0x794C7630  # include/uapi/linux/magic.h
#: Of ``file.f_inode.i_mode``: include/uapi/linux/stat.h.
S_IFMT, S_IFREG, S_IFDIR, S_IFSOCK = 0o170000, 0o100000, 0o040000, 0o140000
FMODE_CREATED = 0x100000  # include/linux/fs.h, since 4.19


def file_of(fd):
    """The ``struct file`` behind ``fd``; a null pointer where nothing is open."""
    file = cast(0, "struct file")
    table = current.task.files.fdt
    if 0 <= fd < table.max_fds:
        file = table.fd[fd]
    return file


def kind_of(file):
    """``S_IFREG``, ``S_IFDIR``, ...; 0 for a null pointer."""
    return file.f_inode.i_mode & S_IFMT


def magic_of(file):
    """The number of the file system's kind (``statfs(2)``: ``f_type``); through an overlay, that of the layer's."""
    magic = file.f_inode.i_sb.s_magic
    if magic == OVERLAYFS:
        magic = real_file(file).f_inode.i_sb.s_magic
    return magic


def real_file(file):
    """The file in a layer that a file of an overlay stands for.

    ``private_data`` is that file; since 87a8a76c34a2 ("ovl: allocate a
    container struct ovl_file for ovl private context", 6.13) it is a structure
    that begins with a pointer to it.  The overlay may be a module, whose types
    are not known here, so what is there has to tell: the mapping of a file is
    that of its inode.
    """
    real = cast(file.private_data, "struct file")
    if not real.f_mapping or real.f_mapping != real.f_inode.i_mapping:
        real = cast(read_kernel(file.private_data, u64), "struct file")
    return real


def name_of(file):
    """Address of the file's name, without directories: for ``kernel_str``, or a field ``Str``."""
    return file.f_path.dentry.d_name.name


def created(fd):
    """Whether the call that has returned ``fd`` made the file; without the kernel's types nobody knows, and so not."""
    if not exists("struct task_struct"):
        return False
    file = file_of(fd)
    return bool(file) and file.f_mode & FMODE_CREATED != 0
