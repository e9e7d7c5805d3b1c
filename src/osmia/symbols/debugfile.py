# SPDX-License-Identifier: Apache-2.0
"""Symbols that were taken out of a file: the compressed table inside it, and the file of a debug package.

Addresses in both are those of the file that was stripped.
"""

from __future__ import annotations

import os

from osmia.errors import UserError
from osmia.symbols import libs
from osmia.symbols.image import Image

#: Where debug packages put their files.
ROOT = "/usr/lib/debug"
_MOST = 512 << 20  # bytes that an unpacked table may have


def minidebug(image: Image) -> Image | None:
    """What ``.gnu_debugdata`` holds, an LZMA-packed ELF file with a symbol table; None if absent or damaged."""
    section = image.section(".gnu_debugdata")
    if section is None:
        return None
    import lzma

    try:
        unpacker = lzma.LZMADecompressor()
        raw = unpacker.decompress(bytes(image.bytes_of(section)), max_length=_MOST)
        return Image.of_bytes(raw, f"{image.name} (.gnu_debugdata)")
    except (lzma.LZMAError, UserError):
        return None


def separate(image: Image, path: str = "", root: str | None = None) -> Image | None:
    """The debug package's file for ``image``, by build id and then by debug link; None where there is none.

    ``path`` is the file's name as its process sees it and ``root`` the prefix
    of that process's files; by default both are taken from how the image was
    opened.  A file found by name only counts if its checksum (or build id)
    agrees.
    """
    if root is None:
        root = _root_of(image.path)
    path = path or image.path.removeprefix(root)
    id = image.build_id()
    if id:
        found = _open(root, f"{ROOT}/.build-id/{id[:2]}/{id[2:]}.debug")
        if found is not None:
            if found.build_id() == id and found.inode != image.inode:
                return found
            found.close()
    return _linked(image, path, root, id)


def _root_of(path: str) -> str:
    """``/proc/PID/root`` when the file is seen through it, so that a container's packages are looked at."""
    parts = path.split("/")
    return "/".join(parts[:4]) if parts[:2] == ["", "proc"] and parts[3:4] == ["root"] else ""


def _linked(image: Image, path: str, root: str, id: str) -> Image | None:
    section = image.section(".gnu_debuglink")
    if section is None:
        return None
    raw = bytes(image.bytes_of(section))
    name = raw.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    if not name or "/" in name or len(raw) < 4:
        return None
    wanted = int.from_bytes(raw[-4:], "little")
    folders = [os.path.dirname(path)]
    if (real := os.path.dirname(_real(root, path))) not in folders:
        folders.append(real)
    for place in [f"{folder}{end}" for folder in folders for end in ("", "/.debug")] + [ROOT + one for one in folders]:
        found = _open(root, f"{place}/{name}")
        if found is None:
            continue
        if found.inode != image.inode and (found.build_id() == id if id else _checksum(found) == wanted):
            return found
        found.close()
    return None


def _real(root: str, path: str) -> str:
    """``path`` without links.  Behind ``root`` they are followed one by one: absolute ones do not mean our root."""
    try:
        return libs.within(root, path) if root else os.path.realpath(path)
    except UserError:
        return path


def _open(root: str, path: str) -> Image | None:
    try:
        return Image(root + _real(root, path) if root else path)
    except UserError:
        return None


def _checksum(image: Image) -> int:
    import zlib

    return zlib.crc32(image.data)
