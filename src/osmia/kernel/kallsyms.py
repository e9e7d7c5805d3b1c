# SPDX-License-Identifier: Apache-2.0
"""``/proc/kallsyms``: addresses of the kernel's functions, and names of addresses.

Reading it takes the kernel some 0.1 s, so it is read only when an address is
wanted: for functions that exist several times, for many functions at once,
and for names of addresses that a program recorded.
"""

from __future__ import annotations

from osmia.errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

PATH = "/proc/kallsyms"
#: Types of symbols that are code (nm's letters).
CODE = b"tTwW"
#: Padding in front of functions (x86 with call thunks, since 6.2) has symbols of its own.
_PADDING = "__pfx_"
_ENDS = (b"_etext", b"_einittext")

_text: bytes | None = None
_ends: tuple[int, int, int] | None = None
_sorted: tuple[list[int], list[bytes]] | None = None


class Symbol:
    """One symbol: ``address`` (0 where the kernel hides it), ``name``, ``module`` (empty: the kernel itself)."""

    __slots__ = ("address", "module", "name")

    def __init__(self, name: str, address: int, module: str) -> None:
        self.name = name
        self.address = address
        self.module = module

    def __repr__(self) -> str:
        return f"<Symbol {self.name} {self.address:#x}{' ' + self.module if self.module else ''}>"


def refresh() -> None:
    """Forget what was read: a module may have come or gone since."""
    global _text, _ends, _sorted
    _text = _ends = _sorted = None


def read() -> bytes:
    """The file as it is now.  UserError where it cannot be read."""
    try:
        with open(PATH, "rb", buffering=0) as file:
            return file.readall()
    except OSError as e:
        raise UserError(f"cannot read the kernel's symbols: {e.strerror}", where=PATH) from None


def text() -> bytes:
    """The file as it was when it was first read; kept until :func:`refresh`.  UserError where it cannot be read."""
    global _text
    if _text is None:
        _text = read()
    return _text


def hidden() -> bool:
    """Whether the kernel shows us zeros instead of addresses (kernel.kptr_restrict, or no CAP_SYSLOG)."""
    return not int(text()[:16].split(b" ", 1)[0] or b"0", 16) and b"\n0000000000000000 T " in text()[:65536]


def _symbol(line: bytes) -> tuple[Symbol, int] | None:
    """``(symbol, type letter)`` of a line; None where it is no symbol."""
    parts = line.split(None, 3)
    if len(parts) < 3:
        return None
    module = parts[3].strip(b"[]\n").decode() if len(parts) > 3 else ""
    return Symbol(parts[2].decode("ascii", "replace"), int(parts[0], 16), module), parts[1][0]


def _is_code(symbol: Symbol, letter: int) -> bool:
    """Whether a symbol is a function: by its letter, and for the kernel itself by where it is.

    The letter alone will not do: of 7.2 as Debian's binutils 2.47 link it,
    ``init_task`` and many other variables have a T.
    """
    if letter not in CODE:
        return False
    if symbol.module or not symbol.address:
        return True
    global _ends
    if _ends is None:
        _ends = _address(b"_etext"), _address(b"_sinittext"), _address(b"_einittext")
    end, init, init_end = _ends
    return not end or symbol.address < end or init <= symbol.address < init_end


def _address(name: bytes) -> int:
    """The address of one of the linker's own symbols; 0 if it is not listed."""
    data = text()
    at = data.find(b" " + name + b"\n")
    start = data.rfind(b"\n", 0, at) + 1
    return int(data[start : start + 16], 16) if at >= 0 else 0


def find(name: str) -> tuple[list[Symbol], list[Symbol]]:
    """``(code, data)`` symbols called exactly ``name``; ``module:name`` looks in that module only."""
    module, _, plain = name.rpartition(":")
    data = text()
    code: list[Symbol] = []
    other: list[Symbol] = []
    needle = b" " + plain.encode()
    at = data.find(needle)
    while at >= 0:
        end = at + len(needle)
        if data[end : end + 1] in (b"\n", b"\t"):
            found = _symbol(data[data.rfind(b"\n", 0, at) + 1 : data.find(b"\n", end)])
            if found is not None and (not module or found[0].module == module):
                (code if _is_code(*found) else other).append(found[0])
        at = data.find(needle, end)
    return code, other


def variants(name: str) -> list[Symbol]:
    """What the compiler made of a function: ``name.isra.0``, ``name.constprop.0``, ``name.part.0``, ``name.cold`` …"""
    data = text()
    out = []
    needle = b" " + name.rpartition(":")[2].encode() + b"."
    at = data.find(needle)
    while at >= 0:
        end = data.find(b"\n", at)
        found = _symbol(data[data.rfind(b"\n", 0, at) + 1 : end])
        if found is not None and _is_code(*found):
            out.append(found[0])
        at = data.find(needle, at + 1)
    return out


def code() -> list[Symbol]:
    """Every function, in the file's order; some 0.2 s."""
    out = []
    for line in text().splitlines():
        found = _symbol(line) if line[17:18] in (b"t", b"T", b"w", b"W") else None
        if found is not None and _is_code(*found) and not found[0].name.startswith(_PADDING):
            out.append(found[0])
    return out


def addresses(names: Collection[str]) -> dict[str, list[Symbol]]:
    """Code symbols by name, for many names at once."""
    wanted = {name.encode() for name in names}
    out: dict[str, list[Symbol]] = {}
    for line in text().splitlines():
        parts = line.split(None, 3)
        if len(parts) >= 3 and parts[2] in wanted and parts[1] in (b"t", b"T", b"w", b"W"):
            found = _symbol(line)
            if found is not None:
                out.setdefault(found[0].name, []).append(found[0])
    return out


def repeated() -> set[str]:
    """Names that several functions of the kernel itself share (static ones in different files)."""
    seen: set[bytes] = set()
    twice: set[bytes] = set()
    for line in text().splitlines():
        if line[17:18] in (b"t", b"T", b"w", b"W") and b"\t" not in line:
            name = line[19:]
            if name in seen:
                twice.add(name)
            seen.add(name)
    return {name.decode("ascii", "replace") for name in twice}


def _index() -> tuple[list[int], list[bytes]]:
    global _sorted
    if _sorted is None:
        # Data, and the marks at the end of sections, end the function before them and have no name here.
        rows = []
        for line in text().splitlines():
            code = line[17:18] in (b"t", b"T", b"w", b"W") and line[19:] not in _ENDS
            rows.append((int(line[:16], 16), line[19:] if code else b""))
        rows.sort()
        _sorted = [address for address, _ in rows], [name for _, name in rows]
    return _sorted


def symbol(address: int) -> str:
    """Name of the function at a kernel address: ``vfs_read``, ``vfs_read+0x1c``, ``dummy_xmit [dummy]``.

    The address as text where no function is known there.  For many addresses
    and for whole stacks see :class:`osmia.symbols.ksyms.Ksyms`.
    """
    from bisect import bisect_right

    starts, names = _index()
    at = bisect_right(starts, address) - 1
    if address <= 0 or at < 0 or not starts[at] or not names[at] or address - starts[at] > 1 << 20:
        return f"{address:#x}"
    name = names[at].decode("ascii", "replace").replace("\t", " ")
    offset = address - starts[at]
    if not offset:
        return name
    plain, _, module = name.partition(" ")
    return f"{plain}+{offset:#x}{' ' + module if module else ''}"
