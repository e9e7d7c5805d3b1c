# SPDX-License-Identifier: Apache-2.0
"""``.eh_frame``: how to find a function's caller at each of its instructions, without frame pointers (x86-64).

Compilers write it for exceptions, so it is in nearly every file, stripped
ones too.  For each address it gives the *canonical frame address* (CFA, the
stack pointer before the call) and where the return address and the caller's
``rbp`` were saved.  ``rbx`` is followed too, because the dynamic linker's
trampoline counts from it; no other register is needed to find callers.

Files have a hundred times more addresses than different rules: a table here
is a sorted array of addresses and the number of a rule for each, six bytes a
row.  A single function is read when it is asked for (``.eh_frame_hdr`` is a
search table); the whole table is made for those who need it at once, such as
a BPF program that cannot ask.

Formats: Linux Standard Base, "Exception Frames"; DWARF 5, 6.4.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from itertools import pairwise

from osmia.errors import NotFound, NotSupported, UserError
from osmia.obj import ptregs
from osmia.symbols import dwarf
from osmia.symbols.dwarf import Bad, sleb, uleb
from osmia.symbols.image import Image

#: DWARF's numbers of registers on x86-64 (psABI, figure 3.36).
RBX, RBP, RSP, RETURN = 3, 6, 7, 16
#: How a register's value in the caller is found.  OFFSET: saved at CFA + value.  IS_OFFSET: it is CFA + value.
#: REGISTER: in another register.  AT and IS: number of an expression for where it was saved, or for what it is.
SAME, UNDEFINED, OFFSET, IS_OFFSET, REGISTER, AT, IS = range(7)
#: Bytes of arrays that all tables of one file may have.
LIMIT = 64 << 20
_MOST_RULES = 1 << 16
#: What reading a file that contradicts itself raises (Bad is a ValueError).
_DAMAGE = (struct.error, IndexError, KeyError, ValueError, OverflowError)
_NOBODY = 0  # number of the rule for addresses that no function covers


class Rule:
    """What holds at some addresses.

    The CFA is ``register + offset``, or the value of expression number
    ``offset`` where ``register`` is -1.  ``back``, ``frame`` and ``base`` are
    ``(kind, value)`` for the return address, ``rbp`` and ``rbx``.
    ``signal``: it is the trampoline of a signal handler, whose "caller" was
    interrupted.
    """

    __slots__ = ("back", "base", "frame", "offset", "register", "signal")

    def __init__(self, state: _State, signal: bool) -> None:
        self.register = state.register
        self.offset = state.offset
        self.back = state.back
        self.frame = state.frame
        self.base = state.base
        self.signal = signal

    def __repr__(self) -> str:
        place = f"expression {self.offset}" if self.register < 0 else f"r{self.register}{self.offset:+}"
        return f"<Rule CFA {place}, return {self.back}, rbp {self.frame}{', signal' if self.signal else ''}>"


class Rows:
    """Sorted rows: ``starts`` counts from the file's lowest code address, ``rules`` are numbers."""

    __slots__ = ("rules", "starts")

    def __init__(self) -> None:
        self.starts = array("I")
        self.rules = array("H")

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def memory(self) -> int:
        """Bytes of the arrays."""
        return len(self.starts) * (self.starts.itemsize + self.rules.itemsize)


class _Common:
    """A CIE: what several functions share."""

    __slots__ = ("code", "data", "encoding", "first", "has_data", "return_register", "signal", "start")

    def __init__(self) -> None:
        self.code, self.data, self.encoding = 1, 1, 0
        self.first: tuple[int, int] = (0, 0)  # bytes of its instructions
        self.has_data = self.signal = False
        self.return_register = RETURN
        self.start: _State | None = None


class _State:
    """Rules while instructions are followed."""

    __slots__ = ("back", "base", "frame", "offset", "register")

    def __init__(self) -> None:
        self.register, self.offset = RSP, 8
        self.back = self.frame = self.base = (SAME, 0)

    def take(self, other: _State) -> None:
        """Become like ``other``."""
        self.register, self.offset = other.register, other.offset
        self.back, self.frame, self.base = other.back, other.frame, other.base

    def copy(self) -> _State:
        made = _State()
        made.take(self)
        return made


class EhFrame:
    """The unwinding rules of one file.

    Raises NotFound (it has none), NotSupported (not x86-64), UserError
    (damaged).  The image has to stay open.
    """

    def __init__(self, image: Image, limit: int = LIMIT) -> None:
        if image.machine is not ptregs.X86_64:
            raise NotSupported("stacks of this machine's programs cannot be unwound", where=image.name)
        section = image.section(".eh_frame")
        if section is None or not section.size or not image.segments:
            raise NotFound("it has no rules for unwinding (.eh_frame)", where=image.name)
        self.image = image
        self.limit = limit
        self.base = min(one.address for one in image.segments)
        #: Rules by number; number 0 stands for addresses of no function.
        self.rules: list[Rule | None] = [None]
        self.expressions: list[bytes] = []
        self._address = section.address
        self._data = image.bytes_of(section)
        self._numbers: dict[tuple[object, ...], int] = {}
        self._expression_numbers: dict[bytes, int] = {}
        self._commons: dict[int, _Common] = {}
        self._known: dict[int, tuple[int, Rows]] = {}
        self._memory = 0
        try:
            self._starts, self._places = self._index()
        except _DAMAGE as e:
            raise image.damaged(f".eh_frame: {e}") from None

    @property
    def memory(self) -> int:
        """Bytes of tables."""
        index = len(self._starts) * self._starts.itemsize + len(self._places) * self._places.itemsize
        return index + self._memory + 200 * len(self.rules)

    def close(self) -> None:
        """Let go of the image's bytes; nothing can be asked after it."""
        self._data.release()

    def __len__(self) -> int:
        """Number of functions."""
        return len(self._starts)

    def at(self, address: int) -> Rule | None:
        """The rule at an address of the file; None where no function is. UserError where it is damaged."""
        n = bisect_right(self._starts, address - self.base) - 1 if address >= self.base else -1
        if n < 0:
            return None
        known = self._known.get(n)
        if known is None:
            if self._memory > self.limit:
                self._known.clear()
                self._memory = 0
            try:
                known = self._function(self._places[n])
            except _DAMAGE as e:
                raise self.image.damaged(f".eh_frame: {e}") from None
            self._known[n] = known
            self._memory += known[1].memory + 300
        end, rows = known
        if address - self.base >= end:
            return None
        row = bisect_right(rows.starts, address - self.base) - 1
        return self.rules[rows.rules[row]] if row >= 0 else None

    def table(self) -> Rows:
        """Every row of the file, for a search without this object's help.

        A row holds until the next one; number 0 begins what belongs to no
        function.  Functions that cannot be read are left out.  UserError if
        the table would be larger than the limit.
        """
        out = Rows()
        for n, place in enumerate(self._places):
            try:
                end, rows = self._function(place)
            except _DAMAGE:
                end, rows = self._starts[n], Rows()
                rows.starts.append(end)
                rows.rules.append(_NOBODY)
            following = self._starts[n + 1] if n + 1 < len(self._starts) else 1 << 32
            cut = bisect_left(rows.starts, following)
            out.starts.extend(rows.starts[:cut])
            out.rules.extend(rows.rules[:cut])
            if end < following:
                out.starts.append(end)
                out.rules.append(_NOBODY)
            if out.memory > self.limit:
                raise UserError(f"its unwinding table is larger than {self.limit >> 20} MiB", where=self.image.name)
        return out

    # -- finding functions ----------------------------------------------

    def _index(self) -> tuple[array[int], array[int]]:
        """Starts of functions (less ``base``) and where in the section their entries are, sorted."""
        header = self.image.section(".eh_frame_hdr")
        if header is not None:
            raw = self.image.bytes_of(header)
            if len(raw) >= 12 and bytes(raw[:4]) == b"\x01\x1b\x03\x3b":  # what every linker writes
                (count,) = struct.unpack_from("<I", raw, 8)
                if 0 < count <= (len(raw) - 12) // 8:
                    words = raw[12 : 12 + 8 * count].cast("i")
                    shift, place = header.address - self.base, header.address - self._address
                    starts = array("I", [word + shift for word in words[0::2].tolist()])
                    if all(a <= b for a, b in pairwise(starts)):
                        return starts, array("I", [word + place for word in words[1::2].tolist()])
        pairs = sorted(self._walk())
        return array("I", [start for start, _ in pairs]), array("I", [place for _, place in pairs])

    def _walk(self) -> list[tuple[int, int]]:
        """All entries, one after the other: for files without a search table."""
        found, at = [], 0
        while at + 4 <= len(self._data):
            body, end = self._extent(at)
            if body == end:
                break
            (pointer,) = struct.unpack_from("<I", self._data, body)
            if pointer:
                common = self._common(body - pointer)
                start, _ = dwarf.pointer(self._data, body + 4, common.encoding, self._address)
                if start >= self.base:
                    found.append((start - self.base, at))
            at = end
        return found

    def _extent(self, at: int) -> tuple[int, int]:
        """Where an entry's contents begin and end; both the same for the mark at the end."""
        (size,) = struct.unpack_from("<I", self._data, at)
        at += 4
        if size == 0xFFFFFFFF:
            (size,) = struct.unpack_from("<Q", self._data, at)
            at += 8
        if size > len(self._data) - at:
            raise Bad("an entry lies outside of it")
        return at, at + size

    def _common(self, at: int) -> _Common:
        known = self._commons.get(at)
        if known is not None:
            return known
        if at < 0:
            raise Bad("an entry lies outside of it")
        data, made = self._data, _Common()
        body, end = self._extent(at)
        if any(data[body : body + 4]) or data[body + 4] not in (1, 3):
            raise Bad("an entry of unknown version")
        version, body = data[body + 4], body + 5
        stop = bytes(data[body : body + 16]).index(b"\0")
        letters, body = bytes(data[body : body + stop]), body + stop + 1
        made.code, body = uleb(data, body)
        made.data, body = sleb(data, body)
        if version == 1:
            made.return_register, body = data[body], body + 1
        else:
            made.return_register, body = uleb(data, body)
        if letters[:1] == b"z":
            size, body = uleb(data, body)
            self._augmentation(made, letters[1:], body)
            made.has_data, body = True, body + size
        elif letters:
            raise Bad(f"an entry of unknown kind {letters!r}")
        made.first = (body, end)
        state = _State()
        self._follow(made, state, state, made.first, 0, [])
        made.start = state
        self._commons[at] = made
        return made

    def _augmentation(self, made: _Common, letters: bytes, at: int) -> None:
        for letter in letters:
            if letter == ord("R"):
                made.encoding, at = self._data[at], at + 1
            elif letter == ord("L"):
                at += 1
            elif letter == ord("P"):
                encoding = self._data[at]
                _, at = dwarf.pointer(self._data, at + 1, encoding & 0x7F, self._address)
            elif letter == ord("S"):
                made.signal = True
            else:
                return  # what follows is not known, and not needed

    def _function(self, at: int) -> tuple[int, Rows]:
        """``(end, rows)`` of the entry at ``at``, less ``base``."""
        body, end = self._extent(at)
        (pointer,) = struct.unpack_from("<I", self._data, body)
        common = self._common(body - pointer)
        start, place = dwarf.pointer(self._data, body + 4, common.encoding, self._address)
        size, place = dwarf.pointer(self._data, place, common.encoding & 0x0F, self._address)
        if common.has_data:
            skip, place = uleb(self._data, place)
            place += skip
        assert common.start is not None
        rows: list[tuple[int, int]] = []
        state = common.start.copy()
        last = self._follow(common, state, common.start, (place, end), start - self.base, rows)
        rows.append((last, self._number(state, common.signal)))
        made = Rows()
        for begin, number in rows:
            if made.starts and made.starts[-1] == begin:
                made.rules[-1] = number
            elif not made.rules or made.rules[-1] != number:
                made.starts.append(begin)
                made.rules.append(number)
        return start - self.base + size, made

    # -- following instructions -----------------------------------------

    def _number(self, state: _State, signal: bool) -> int:
        key = (state.register, state.offset, state.back, state.frame, state.base, signal)
        number = self._numbers.get(key)
        if number is None:
            if len(self.rules) >= _MOST_RULES:
                raise Bad("too many different rules")
            number = self._numbers[key] = len(self.rules)
            self.rules.append(Rule(state, signal))
        return number

    def _expression(self, at: int) -> tuple[int, int]:
        """``(number of the expression, where the next thing is)``."""
        size, at = uleb(self._data, at)
        if size > len(self._data) - at:
            raise Bad("an expression lies outside of it")
        code = bytes(self._data[at : at + size])
        number = self._expression_numbers.get(code)
        if number is None:
            number = self._expression_numbers[code] = len(self.expressions)
            self.expressions.append(code)
        return number, at + size

    def _follow(
        self, common: _Common, state: _State, first: _State, extent: tuple[int, int], where: int,
        rows: list[tuple[int, int]],
    ) -> int:  # fmt: skip
        """Follow instructions; rows that end go to ``rows``.  The address that ``state`` holds from, less ``base``."""
        data, code, factor = self._data, common.code, common.data
        at, end = extent
        kept: list[_State] = []
        while at < end:
            op = data[at]
            at += 1
            high, low = op & 0xC0, op & 0x3F
            if high == 0x40 or 0x02 <= op <= 0x04:  # advance
                if high == 0x40:
                    step = low
                else:
                    size = 1 << op - 2
                    step = int.from_bytes(data[at : at + size], "little")
                    at += size
                rows.append((where, self._number(state, common.signal)))
                where += step * code
            elif high == 0x80:
                value, at = uleb(data, at)
                self._set(common, state, low, (OFFSET, value * factor))
            elif high == 0xC0:
                self._restore(common, state, first, low)
            elif op == 0x0A:
                kept.append(state.copy())
            elif op == 0x0B:
                if not kept:
                    raise Bad("rules are restored that were not kept")
                state.take(kept.pop())
            elif op == 0x01:
                rows.append((where, self._number(state, common.signal)))
                address, at = dwarf.pointer(data, at, common.encoding, self._address)
                where = address - self.base
            else:
                at = self._rarer(common, state, first, op, at)
        return where

    def _set(self, common: _Common, state: _State, register: int, rule: tuple[int, int]) -> None:
        if register == common.return_register:
            state.back = rule
        elif register == RBP:
            state.frame = rule
        elif register == RBX:
            state.base = rule

    def _restore(self, common: _Common, state: _State, first: _State, register: int) -> None:
        if register == common.return_register:
            state.back = first.back
        elif register == RBP:
            state.frame = first.frame
        elif register == RBX:
            state.base = first.base

    def _rarer(self, common: _Common, state: _State, first: _State, op: int, at: int) -> int:
        """The other instructions; where the next one is."""
        data, factor = self._data, common.data
        if op in (0x0C, 0x12):  # def_cfa
            state.register, at = uleb(data, at)
            state.offset, at = uleb(data, at) if op == 0x0C else sleb(data, at)
            state.offset *= 1 if op == 0x0C else factor
        elif op == 0x0D:
            state.register, at = uleb(data, at)
        elif op == 0x0E:
            state.offset, at = uleb(data, at)
        elif op == 0x13:
            value, at = sleb(data, at)
            state.offset = value * factor
        elif op == 0x0F:
            state.register = -1
            state.offset, at = self._expression(at)
        elif op in (0x05, 0x11, 0x14, 0x15, 0x2F):  # offset, val_offset and their signed forms
            register, at = uleb(data, at)
            value, at = sleb(data, at) if op in (0x11, 0x15) else uleb(data, at)
            value *= -factor if op == 0x2F else factor
            self._set(common, state, register, (IS_OFFSET if op in (0x14, 0x15) else OFFSET, value))
        elif op in (0x10, 0x16):
            register, at = uleb(data, at)
            number, at = self._expression(at)
            self._set(common, state, register, (AT if op == 0x10 else IS, number))
        elif op in (0x06, 0x07, 0x08):
            register, at = uleb(data, at)
            if op == 0x06:
                self._restore(common, state, first, register)
            else:
                self._set(common, state, register, (UNDEFINED if op == 0x07 else SAME, 0))
        elif op == 0x09:
            register, at = uleb(data, at)
            other, at = uleb(data, at)
            self._set(common, state, register, (REGISTER, other))
        elif op == 0x2E:  # GNU_args_size
            _, at = uleb(data, at)
        elif op:
            raise Bad(f"instruction {op:#x}")
        return at
