# SPDX-License-Identifier: Apache-2.0
"""Maps: dictionaries that both halves share.

In kernel functions a map reads like a :class:`collections.Counter`: a key
that is missing reads as zero, ``m[k] += n`` is atomic and creates the key,
``m.get(k)`` and ``m.pop(k)`` give None for a missing key.  On the user side
the same object is a mutable mapping over the live map; before a program is
loaded, and when kernel functions run as plain Python, it is backed by a
dictionary.
"""

from __future__ import annotations

from _collections_abc import MutableMapping
from abc import ABCMeta

from osmia.lang.codec import decoder, encode
from osmia.lang.types import Event, size_align, zero

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Protocol

    class Live(Protocol):
        """What a live map offers to the objects here (see :class:`osmia.load.map.LiveMap`)."""

        ncpus: int

        def lookup(self, key: bytes) -> bytes | None: ...
        def update(self, key: bytes, value: bytes, flags: int = 0) -> None: ...
        def delete(self, key: bytes) -> bool: ...
        def items(self) -> Iterator[tuple[bytes, bytes]]: ...
        def items_and_delete(self) -> Iterator[tuple[bytes, bytes]]: ...
        def update_many(self, pairs: list[tuple[bytes, bytes]]) -> None: ...
        def delete_many(self, keys: list[bytes]) -> int: ...
        def close(self) -> None: ...


# BPF_MAP_TYPE_* numbers (include/uapi/linux/bpf.h), spelled here because lang may be used without any kernel.
HASH, ARRAY, PERCPU_HASH, PERCPU_ARRAY, LRU_HASH, RINGBUF = 1, 2, 5, 6, 9, 27

DEFAULT_ENTRIES = 10240


class MapBase:
    """What every map has: ``name`` (the variable's, filled in when its module is assembled), kernel type, size."""

    map_type = 0
    #: BPF_F_* flags of its creation, and the word that some kinds take besides.
    flags = 0
    extra = 0
    #: Whether the map is kept in bpffs under its name: see :func:`pinned`.
    pinned = False

    def __init__(self) -> None:
        self.name = ""
        self.live: Live | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name or '(unnamed)'}>"

    def fill(self) -> None:
        """Put what was set before there was a live map into it; nothing for maps that cannot be set in advance."""


class _MapType(ABCMeta):
    """Metaclass: ``Hash[u32, u64]`` is a subclass of ``Hash`` with key and value types."""

    def __getitem__(cls, types: Any) -> Any:
        return cls.typed(types)  # type: ignore[attr-defined]


class Map(MapBase, MutableMapping, metaclass=_MapType):  # type: ignore[type-arg]
    """Base of the maps that behave as dictionaries."""

    key: Any = None
    value: Any = None
    percpu = False

    def __init__(self, max_entries: int = DEFAULT_ENTRIES) -> None:
        super().__init__()
        if self.key is None or self.value is None:
            raise TypeError(f"{type(self).__name__} needs types: {type(self).__name__}[u32, u64]()")
        if not isinstance(max_entries, int) or max_entries < 1:
            raise TypeError(f"max_entries is a number from 1, not {max_entries!r}")
        self.max_entries = max_entries
        self._sim: dict[Any, Any] = {}
        self._codec: tuple[Any, Any] | None = None

    @classmethod
    def typed(cls, types: Any) -> type[Map]:
        """The subclass for a key and a value type."""
        if not isinstance(types, tuple) or len(types) != 2:
            raise TypeError(f"{cls.__name__}[key, value] takes two types")
        key, value = (_plain(t) for t in types)
        size_align(key), size_align(value)
        return type(f"{cls.__name__}[{_name(key)}, {_name(value)}]", (cls,), {"key": key, "value": value})

    # -- the mapping, on the user side ---------------------------------

    def _codecs(self) -> tuple[Callable[[bytes], Any], Callable[[bytes], Any]]:
        if self._codec is None:
            self._codec = decoder(self.key), decoder(self.value)
        return self._codec

    def _raw_key(self, key: Any) -> bytes:
        """The bytes of a key, as the kernel has them."""
        return encode(self.key, key)

    def _raw_value(self, value: Any) -> bytes:
        """The bytes of a value; per-CPU maps get it on every CPU."""
        raw = encode(self.value, value)
        if self.percpu and self.live is not None:
            raw = raw.ljust((len(raw) + 7) // 8 * 8, b"\0") * self.live.ncpus
        return raw

    def _fold(self, raw: bytes) -> Any:
        """One value from the kernel's bytes; per-CPU values are summed where they are numbers, else listed."""
        read = self._codecs()[1]
        if not self.percpu or self.live is None:
            return read(raw)
        size = size_align(self.value)[0]
        step = len(raw) // self.live.ncpus
        values = [read(raw[at : at + size]) for at in range(0, len(raw), step)]
        if isinstance(values[0], int) and not isinstance(values[0], bool):
            return sum(values)
        return values

    def __getitem__(self, key: Any) -> Any:
        if self.live is None:
            if key not in self._sim:
                if isinstance(self.value, type) and issubclass(self.value, Event):
                    self._sim[key] = zero(self.value)  # a structure is created when it is reached for
                    return self._sim[key]
                return zero(self.value)
            return self._sim[key]
        raw = self.live.lookup(self._raw_key(key))
        if raw is None:
            raise KeyError(key)
        return self._fold(raw)

    def __setitem__(self, key: Any, value: Any) -> None:
        if self.live is None:
            self._sim[key] = value
            return
        self.live.update(self._raw_key(key), self._raw_value(value))

    def __delitem__(self, key: Any) -> None:
        if self.live is None:
            self._sim.pop(key, None)
        elif not self.live.delete(self._raw_key(key)):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        if self.live is None:
            return key in self._sim
        return self.live.lookup(self._raw_key(key)) is not None

    def __iter__(self) -> Iterator[Any]:
        if self.live is None:
            return iter(list(self._sim))
        read = self._codecs()[0]
        return (read(key) for key, _ in self.live.items())

    def __len__(self) -> int:
        return len(self._sim) if self.live is None else sum(1 for _ in self.live.items())

    def items(self) -> Any:
        """``(key, value)`` pairs, read in batches where the kernel can."""
        if self.live is None:
            return self._sim.items()
        read = self._codecs()[0]
        return [(read(key), self._fold(value)) for key, value in self.live.items()]

    def get(self, key: Any, default: Any = None) -> Any:
        if self.live is None:
            return self._sim.get(key, default)
        try:
            return self[key]
        except KeyError:
            return default

    def pop(self, key: Any, default: Any = None) -> Any:
        """Remove ``key`` and return its value, or ``default`` (a missing key is no error, as in the kernel half)."""
        if self.live is None:
            return self._sim.pop(key, default)
        value = self.get(key, default)
        self.live.delete(self._raw_key(key))
        return value

    def clear(self) -> None:
        """Remove everything; what is counted meanwhile may go with it: :meth:`take` and snapshots lose nothing."""
        if self.live is None:
            self._sim.clear()
            return
        read = self._codecs()[0]
        self.delete_many([read(key) for key, _ in self.live.items()])

    def close(self) -> None:
        """Let a live map go that this object has for itself: one out of a map of maps, or opened by path or id."""
        live, self.live = self.live, None
        if live is not None:
            live.close()

    # -- many at once: one system call per some thousand elements where the kernel can (5.6), else one per element

    def fill(self) -> None:
        if self._sim:
            self.set_many(self._sim)

    def set_many(self, pairs: Any) -> None:
        """Set all of ``pairs`` (a mapping, or key and value pairs).  UserError when the map gets full on the way."""
        given = list(pairs.items() if hasattr(pairs, "items") else pairs)
        if self.live is None:
            self._sim.update(given)
            return
        self.live.update_many([(self._raw_key(key), self._raw_value(value)) for key, value in given])

    def delete_many(self, keys: Any) -> int:
        """Remove all of ``keys``; how many were there."""
        if self.live is None:
            return sum(self._sim.pop(key, self) is not self for key in keys)
        return self.live.delete_many([self._raw_key(key) for key in keys])

    def take(self) -> list[tuple[Any, Any]]:
        """Read everything and remove it, each element in one step: no count is lost in between.

        Where the kernel has no such step (hash maps before 5.6) an update
        between reading and removing is lost: use :meth:`snapshot` there.
        """
        if self.live is None:
            out = list(self._sim.items())
            self._sim.clear()
            return out
        read = self._codecs()[0]
        return [(read(key), self._fold(value)) for key, value in self.live.items_and_delete()]

    def snapshot(self) -> Any:
        """All entries as they are now: a :class:`osmia.lang.snapshots.Snapshot`, which can be subtracted."""
        from osmia.lang.snapshots import Snapshot

        return Snapshot(self.items())


def _plain(kind: Any) -> Any:
    """``tuple[u32, Comm]`` and ``(u32, Comm)`` are the same key type."""
    args = getattr(kind, "__args__", None)
    return tuple(args) if args is not None else kind


def _name(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))


class Hash(Map):
    """``Hash[K, V](max_entries=10240)``: BPF_MAP_TYPE_HASH (3.19).  Full: the update fails and is counted.

    Example::

        reads = Hash[u32, u64]()

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            reads[current.tgid] += 1
    """

    map_type = HASH


class LruHash(Map):
    """BPF_MAP_TYPE_LRU_HASH (4.10): when full, entries that were not used lately make room.

    Example::

        opened = LruHash[u32, u64](1024)

        @tracepoint("syscalls:sys_enter_openat")
        def enter(call):
            opened[current.tgid] = ktime()  # of each process, its last one
    """

    map_type = LRU_HASH


class PerCpuHash(Map):
    """BPF_MAP_TYPE_PERCPU_HASH (4.6): one value per CPU; numbers are summed when read.

    Example::

        asked = PerCpuHash[u32, u64]()

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            asked[current.tgid] += call.count
    """

    map_type = PERCPU_HASH
    percpu = True


class Array(Map):
    """``Array[V](n)``: ``n`` values by index, zero at first: BPF_MAP_TYPE_ARRAY (3.19).

    Example::

        by_length = Array[u64](65)

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            by_length[fls(call.count)] += 1
    """

    map_type = ARRAY

    def __init__(self, max_entries: int = 1) -> None:
        super().__init__(max_entries)

    @classmethod
    def typed(cls, types: Any) -> type[Map]:
        from osmia.lang.types import u32

        value = _plain(types)
        size_align(value)
        return type(f"{cls.__name__}[{_name(value)}]", (cls,), {"key": u32, "value": value})

    def clear(self) -> None:
        """Set every element to zero."""
        if self.live is None:
            self._sim.clear()
        else:
            self.set_many([(at, zero(self.value)) for at in range(self.max_entries)])


class PerCpuArray(Array):
    """BPF_MAP_TYPE_PERCPU_ARRAY (4.6): per CPU ``n`` values by index; numbers are summed when read.

    Example::

        switches = PerCpuArray[u64](1)

        @tracepoint("sched:sched_switch")
        def switch(record):
            switches[0] += 1
    """

    map_type = PERCPU_ARRAY
    percpu = True


def pinned(item: Any) -> Any:
    """Keep a map in bpffs (``/sys/fs/bpf/NAME``): ``counts = pinned(Hash[u32, u64]())``.

    It outlives the run, and the next one goes on with what it holds; a map
    of another shape under that name is an error.  ``osmia.open_map`` reads
    it from elsewhere.

    Example::

        reads = pinned(Hash[u32, u64]())

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            reads[current.tgid] += 1
    """
    item.pinned = True
    return item


class Ring(MapBase):
    """``Ring(Event, size=4 MiB)``: events to the user side, in order: BPF_MAP_TYPE_RINGBUF (5.8).

    ``with ring.reserve() as e:`` fills in one event and sends it at the end
    of the block; where the ring is full the block is skipped and the loss
    counted.  ``size`` in bytes, a power of two.

    Example::

        class Start(Event):
            pid: u32
            comm: Comm

        starts = Ring(Start, 1 << 16)

        @tracepoint("sched:sched_process_exec")
        def executed(record):
            with starts.reserve() as e:
                e.pid, e.comm = current.tgid, current.comm
    """

    map_type = RINGBUF

    def __init__(self, event: type[Event], size: int = 4 << 20) -> None:
        super().__init__()
        if not (isinstance(event, type) and issubclass(event, Event)):
            raise TypeError("Ring takes an Event class: Ring(Open)")
        if size < 4096 or size & (size - 1):
            raise TypeError(f"the size of a ring is a power of two of at least 4096 bytes, not {size}")
        self.event = event
        self.max_entries = size
        self.sent: list[Event] = []

    def reserve(self) -> Reservation:
        """Room for one event; a context manager."""
        return Reservation(self)


class Reservation:
    """What ``Ring.reserve()`` gives when kernel functions run as plain Python."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    def __enter__(self) -> Any:
        self._event = self._ring.event()
        return self._event

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        if kind is None and not getattr(self._event, "discarded", False):
            self._ring.sent.append(self._event)
