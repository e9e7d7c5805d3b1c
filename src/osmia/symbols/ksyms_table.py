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
    from osmia.kernel.modules import Module

_HEADER = struct.Struct("<IIQII")  # bytes of the key, 0, base, number of addresses, bytes of names
#: For each type letter: whether it is code.
_CODE = bytes(chr(c) in "tTwW" for c in range(256))
#: Marks of the linker script: they end what is before them, and are no functions.
_MARKS = (b"_text", b"_stext", b"_etext", b"_sinittext", b"_einittext", b"_end", b"__init_begin", b"__init_end",
          b"__pi__text", b"__pi__stext")  # fmt: skip
_MARK_ENDS = (b"_text_start\n", b"_text_end\n")
#: What kallsyms calls the modules of code that is made at run time.
_MADE = (b"\t[bpf]", b"\t[__builtin__")


class Table:
    """The kernel and its modules: sorted addresses of all symbols, and where in ``text`` the name of each is.

    0 means no function.  An entry ends where the next begins.
    ``base`` is the address of the kernel's first function.
    """

    __slots__ = ("_first", "base", "names", "starts", "text")

    def __init__(
        self, starts: array[int] | memoryview[int], names: array[int] | memoryview[int], text: bytes, base: int,
        first: int = 0,
    ) -> None:  # fmt: skip
        self.starts = starts
        self.names = names
        self.text = text
        self.base = base
        self._first = first  # byte of text that offset 0 is

    @property
    def memory(self) -> int:
        """Memory taken."""
        return len(self.starts) * (self.starts.itemsize + self.names.itemsize) + len(self.text) - self._first

    def at(self, address: int) -> tuple[bytes, int] | None:
        """``(name, start)`` of the function that covers an address; of one in a module, ``name\\tmodule``."""
        n = bisect_right(self.starts, address) - 1
        if n < 0 or n + 1 >= len(self.starts) or not self.names[n]:
            return None
        at = self.names[n] + self._first
        return self.text[at : self.text.find(b"\0", at)], self.starts[n]


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
    text = table.text[table._first :]
    header = _HEADER.pack(len(key), 0, table.base, len(table.starts), len(text))
    return b"".join([header, key, table.starts.tobytes(), table.names.tobytes(), text])


def unpack(raw: bytes | None, key: bytes) -> Table | None:
    """The table, if it was kept under that very key; it lies in ``raw``, so that nothing of it is copied."""
    if raw is None or len(raw) < _HEADER.size:
        return None
    key_size, _, base, count, size = _HEADER.unpack_from(raw)
    at = _HEADER.size + key_size
    if raw[_HEADER.size : at] != key or len(raw) != at + 12 * count + size:
        return None
    view = memoryview(raw)
    starts = view[at : at + 8 * count].cast("Q")
    names = view[at + 8 * count : at + 12 * count].cast("I")
    return Table(starts, names, raw, base, at + 12 * count)
