# SPDX-License-Identifier: Apache-2.0
"""Names of C++ and Rust functions as their authors wrote them.

The work is LLVM's: ``pycxxfilt`` (the extra ``osmia[symbols]``) brings its
demanglers, which read C++ and Rust's present scheme and are fuzzed by many;
libstdc++'s own is on few servers and knows no Rust.  Without that package
such names stay as they are in the file.  Only Rust's old scheme, which is
C++'s with a hash and ``$``-escapes in it, is read here.

What cannot be read is never an error: the answer is then the raw name.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Longer names are left alone: demanglers recurse, and nobody reads them.
LONGEST = 8192
#: What the escapes of Rust's old scheme stand for (rustc's ``symbol_names/legacy.rs``).
_ESCAPES = {"SP": "@", "BP": "*", "RF": "&", "LT": "<", "GT": ">", "LP": "(", "RP": ")", "C": ","}
_HASH_LENGTH = 17  # "h" and sixteen hexadecimal digits

_library: Callable[[str], str | None] | None = None
_looked = False


def available() -> bool:
    """Whether C++ names and Rust's present scheme can be read."""
    return _demangler() is not None


def _demangler() -> Callable[[str], str | None] | None:
    global _library, _looked
    if not _looked:
        _looked = True
        try:
            from pycxxfilt import demangle
        except ImportError:
            return None
        _library = demangle
    return _library


def is_mangled(name: str) -> bool:
    """Whether ``name`` looks like C++'s or Rust's scheme."""
    return name.startswith(("_Z", "_R", "__Z"))


def name(raw: str) -> str:
    """The readable form of ``raw``; ``raw`` itself where there is none."""
    if raw[:1] != "_" or len(raw) > LONGEST or not is_mangled(raw):
        return raw
    if raw.startswith("_ZN"):
        at = raw.find("E.")  # what LLVM appends: .llvm.1234
        found = old_rust(raw[: at + 1] if at >= 0 else raw)
        if found is not None:
            return found
    reader = _demangler()
    if reader is None:
        return raw
    try:
        return reader(raw) or raw
    except (ValueError, UnicodeError):  # no such name, or one with bytes that are no text
        return raw


def old_rust(raw: str) -> str | None:
    """The path in a name of Rust's old scheme, without its hash; None if it is no such name.

    ``_ZN4core3fmt5write17h0123456789abcdefE`` is ``core::fmt::write``.
    """
    parts = []
    at = 3
    while at < len(raw) and raw[at] != "E":
        digits = at
        while at < len(raw) and raw[at].isascii() and raw[at].isdigit():
            at += 1
        if at == digits or at - digits > 5:
            return None
        end = at + int(raw[digits:at])
        if end > len(raw):
            return None
        parts.append(raw[at:end])
        at = end
    if at != len(raw) - 1 or len(parts) < 2 or not _is_hash(parts[-1]):
        return None
    return "::".join([_unescape(part) for part in parts[:-1]])


def _is_hash(text: str) -> bool:
    return len(text) == _HASH_LENGTH and text[0] == "h" and all(c in "0123456789abcdef" for c in text[1:])


def _unescape(text: str) -> str:
    if text.startswith("_$"):
        text = text[1:]
    out = []
    pieces = text.split("$")
    for n, piece in enumerate(pieces):
        if n % 2 == 0 or n == len(pieces) - 1:
            out.append((piece if n % 2 == 0 else "$" + piece).replace("..", "::"))
        elif piece in _ESCAPES:
            out.append(_ESCAPES[piece])
        else:
            out.append(_character(piece))
    return "".join(out)


def _character(escape: str) -> str:
    """``u7b`` is ``{``; anything else stays as it was written."""
    try:
        code = int(escape[1:], 16) if escape[:1] == "u" else -1
        found = chr(code) if code > 31 else ""
    except (ValueError, OverflowError):
        found = ""
    return found or f"${escape}$"
