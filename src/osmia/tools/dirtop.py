# SPDX-License-Identifier: Apache-2.0
"""Show how much is read and written in directories, each second."""

from __future__ import annotations

from osmia import Col, Hash, before_attach, container_of, count_table, current, option
from osmia.errors import OptionError
from osmia.lang.filters import cgroup, name, pid, tid, uid  # noqa: F401 - options
from osmia.lang.types import Event, u32, u64
from osmia.tools import _files
from osmia.tools._files import (  # noqa: F401 - programs, options
    ENTRIES,
    Sums,
    add_to,
    calls,
    kilobytes,
    leaving,
    order,
    place_of,
    sort,
)
from osmia.tools._top import maxrows, noclear

MOST = 1024  # directories
DEPTH = 64  # how far up a file is looked for

roots = option("-d", "--root-directories", type=str, default="/*", metavar="DIRS",
               help="the directories: paths or patterns, separated by commas (default: /*)")  # fmt: skip


class Place(Event):
    """A directory: its inode and the device of its file system."""

    ino: u64
    dev: u32


places = Hash[Place, u32](MOST)  # directory -> its number
counts = Hash[u32, Sums](MOST)
paths: list[str] = []  # by number


def count(kind, ret):
    """Add the call to every directory that is asked for and has the file in it, at any depth."""
    call = calls.pop(current.pid)
    if call is None:
        return
    file, _ = call
    dentry = file.f_path.dentry
    mount = container_of(file.f_path.mnt, "struct mount", "mnt")
    for _ in range(DEPTH):
        if dentry == mount.mnt.mnt_root:  # on to the directory that the file system is mounted on
            if mount.mnt_parent == mount:
                break
            dentry = mount.mnt_mountpoint
            mount = mount.mnt_parent
        elif dentry.d_parent == dentry:
            break
        else:
            dentry = dentry.d_parent
        number = places.get(Place(ino=dentry.d_inode.i_ino, dev=dentry.d_sb.s_dev))
        if number is not None:
            one = counts.get(number)
            if one is not None:
                add_to(one, kind, ret)


ENDS = leaving(count)


def found():
    """The directories that ``-d`` names; what a pattern matches without symbolic links, which lead elsewhere."""
    import glob
    import os

    for pattern in str(roots).split(","):
        for path in sorted(glob.glob(pattern, recursive=True)):
            if os.path.isdir(path) and not (glob.has_magic(pattern) and os.path.islink(path)):
                yield path


def prepare():
    _files.every.value = True
    paths.extend(dict.fromkeys(found()))
    if not paths:
        raise OptionError(f"there is no directory {roots}", where="dirtop", fix="give -d one that there is")
    if len(paths) > MOST:
        raise OptionError(f"{len(paths)} directories are more than {MOST}", where="dirtop", fix="choose fewer with -d")


@before_attach
def fill():
    known = {place_of(path): number for number, path in reversed([*enumerate(paths)])}  # each once
    places.set_many({Place(ino=inode, dev=device): number for (device, inode), number in known.items()})
    counts.set_many({number: Sums(reads=0, writes=0, rbytes=0, wbytes=0) for number in known.values()})


tool = count_table(
    counts,
    [
        Col("reads", "READS", 6, align="<"),
        Col("writes", "WRITES", 6, align="<"),
        Col("rbytes", "R_Kb", 8, show=kilobytes, align="<"),
        Col("wbytes", "W_Kb", 8, show=kilobytes, align="<"),
        Col("path", "PATH", row=lambda one: paths[one.key]),
    ],
    sort=order,
    most=maxrows,
    screen=noclear,
    interval=1.0,
    prepare=prepare,
    banner="Tracing... Hit Ctrl-C to end",
)
