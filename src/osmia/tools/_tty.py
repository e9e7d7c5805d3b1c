# SPDX-License-Identifier: Apache-2.0
"""Which terminal is meant, and whether an open file is that one."""

from __future__ import annotations

from osmia.lang.builtins import cast
from osmia.lang.options import Option
from osmia.lang.types import u64

PTS = 136  # major number of the terminals in /dev/pts (UNIX98_PTY_SLAVE_MAJOR)
CONTROLLING = 5 << 20  # /dev/tty: whichever terminal a process has

#: What the kernel calls its number, its file system and its inode.
number = Option("number", type=u64)
place = Option("place", type=u64)
inode = Option("inode", type=u64)


def terminal(word):
    """The path of a terminal: a path, or the number of one in /dev/pts; ValueError."""
    import os
    import stat

    path = f"/dev/pts/{word}" if "/" not in word else word
    try:
        found = os.stat(path)
    except OSError as err:
        raise ValueError(f"{path}: {(err.strerror or '').lower()}") from None
    if not stat.S_ISCHR(found.st_mode):
        raise ValueError(f"{path} is no terminal")
    number.value = os.major(found.st_rdev) << 20 | os.minor(found.st_rdev)
    place.value = os.major(found.st_dev) << 20 | os.minor(found.st_dev)
    inode.value = found.st_ino
    return path


def is_it(file):
    """Whether that is the terminal."""
    node = file.f_inode
    if node.i_ino == inode and node.i_sb.s_dev == place:
        return True
    if node.i_rdev != CONTROLLING:
        return False
    tty = cast(file.private_data, "struct tty_file_private").tty
    if tty.driver.major << 20 | (tty.driver.minor_start + tty.index) != number:
        return False
    # Each file system of pseudo-terminals numbers its own.
    return tty.driver.major != PTS or cast(tty.driver_data, "struct dentry").d_sb.s_dev == place
