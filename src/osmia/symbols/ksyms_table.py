# SPDX-License-Identifier: Apache-2.0
"""The kernel's symbols as sorted arrays: made of the text of ``/proc/kallsyms``, kept in the cache."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from itertools import accumulate, compress, repeat
from operator import add

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.kernel.cache import Entry
    from osmia.kernel.modules import Module

_HEADER = struct.Struct("<IIQII")  # bytes of the key, 0, base, number of addresses, bytes of names
#: For each type letter: whether it is code.
_CODE = bytes(chr(c) in "tTwW" for c in range(256))
#: Marks of the linker script: they end what is before them, and are no functions.
_MARKS = (b"_text", b"_stext", b"_etext", b"_sinittext", b"_einittext", b"_end", b"__init_begin", b"__init_end",
          b"__pi__text", b"__pi__stext")  # fmt: skip
_MARK_ENDS = (b"_text_start\n", b"_text_end\n")
#: Numbers that are read from the cache at once, and bytes that most names fit in.
_BLOCK, _NAME = 512, 64
#: What kallsyms calls the modules of code that is made at run time.
_MADE = (b"\t[bpf]", b"\t[__builtin__")


class Table:
    """The kernel and its modules: sorted addresses of all symbols, and where in ``text`` the name of each is.

    0 means no function.  An entry ends where the next begins.
    ``base`` is the address of the kernel's first function.
    """

    __slots__ = ("base", "names", "starts", "text")

    def __init__(self, starts: array[int] | Words, names: array[int] | Words, text: bytes | Text, base: int) -> None:
        self.starts = starts
        self.names = names
        self.text = text
        self.base = base

    @property
    def memory(self) -> int:
        """Memory taken."""
        return sum(part.memory if isinstance(part, (Words, Text)) else len(memoryview(part).cast("B"))
                   for part in (self.starts, self.names, self.text))  # fmt: skip

    def at(self, address: int) -> tuple[bytes, int] | None:
        """``(name, start)`` of the function that covers an address; of one in a module, ``name\\tmodule``."""
        n = bisect_right(self.starts, address) - 1
        if n < 0 or n + 1 >= len(self.starts):
            return None
        at = self.names[n]
        return (self._name(at), self.starts[n]) if at else None

    def _name(self, at: int) -> bytes:
        if isinstance(self.text, Text):
            return self.text.name(at)
        return self.text[at : self.text.find(b"\0", at)]

    def spans(self, address: int) -> bool:
        """Whether an address is between the first function and the last symbol."""
        n = len(self.starts)
        return bool(n) and max(self.base, self.starts[0]) <= address <= self.starts[n - 1]


class Words:
    """Numbers that stay in the cache's file: blocks of them are read where they are looked at, and kept.

    A search looks at 18 of 200,000, most of them the same each time; memory for all would be megabytes.
    """

    __slots__ = ("_at", "_blocks", "_code", "_count", "_entry", "_size")

    def __init__(self, entry: Entry, at: int, count: int, code: str) -> None:
        self._entry = entry
        self._at = at
        self._count = count
        self._code = code
        self._size = _BLOCK * struct.calcsize(code)
        self._blocks: dict[int, memoryview[int]] = {}

    @property
    def memory(self) -> int:
        """Memory taken."""
        return self._size * len(self._blocks)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, n: int) -> int:
        number = n // _BLOCK
        block = self._blocks.get(number)
        if block is None:
            left = min(_BLOCK, self._count - number * _BLOCK)
            raw = self._entry.read(self._at + number * self._size, left * self._size // _BLOCK)
            block = self._blocks[number] = memoryview(raw).cast(self._code)  # type: ignore[call-overload]
        return block[n % _BLOCK]


class Text:
    """Names that stay in the cache's file."""

    __slots__ = ("_at", "_entry", "_size")

    memory = 0

    def __init__(self, entry: Entry, at: int, size: int) -> None:
        self._entry = entry
        self._at = at
        self._size = size

    def name(self, at: int) -> bytes:
        """The bytes from ``at`` to the next NUL."""
        size = _NAME
        while b"\0" not in (raw := self._entry.read(self._at + at, min(size, self._size - at))) and size < self._size:
            size *= 8
        return raw.partition(b"\0")[0]


EMPTY = Table(array("Q"), array("I"), b"", 0)


def parse(text: bytes, loaded: dict[str, Module]) -> Table:
    """Arrays of a kallsyms file, without what was made at run time; EMPTY if it is something else.

    Of several names of one place the first stays: the file has the better
    ones first (``scripts/kallsyms.c``), and the kernel's own traces take it.
    """
    core = _start_of_line(text, text.find(b"\t["))
    words = text[:core].split()
    names = words[2::3]
    kinds = b"".join(words[1::3])
    try:
        addresses = list(map(int, words[0::3], repeat(16)))
    except ValueError:
        return EMPTY
    if not len(kinds) == len(addresses) == len(names):  # not three words on each line
        return EMPTY
    more = []
    for line in text[core : made_from(text)].splitlines():
        fields = line.split(None, 3)
        if len(fields) == 4 and len(fields[1]) == 1:
            addresses.append(int(fields[0], 16))
            names.append(fields[2] + b"\t" + fields[3].strip(b"[]\n"))
            more.append(fields[1])
    mask = (kinds + b"".join(more)).translate(_CODE)
    del words
    return _arrays(addresses, names, mask, _marks(text), loaded)


def _arrays(
    addresses: list[int], names: list[bytes], mask: bytes, marks: set[bytes], loaded: dict[str, Module]
) -> Table:  # fmt: skip
    places: dict[bytes, int] = {name: n for n, name in enumerate(names) if name in marks}
    found = {name: addresses[n] for name, n in places.items()}
    if marks:
        flags = bytearray(mask)
        for n in places.values():
            flags[n] = 0
        mask = bytes(flags)
    code = list(compress(names, mask))
    # Each name has a NUL before it: the lengths so far, and as many NULs as there are names so far.
    offsets = list(map(add, accumulate(map(len, code), initial=0), range(1, len(code) + 1)))
    known = dict.fromkeys(addresses, 0)
    at = list(compress(addresses, mask))
    at.reverse()
    offsets.reverse()
    known.update(zip(at, offsets, strict=True))  # the first name comes last, and stays
    known.pop(0, None)
    for module in loaded.values():
        if module.base:
            known.setdefault(module.base + module.size, 0)
    starts = sorted(known)
    numbers = array("I", map(known.__getitem__, starts))
    # The kernel gives the memory of its start-up code away.
    if b"_sinittext" in found and b"_einittext" in found:
        first, last = bisect_left(starts, found[b"_sinittext"]), bisect_right(starts, found[b"_einittext"])
        numbers[first:last] = array("I", bytes(4 * (last - first)))
    base = found.get(b"_stext") or found.get(b"_text") or 0
    return Table(array("Q", starts), numbers, b"\0" + b"\0".join(code) + b"\0", base)


def _marks(text: bytes) -> set[bytes]:
    """Names of the linker script's marks; compilers' clones of functions have other endings."""
    found = set(_MARKS)
    for ending in _MARK_ENDS:
        at = text.find(ending)
        while at >= 0:
            found.add(text[text.rfind(b" ", 0, at) + 1 : at + len(ending) - 1])
            at = text.find(ending, at + 1)
    return found


def _start_of_line(text: bytes, at: int) -> int:
    return text.rfind(b"\n", 0, at) + 1 if at >= 0 else len(text)


def made_from(text: bytes) -> int:
    """Where the lines of BPF programs, trampolines and the like begin: behind all modules."""
    found = [at for at in (text.find(mark) for mark in _MADE) if at >= 0]
    return _start_of_line(text, min(found)) if found else len(text)


def made(text: bytes) -> list[tuple[int, bytes]]:
    """``(address, name\\tmodule)`` of code that was made at run time, sorted."""
    rows = []
    for line in text[made_from(text) :].splitlines():
        fields = line.split(None, 3)
        if len(fields) == 4 and fields[1] in (b"t", b"T"):
            rows.append((int(fields[0], 16), fields[2] + b"\t" + fields[3].strip(b"[]\n").replace(b"__builtin__", b"")))
    return sorted(row for row in rows if row[0])


# --- in the cache -------------------------------------------------------------------------------------------------


def pack(table: Table, key: bytes) -> bytes:
    """The table as the cache keeps it; ``key`` says for which kernel, boot and modules it holds."""
    assert isinstance(table.starts, array) and isinstance(table.names, array) and isinstance(table.text, bytes)
    header = _HEADER.pack(len(key), 0, table.base, len(table.starts), len(table.text))
    return b"".join([header, key, table.starts.tobytes(), table.names.tobytes(), table.text])


def unpack(entry: Entry | None, key: bytes) -> Table | None:
    """The table, if it was kept under that very key; it stays in the cache's file."""
    if entry is None or entry.size < _HEADER.size:
        return None
    key_size, _, base, count, size = _HEADER.unpack(entry.read(0, _HEADER.size))
    at = _HEADER.size + key_size
    if key_size != len(key) or entry.size != at + 12 * count + size or entry.read(_HEADER.size, key_size) != key:
        return None
    starts, names = Words(entry, at, count, "Q"), Words(entry, at + 8 * count, count, "I")
    return Table(starts, names, Text(entry, at + 12 * count, size), base)
