# SPDX-License-Identifier: Apache-2.0
"""Objects that outlive their process: pinned in bpffs, and opened again by path or by id.

What is pinned lives until it is unpinned, or until the machine is restarted.
Whoever opens it says what shape it expects; another shape is an error and
not a guess.
"""

from __future__ import annotations

import os
import stat
import struct

from osmia.errors import NotFound, NotSupported, UserError
from osmia.kernel import bpf
from osmia.load.map import LiveMap
from osmia.load.program import LiveProg, ProgInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from osmia.obj.spec import MapSpec, ProgSpec

ROOT = "/sys/fs/bpf"
_MAP_INFO = struct.Struct("<6I16s")  # type, id, key size, value size, entries, flags, name


class MapInfo:
    """What the kernel says of a map (``struct bpf_map_info``); sizes in bytes."""

    __slots__ = ("flags", "id", "key_size", "max_entries", "name", "type", "value_size")

    def __init__(self, fd: int) -> None:
        row = _MAP_INFO.unpack_from(bpf.obj_get_info(fd, 128).ljust(_MAP_INFO.size, b"\0"))
        self.type, self.id, self.key_size, self.value_size, self.max_entries, self.flags = row[:6]
        self.name = row[6].split(b"\0", 1)[0].decode("ascii", "replace")


def _refused(action: str, cause: OSError, where: str) -> UserError:
    from osmia.kernel import caps  # error paths only

    return caps.refused(action, cause, where=where)


def _in_bpffs(path: str) -> bool:
    """Whether ``path`` is below a mounted bpffs; True where that cannot be told."""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
            rows = [line.split() for line in file]
    except OSError:
        return True
    real = os.path.realpath(path)
    return any(row[2] == "bpf" and real.startswith(row[1].rstrip("/") + "/") for row in rows if len(row) > 2)


def _fd(where: str | int, by_id: Callable[[int], int], what: str) -> int:
    """A descriptor of the object, which is of the kind ``what`` (``map``, ``prog``)."""
    name = {"prog": "program"}.get(what, what)
    fd = _open(where, by_id, name)
    if os.readlink(f"/proc/self/fd/{fd}") != f"anon_inode:bpf-{what}":
        os.close(fd)
        raise UserError(f"that is a BPF object, but no {name}", where=str(where))
    return fd


def _open(where: str | int, by_id: Callable[[int], int], what: str) -> int:
    try:
        return by_id(where) if isinstance(where, int) else bpf.obj_get(where)
    except PermissionError as e:
        if isinstance(where, str) and not _in_bpffs(where):  # the kernel says EACCES for other files
            raise NotSupported(f"that is no {what} in bpffs", where=where, fix=f"bpffs is at {ROOT}") from None
        raise _refused("open BPF objects", e, str(where)) from None
    except FileNotFoundError:
        fix = "see `bpftool map show` and `bpftool prog show`" if isinstance(where, int) else f"see ls {ROOT}"
        raise NotFound(f"no {what} with id {where}" if isinstance(where, int) else f"no {what} is pinned there",
                       where="" if isinstance(where, int) else where, fix=fix) from None  # fmt: skip
    except OSError as e:
        raise UserError(f"cannot be opened ({e.strerror})", where=str(where)) from None


def open_map(where: str | int) -> LiveMap:
    """A map by its path in bpffs or by its id.  NotFound, NotPermitted."""
    fd = _fd(where, bpf.map_get_fd_by_id, "map")
    info = MapInfo(fd)
    return LiveMap(fd, info.name, info.type, info.key_size, info.value_size, info.max_entries, info.flags)


def open_prog(where: str | int, spec: ProgSpec | None = None) -> LiveProg:
    """A program by its path in bpffs or by its id.  ``spec`` says what it attaches to.  NotFound, NotPermitted."""
    fd = _fd(where, bpf.prog_get_fd_by_id, "prog")
    if spec is None:
        from osmia.obj.spec import ProgSpec

        info = ProgInfo(bpf.obj_get_info(fd, 232))
        spec = ProgSpec(info.name, b"", "")
        spec.type = info.type
    return LiveProg(fd, spec)


def pin(live: LiveMap | LiveProg, path: str) -> None:
    """Pin a map or a program at ``path``; directories below bpffs are made.  UserError where something is there."""
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        bpf.obj_pin(path, live.fd)
    except FileExistsError:
        raise UserError("something is pinned there already", where=path, fix="unpin it, or take another name") from None
    except OSError as e:
        if isinstance(e, PermissionError) and _in_bpffs(path):
            raise _refused("pin BPF objects", e, path) from None
        raise NotSupported(f"cannot be pinned: {e.strerror}", where=path,
                           fix=f"the place must be in bpffs: mount -t bpf bpf {ROOT}") from None  # fmt: skip


def unpin(path: str) -> bool:
    """Remove a pin; whether there was one.  Only files in bpffs are removed."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise UserError("that is no pinned object", where=path)
        os.close(bpf.obj_get(path))
        os.unlink(path)
    except FileNotFoundError:
        return False
    except PermissionError as e:
        if not _in_bpffs(path):
            raise UserError("that is no pinned object", where=path) from None
        raise _refused("unpin BPF objects", e, path) from None
    except OSError as e:
        raise UserError(f"that is no pinned object ({e.strerror})", where=path) from None
    return True


def open_as(item: Any, where: str | int) -> Any:
    """Open a map that is there already as ``item``: ``open_map(Hash[u32, u64](), "/sys/fs/bpf/counts")``.

    ``where`` is its path in bpffs or its id; ``item`` says of what types
    keys and values are, and is returned, live.  UserError where the map is of
    another shape.
    """
    from osmia.lang.types import size_align

    live = open_map(where)
    key = size_align(item.key)[0] if getattr(item, "key", None) is not None else 0
    wanted = (item.map_type, key, size_align(item.value)[0])
    if (live.type, live.key_size, live.value_size) != wanted:
        have = f"type {live.type} with keys of {live.key_size} and values of {live.value_size} bytes"
        live.close()
        raise UserError(f"the map there is of {have}, not of type {wanted[0]} with {wanted[1]} and {wanted[2]}",
                        where=str(where))  # fmt: skip
    item.live = live
    item.name = item.name or live.name
    return item


def shape_differs(info: MapInfo, spec: MapSpec) -> str:
    """In what a map is not what ``spec`` says; empty where it is."""
    for name, have, want in (
        ("type", info.type, spec.type), ("key size", info.key_size, spec.key_size),
        ("value size", info.value_size, spec.value_size), ("flags", info.flags, spec.flags),
    ):  # fmt: skip
        if have != want:
            return f"its {name} is {have}, not {want}"
    return ""


def reuse_or_make(spec: MapSpec, path: str, make: Callable[[], LiveMap], size: int) -> LiveMap:
    """The map pinned at ``path``, or a new one that is pinned there."""
    try:
        fd = bpf.obj_get(path)
    except FileNotFoundError:
        live = make()
        try:
            pin(live, path)
        except BaseException:
            live.close()
            raise
        return live
    except PermissionError as e:
        raise _refused("open BPF objects", e, path) from None
    info = MapInfo(fd)
    wrong = shape_differs(info, spec)
    if not wrong and size and info.max_entries != size:
        wrong = f"it has {info.max_entries} entries, not {size}"
    if wrong:
        os.close(fd)
        raise UserError(f"another map is pinned there: {wrong}", where=path, fix="remove it, or take another name")
    live = LiveMap(fd, spec.name, spec.type, spec.key_size, spec.value_size, info.max_entries, spec.flags)
    live.inner = spec.inner
    live.reused = True
    return live
