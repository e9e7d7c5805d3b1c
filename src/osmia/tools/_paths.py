# SPDX-License-Identifier: Apache-2.0
"""Kernel half: the directory that a relative file name starts from.

The names are collected innermost first by walking dentries, and from the
root of a mount on to the directory that it is mounted on, as the kernel's
own ``d_path`` does; the walk ends at the process's root directory, so that
what is shown is the path as the process itself would write it.
"""

from __future__ import annotations

from osmia.lang.builtins import container_of, current, exists, read_user
from osmia.lang.drift import loops_are_long
from osmia.lang.types import u8

AT_FDCWD = -100  # include/uapi/linux/fcntl.h
FEW = 128  # of them where the verifier walks through each round
DEPTH = 1024  # directories and mounts; PATH_MAX allows no more than 2,048
NAME_MAX = 256  # include/uapi/linux/limits.h, and the NUL
SLASH = ord("/")


def add_path(path, directory, name):
    """Append to ``path`` the user's string ``name`` and, where it is relative, the names of what it starts from.

    ``directory`` is the system call's directory descriptor, or AT_FDCWD.  A
    descriptor that is not open adds nothing: the call failed with EBADF.
    """
    path.add(name)
    first = read_user(name, u8)
    if first == SLASH or first == 0 or not exists("struct task_struct"):  # without BTF: the name as it was given
        return
    task = current.task
    if directory == AT_FDCWD:
        place = task.fs.pwd
    else:
        table = task.files.fdt
        if not 0 <= directory < table.max_fds:
            return
        file = table.fd[directory]
        if not file:
            return
        place = file.f_path
    add_names(path, place)


def add_names(path, place):
    """Append the names from the ``struct path`` ``place`` up to the current task's root directory."""
    root = current.task.fs.root
    dentry = place.dentry
    mount = container_of(place.mnt, "struct mount", "mnt")
    top = container_of(root.mnt, "struct mount", "mnt")
    for i in range(DEPTH):
        if i >= FEW and not loops_are_long():
            break
        ours = dentry == root.dentry and mount == top
        mounted = not ours and dentry == mount.mnt.mnt_root
        above = mount.mnt_parent if mounted else top
        if ours or (mounted and above == mount):  # the second: the first mount of the namespace
            path.add("/")
            return
        if mounted:
            dentry = mount.mnt_mountpoint
            mount = above
        else:
            if dentry.d_parent == dentry:  # a file system without names: pipes, sockets, memfd
                return
            path.add(dentry.d_name.name, NAME_MAX)
            dentry = dentry.d_parent
    path.truncate()
