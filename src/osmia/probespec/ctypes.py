# SPDX-License-Identifier: Apache-2.0
"""C's own types and the usual names for them: sizes on the 64-bit machines that BPF runs on."""

from __future__ import annotations

#: Words that make up a type of C itself.
WORDS = frozenset(("char", "short", "int", "long", "signed", "unsigned", "void", "_Bool", "bool"))
#: Words that say nothing about how many bytes there are.
QUALIFIERS = frozenset(("const", "volatile", "register", "__user", "__kernel", "__iomem", "__rcu", "restrict"))
TAGS = frozenset(("struct", "union", "enum"))
_LONG = (8, True)
#: Names that every kernel and libc give to integers: ``(bytes, signed)``.
_NAMES: dict[str, tuple[int, bool]] = {
    "size_t": (8, False), "ssize_t": _LONG, "off_t": _LONG, "loff_t": _LONG, "time_t": _LONG, "time64_t": _LONG,
    "ktime_t": _LONG, "ptrdiff_t": _LONG, "uintptr_t": (8, False), "intptr_t": _LONG, "ulong": (8, False),
    "uint": (4, False), "ushort": (2, False), "uchar": (1, False), "pid_t": (4, True), "uid_t": (4, False),
    "gid_t": (4, False), "mode_t": (4, False), "umode_t": (2, False), "dev_t": (4, False), "gfp_t": (4, False),
    "sector_t": (8, False), "blkcnt_t": (8, False), "ino_t": (8, False), "clock_t": _LONG, "clockid_t": (4, True),
    "socklen_t": (4, False), "dma_addr_t": (8, False), "phys_addr_t": (8, False), "key_t": (4, True),
    "sa_family_t": (2, False), "fmode_t": (4, False), "pgoff_t": (8, False), "wchar_t": (4, True),
}  # fmt: skip
for _bits in (8, 16, 32, 64):
    for _name in (f"u{_bits}", f"__u{_bits}", f"uint{_bits}_t", f"u_int{_bits}_t", f"__le{_bits}", f"__be{_bits}"):
        _NAMES[_name] = (_bits // 8, False)
    for _name in (f"s{_bits}", f"__s{_bits}", f"int{_bits}_t"):
        _NAMES[_name] = (_bits // 8, True)


def integer(kind: str) -> tuple[int, bool] | None:
    """``(bytes, signed)`` of an integer type as C spells it; None for what is none, or has a name of its own."""
    words = kind.split()
    if len(words) == 1 and words[0] in _NAMES:
        return _NAMES[words[0]]
    if not words or any(word not in WORDS for word in words) or "void" in words:
        return None
    if "_Bool" in words or "bool" in words:
        return 1, False
    signed = "unsigned" not in words
    if "char" in words:
        return 1, signed
    if "short" in words:
        return 2, signed
    return (8 if "long" in words else 4), signed


def is_type(name: str) -> bool:
    """Whether ``name`` alone begins the name of a type, whatever the program at hand knows."""
    return name in WORDS or name in QUALIFIERS or name in TAGS or name in _NAMES or name.endswith("_t")


def pointee(kind: str) -> str:
    """What a pointer type points to; empty for what is no pointer."""
    return kind[:-1].rstrip() if kind.endswith("*") else ""


def is_string(kind: str) -> bool:
    """Whether ``kind`` is ``char *``: a string."""
    return pointee(kind) in ("char", "signed char", "unsigned char")
