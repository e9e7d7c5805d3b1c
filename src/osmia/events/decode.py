# SPDX-License-Identifier: Apache-2.0
"""Ring buffer spans to rows, in bulk.

A span is what :meth:`osmia.events.ring.Ring.take` hands over: whole records,
each with the kernel's 8-byte header (length and flags, page offset) and
padded to 8 bytes.  Per event there is room for about one microsecond, which
is a handful of Python operations; so the code that takes a record apart is
generated for the event's layout and the fields that are wanted, names are
decoded through dictionaries (they repeat), and a span whose records all have
one length goes through :meth:`struct.Struct.iter_unpack`, which is a third
of the price of walking it.

Tails of variable length: a ``Str`` ends with its NUL, and fills the type's
size exactly when it was cut; ``Strs`` and ``Path`` have before them a u32
with the number of strings, bit 31 set when some were cut, ``Data`` one with
the number of bytes.
"""

from __future__ import annotations

import struct

from osmia.lang.codec import converter, struct_code
from osmia.lang.types import Bytes, Comm, Data, Path, Str, has_count
from osmia.views.escape import escape, escape_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from osmia.lang.types import Event, Field, Layout

#: Bits of the length word in a record's header (BPF_RINGBUF_DISCARD_BIT, 5.8; the busy bit never gets here).
DISCARD = 1 << 30
#: What follows a text that did not fit.
CUT = "..."
_CUT_STRINGS = 1 << 31
_U32 = struct.Struct("<I")
_NUL = b"\0"
#: The count word of a tail with one string, which was not cut: an absolute path.
_ONE = b"\1\0\0\0"


class Texts(dict):  # type: ignore[type-arg]
    """``texts[raw]`` is ``make(raw)``, remembered for up to ``limit`` keys of at most 512 bytes.

    When full it starts afresh: names that never repeat cost no memory.
    """

    __slots__ = ("limit", "make", "resets")

    def __init__(self, make: Callable[[Any], Any], limit: int = 2048) -> None:
        super().__init__()
        self.make = make
        self.limit = limit
        self.resets = 0

    def __missing__(self, raw: Any) -> Any:
        value = self.make(raw)
        if len(raw) <= 512:
            if len(self) >= self.limit:
                self.clear()
                self.resets += 1
            self[raw] = value
        return value


def text_of(kind: Any) -> Callable[[bytes], str]:
    """From the raw bytes of a ``Str`` to its text; one that was cut ends in ``...`` (a Comm is 15 bytes by design)."""
    n = kind.n
    mark = CUT if kind is not Comm else ""

    def decode(raw: bytes) -> str:
        name = raw.partition(_NUL)[0]
        text = name.decode("utf-8", "surrogateescape")
        return text + mark if len(name) >= n - 1 and n > 1 else text

    return decode


def tail_of(kind: Any) -> Callable[[bytes], Any]:
    """From the raw tail to its value.  For ``Strs`` and ``Data`` the raw bytes begin with the u32 count word."""
    if issubclass(kind, Str):
        return text_of(kind)
    if issubclass(kind, Data):
        return lambda raw: raw[4 : 4 + _U32.unpack_from(raw)[0]]  # a perf buffer pads behind them

    def decode(raw: bytes) -> Any:
        word: int = _U32.unpack_from(raw)[0]
        count = word & ~_CUT_STRINGS
        parts = raw[4:].decode("utf-8", "surrogateescape").split("\0")[:count]
        return kind.show(parts, word >= _CUT_STRINGS)

    return decode


def shown_path(kind: Any) -> Callable[[bytes], str]:
    """From the raw tail of a ``Path`` to its text, safe for a terminal: half a microsecond for most.

    Paths that do not repeat must not cost more than those that are looked up.
    """
    whole = tail_of(kind)

    def decode(raw: bytes) -> str:
        if raw[:4] == _ONE:
            text = raw[4:].partition(_NUL)[0].decode("utf-8", "surrogateescape")
        else:
            text = whole(raw)
        return text if text.isprintable() else escape(text)

    return decode


def uniform(span: bytes) -> int:
    """The length that every record of ``span`` has; 0 where they differ or one was discarded.

    Sound by induction: a record of that length makes the next one start
    where its header was looked at.
    """
    if len(span) < 8:
        return 0
    length: int = _U32.unpack_from(span)[0]
    stride = (length + 15) & ~7
    count, rest = divmod(len(span), stride)
    if length >= DISCARD or rest:
        return 0
    for at in range(4):
        if span[at::stride] != span[at : at + 1] * count:
            return 0
    return length


class Plan:
    """How to take one event class apart: the wanted fields as a ``struct`` format and as source text.

    ``shows`` maps a field's name to a function that replaces its value (a
    column's ``show``); ``escaped`` makes every text safe for a terminal.
    """

    __slots__ = ("code", "env", "layout", "tail_start", "unpacked", "values")

    def __init__(
        self, event: type[Event], fields: Sequence[str], shows: dict[str, Callable[[Any], Any]], escaped: bool
    ) -> None:
        self.layout: Layout = event.layout()
        tail = self.layout.tail
        self.env: dict[str, Any] = {"Z": _NUL}
        self.values: dict[str, str] = {}
        wanted = [field for field in self.layout if field.name in fields and field is not tail]
        self.unpacked = ["v" + str(i) for i, _ in enumerate(wanted)]
        for i, field in enumerate(wanted):
            self.values[field.name] = self._value(i, field, shows.get(field.name), escaped)
        self.code = _format(wanted)
        self.tail_start = self.layout.fixed
        if tail is not None:
            if has_count(tail.type):
                self.tail_start -= 4  # its count word
            if tail.name in fields:
                show = shows.get(tail.name)
                plain = escaped and show is None and issubclass(tail.type, Path)
                make = shown_path(tail.type) if plain else _compose(tail_of(tail.type), show, escaped)
                self.env["S"] = Texts(make, 8192)
                self.values[tail.name] = "S[t]"

    def _value(self, i: int, field: Field, show: Callable[[Any], Any] | None, escaped: bool) -> str:
        kind = field.type
        if isinstance(kind, type) and issubclass(kind, Str):
            self.env[f"T{i}"] = Texts(_compose(text_of(kind), show, escaped))
            # Bytes after the NUL of a long string are stale and would defeat the cache.
            return f"T{i}[v{i}]" if kind.n <= 32 else f"T{i}[v{i}.partition(Z)[0] + Z]" if kind.n > 1 else '""'
        convert = converter(kind)
        if isinstance(kind, type) and issubclass(kind, Bytes) and show is None:
            return f"v{i}"
        if convert is None and show is None:
            return f"v{i}"
        self.env[f"C{i}"] = _compose(convert or _same, show, escaped and show is not None)
        return f"C{i}(v{i})"

    def row(self, fields: Sequence[str]) -> str:
        """Source of the tuple of ``fields``."""
        inner = ", ".join([self.values[name] for name in fields])
        return f"({inner},)"


def _same(value: Any) -> Any:
    return value


def _compose(first: Callable[[Any], Any], show: Callable[[Any], Any] | None, escaped: bool) -> Callable[[Any], Any]:
    if not escaped:
        return first if show is None else lambda raw: show(first(raw))
    if show is None:
        return lambda raw: _escape(first(raw))
    return lambda raw: _escape(show(first(raw)))


def _escape(value: Any) -> Any:
    if isinstance(value, list):  # Strs
        return escape(" ".join(value) + (CUT if getattr(value, "truncated", False) else ""))
    if isinstance(value, bytes):  # Data
        return escape_bytes(value)
    return escape(value) if isinstance(value, str) else value


def _format(fields: Sequence[Field]) -> str:
    """``struct`` codes of ``fields``, everything between them skipped."""
    out, at = "", 0
    for field in fields:
        if field.offset > at:
            out += f"{field.offset - at}x"
        out += struct_code(field.type)
        at = field.offset + field.size
    return out


_UNIFORM = """
def rows(span, it):
    return [{row} for {names} in it(span)]
"""

_MIXED = """
def rows(span, head, fixed):
    out, at, end = [], 0, len(span)
    add = out.append
    while at < end:
        n = head(span, at)[0]
        if n < {discard}:
            {unpack}
            {tail}
            add({row})
            at += (n + 15) & -8
        else:
            at += ((n & {mask}) + 15) & -8
    return out
"""


class Decoder:
    """Rows of one event class: tuples of ``fields`` (default: all, in order).

    See :class:`Plan` for ``shows`` and ``escaped``.
    """

    __slots__ = ("_fixed", "_iters", "_mixed", "_needs_tail", "_plan", "_uniform", "event", "fields")

    def __init__(
        self,
        event: type[Event],
        fields: Sequence[str] | None = None,
        *,
        shows: dict[str, Callable[[Any], Any]] | None = None,
        escaped: bool = False,
    ) -> None:
        layout = event.layout()
        self.event = event
        self.fields = [field.name for field in layout] if fields is None else list(fields)
        self._plan = plan = Plan(event, self.fields, shows or {}, escaped)
        self._needs_tail = "S" in plan.env
        self._fixed = struct.Struct("<" + plan.code)
        self._uniform: Callable[[bytes, Any], list[Any]] | None = None
        self._mixed: Callable[[bytes, Any, Any], list[Any]] | None = None
        self._iters: dict[int, Any] = {}

    def _compiled(self, source: str) -> Any:
        """The function of one of the texts above.  Made when it is first needed: each costs 0.4 ms of a start."""
        plan = self._plan
        names = [*plan.unpacked, *(["t"] if self._needs_tail else [])]
        text = source.format(
            row=plan.row(self.fields),
            names=f"({', '.join(names)},)" if names else "_",
            unpack=f"({', '.join(plan.unpacked)},) = fixed(span, at + 8)" if plan.unpacked else "pass",
            tail=f"t = span[at + {8 + plan.tail_start} : at + 8 + n]" if self._needs_tail else "pass",
            discard=DISCARD,
            mask=DISCARD - 1,
        )
        made = dict(plan.env)
        exec(text, made)  # of layouts and numbers only: no name from outside gets into it
        return made["rows"]

    def rows(self, span: bytes) -> list[tuple[Any, ...]]:
        """Every record of ``span`` that was not discarded, in order."""
        length = uniform(span)
        if not length:
            mixed = self._mixed
            if mixed is None:
                mixed = self._mixed = self._compiled(_MIXED)
            return mixed(span, _U32.unpack_from, self._fixed.unpack_from)
        it = self._iters.get(length)
        if it is None:
            it = self._iter(length)
        rows = self._uniform
        if rows is None:
            rows = self._uniform = self._compiled(_UNIFORM)
        return rows(span, it)

    def _iter(self, length: int) -> Any:
        start = self._plan.tail_start
        code = f"<8x{self._plan.code}"
        at = struct.calcsize(code) - 8
        if self._needs_tail:
            code += f"{start - at}x{length - start}s"
            at = length
        code += f"{(length + 7) // 8 * 8 - at}x"
        if len(self._iters) > 64:
            self._iters.clear()
        it = self._iters[length] = struct.Struct(code).iter_unpack
        return it

    def texts_of_tail(self) -> Any:
        """The dictionary from the raw bytes of the tail to its text; None where the tail is not wanted."""
        return self._plan.env.get("S")

    def objects(self, span: bytes) -> list[Any]:
        """The same as instances of the event class."""
        event, names = self.event, self.fields
        new = event.__new__
        out = []
        for row in self.rows(span):
            made = new(event)
            made.__dict__ = dict(zip(names, row, strict=True))
            out.append(made)
        return out


class Splitter:
    """Records as ``(fixed part, tail)`` bytes, for lines whose front repeats.

    A line of a table is a function of its record's bytes, and all but the
    tail is often the same from one event to the next (one process opening
    file after file): then a dictionary from the fixed part to its text is
    all the formatting there is.  ``low`` and ``high`` bound the fixed bytes
    that are looked at, so that hidden fields outside do not spoil the match.
    """

    __slots__ = ("_high", "_iters", "_low", "_tail")

    def __init__(self, low: int, high: int, tail_start: int) -> None:
        self._low = low
        self._high = high
        self._tail = tail_start  # -1: the event has none
        self._iters: dict[int, Any] = {}

    def pairs(self, span: bytes) -> Iterable[tuple[bytes, ...]]:
        """``(fixed, tail)`` of every record that was not discarded; ``(fixed,)`` where there is no tail."""
        length = uniform(span)
        if not length:
            return self._walk(span)
        it = self._iters.get(length)
        if it is None:
            low, high, tail = self._low, self._high, self._tail
            code, at = f"<{8 + low}x{high - low}s", high
            if tail >= 0:
                code += f"{tail - at}x{length - tail}s"
                at = length
            code += f"{(length + 7) // 8 * 8 - at}x"
            if len(self._iters) > 64:
                self._iters.clear()
            it = self._iters[length] = struct.Struct(code).iter_unpack
        pairs: Iterable[tuple[bytes, ...]] = it(span)
        return pairs

    def _walk(self, span: bytes) -> list[tuple[bytes, ...]]:
        low, high, tail = 8 + self._low, 8 + self._high, 8 + self._tail
        with_tail = self._tail >= 0
        out: list[tuple[bytes, ...]] = []
        at, end, head = 0, len(span), _U32.unpack_from
        while at < end:
            n = head(span, at)[0]
            if n < DISCARD:
                if with_tail:
                    out.append((span[at + low : at + high], span[at + tail : at + 8 + n]))
                else:
                    out.append((span[at + low : at + high],))
            else:
                n -= DISCARD
            at += (n + 15) & -8
        return out
