# SPDX-License-Identifier: Apache-2.0
"""Show which files are read and written most, and by whom, each second."""

from __future__ import annotations

from osmia import Col, Hash, count_table, current, option
from osmia.errors import OptionError
from osmia.lang.filters import cgroup, name, pid, tid, uid  # noqa: F401 - options
from osmia.lang.pidns import current_thread_id
from osmia.lang.types import Comm, Event, Str, u32, u64
from osmia.tools import _files
from osmia.tools._files import (  # noqa: F401 - programs, options
    ENTRIES,
    READ,
    WRITE,
    Sums,
    add_to,
    calls,
    kilobytes,
    leaving,
    letter,
    order,
    place_of,
    shown_name,
    sort,
)
from osmia.tools._top import maxrows, noclear


def number_of(word):
    """What ``-d`` means: the directory's inode; which file system it is on goes into ``_files.device``."""
    _files.device.value, inode = place_of(word)
    return inode


all_files = option("-a", "--all-files", help="count sockets, pipes, devices and the like, too")
read_only = option("--read-only", help="count reads only")
write_only = option("--write-only", help="count writes only")
directory = option("-d", "--directory", type=u64, parse=number_of, metavar="DIR",
                   help="count files in this directory only, not those in directories below it")  # fmt: skip


class File(Event):
    """A file that a thread reads or writes."""

    ino: u64
    dev: u32
    tid: u32
    mode: u32
    comm: Comm
    name: Str[48]


counts = Hash[File, Sums](16384)


def count(kind, ret):
    call = calls.pop(current.pid)
    if call is None:
        return
    file, _ = call
    inode, dentry = file.f_inode, file.f_path.dentry
    if directory:
        above = dentry.d_parent.d_inode
        if above.i_ino != directory or above.i_sb.s_dev != _files.device:
            return
    key = File(ino=inode.i_ino, dev=inode.i_sb.s_dev, mode=inode.i_mode, comm=current.comm, name=dentry.d_name.name,
               tid=current_thread_id())  # fmt: skip
    one = counts.get(key)
    if one is None:
        counts[key] = Sums(reads=0, writes=0, rbytes=0, wbytes=0)
        one = counts.get(key)
    if one is not None:
        add_to(one, kind, ret)


ENDS = leaving(count)


def prepare():
    if read_only and write_only:
        raise OptionError("--read-only and --write-only exclude each other", where="filetop", fix="give one of them")
    _files.every.value = bool(all_files)
    _files.only.value = READ if read_only else WRITE if write_only else -1


tool = count_table(
    counts,
    [
        Col("tid", "TID", 7, align="<"),
        Col("comm", "COMM", 16),
        Col("reads", "READS", 6, align="<"),
        Col("writes", "WRITES", 6, align="<"),
        Col("rbytes", "R_Kb", 7, show=kilobytes, align="<"),
        Col("wbytes", "W_Kb", 7, show=kilobytes, align="<"),
        Col("type", "T", 1, row=lambda one: letter(one.mode)),
        Col("name", "FILE", row=lambda one: shown_name(one.name, one.mode, one.ino)),
    ],
    sort=order,
    most=maxrows,
    screen=noclear,
    taken=True,
    interval=1.0,
    prepare=prepare,
    banner="Tracing... Hit Ctrl-C to end",
)
