# SPDX-License-Identifier: Apache-2.0
"""The maps beyond dictionaries that hold plain values: prefixes, queues, stacks, sets.

As with :mod:`osmia.lang.maps` one object serves the kernel half, the user
half (over the live map) and, where functions run as plain Python, stands for
the map itself.
"""

from __future__ import annotations

import sys

from osmia.lang.builtins import machine
from osmia.lang.codec import decoder, encode
from osmia.lang.maps import DEFAULT_ENTRIES, Map, MapBase, _MapType, _name, _plain
from osmia.lang.types import Bytes, size_align, u32, zero

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# BPF_MAP_TYPE_* (include/uapi/linux/bpf.h)
LRU_PERCPU_HASH, LPM_TRIE, QUEUE, STACK, BLOOM_FILTER = 10, 11, 22, 23, 30
F_NO_PREALLOC = 1


class LruPerCpuHash(Map):
    """BPF_MAP_TYPE_LRU_PERCPU_HASH (4.10): per-CPU values that make room by age; numbers are summed when read.

    Example::

        recent = LruPerCpuHash[u32, u64](1024)

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            recent[current.tgid] += 1
    """

    map_type = LRU_PERCPU_HASH
    percpu = True


# --------------------------------------------------------------------------
# Longest prefix


class LpmTrie(Map):
    """``LpmTrie[K, V](max_entries=10240)``: the longest matching prefix: BPF_MAP_TYPE_LPM_TRIE (4.11).

    ``K`` is ``u32`` (an IPv4 address as the kernel holds it, ``__be32``) or
    ``Bytes[n]`` (``Bytes[16]``: IPv6).  In kernel functions ``t.get(addr)``,
    ``t[addr]`` and ``addr in t`` look for the longest prefix that ``addr``
    begins with, ``t[addr] += n`` adds to that entry (and to none where no
    prefix matches: ``0.0.0.0/0`` catches the rest), ``t[addr, bits] = v``
    sets one.  On the user side keys are texts, ``t["10.0.0.0/8"] = 1``, or
    ``(data, bits)``; ``del`` wants the exact prefix, reading the longest.

    Example::

        nets = LpmTrie[u32, u64](64)
        nets["127.0.0.0/8"] = nets["127.0.0.0/30"] = 0

        @tracepoint("syscalls:sys_enter_connect")
        def connect(call):
            nets[read_user(call.uservaddr, u32, 1)] += 1  # struct sockaddr_in: the address is the second word
    """

    map_type = LPM_TRIE
    flags = F_NO_PREALLOC
    data: Any = None

    @classmethod
    def typed(cls, types: Any) -> type[Map]:
        made = super().typed(types)
        data = made.key
        if data is not u32 and not (isinstance(data, type) and issubclass(data, Bytes)):
            raise TypeError("the key of an LpmTrie is u32 or Bytes[n]")
        made.data = data  # type: ignore[attr-defined]
        made.key = (u32, data)  # struct bpf_lpm_trie_key: the number of bits, then the bits
        return made

    @property
    def bits(self) -> int:
        """The length of a whole key in bits."""
        return 8 * int(size_align(self.data)[0])

    def prefix(self, key: Any) -> tuple[bytes, int]:
        """A key in any of its forms as bytes (as in memory) and number of bits."""
        bits = self.bits
        if isinstance(key, tuple):
            key, bits = key
        elif isinstance(key, str):
            import socket

            text, _, length = key.partition("/")
            family = socket.AF_INET6 if ":" in text else socket.AF_INET
            try:
                key, bits = socket.inet_pton(family, text), int(length) if length else bits
            except (OSError, ValueError):
                raise ValueError(f"{key!r} is no address and no prefix") from None
            if len(key) * 8 != self.bits:
                raise ValueError(f"{text} has {len(key)} bytes, and keys here have {self.bits // 8}")
        raw = bytes(key) if isinstance(key, (bytes, bytearray)) else encode(self.data, key)
        if not 0 <= bits <= self.bits or len(raw) * 8 != self.bits:
            raise ValueError(f"a prefix has 0 to {self.bits} bits of {self.bits // 8} bytes")
        return raw, bits

    def shown(self, raw: bytes, bits: int) -> Any:
        """A key as the user side has it: text where it is an IP address, else ``(data, bits)``."""
        if len(raw) in (4, 16):
            import socket

            return f"{socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)}/{bits}"
        return raw, bits

    def _shown_key(self, raw: bytes) -> Any:
        """From the map's bytes; the kernel keeps the bits behind a prefix as they came, and they mean nothing."""
        bits = int.from_bytes(raw[:4], sys.byteorder)
        data = int.from_bytes(raw[4 : 4 + self.bits // 8], "big")
        return self.shown(*masked(data, min(bits, self.bits), self.bits))

    def _raw_key(self, key: Any) -> bytes:
        raw, bits = self.prefix(key)
        return (encode(u32, bits) + raw).ljust(size_align(self.key)[0], b"\0")

    def _codecs(self) -> Any:
        if self._codec is None:
            self._codec = self._shown_key, decoder(self.value)
        return self._codec

    # -- as plain Python

    def _best(self, key: Any) -> tuple[bytes, int] | None:
        raw, most = self.prefix(key)
        word = int.from_bytes(raw, "big")
        for bits in range(most, -1, -1):
            place = masked(word, bits, self.bits)
            if place in self._sim:
                return place
        return None

    def __getitem__(self, key: Any) -> Any:
        if self.live is not None:
            return super().__getitem__(key)
        best = self._best(key)
        return zero(self.value) if best is None else self._sim[best]

    def __setitem__(self, key: Any, value: Any) -> None:
        if self.live is not None:
            super().__setitem__(key, value)
            return
        raw, bits = self.prefix(key)
        if not isinstance(key, (tuple, str)):  # `t[addr] += n`: to the longest prefix, if there is one
            best = self._best(key)
            if best is not None:
                self._sim[best] = value
            return
        self._sim[masked(int.from_bytes(raw, "big"), bits, self.bits)] = value

    def __delitem__(self, key: Any) -> None:
        if self.live is not None:
            super().__delitem__(key)
            return
        raw, bits = self.prefix(key)
        self._sim.pop(masked(int.from_bytes(raw, "big"), bits, self.bits), None)

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) if self.live is not None else self._best(key) is not None

    def get(self, key: Any, default: Any = None) -> Any:
        if self.live is not None:
            return super().get(key, default)
        best = self._best(key)
        return default if best is None else self._sim[best]

    def __iter__(self) -> Iterator[Any]:
        if self.live is not None:
            return super().__iter__()
        return iter([self.shown(raw, bits) for raw, bits in self._sim])

    def items(self) -> Any:
        if self.live is not None:
            return super().items()
        return [(self.shown(raw, bits), value) for (raw, bits), value in self._sim.items()]


def masked(word: int, bits: int, width: int) -> tuple[bytes, int]:
    """The first ``bits`` of the ``width`` bits of ``word``, as bytes with the rest zero."""
    keep = word >> (width - bits) << (width - bits)
    return keep.to_bytes(width // 8, "big"), bits


# --------------------------------------------------------------------------
# Maps without keys


class Keyless(MapBase, metaclass=_MapType):
    """Base of the maps that hold values and no keys."""

    value: Any = None

    def __init__(self, max_entries: int = DEFAULT_ENTRIES) -> None:
        super().__init__()
        if self.value is None:
            raise TypeError(f"{type(self).__name__} needs a type: {type(self).__name__}[u64](100)")
        if not isinstance(max_entries, int) or max_entries < 1:
            raise TypeError(f"max_entries is a number from 1, not {max_entries!r}")
        self.max_entries = max_entries
        self._values: list[Any] = []

    def _put(self, value: Any) -> None:
        """One value into the live map; UserError where it is full."""
        assert self.live is not None
        self.live.update(b"", encode(self.value, value))

    def fill(self) -> None:
        for value in self._values:
            self._put(value)

    @classmethod
    def typed(cls, types: Any) -> type[Keyless]:
        """The subclass for a type of value."""
        value = _plain(types)
        size_align(value)
        return type(f"{cls.__name__}[{_name(value)}]", (cls,), {"value": value})


class Queue(Keyless):
    """``Queue[V](max_entries)``: first in, first out: BPF_MAP_TYPE_QUEUE (4.20).

    ``q.push(v)`` (False, and counted as lost, where it is full; with
    ``overwrite=True`` given to the queue the oldest makes room), ``q.pop()``
    and ``q.peek()``, which are None where it is empty.

    Example::

        last = Queue[u32](16, overwrite=True)

        @tracepoint("sched:sched_process_exit")
        def gone(record):
            last.push(current.pid)
    """

    map_type = QUEUE
    newest_first = False

    def __init__(self, max_entries: int = DEFAULT_ENTRIES, *, overwrite: bool = False) -> None:
        super().__init__(max_entries)
        self.overwrite = overwrite

    def push(self, value: Any) -> bool:
        """Append; whether there was room."""
        if self.live is not None:
            from osmia.errors import UserError

            try:
                self.live.update(b"", encode(self.value, value), 2 if self.overwrite else 0)  # BPF_EXIST
            except UserError:
                return False
            return True
        if len(self._values) >= self.max_entries:
            if not self.overwrite:
                machine.lost[self.name or "queue"] = machine.lost.get(self.name or "queue", 0) + 1
                return False
            del self._values[0]
        self._values.append(value)
        return True

    def pop(self) -> Any:
        """Take the next one out; None where there is none."""
        if self.live is not None:
            raw = self.live.pop(b"")  # type: ignore[attr-defined]
            return None if raw is None else decoder(self.value)(raw)
        return self._values.pop(-1 if self.newest_first else 0) if self._values else None

    def peek(self) -> Any:
        """The next one, which stays; None where there is none."""
        if self.live is not None:
            raw = self.live.lookup(b"")
            return None if raw is None else decoder(self.value)(raw)
        return self._values[-1 if self.newest_first else 0] if self._values else None

    def drain(self) -> list[Any]:
        """Take everything out."""
        out: list[Any] = []
        while (value := self.pop()) is not None:
            out.append(value)
        return out


class Stack(Queue):
    """``Stack[V](max_entries)``: last in, first out: BPF_MAP_TYPE_STACK (4.20); otherwise as :class:`Queue`.

    Example::

        ids = Stack[u32](64)

        @tracepoint("sched:sched_process_exit")
        def gone(record):
            ids.push(current.pid)
    """

    map_type = STACK
    newest_first = True


class Bloom(Keyless):
    """``Bloom[V](max_entries, hashes=5)``: a set in little memory: BPF_MAP_TYPE_BLOOM_FILTER (5.16).

    ``b.add(v)`` and ``v in b``; what was added is always found, and with
    ``max_entries`` added about one in ``2**hashes`` others is, too.  Nothing
    can be removed.  Run as plain Python it is an exact set.

    Example::

        seen = Bloom[u32](10_000)
        news = Hash[u32, u64]()

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            if current.tgid not in seen:
                seen.add(current.tgid)
                news[current.tgid] += 1
    """

    map_type = BLOOM_FILTER

    def __init__(self, max_entries: int = DEFAULT_ENTRIES, *, hashes: int = 5) -> None:
        super().__init__(max_entries)
        if not 1 <= hashes <= 15:
            raise TypeError("hashes is from 1 to 15")
        self.extra = hashes

    def add(self, value: Any) -> None:
        """Put ``value`` into the set."""
        if self.live is not None:
            self._put(value)
        elif value not in self._values:
            self._values.append(value)

    def __contains__(self, value: object) -> bool:
        if self.live is not None:
            return bool(self.live.contains(encode(self.value, value)))  # type: ignore[attr-defined]
        return value in self._values
