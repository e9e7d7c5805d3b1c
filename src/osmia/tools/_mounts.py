# SPDX-License-Identifier: Apache-2.0
"""User half of mountsnoop: calls as a C programmer writes them, flags in words (include/uapi/linux/mount.h)."""

from __future__ import annotations

from osmia.tools._mounting import FSCONFIG, FSMOUNT, FSOPEN, FSPICK, MOUNT, MOUNT_SETATTR, MOVE_MOUNT, NAMES, UMOUNT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_AT_FDCWD = -100
_MAGIC, _MAGIC_MASK = 0xC0ED0000, 0xFFFF0000  # of mount(2), from before Linux 2.4


def _bits(prefix: str, names: str) -> dict[int, str]:
    """Flags from bit 0 on; a dot is a bit without a name."""
    return {1 << bit: prefix + name for bit, name in enumerate(names.split()) if name != "."}


_MS = _bits("MS_", "RDONLY NOSUID NODEV NOEXEC SYNCHRONOUS REMOUNT MANDLOCK DIRSYNC NOSYMFOLLOW . NOATIME NODIRATIME "
                   "BIND MOVE REC SILENT POSIXACL UNBINDABLE PRIVATE SLAVE SHARED RELATIME KERNMOUNT I_VERSION "
                   "STRICTATIME LAZYTIME . . . . ACTIVE NOUSER")  # fmt: skip
_UMOUNT = {1: "MNT_FORCE", 2: "MNT_DETACH", 4: "MNT_EXPIRE", 8: "UMOUNT_NOFOLLOW"}
_ATTR = {1: "MOUNT_ATTR_RDONLY", 2: "MOUNT_ATTR_NOSUID", 4: "MOUNT_ATTR_NODEV", 8: "MOUNT_ATTR_NOEXEC",
         0x10: "MOUNT_ATTR_NOATIME", 0x20: "MOUNT_ATTR_STRICTATIME", 0x40: "0x40", 0x80: "MOUNT_ATTR_NODIRATIME",
         0x100000: "MOUNT_ATTR_IDMAP", 0x200000: "MOUNT_ATTR_NOSYMFOLLOW"}  # fmt: skip
_COMMANDS = ("SET_FLAG", "SET_STRING", "SET_BINARY", "SET_PATH", "SET_PATH_EMPTY", "SET_FD", "CMD_CREATE",
             "CMD_RECONFIGURE", "CMD_CREATE_EXCL")  # fmt: skip
_MOVE = {1: "MOVE_MOUNT_F_SYMLINKS", 2: "MOVE_MOUNT_F_AUTOMOUNTS", 4: "MOVE_MOUNT_F_EMPTY_PATH",
         0x10: "MOVE_MOUNT_T_SYMLINKS", 0x20: "MOVE_MOUNT_T_AUTOMOUNTS", 0x40: "MOVE_MOUNT_T_EMPTY_PATH",
         0x100: "MOVE_MOUNT_SET_GROUP", 0x200: "MOVE_MOUNT_BENEATH"}  # fmt: skip
_AT = {0x100: "AT_SYMLINK_NOFOLLOW", 0x800: "AT_NO_AUTOMOUNT", 0x1000: "AT_EMPTY_PATH", 0x8000: "AT_RECURSIVE"}
_TREE = {1: "OPEN_TREE_CLONE", 0o2000000: "OPEN_TREE_CLOEXEC"}
_PICK = {1: "FSPICK_CLOEXEC", 2: "FSPICK_SYMLINK_NOFOLLOW", 4: "FSPICK_NO_AUTOMOUNT", 8: "FSPICK_EMPTY_PATH"}


def flags(value: int, known: dict[int, str]) -> str:
    """The flags with names in words, the others as a number."""
    words = []
    if known is _MS and value & _MAGIC_MASK == _MAGIC:
        words, value = ["MS_MGC_VAL"], value & ~_MAGIC_MASK
    for bit, word in known.items():
        if value & bit:
            words.append(word)
            value &= ~bit
    return "|".join([*words, hex(value)] if value or not words else words)


def number(value: int) -> str:
    """A descriptor or another int; they come in registers of 64 bits."""
    value = (value + (1 << 31)) % (1 << 32) - (1 << 31)
    return "AT_FDCWD" if value == _AT_FDCWD else str(value)


def text(words: list[str], at: int) -> str:
    """An argument that is a text, in quotes."""
    word = words[at] if at < len(words) else ""
    return '"' + word.replace('"', "'") + '"'


def answer(ret: int) -> str:
    """What the call returned: a number, or the error's name."""
    import errno

    return "-" + errno.errorcode[-ret] if -ret in errno.errorcode else str(ret)


def written(e: Any) -> str:
    """The whole call."""
    words, n = list(e.words), (e.arg1, e.arg2, e.arg3, e.arg4, e.arg5)
    if e.call == MOUNT:
        parts = [text(words, 0), text(words, 1), text(words, 2), flags(n[0], _MS), text(words, 3)]
    elif e.call == UMOUNT:
        parts = [text(words, 0), flags(n[0], _UMOUNT)]
    elif e.call == FSOPEN:
        parts = [text(words, 0), flags(n[0], {1: "FSOPEN_CLOEXEC"})]
    elif e.call == FSCONFIG:
        command = f"FSCONFIG_{_COMMANDS[n[1]]}" if n[1] < len(_COMMANDS) else hex(n[1])
        parts = [number(n[0]), command, text(words, 0), text(words, 1), number(n[2])]
    elif e.call == FSMOUNT:
        parts = [number(n[0]), flags(n[1], {1: "FSMOUNT_CLOEXEC"}), flags(n[2], _ATTR)]
    elif e.call == MOVE_MOUNT:
        parts = [number(n[0]), text(words, 0), number(n[1]), text(words, 1), flags(n[2], _MOVE)]
    elif e.call == MOUNT_SETATTR:
        change = f"{{set={flags(n[2], _ATTR)}, clear={flags(n[3], _ATTR)}, propagation={flags(n[4], _MS)}}}"
        parts = [number(n[0]), text(words, 0), flags(n[1], _AT), change]
    else:
        parts = [number(n[0]), text(words, 0), flags(n[1], _PICK if e.call == FSPICK else {**_TREE, **_AT})]
    return f"{NAMES[e.call]}({', '.join(parts)}) = {answer(e.ret)}"
