# SPDX-License-Identifier: Apache-2.0
"""A live map: bytes in, bytes out.

Types are put on top of it by those who know them.  Reading whole maps goes
through the batch commands where the kernel has them (5.6; per-CPU arrays
5.13), because a system call per element is 50 times slower.
"""

from __future__ import annotations

import errno
import os
import struct

from osmia.errors import NotSupported, UserError
from osmia.kernel import bpf, cpus, features, proc
from osmia.obj import consts

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Generator, Iterator
    from typing import Any

    from osmia.obj.spec import MapSpec

_PER_CPU = frozenset((
    consts.BPF_MAP_TYPE_PERCPU_HASH, consts.BPF_MAP_TYPE_PERCPU_ARRAY, consts.BPF_MAP_TYPE_LRU_PERCPU_HASH,
    consts.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE,
))  # fmt: skip
_ARRAYS = frozenset((consts.BPF_MAP_TYPE_ARRAY, consts.BPF_MAP_TYPE_PERCPU_ARRAY))
_RINGS = frozenset((consts.BPF_MAP_TYPE_RINGBUF, consts.BPF_MAP_TYPE_USER_RINGBUF))
_STORAGE = frozenset((
    consts.BPF_MAP_TYPE_SK_STORAGE, consts.BPF_MAP_TYPE_TASK_STORAGE, consts.BPF_MAP_TYPE_INODE_STORAGE,
    consts.BPF_MAP_TYPE_CGRP_STORAGE,
))  # fmt: skip
#: Map types whose key and value may be described by BTF; the kernel says ENOTSUPP or EINVAL for others.
_TYPED = _STORAGE | {
    consts.BPF_MAP_TYPE_HASH, consts.BPF_MAP_TYPE_ARRAY, consts.BPF_MAP_TYPE_PERCPU_HASH,
    consts.BPF_MAP_TYPE_PERCPU_ARRAY, consts.BPF_MAP_TYPE_LRU_HASH, consts.BPF_MAP_TYPE_LRU_PERCPU_HASH,
    consts.BPF_MAP_TYPE_LPM_TRIE,
}  # fmt: skip
_NO_BATCH = frozenset((errno.EINVAL, errno.ENOTSUP, bpf.ENOTSUPP))
_BATCH_BYTES, _BATCH_COUNT = 1 << 20, 4096
_PAGE = os.sysconf("SC_PAGE_SIZE")


class LiveMap:
    """An open map.

    ``key_size`` and ``value_size`` are the kernel's; ``user_size`` is the
    length of a value as user space sees it: for per-CPU maps one slot,
    rounded up to 8 bytes, for each of ``ncpus`` possible CPUs.
    """

    __slots__ = (
        "_batch", "fd", "flags", "inner", "key_size", "max_entries", "name", "ncpus", "reused", "type", "user_size",
        "value_size",
    )  # fmt: skip

    def __init__(
        self, fd: int, name: str, type: int, key_size: int, value_size: int, max_entries: int, flags: int = 0
    ) -> None:
        self.fd = fd
        self.name = name
        self.type = type
        self.key_size = key_size
        self.value_size = value_size
        self.max_entries = max_entries
        self.flags = flags
        self.ncpus = cpus.slots() if type in _PER_CPU else 1
        self.user_size = ((value_size + 7) & ~7) * self.ncpus if type in _PER_CPU else value_size
        self._batch = True
        self.inner: MapSpec | None = None
        #: It was pinned, and has what it had.
        self.reused = False

    def __repr__(self) -> str:
        return f"<LiveMap {self.name} fd={self.fd} type={self.type} {self.key_size}->{self.value_size}>"

    def _key(self, key: bytes) -> bytes:
        # The kernel reads key_size bytes whatever it is given: a short buffer would leak our memory into the map.
        if len(key) != self.key_size:
            raise ValueError(f"map {self.name}: a key has {self.key_size} bytes, not {len(key)}")
        return key

    def lookup(self, key: bytes) -> bytes | None:
        """The value, or None when the key is absent."""
        return bpf.map_lookup(self.fd, self._key(key), self.user_size)

    def update(self, key: bytes, value: bytes | bytearray, flags: int = bpf.BPF_ANY) -> None:
        """Set a value of exactly ``user_size`` bytes.  UserError when the map is full."""
        if len(value) != self.user_size:
            raise ValueError(f"map {self.name}: a value has {self.user_size} bytes, not {len(value)}")
        try:
            bpf.map_update(self.fd, self._key(key), value, flags)
        except OSError as e:
            if e.errno != errno.E2BIG:
                raise
            what = f"map {self.name} is full ({self.max_entries} entries)"
            raise UserError(what, fix="give it more entries") from None

    def delete(self, key: bytes) -> bool:
        """Remove a key; whether it was there."""
        return bpf.map_delete(self.fd, self._key(key))

    def update_many(self, pairs: list[tuple[bytes, bytes]]) -> None:
        """Set many values, in batches where the kernel can (5.6).  UserError when the map gets full on the way."""
        for key, value in pairs:
            if len(self._key(key)) and len(value) != self.user_size:
                raise ValueError(f"map {self.name}: a value has {self.user_size} bytes, not {len(value)}")
        for part in _parts(pairs, self.key_size + self.user_size):
            if self._batch and not features.off("batch"):
                keys, values = b"".join([key for key, _ in part]), b"".join([value for _, value in part])
                try:
                    bpf.map_update_batch(self.fd, keys, values, len(part))
                    continue
                except OSError as e:
                    if e.errno in _NO_BATCH:
                        self._batch = False
                    elif e.errno != errno.E2BIG:
                        raise
            for key, value in part:  # says which one does not fit
                self.update(key, value)

    def delete_many(self, keys: list[bytes]) -> int:
        """Remove many keys, in batches where the kernel can (5.6); how many were there."""
        gone = 0
        for part in _parts([self._key(key) for key in keys], self.key_size):
            done = 0
            if self._batch and not features.off("batch"):
                try:
                    done = bpf.map_delete_batch(self.fd, b"".join(part), len(part))
                except OSError as e:
                    if e.errno not in _NO_BATCH:
                        raise
                    self._batch = False
            gone += done
            for key in part[done:]:  # a batch stops at the first absent key
                gone += self.delete(key)
        return gone

    def contains(self, value: bytes) -> bool:
        """Whether a bloom filter may hold ``value``."""
        return bpf.map_contains(self.fd, value)

    def put_new_map(self, key: bytes) -> LiveMap:
        """Create a map of the shape that the slots of this map of maps have, and put it into one."""
        if self.inner is None:
            raise ValueError(f"map {self.name} is no map of maps")
        made = create(self.inner)
        try:
            self.update(key, struct.pack("<I", made.fd))
        except BaseException:
            made.close()
            raise
        return made

    def inner_map(self, key: bytes) -> LiveMap | None:
        """The map in a slot, by a descriptor of its own; None where there is none."""
        raw = self.lookup(key)
        if raw is None or self.inner is None:
            return None
        try:
            fd = bpf.map_get_fd_by_id(struct.unpack("<I", raw)[0])
        except FileNotFoundError:
            return None
        spec = self.inner
        return LiveMap(fd, spec.name, spec.type, spec.key_size, spec.value_size, spec.max_entries, spec.flags)

    def pop(self, key: bytes) -> bytes | None:
        """Take a value out; None when absent.

        One step since 5.14 for hash maps (queues and stacks, with an empty
        key, since 4.20).  On older kernels it is two, and an update that
        comes in between is lost.
        """
        if self.key_size and not features.has("take_hash"):
            value = self.lookup(key)
            if value is not None:
                self.delete(key)
            return value
        return bpf.map_lookup_and_delete(self.fd, self._key(key), self.user_size)

    def keys(self) -> list[bytes]:
        """All keys, each once.

        Walked one by one; a key that is deleted meanwhile makes the kernel
        start over, so the walk ends after twice the map's capacity.
        """
        found: dict[bytes, None] = {}
        key = bpf.map_next_key(self.fd, None, self.key_size)
        for _ in range(2 * self.max_entries + 1):
            if key is None:
                break
            found[key] = None
            key = bpf.map_next_key(self.fd, key, self.key_size)
        return list(found)

    def chunks(self, *, delete: bool = False) -> Iterator[tuple[bytes, bytes, int]]:
        """The whole map as ``(keys, values, n)``: n keys and n values, each back to back.

        With ``delete`` each element is taken out in the same step: no count
        that comes meanwhile is lost (5.6 for batches; see :meth:`pop`).
        """
        if delete and self.type in _ARRAYS:
            raise ValueError(f"map {self.name}: elements of an array cannot be deleted; subtract snapshots instead")
        if self._batch and not features.off("batch"):
            count = max(1, min(self.max_entries, _BATCH_COUNT, _BATCH_BYTES // (self.key_size + self.user_size)))
            done = yield from self._by_batch(delete, count)
            if done:
                return
            self._batch = False
        yield from self._one_by_one(delete)

    def _by_batch(self, delete: bool, count: int) -> Generator[tuple[bytes, bytes, int], None, bool]:
        command = bpf.map_lookup_and_delete_batch if delete else bpf.map_lookup_batch
        position: bytearray | None = None
        while True:
            try:
                keys, values, n, following = command(self.fd, position, count, self.key_size, self.user_size)
            except OSError as e:
                if e.errno == errno.ENOSPC:  # one bucket of the hash holds more than that
                    count *= 2
                    continue
                if e.errno in _NO_BATCH and position is None:
                    return False
                raise
            if n:
                yield bytes(keys[: n * self.key_size]), bytes(values[: n * self.user_size]), n
            if following is None:
                return True
            position = following

    def _one_by_one(self, delete: bool) -> Iterator[tuple[bytes, bytes, int]]:
        keys, values = [], []
        for key in self.keys():
            value = self.pop(key) if delete else self.lookup(key)
            if value is not None:
                keys.append(key)
                values.append(value)
        if keys:
            yield b"".join(keys), b"".join(values), len(keys)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every ``(key, value)``."""
        return self._items(False)

    def items_and_delete(self) -> Iterator[tuple[bytes, bytes]]:
        """Every ``(key, value)``, taken out of the map; ValueError for arrays."""
        return self._items(True)

    def _items(self, delete: bool) -> Iterator[tuple[bytes, bytes]]:
        k, v = self.key_size, self.user_size
        for keys, values, n in self.chunks(delete=delete):
            for i in range(n):
                yield keys[i * k : i * k + k], values[i * v : i * v + v]

    def view(self, *, writable: bool = False) -> mmap.mmap:
        """The memory of an array made with BPF_F_MMAPABLE (``.data``, ``.bss``): no system call per access.

        Since 5.5.
        """
        size = ((self.value_size + 7) & ~7) * self.max_entries
        return bpf.map_memory(self.fd, (size + _PAGE - 1) // _PAGE * _PAGE, writable=writable)

    def memory(self) -> int:
        """Bytes of kernel memory that the map takes; 0 if the kernel does not tell."""
        try:
            with open(f"/proc/self/fdinfo/{self.fd}", encoding="ascii") as file:
                for line in file:
                    if line.startswith("memlock:"):
                        return int(line[8:])
        except (OSError, ValueError):
            pass
        return 0

    def close(self) -> None:
        """Close the fd; the kernel frees the map with its last user."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _parts(items: list[Any], size: int) -> Iterator[list[Any]]:
    """``items`` in batches of a bounded number of bytes."""
    count = max(1, min(_BATCH_COUNT, _BATCH_BYTES // max(1, size)))
    for at in range(0, len(items), count):
        yield items[at : at + count]


def create(spec: MapSpec, *, btf_fd: int = 0, max_entries: int = 0, prefix: str = "") -> LiveMap:
    """Create the map of ``spec``, fill and freeze it as its contents and flags say.

    ``max_entries`` overrides the spec's.  Sizes are put right where there is
    only one right answer (ring buffers: a power of two of pages; perf event
    arrays: the number of possible CPUs).  NotPermitted, NotSupported.
    """
    entries = max_entries or spec.max_entries
    if spec.type in _RINGS:
        entries = proc.ring_size(entries)
    elif spec.type == consts.BPF_MAP_TYPE_PERF_EVENT_ARRAY and not entries:
        entries = cpus.slots()
    kernel_name = prefix[: 15 - len(spec.name)] + spec.name if spec.name.startswith(".") else spec.name
    inner = create(spec.inner, btf_fd=btf_fd) if spec.inner is not None else None
    try:
        fd = _create(spec, kernel_name, entries, btf_fd, inner.fd if inner else 0)
    finally:
        if inner:
            inner.close()
    live = LiveMap(fd, spec.name, spec.type, spec.key_size, spec.value_size, entries, spec.flags)
    live.inner = spec.inner
    if spec.contents is not None:
        try:
            live.update(bytes(4), bytes(spec.contents))
            if spec.flags & consts.BPF_F_RDONLY_PROG and not features.off("freeze"):
                bpf.map_freeze(fd)
        except OSError as e:
            live.close()
            raise _failed(spec, e) from None
    return live


def _create(spec: MapSpec, name: str, entries: int, btf_fd: int, inner_fd: int) -> int:
    typed = btf_fd and spec.type in _TYPED
    key_size, value_size = (0, 0) if spec.type in _RINGS else (spec.key_size, spec.value_size)

    def attempt(with_btf: bool) -> int:
        return bpf.map_create(
            spec.type, key_size, value_size, entries, name=name, flags=spec.flags, inner_fd=inner_fd,
            numa_node=spec.numa_node, btf_fd=btf_fd if with_btf else 0, key_tid=spec.key_tid, value_tid=spec.value_tid,
            extra=spec.extra,
        )  # fmt: skip

    try:
        return attempt(bool(typed))
    except OSError as e:
        # Older kernels know fewer kinds of BTF; only storage maps cannot do without.
        if not typed or spec.type in _STORAGE or e.errno not in (errno.EINVAL, errno.ENOTSUP, bpf.ENOTSUPP):
            raise _failed(spec, e) from None
    try:
        return attempt(False)
    except OSError as e:
        raise _failed(spec, e) from None


def _failed(spec: MapSpec, cause: OSError) -> UserError:
    where = f"map {spec.name}"
    if cause.errno == errno.EPERM:
        from osmia.kernel import caps  # error paths only: keeps it out of a warm start

        return caps.refused("create a map", cause, where=where)
    if cause.errno == errno.ENOMEM or cause.errno == errno.E2BIG:
        return UserError(f"too big for this machine ({cause.strerror})", where=where, fix="give it fewer entries")
    if spec.type in _RINGS and not features.has("ringbuf"):
        return NotSupported("this kernel has no BPF ring buffer (5.8 brought it)", where=where)
    return NotSupported(f"the kernel refuses a map of this kind ({cause.filename}: {cause.strerror})", where=where)
