# SPDX-License-Identifier: Apache-2.0
"""Stacks as a profile for ``pprof`` and what understands its format (profile.proto, gzipped).

The encoder is forty lines, because the format needs four kinds of field only;
a protobuf library at run time would be osmia's only dependency.  Field
numbers are those of ``proto/profile.proto`` in github.com/google/pprof.
"""

from __future__ import annotations

from osmia.views.frames import INLINED, JIT, KERNEL, USER, clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from osmia.views.frames import Frame, Stack

#: What pprof calls the place that a frame's code comes from (``-show_from``, ``-focus`` and the list of mappings).
_MAPPINGS = {USER: "[user]", JIT: "[jit]", KERNEL: "[kernel]"}


def pprof(
    stacks: Iterable[tuple[Stack, int]],
    *,
    kind: str = "samples",
    unit: str = "count",
    period_ns: int = 0,
    time_ns: int = 0,
    duration_ns: int = 0,
    comments: Iterable[str] = (),
) -> bytes:
    """A whole profile file.

    ``kind`` and ``unit`` say what the counts are (``"samples"``/``"count"``,
    ``"offcpu"``/``"nanoseconds"``, ``"space"``/``"bytes"``).  With
    ``period_ns``, the time between two samples, each sample has CPU time as
    its second value.  ``time_ns`` is when it began, since the epoch;
    ``comments`` are shown by ``pprof -comments``.

    Inlined frames belong to the location of the function that they were
    inlined into, as pprof wants them.
    """
    import gzip

    made = _Profile()
    types = [(kind, unit)] + ([("cpu", "nanoseconds")] if period_ns else [])
    out = [_message(1, made.value_type(*one)) for one in types]
    for stack, count in stacks:
        values = [count, count * period_ns] if period_ns else [count]
        out.append(_message(2, _message(1, made.locations(stack)) + _packed(2, values)))
    out += made.mappings() + made.places + made.functions
    if period_ns:
        out.append(_message(11, made.value_type("cpu", "nanoseconds")))
    notes = [made.string(clean(comment)) for comment in comments]
    if notes:
        out.append(_packed(13, notes))
    default = made.string(types[-1][0])
    out += [_field(9, time_ns), _field(10, duration_ns), _field(12, period_ns), _field(14, default)]
    strings = [_message(6, name.encode("utf-8", "backslashreplace")) for name in made.strings]
    return gzip.compress(b"".join(strings + out), 6, mtime=0)


class _Profile:
    """Tables of what is referred to by number; numbers begin at 1, those of strings at 0, which is the empty one."""

    def __init__(self) -> None:
        self.strings: dict[str, int] = {"": 0}
        self.functions: list[bytes] = []
        self.places: list[bytes] = []
        self._function: dict[str, int] = {}
        self._place: dict[Stack, bytes] = {}
        self._alone: dict[Frame, bytes] = {}
        self._mapping: dict[str, int] = {}

    def string(self, text: str) -> int:
        """The number of ``text``."""
        return self.strings.setdefault(text, len(self.strings))

    def value_type(self, kind: str, unit: str) -> bytes:
        """A ``ValueType`` message."""
        return _field(1, self.string(kind)) + _field(2, self.string(unit))

    def locations(self, stack: Stack) -> bytes:
        """The numbers of a stack's locations, packed, leaf first: one for each function that is not inlined."""
        alone = self._alone
        out = []
        inlined: list[Frame] = []
        for frame in reversed(stack):
            if frame[1] == INLINED:
                inlined.append(frame)
                continue
            if inlined:
                out.append(self._location((*inlined, frame)))
                inlined = []
                continue
            number = alone.get(frame)
            if number is None:
                number = alone[frame] = self._location((frame,))
            out.append(number)
        if inlined:  # into what is not known
            out.append(self._location(tuple(inlined)))
        return b"".join(out)

    def _location(self, group: Stack) -> bytes:
        """The number, encoded, of a location: a function, after those that are inlined there, innermost first."""
        code = self._place.get(group)
        if code is None:
            number = len(self._place) + 1
            code = self._place[group] = _varint(number)
            lines = [_message(4, _field(1, self._number(name))) for name, _ in group]
            mapping = self._mapping_of(group[-1][1])
            self.places.append(_message(4, _field(1, number) + _field(2, mapping) + b"".join(lines)))
        return code

    def _number(self, name: str) -> int:
        name = clean(name)
        number = self._function.get(name)
        if number is None:
            number = self._function[name] = len(self._function) + 1
            text = self.string(name)
            self.functions.append(_message(5, _field(1, number) + _field(2, text) + _field(3, text)))
        return number

    def _mapping_of(self, kind: str) -> int:
        name = _MAPPINGS.get(kind)
        return 0 if name is None else self._mapping.setdefault(name, len(self._mapping) + 1)

    def mappings(self) -> list[bytes]:
        """The places that frames come from, the program first."""
        # has_functions and has_inline_frames: nobody is to look for symbols.
        return [
            _message(3, _field(1, number) + _field(5, self.string(name)) + _field(7, 1) + _field(10, 1))
            for name, number in ((name, self._mapping.get(name)) for name in _MAPPINGS.values())
            if number is not None
        ]


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, value: int) -> bytes:
    """An integer; 0 is the default and not written."""
    return _varint(number << 3) + _varint(value) if value else b""


def _message(number: int, content: bytes) -> bytes:
    """A message, text or bytes."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _packed(number: int, values: list[int]) -> bytes:
    """Several integers."""
    return _message(number, b"".join(map(_varint, values)))
