# SPDX-License-Identifier: Apache-2.0
"""Names that go away, by unlink, rmdir or rename: what filegone and filelife share."""

from __future__ import annotations

from osmia.lang.builtins import current
from osmia.lang.filters import wanted
from osmia.lang.maps import Hash
from osmia.lang.probes import tracepoint
from osmia.lang.types import Path, User, s32, u32
from osmia.tools._paths import AT_FDCWD, add_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DELETE, RMDIR, RENAME, EXCHANGE = range(4)
AT_REMOVEDIR = 0x200  # include/uapi/linux/fcntl.h
RENAME_EXCHANGE = 2  # include/uapi/linux/fs.h
#: Tracepoints of the calls' ends.
ENDS = tuple([f"syscalls:sys_exit_{name}" for name in ("unlinkat", "unlink", "rename", "renameat2", "renameat")])
#: Between the two names of a rename: no name has a slash in it.
BETWEEN = "//"

UserStr = User["char"]

asked = Hash[u32, tuple[u32, UserStr, s32, UserStr, s32]](32768)  # thread -> what it asked for, until the call returns


def begin(action, directory, path, new_directory, new_path):
    if wanted():
        asked[current.pid] = action, path, directory, new_path, new_directory


@tracepoint("syscalls:sys_enter_unlink", optional=True)  # arm64 has unlinkat() and renameat() only
def enter_unlink(call):
    begin(DELETE, AT_FDCWD, call.pathname, AT_FDCWD, 0)


@tracepoint("syscalls:sys_enter_unlinkat")
def enter_unlinkat(call):
    begin(RMDIR if call.flag & AT_REMOVEDIR else DELETE, call.dfd, call.pathname, AT_FDCWD, 0)


@tracepoint("syscalls:sys_enter_rmdir", optional=True)
def enter_rmdir(call):
    begin(RMDIR, AT_FDCWD, call.pathname, AT_FDCWD, 0)


@tracepoint("syscalls:sys_enter_rename", optional=True)
def enter_rename(call):
    begin(RENAME, AT_FDCWD, call.oldname, AT_FDCWD, call.newname)


@tracepoint("syscalls:sys_enter_renameat", optional=True)
def enter_renameat(call):
    begin(RENAME, call.olddfd, call.oldname, call.newdfd, call.newname)


@tracepoint("syscalls:sys_enter_renameat2")
def enter_renameat2(call):
    action = EXCHANGE if call.flags & RENAME_EXCHANGE else RENAME
    begin(action, call.olddfd, call.oldname, call.newdfd, call.newname)


#: What goes with :data:`ENDS`; rmdir() has an entry and an end of its own.
ENTRIES = (enter_unlink, enter_unlinkat, enter_rename, enter_renameat, enter_renameat2)


def add_paths(names, action, directory, path, new_directory, new_path):
    """Both names, as :func:`absolute` takes them apart; of the calls with one name only that."""
    add_path(names, directory, path)
    if action >= RENAME:
        names.add(BETWEEN)
        add_path(names, new_directory, new_path)


def absolute(names: Any) -> tuple[str, str]:
    """The absolute paths that :func:`add_paths` sent; the second one is empty where there is none."""
    parts = list(names)
    at = parts.index(BETWEEN) if BETWEEN in parts else len(parts)
    cut = bool(names.truncated)
    return str(Path.show(parts[:at], cut and at == len(parts))), str(Path.show(parts[at + 1 :], cut))
