# SPDX-License-Identifier: Apache-2.0
"""The files whose symbols are at hand: each once, whoever has it mapped, and never more than a set number of bytes.

A file is known by device and inode, which also tells it from another one
that has its name now, and by its build id.  The least recently used go when
the limit is reached; they are read again when they are wanted again and can
still be reached.
"""

from __future__ import annotations

import os

from osmia.errors import NotFound, UserError
from osmia.symbols import debugfile
from osmia.symbols.elf_names import Names
from osmia.symbols.image import Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.symbols.maps import Mapping, Maps

#: Device and inode, or the name and size of what is in memory only.
Key = tuple[object, ...]
#: Bytes of arrays and names, by default.
LIMIT = 256 << 20
#: Of the descriptors that we may have, one in so many is for files whose symbols are at hand, and as many for their
#: debug files.
_SHARE = 4


class Store:
    """Symbols of files, least recently used first.

    ``limit`` is in bytes; ``most_files`` is by default a quarter of the file
    descriptors that the process may have (``ulimit -n``).
    """

    def __init__(self, limit: int = LIMIT, most_files: int = 0) -> None:
        self.limit = limit
        self.most_files = most_files or max(16, os.sysconf("SC_OPEN_MAX") // _SHARE)
        #: Counts what was closed: whoever keeps a :class:`Names` must ask again when it has changed.
        self.evicted = 0
        self._names: dict[Key, Names] = {}
        self._ids: dict[str, Key] = {}
        self._failed: dict[tuple[int, int, Key], str] = {}
        #: Why a file has no names: path → reason.
        self.problems: dict[str, str] = {}

    def close(self) -> None:
        """Unmap all files."""
        while self._names:
            self._drop(next(iter(self._names)))

    def __len__(self) -> int:
        return len(self._names)

    @property
    def memory(self) -> int:
        """Memory taken now."""
        return sum(one.memory for one in self._names.values())

    def trim(self) -> None:
        """Let the least recently used go until the limit holds; the last one stays."""
        sizes = {key: one.memory for key, one in self._names.items()}
        total = sum(sizes.values())
        for key, size in sizes.items():
            if (total <= self.limit and len(self._names) <= self.most_files) or len(self._names) == 1:
                return
            total -= size
            self._drop(key)

    def _drop(self, key: Key) -> None:
        gone = self._names.pop(key)
        if self._ids.get(gone.build_id) == key:
            del self._ids[gone.build_id]
        gone.close()
        self.evicted += 1

    def _put(self, key: Key, names: Names) -> Names:
        self._names[key] = names
        if names.build_id:
            self._ids.setdefault(names.build_id, key)
        self.trim()
        return names

    def _used(self, key: Key) -> Names | None:
        found = self._names.pop(key, None)
        if found is not None:
            self._names[key] = found
        return found

    # -- finding --------------------------------------------------------

    def of_mapping(self, maps: Maps, mapping: Mapping) -> Names | None:
        """The file that is mapped there; None where it cannot be had, and ``problems`` says why."""
        key = _key(mapping)
        found = self._used(key)
        if found is not None:
            return found
        failure = maps.pid, maps.started, key
        if failure in self._failed:
            return None
        try:
            names = Names(maps.open(mapping), mapping.path, maps.root)
        except UserError as e:
            other = self.of_build_id(mapping.build_id) if mapping.build_id else None
            if other is None:
                self._failed[failure] = e.what
                if mapping.has_file or mapping.path == "[vdso]":  # else it is a JIT compiler's, and no image at all
                    self.problems[mapping.path] = e.what
            return other
        mapping.build_id = names.build_id
        return self._put(key, names)

    def of_path(self, path: str) -> Names:
        """The file of that name.  Raises what :class:`Image` raises."""
        image = Image(path)
        key: Key = image.inode
        found = self._used(key)
        if found is not None:
            image.close()
            return found
        return self._put(key, Names(image, path))

    def of_build_id(self, id: str, path: str = "") -> Names | None:
        """The file with that build id: one that is known, the one at ``path``, or one that packages have put by it."""
        key = self._ids.get(id)
        if key is not None:
            return self._used(key)
        folder = f"{debugfile.ROOT}/.build-id/{id[:2]}/{id[2:]}"
        for place in (path, folder, f"{folder}.debug"):
            names = self._with_id(place, id) if place else None
            if names is not None:
                return names
        self.problems.setdefault(path or f"build id {id}", "there is no file with this build id")
        return None

    def _with_id(self, path: str, id: str) -> Names | None:
        try:
            image = Image(path)
        except (NotFound, UserError):
            return None
        # Of a debug file without segments nobody can tell where in memory an offset of the whole file is.
        if image.build_id() != id or not any(one.executable and one.file_size for one in image.segments):
            image.close()
            return None
        found = self._used(image.inode)
        if found is not None:
            image.close()
            return found
        return self._put(image.inode, Names(image, path))


def _key(mapping: Mapping) -> Key:
    if mapping.path == "[vdso]":  # that of 32-bit processes is another one
        return mapping.path, mapping.end - mapping.start, mapping.start >> 32 > 0
    return mapping.file
