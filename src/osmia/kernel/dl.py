# SPDX-License-Identifier: Apache-2.0
"""What the dynamic linker decided for this process.

Functions such as ``strlen`` exist once per CPU generation, and a program is
sent to one of them when it starts.  All programs on a machine are sent to
the same one, so a library that this process has loaded itself can be asked.
Nothing is loaded for it: that would run the code of a file under trace.
"""

from __future__ import annotations

import os


def implementation(inode: tuple[int, int], name: str) -> int | None:
    """The address, before relocation, of what ``name`` means in a library that this process has mapped.

    ``inode`` is the library's ``(st_dev, st_ino)``.  None where the library
    is not loaded here or resolves the name elsewhere.
    """
    import ctypes

    found = _mapped(inode)
    if found is None:
        return None
    path, low, high = found
    try:
        library = ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_NOLOAD)
        address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
    except (OSError, AttributeError):
        return None
    return address - low if low <= address < high else None


def _mapped(inode: tuple[int, int]) -> tuple[str, int, int] | None:
    """``(path, first address, end)`` of the mapping of a file in this process."""
    path, low, high = "", 0, 0
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            fields = line.rstrip("\n").split(None, 5)
            # Shared mappings are files that are being read, ours among them, not loaded code.
            if len(fields) < 6 or int(fields[4]) != inode[1] or fields[1][3:4] != "p":
                continue
            major, minor = (int(part, 16) for part in fields[3].split(":"))
            if os.makedev(major, minor) != inode[0]:
                continue
            start, _, end = fields[0].partition("-")
            if not path:
                path, low = fields[5], int(start, 16) - int(fields[2], 16)
            high = int(end, 16)
    return (path, low, high) if path else None
